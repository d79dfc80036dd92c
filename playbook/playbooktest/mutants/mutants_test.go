package mutants

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/drydock/drydock/playbook/playbooktest"
)

// TestMutantsAreCaught runs the sweep over a few scenarios on each mutant, which must fail, and over all of those on the
// product as it is, which must not.
func TestMutantsAreCaught(t *testing.T) {
	t.Parallel()
	core, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for _, s := range playbooktest.Scenarios() {
		known[s.Name] = true
	}
	const atLeast = 15
	if len(All()) < atLeast {
		t.Errorf("there are %d mutants, want %d", len(All()), atLeast)
	}
	var used []string
	for _, m := range All() {
		for _, s := range m.Scenarios {
			if !known[s] && !strings.HasPrefix(s, "file ") { // of the files: sweep says when there is none
				t.Errorf("mutant %q: there is no scenario %q", m.Name, s)
			}
			if !slices.Contains(used, s) {
				used = append(used, s)
			}
		}
	}
	if out, failed := run(t.Context(), t, "", sweepOf(used)); failed {
		t.Fatalf("the product itself does not pass:\n%s", out)
	}
	for _, m := range All() {
		t.Run(m.Name, func(t *testing.T) {
			t.Parallel()
			args, list := sweepOf(m.Scenarios), overlay(t, core, m)
			if m.Test[1] != "" {
				args = []string{"-run", "^" + m.Test[1] + "$", path.Join("github.com/drydock/drydock/playbook", m.Test[0])}
			}
			out, failed := run(t.Context(), t, list, args)
			if !failed {
				t.Errorf("the mutant lives: nobody noticed that %q is gone (%s)", m.Name, m.Why)
			}
			t.Logf("caught: %s", firstProblem(out))
		})
	}
}

// overlay writes the mutant's files and the list that "go test -overlay" reads, and returns the list's name.
func overlay(t *testing.T, core string, m Mutant) string {
	t.Helper()
	dir := t.TempDir()
	replace := map[string]string{}
	for _, e := range m.Edits {
		name := filepath.Join(core, e.File)
		from := name
		if replace[name] != "" {
			from = replace[name]
		}
		source, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		changed, err := e.Apply(string(source))
		if err != nil {
			t.Fatal(err)
		}
		replace[name] = filepath.Join(dir, strings.ReplaceAll(e.File, "/", "_"))
		if err := os.WriteFile(replace[name], []byte(changed), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	list, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(name, list, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// sweepOf is how the crash sweep is run over some scenarios.
func sweepOf(scenarios []string) []string {
	names := make([]string, len(scenarios))
	for i, s := range scenarios {
		names[i] = regexp.QuoteMeta(strings.ReplaceAll(s, " ", "_"))
	}
	return []string{"-run", "^TestSweep$/^scenarios$/^(" + strings.Join(names, "|") + ")$", "github.com/drydock/drydock/playbook/playbooktest/sweep"}
}

// run runs a test and reports whether it failed. A mutant that does not compile proves nothing, so that is an error of its own.
func run(ctx context.Context, t *testing.T, overlay string, test []string) (string, bool) {
	t.Helper()
	args := []string{"test", "-vet=off"}
	if overlay != "" {
		args = append(args, "-overlay", overlay)
	}
	cmd := exec.CommandContext(ctx, "go", append(args, test...)...)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	switch {
	case err == nil && strings.Contains(string(out), "no tests to run"):
		t.Fatalf("no scenario was run:\n%s", out)
	case err == nil:
		return string(out), false
	case errors.As(err, &exit) && strings.Contains(string(out), "--- FAIL: Test"):
		return string(out), true
	}
	t.Fatalf("go %s: %v\n%s", strings.Join(cmd.Args[1:], " "), err, out)
	return "", false
}

// firstProblem is the first thing that the sweep complained about.
func firstProblem(out string) string {
	lines := strings.Split(out, "\n")
	for i, l := range lines {
		if strings.HasPrefix(strings.TrimSpace(l), "- ") && i > 0 {
			return strings.TrimSpace(lines[i-1]) + " " + strings.TrimSpace(l)
		}
	}
	return "it failed"
}

func TestApply(t *testing.T) {
	t.Parallel()
	e := Edit{File: "f.go", Old: "b", New: "x"}
	if got, err := e.Apply("abc"); err != nil || got != "axc" {
		t.Errorf("got %q, %v", got, err)
	}
	for _, source := range []string{"ac", "abcb"} {
		if _, err := e.Apply(source); err == nil {
			t.Errorf("a patch that does not fit %q was applied", source)
		}
	}
}

// TestPatchesFit says at once which patch no longer fits its code.
func TestPatchesFit(t *testing.T) {
	t.Parallel()
	for _, m := range All() {
		overlay(t, filepath.Join("..", ".."), m)
	}
}
