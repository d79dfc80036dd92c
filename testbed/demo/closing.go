package demo

import (
	"fmt"
	"strings"
	"time"

	"github.com/drydock/drydock/testbed/pagerduty"
)

// closing prints what became of each alert and the verdict, and returns what does
// not hold.
func (v *view) closing(e evidence) []failure {
	v.heading("What was done")
	rows := [][]string{{"carrier", "DaemonSet", "way", "changed", "repaired in"}}
	for _, r := range e.results {
		rows = append(rows, []string{r.alert.carrier, r.alert.daemonset, strings.Join(r.run().way(), " → "), r.changes(), r.took()})
	}
	v.table(rows)

	v.heading("Verdict")
	failures := verdict(e)
	wrong := map[string][]string{}
	for _, f := range failures {
		wrong[f.what] = f.wrong
	}
	for _, c := range checks {
		if len(wrong[c.what]) == 0 {
			v.line("  %s %s", v.paint(green, "✓"), c.what)
			continue
		}
		v.line("  %s %s", v.paint(red, "✗"), c.what)
		for _, text := range wrong[c.what] {
			v.line("      %s", text)
		}
	}
	return failures
}

// changes are what the run changed, in short.
func (r result) changes() string {
	var parts []string
	for _, kind := range []struct{ kind, one, many string }{
		{"promote", "promoted", "promoted %d times"},
		{"cordon", "cordoned", "cordoned %d times"},
		{"evict", "1 pod evicted", "%d pods evicted"},
		{"orphan_delete", "reapplied", "reapplied %d times"},
		{"nudge", "nudged", "nudged %d times"},
		{"uncordon", "uncordoned", "uncordoned %d times"},
	} {
		switch n := len(r.run().happened(kind.kind)); n {
		case 0:
		case 1:
			parts = append(parts, kind.one)
		default:
			parts = append(parts, fmt.Sprintf(kind.many, n))
		}
	}
	if len(parts) == 0 {
		return "nothing"
	}
	return strings.Join(parts, ", ")
}

// took is from the alert to the end of its incident.
func (r result) took() string {
	if r.incident.Status != pagerduty.Resolved {
		return "-"
	}
	return r.incident.ResolvedAt.Sub(r.incident.CreatedAt).Round(time.Second).String()
}
