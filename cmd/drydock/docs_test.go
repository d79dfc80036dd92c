package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	shellBlock = regexp.MustCompile("(?ms)^ *```sh\n(.*?)^ *```")
	ourCommand = regexp.MustCompile(`(?:^|\||&&)\s*(?:\w+=\S+ )*(?:bin/)?(drydock|kubectl drydock) (.*)$`)
	shellWord  = regexp.MustCompile(`'[^']*'|"[^"]*"|\S+`)
)

// TestCommandsOfTheDocs: each command of ours in the docs exists, with all its flags. docs/gen names the test that runs it.
func TestCommandsOfTheDocs(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, file := range append(files, "../../README.md") {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, block := range shellBlock.FindAllStringSubmatch(string(text), -1) {
			for line := range strings.SplitSeq(block[1], "\n") {
				m := ourCommand.FindStringSubmatch(line)
				if m == nil || strings.HasPrefix(strings.TrimSpace(line), "ln ") {
					continue
				}
				found++
				var args []string
				for _, word := range shellWord.FindAllString(m[2], -1) {
					if word == ">" || word == "|" || word == "&&" {
						break
					}
					args = append(args, strings.Trim(word, `'"`))
				}
				name := "drydock"
				if m[1] != name {
					name = "kubectl-drydock"
				}
				var out buffer
				if code := runAs(t.Context(), name, append(args, "--help"), func(string) string { return "" }, &out, &out); code != exitDone {
					t.Errorf("%s: %s: exit %d: %s", filepath.Base(file), strings.TrimSpace(line), code, out.String())
				}
				if !strings.Contains(out.String(), "Usage") {
					t.Errorf("%s: %s: no help: %s", filepath.Base(file), strings.TrimSpace(line), out.String())
				}
			}
		}
	}
	if found < 20 {
		t.Errorf("only %d commands were found: have the docs changed their form?", found)
	}
}
