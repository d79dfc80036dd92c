package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const root = "../.."

var quoted = regexp.MustCompile("`([^`]+)`")

// Every row of docs/coverage.md names code and tests that exist, and at least one test.
func TestCoverageNamesWhatExists(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile(filepath.Join(root, "docs", "coverage.md"))
	if err != nil {
		t.Fatal(err)
	}
	rows := 0
	for _, line := range strings.Split(string(b), "\n") {
		cells := strings.Split(line, "|")
		if len(cells) != 7 || strings.HasPrefix(line, "|---") || strings.Contains(line, "| shown by |") {
			continue
		}
		rows++
		step, where, tests := strings.TrimSpace(cells[1]), cells[3], cells[4]
		for _, m := range quoted.FindAllStringSubmatch(where, -1) {
			if _, err := os.Stat(filepath.Join(root, m[1])); err != nil {
				t.Errorf("%s: %v", step, err)
			}
		}
		named := quoted.FindAllStringSubmatch(tests, -1)
		if len(named) == 0 {
			t.Errorf("%s: no test shows it", step)
		}
		for _, m := range named {
			checkNamed(t, step, m[1])
		}
	}
	if rows < 30 {
		t.Errorf("only %d rows were read: has the table changed its shape?", rows)
	}
}

// checkNamed checks a scenario's file, or "file:TestName".
func checkNamed(t *testing.T, step, named string) {
	t.Helper()
	file, name, isTest := strings.Cut(named, ":")
	b, err := os.ReadFile(filepath.Join(root, file))
	switch {
	case err != nil:
		t.Errorf("%s: %v", step, err)
	case isTest && !strings.Contains(string(b), "\nfunc "+name+"("):
		t.Errorf("%s: %s has no %s", step, file, name)
	case !isTest && !strings.HasPrefix(file, "testbed/scenarios/"):
		t.Errorf("%s: %q names neither a test nor a scenario", step, named)
	}
}
