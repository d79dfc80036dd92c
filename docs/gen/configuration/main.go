// Command configuration writes docs/configuration.md to stdout, from the JSON Schema on stdin: "drydock config schema" prints it
// from the same tags that read the file, so the reference can not fall behind. `go generate ./cmd/...` runs it.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// schema is the part of JSON Schema that the configuration's uses.
type schema struct {
	Type        types             `json:"type"`
	Description string            `json:"description"`
	Default     json.RawMessage   `json:"default"`
	Enum        []string          `json:"enum"`
	Pattern     string            `json:"pattern"`
	Required    []string          `json:"required"`
	Properties  map[string]schema `json:"properties"`
	Items       *schema           `json:"items"`
	Additional  json.RawMessage   `json:"additionalProperties"`
}

// types is one type, or a list of them.
type types []string

// UnmarshalJSON reads either form.
func (t *types) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*t = types{one}
		return nil
	}
	return json.Unmarshal(b, (*[]string)(t))
}

func main() {
	var s schema
	if err := json.NewDecoder(os.Stdin).Decode(&s); err != nil {
		fmt.Fprintln(os.Stderr, "read the schema:", err)
		os.Exit(1)
	}
	page := &page{w: os.Stdout}
	page.printf("%s", strings.ReplaceAll(head, `"`, "`"))
	page.keys("", s)
	if page.err != nil {
		fmt.Fprintln(os.Stderr, "write the page:", page.err)
		os.Exit(1)
	}
}

const head = `# Configuration

Generated from the schema that "drydock config schema" prints; do not edit. "drydock.yaml" in the repository is a complete,
commented example, and "drydock config check" names the line of each mistake.

The file is YAML. It is named by "--config", else by "$DRYDOCK_CONFIG", else it is "./drydock.yaml"; without any, the built-in rules
and the three DaemonSets of the runbook apply. An unknown key is an error. Relative paths start at the file's directory.

- A **secret** is never written into the file: "{env: NAME}" names an environment variable, "{file: PATH}" a file.
- A **duration** is written like "90s", "15m", "2h" or "400d".
- "[]" stands for each entry of a list, "{name}" for each name of a mapping; **required** is meant within such an entry.

| key | kind | default | what |
|---|---|---|---|
`

type page struct {
	w   io.Writer
	err error
}

func (p *page) printf(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format, args...)
	}
}

// keys writes one row for each key below a path, each followed by those below it.
func (p *page) keys(path string, s schema) {
	names := make([]string, 0, len(s.Properties))
	for name := range s.Properties {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		key, child := path+name, s.Properties[name]
		what := child.Description
		if len(child.Enum) > 0 {
			what = strings.TrimPrefix(what+"; one of `"+strings.Join(child.Enum, "`, `")+"`", "; ")
		}
		if slices.Contains(s.Required, name) {
			what = strings.TrimSuffix("**required**; "+what, "; ")
		}
		def := ""
		if len(child.Default) > 0 {
			def = "`" + strings.Trim(string(child.Default), `"`) + "`"
		}
		p.printf("| `%s` | %s | %s | %s |\n", key, kind(child), cell(def), cell(what))
		if kind(child) == secret {
			continue
		}
		p.keys(key+".", child)
		if child.Items != nil && kind(*child.Items) != secret {
			p.keys(key+"[].", *child.Items)
		}
		var each schema
		if json.Unmarshal(child.Additional, &each) == nil {
			p.keys(key+".{name}.", each)
		}
	}
}

const secret = "secret"

// kind says in a word what a value is.
func kind(s schema) string {
	_, env := s.Properties["env"]
	_, file := s.Properties["file"]
	switch {
	case env && file && len(s.Properties) == 2:
		return secret
	case s.Items != nil:
		return "list of " + kind(*s.Items) + "s"
	case s.Pattern != "":
		return "duration"
	case slices.Contains(s.Type, "object"):
		return "mapping"
	case len(s.Type) > 0:
		return s.Type[0]
	}
	return ""
}

// cell keeps a text within one cell of a table.
func cell(s string) string { return strings.NewReplacer("|", `\|`, "\n", " ", "<", "&lt;").Replace(s) }
