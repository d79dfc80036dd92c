package mutants

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
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
			if !known[s] {
				t.Errorf("mutant %q: there is no scenario %q", m.Name, s)
			}
			if !slices.Contains(used, s) {
				used = append(used, s)
			}
		}
	}
	if out, failed := sweep(t.Context(), t, "", used); failed {
		t.Fatalf("the product itself does not pass:\n%s", out)
	}
	for _, m := range All() {
		t.Run(m.Name, func(t *testing.T) {
			t.Parallel()
			out, failed := sweep(t.Context(), t, overlay(t, core, m), m.Scenarios)
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
		replace[name] = filepath.Join(dir, e.File)
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

// sweep runs the crash sweep over some scenarios, and reports whether it failed. A mutant that does
// not compile proves nothing, so that is an error of its own.
func sweep(ctx context.Context, t *testing.T, overlay string, scenarios []string) (string, bool) {
	t.Helper()
	names := make([]string, len(scenarios))
	for i, s := range scenarios {
		names[i] = regexp.QuoteMeta(strings.ReplaceAll(s, " ", "_"))
	}
	args := []string{"test", "-vet=off", "-run", "^TestSweep$/^scenarios$/^(" + strings.Join(names, "|") + ")$"}
	if overlay != "" {
		args = append(args, "-overlay", overlay)
	}
	cmd := exec.CommandContext(ctx, "go", append(args, "github.com/drydock/drydock/playbook/playbooktest/sweep")...)
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
