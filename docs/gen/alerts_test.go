package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func read(t *testing.T, path ...string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(append([]string{root}, path...)...))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// found lists the first group of each match.
func found(pattern, in string) []string {
	var list []string
	for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(in, -1) {
		list = append(list, m[1])
	}
	return list
}

// Every alert rule has its section in docs/operations.md, its address in the rule, and a case in which it fires and one in which it
// does not; and no section is about an alert that is gone.
func TestEveryAlertHasItsSection(t *testing.T) {
	t.Parallel()
	rules := read(t, "deploy", "prometheus", "alerts.yaml")
	alerts := found(`- alert: (\w+)`, rules)
	if len(alerts) < 10 {
		t.Fatalf("only %d alerts were read: has the file changed its form?", len(alerts))
	}
	sections := found(`(?m)^### (Drydock\w+)$`, read(t, "docs", "operations.md"))
	if !slices.Equal(sections, alerts) {
		t.Errorf("sections are %v, alerts are %v, in their order", sections, alerts)
	}
	cases := read(t, "deploy", "prometheus", "alerts_test.yaml")
	for _, alert := range alerts {
		if !strings.Contains(rules, "docs/operations.md#"+strings.ToLower(alert)+"\n") {
			t.Errorf("%s does not name its section", alert)
		}
		for _, what := range []string{" fires", " does not fire"} {
			if !strings.Contains(cases, "- name: "+alert+what+"\n") {
				t.Errorf("no case says that %s%s", alert, what)
			}
		}
	}
	if !strings.Contains(rules, "absent(") {
		t.Error("no rule notices that Drydock itself is gone")
	}
}
