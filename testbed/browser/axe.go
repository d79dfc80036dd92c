package browser

import (
	_ "embed"
	"encoding/json"
	"strings"
)

// axe looks for what keeps people with a screen reader or a keyboard out. It is Deque's, under the Mozilla Public License 2.0, unchanged.
//
//go:embed axe/axe.min.js
var axe string

// Accessible runs axe on the page: what it finds fails the test.
func (b *Tab) Accessible(what string) {
	b.t.Helper()
	Eval[bool](b, axe+"; true")
	found := Eval[string](b, `axe.run({resultTypes: ["violations"]}).then((r) => JSON.stringify(r.violations.map((v) =>
		({id: v.id, impact: v.impact, nodes: v.nodes.slice(0, 3).map((n) => n.html.slice(0, 160) + " " + n.failureSummary.slice(0, 200))}))))`)
	var violations []struct {
		ID, Impact string
		Nodes      []string
	}
	if err := json.Unmarshal([]byte(found), &violations); err != nil {
		b.t.Fatal(err)
	}
	for _, v := range violations {
		b.t.Errorf("%s: axe finds %s (%s): %s", what, v.ID, v.Impact, strings.Join(v.Nodes, "\n"))
	}
}
