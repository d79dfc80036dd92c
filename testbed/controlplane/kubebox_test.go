package controlplane_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/drydock/drydock/testbed/controlplane"
)

// stubGo stands in for the go command: it lists three stale packages, and "builds"
// a file that holds its arguments.
const stubGo = `#!/bin/sh
echo "$@" >> "$STUB_GO_CALLS"
case "$1" in
list) printf 'a\nb\nc\n' ;;
build)
	printf 'a\nb\n' >&2
	[ -z "$STUB_GO_FAILS" ] || { echo "c: does not compile" >&2; exit 1; }
	while [ "$1" != -o ]; do shift; done
	echo built > "$2" ;;
esac
`

// fakeRepository changes into a repository with a kubebox module, an empty user's
// cache and a go command that compiles nothing. It returns the repository's root and
// the go command's calls.
func fakeRepository(t *testing.T) (root string, calls func() []string) {
	t.Helper()
	root = t.TempDir()
	log := filepath.Join(t.TempDir(), "calls")
	write(t, filepath.Join(root, "testbed/kubebox/go.mod"), "module example.com/kubebox\n")
	write(t, filepath.Join(root, "testbed/kubebox/go.sum"), "")
	write(t, filepath.Join(root, "testbed/kubebox/main.go"), "package main\n")
	tools := t.TempDir()
	write(t, filepath.Join(tools, "go"), stubGo)
	if err := os.Chmod(filepath.Join(tools, "go"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", tools+":/usr/bin:/bin")
	t.Setenv("STUB_GO_CALLS", log)
	t.Setenv("STUB_GO_FAILS", "")
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	t.Setenv(controlplane.KubeboxEnv, "")
	t.Chdir(filepath.Join(root, "testbed"))
	return root, func() []string {
		content, err := os.ReadFile(log)
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		return strings.Split(strings.TrimSpace(string(content)), "\n")
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestKubeboxIsBuiltOnce(t *testing.T) {
	root, calls := fakeRepository(t)
	var progress bytes.Buffer
	first, err := controlplane.Kubebox(t.Context(), &progress)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(progress.String(), "compiling 3 packages") || !strings.Contains(progress.String(), "built "+first) {
		t.Errorf("progress is %q", progress.String())
	}
	if target, err := os.Readlink(filepath.Join(root, "bin/kubebox")); err != nil || target != first {
		t.Errorf("bin/kubebox links to %q (%v), want %q", target, err, first)
	}
	// A fresh clone has no bin, and the same sources.
	if err := os.RemoveAll(filepath.Join(root, "bin")); err != nil {
		t.Fatal(err)
	}
	second, err := controlplane.Kubebox(t.Context(), &progress)
	if err != nil {
		t.Fatal(err)
	}
	if second != first {
		t.Errorf("the second kubebox is %q, want %q", second, first)
	}
	if got := calls(); len(got) != 2 {
		t.Errorf("go was called %d times, want a list and a build: %q", len(got), got)
	}
}

func TestKubeboxOfOtherSourcesIsBuiltAgain(t *testing.T) {
	root, _ := fakeRepository(t)
	var progress bytes.Buffer
	first, err := controlplane.Kubebox(t.Context(), &progress)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(root, "testbed/kubebox/main.go"), "package main // changed\n")
	second, err := controlplane.Kubebox(t.Context(), &progress)
	if err != nil {
		t.Fatal(err)
	}
	if first == second {
		t.Errorf("changed sources have the same kubebox %s", first)
	}
}

func TestKubeboxPutThereByHand(t *testing.T) {
	root, calls := fakeRepository(t)
	path := filepath.Join(root, "bin/kubebox")
	write(t, path, "by hand")
	got, err := controlplane.Kubebox(t.Context(), &bytes.Buffer{})
	if err != nil {
		t.Fatal(err)
	}
	if want, err := filepath.EvalSymlinks(path); err != nil || got != want {
		t.Errorf("kubebox is %q, want %q (%v)", got, want, err)
	}
	if got := calls(); len(got) != 1 || got[0] != "" {
		t.Errorf("go was called: %q", got)
	}
}

func TestKubeboxErrors(t *testing.T) {
	tests := map[string]struct {
		arrange func(t *testing.T)
		want    string
	}{
		"named but missing": {func(t *testing.T) { t.Setenv(controlplane.KubeboxEnv, "/nowhere/kubebox") }, "$" + controlplane.KubeboxEnv},
		"no repository":     {func(t *testing.T) { t.Chdir(t.TempDir()) }, "run inside the repository"},
		"no go":             {func(t *testing.T) { t.Setenv("PATH", t.TempDir()) }, "install Go"},
		"does not compile":  {func(t *testing.T) { t.Setenv("STUB_GO_FAILS", "yes") }, "c: does not compile"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			fakeRepository(t)
			test.arrange(t)
			_, err := controlplane.Kubebox(t.Context(), &bytes.Buffer{})
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("Kubebox() = %v, want an error with %q", err, test.want)
			}
		})
	}
}
