// Command sbom prints what a Go binary is made of, as a CycloneDX 1.5 document: its main module, its toolchain and every module
// that is linked in, read from the binary itself. The same binary gives the same document: it bears no time and no serial number.
//
//	go run -C tools ./sbom ../dist/drydock_v1.2.3_linux_amd64
package main

import (
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
)

type document struct {
	Format       string       `json:"bomFormat"`
	SpecVersion  string       `json:"specVersion"`
	Version      int          `json:"version"`
	Metadata     metadata     `json:"metadata"`
	Components   []component  `json:"components"`
	Dependencies []dependency `json:"dependencies"`
}

type metadata struct {
	Component component `json:"component"`
}

type component struct {
	Type       string     `json:"type"`
	Ref        string     `json:"bom-ref"`
	Name       string     `json:"name"`
	Version    string     `json:"version"`
	PURL       string     `json:"purl,omitempty"`
	Hashes     []hash     `json:"hashes,omitempty"`
	Properties []property `json:"properties,omitempty"`
}

type hash struct {
	Algorithm string `json:"alg"`
	Content   string `json:"content"`
}

type property struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

type dependency struct {
	Ref       string   `json:"ref"`
	DependsOn []string `json:"dependsOn"`
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: sbom BINARY")
		os.Exit(2)
	}
	if err := write(os.Stdout, os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "sbom:", err)
		os.Exit(1)
	}
}

func write(w io.Writer, binary string) error {
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return fmt.Errorf("read build information: %w", err)
	}
	raw, err := os.ReadFile(binary)
	if err != nil {
		return err
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(describe(info, filepath.Base(binary), sha256.Sum256(raw)))
}

func describe(info *debug.BuildInfo, name string, sum [sha256.Size]byte) document {
	version := strings.TrimSuffix(name, ".exe")
	if parts := strings.Split(name, "_"); len(parts) == 4 { // as tools/release names it
		version = parts[1]
	}
	product := component{Type: "application", Ref: "main", Name: info.Main.Path, Version: version,
		Hashes: []hash{{"SHA-256", hex.EncodeToString(sum[:])}}}
	for _, s := range info.Settings {
		switch s.Key {
		case "GOOS", "GOARCH", "CGO_ENABLED", "-tags", "-trimpath":
			product.Properties = append(product.Properties, property{"go:build:" + s.Key, s.Value})
		}
	}
	toolchain := strings.TrimPrefix(info.GoVersion, "go")
	d := document{Format: "CycloneDX", SpecVersion: "1.5", Version: 1, Metadata: metadata{product},
		Components: []component{{Type: "library", Ref: "pkg:golang/std@" + toolchain, Name: "std", Version: toolchain, PURL: "pkg:golang/std@" + toolchain}}}
	uses := dependency{Ref: "main", DependsOn: []string{d.Components[0].Ref}}
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		purl := "pkg:golang/" + m.Path + "@" + m.Version
		c := component{Type: "library", Ref: purl, Name: m.Path, Version: m.Version, PURL: purl}
		if m.Sum != "" {
			c.Properties = []property{{"go:sum", m.Sum}} // of the module's files, as go.sum has it
		}
		d.Components = append(d.Components, c)
		uses.DependsOn = append(uses.DependsOn, purl)
	}
	d.Dependencies = []dependency{uses}
	return d
}
