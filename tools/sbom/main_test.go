package main

import (
	"bytes"
	"encoding/json"
	"os"
	"runtime/debug"
	"slices"
	"testing"
)

// TestWrite reads this test's own binary, twice with the same result.
func TestWrite(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var one, two bytes.Buffer
	if err := write(&one, self); err != nil {
		t.Fatal(err)
	}
	if err := write(&two, self); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(one.Bytes(), two.Bytes()) {
		t.Error("the same binary has two documents")
	}
	var d document
	if err := json.Unmarshal(one.Bytes(), &d); err != nil {
		t.Fatal(err)
	}
	if d.Format != "CycloneDX" || d.Metadata.Component.Name == "" || len(d.Metadata.Component.Hashes) != 1 || d.Components[0].Name != "std" {
		t.Errorf("%+v", d)
	}
	if err := write(&one, os.DevNull); err == nil {
		t.Error("what is no binary was described")
	}
}

func TestDescribe(t *testing.T) {
	t.Parallel()
	d := describe(&debug.BuildInfo{GoVersion: "go1.26.1", Main: debug.Module{Path: "example.com/m"}, Deps: []*debug.Module{
		{Path: "example.com/a", Version: "v1.0.0", Sum: "h1:x="},
		{Path: "example.com/b", Version: "v1.0.0", Replace: &debug.Module{Path: "example.com/c", Version: "v2.0.0"}},
	}}, "drydock_v1.2.3_linux_amd64", [32]byte{})
	var purls []string
	for _, c := range d.Components {
		purls = append(purls, c.PURL)
	}
	want := []string{"pkg:golang/std@1.26.1", "pkg:golang/example.com/a@v1.0.0", "pkg:golang/example.com/c@v2.0.0"}
	if !slices.Equal(purls, want) || !slices.Equal(d.Dependencies[0].DependsOn, want) || d.Metadata.Component.Version != "v1.2.3" {
		t.Errorf("%v of %+v, want %v", purls, d.Metadata, want)
	}
}
