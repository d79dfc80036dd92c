package playbook

import (
	"fmt"
	"slices"
	"strings"
)

//go:generate go run ../docs/gen

// RenderMachine writes the state table as Markdown: a picture of the machine, then one section per state with its edges in
// the order in which they are tried. docs/runbook.md is this text, so it can not drift from what the product does.
func RenderMachine() string {
	var b strings.Builder
	b.WriteString("# The runbook as a machine\n\n")
	b.WriteString("Generated from the state table in `playbook/table.go` by `make generate`; do not edit.\n\n")
	b.WriteString("## The picture\n\n```mermaid\nstateDiagram-v2\n    [*] --> queued\n")
	for _, line := range pictureLines() {
		b.WriteString("    " + line + "\n")
	}
	b.WriteString("```\n\n")
	b.WriteString("Every state but `unwinding` and the ends also has the global edges below. They come first.\n\n")
	b.WriteString("## Global edges\n\n| when | to | ending |\n|---|---|---|\n")
	for _, e := range globalEdges() {
		fmt.Fprintf(&b, "| %s | `%s` | %s |\n", e.when.name, e.to, ending(e))
	}
	b.WriteString("\n## States\n")
	for _, st := range States() {
		r := machine[st]
		fmt.Fprintf(&b, "\n### %s\n\n%s\n", st, r.about)
		if st.Ended() {
			continue
		}
		b.WriteString("\n| finding | edges, tried in order |\n|---|---|\n")
		for _, f := range Findings() {
			if cell, ok := r.by[f]; ok {
				fmt.Fprintf(&b, "| `%s` | %s |\n", f, cellText(cell))
			}
		}
		label := "any other"
		if len(r.by) == 0 {
			label = "any"
		}
		fmt.Fprintf(&b, "| %s | %s |\n", label, cellText(r.standard))
	}
	return b.String()
}

func ending(e edge) string {
	if e.end == "" {
		return ""
	}
	return "`" + string(e.end) + "`"
}

func cellText(cell []edge) string {
	parts := make([]string, 0, len(cell))
	for _, e := range cell {
		text := "`" + string(e.to) + "`"
		if e.end != "" {
			text += " (" + string(e.end) + ")"
		}
		if e.when != nil {
			text = "when " + e.when.name + ": " + text
		} else {
			text = "else " + text
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, "<br>")
}

// pictureLines lists each transition once, with the findings that take it.
func pictureLines() []string {
	var lines []string
	for _, st := range States() {
		if st.Ended() {
			lines = append(lines, string(st)+" --> [*]")
			continue
		}
		var order []State
		labels := map[State][]string{}
		add := func(label string, cell []edge) {
			for _, e := range cell {
				if e.to == st || (e.to == Unwinding && st != Unwinding) {
					continue // hand-overs and stand-downs are possible nearly everywhere: one line below says so
				}
				if !slices.Contains(order, e.to) {
					order = append(order, e.to)
				}
				if !slices.Contains(labels[e.to], label) {
					labels[e.to] = append(labels[e.to], label)
				}
			}
		}
		for _, f := range Findings() {
			if cell, ok := machine[st].by[f]; ok {
				add(string(f), cell)
			}
		}
		add("", machine[st].standard)
		for _, to := range order {
			named := slices.DeleteFunc(slices.Clone(labels[to]), func(l string) bool { return l == "" })
			line := fmt.Sprintf("%s --> %s", st, to)
			if len(named) > 0 && len(named) == len(labels[to]) {
				line += ": " + strings.Join(named, ", ")
			}
			lines = append(lines, line)
		}
		if st != Unwinding {
			lines = append(lines, fmt.Sprintf("%s --> unwinding", st))
		}
	}
	return lines
}

// Transition is a pair of states that the table has an edge between.
type Transition struct{ From, To State }

// Transitions lists each pair once, in the order of the states: what pictures of the machine are drawn from.
func Transitions() []Transition {
	var all []Transition
	add := func(from State, cell []edge) {
		for _, e := range cell {
			if t := (Transition{from, e.to}); e.to != from && !slices.Contains(all, t) {
				all = append(all, t)
			}
		}
	}
	for _, st := range States() {
		if st.Ended() {
			continue
		}
		for _, f := range Findings() {
			add(st, machine[st].cell(f))
		}
		if st != Unwinding {
			add(st, globalEdges())
		}
	}
	return all
}

// About says in a sentence what a run does in a state.
func (s State) About() string { return machine[s].about }
