package api

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/drydock/drydock/playbook"
)

// The node map: a cell per node, in the order of their names, so that a node stands at the same place before and after. A row of cells
// with the same verdict is one dashed line, so that 5,000 nodes are some hundred path commands instead of 5,000 elements.

// verdictView is how a verdict looks: a colour, and a letter of its own (the letters of "drydock diagnose").
type verdictView struct {
	Verdict playbook.NodeVerdict
	Letter  string
}

// Text is the verdict in words.
func (v verdictView) Text() string { return plainWords(string(v.Verdict)) }

var verdictViews = []verdictView{ // worst first
	{playbook.VerdictNodeFull, "F"},
	{playbook.VerdictUncovered, "U"},
	{playbook.VerdictDisk, "D"},
	{playbook.VerdictNoRoom, "R"},
	{playbook.VerdictNodeDown, "X"},
	{playbook.VerdictMalfunctioning, "M"},
	{playbook.VerdictUnknown, "?"},
	{playbook.VerdictRollingOut, "r"},
	{playbook.VerdictCovered, "·"},
	{playbook.VerdictExcluded, "-"},
}

func newVerdictView(v playbook.NodeVerdict) verdictView {
	for _, view := range verdictViews {
		if view.Verdict == v {
			return view
		}
	}
	return verdictView{v, "?"}
}

type nodePath struct {
	Verdict playbook.NodeVerdict
	D       string
}

type nodeLetter struct {
	X, Y   int
	Letter string
	Class  playbook.NodeVerdict
}

type nodeRing struct {
	X, Y, Size int
	Ours       bool
}

type nodeCount struct {
	verdictView
	N int
}

type nodeMap struct {
	Title, Label    string
	Width, Height   int
	Pitch, Columns  int
	Stroke, Spacing int
	Paths           []nodePath
	Letters         []nodeLetter
	Rings           []nodeRing
	Counts          []nodeCount
	// Cells are the verdicts, run-length coded by letter ("·120F1"), and Names the node names, each as the length of what it
	// shares with the one before and the rest: the script reads them for the cell under the pointer.
	Cells, Names string
	Ours, Theirs int
}

// cordon says whose cordon a node bears.
type cordon byte

const (
	cordonedByUs cordon = iota + 1
	cordonedByOthers
)

// nodesOf are a look's verdicts by node, and its cordons.
func nodesOf(t playbook.StoredTick, run string) (map[string]playbook.NodeVerdict, map[string]cordon) {
	verdicts, cordons := map[string]playbook.NodeVerdict{}, map[string]cordon{}
	for _, v := range t.Diagnosis.Verdicts {
		verdicts[v.Node] = v.Verdict
	}
	nodes, _ := t.Observation.Nodes.Get()
	for i := range nodes {
		n := &nodes[i]
		switch {
		case n.CordonedBy != nil && n.CordonedBy.Run == run:
			cordons[n.Name] = cordonedByUs
		case n.Unschedulable:
			cordons[n.Name] = cordonedByOthers
		}
	}
	return verdicts, cordons
}

// cellSizes: the more nodes, the smaller their cells, and the more of them in a row.
func cellSizes(n int) (columns, pitch, spacing int) {
	switch {
	case n <= 60:
		return 12, 22, 4
	case n <= 240:
		return 20, 13, 3
	case n <= 1000:
		return 40, 12, 2
	case n <= 2500:
		return 64, 10, 2
	}
	return 100, 8, 2
}

// lettersUpTo is the number of nodes up to which the cells of what is wrong bear its letter.
const lettersUpTo = 1000

func newNodeMap(title string, names []string, verdicts map[string]playbook.NodeVerdict, cordons map[string]cordon) nodeMap {
	columns, pitch, spacing := cellSizes(len(names))
	size := pitch - spacing
	m := nodeMap{Title: title, Columns: columns, Pitch: pitch, Stroke: size, Spacing: spacing, Width: columns*pitch + 2,
		Height: max(1, (len(names)+columns-1)/columns)*pitch + 2, Names: frontCoded(names)}
	paths, counts := map[playbook.NodeVerdict]*strings.Builder{}, map[playbook.NodeVerdict]int{}
	var cells strings.Builder
	last, run := "", 0
	flush := func() {
		if run > 0 {
			cells.WriteString(last + strconv.Itoa(run))
		}
	}
	for i := 0; i < len(names); {
		v, ok := verdicts[names[i]]
		if !ok {
			v = playbook.VerdictExcluded // it was not there at that look
		}
		j := i + 1
		for j < len(names) && j%columns != 0 && verdictOr(verdicts, names[j]) == v {
			j++
		}
		if paths[v] == nil {
			paths[v] = &strings.Builder{}
		}
		x, y := 1+i%columns*pitch, 1+i/columns*pitch+size/2
		fmt.Fprintf(paths[v], "M%d %dh%d", x, y, (j-i)*pitch-spacing)
		counts[v] += j - i
		letter := newVerdictView(v).Letter
		if letter != last {
			flush()
			last, run = letter, 0
		}
		run += j - i
		m.mark(names, i, j, v, cordons)
		i = j
	}
	flush()
	m.Cells = cells.String()
	var said []string
	for _, view := range verdictViews {
		if counts[view.Verdict] == 0 {
			continue
		}
		m.Paths = append(m.Paths, nodePath{view.Verdict, paths[view.Verdict].String()})
		m.Counts = append(m.Counts, nodeCount{view, counts[view.Verdict]})
		said = append(said, fmt.Sprintf("%d %s", counts[view.Verdict], view.Text()))
	}
	m.Label = title + ": " + many(len(names), "node") + ": " + strings.Join(said, ", ")
	return m
}

// mark puts letters on the cells of what is wrong, and rings around what is cordoned.
func (m *nodeMap) mark(names []string, from, to int, v playbook.NodeVerdict, cordons map[string]cordon) {
	wrong := v != playbook.VerdictCovered && v != playbook.VerdictExcluded
	for i := from; i < to; i++ {
		x, y := 1+i%m.Columns*m.Pitch, 1+i/m.Columns*m.Pitch
		if wrong && len(names) <= lettersUpTo {
			m.Letters = append(m.Letters, nodeLetter{x + m.Stroke/2, y + m.Stroke/2, newVerdictView(v).Letter, v})
		}
		switch cordons[names[i]] {
		case cordonedByUs:
			m.Rings = append(m.Rings, nodeRing{x - 1, y - 1, m.Stroke + 2, true})
			m.Ours++
		case cordonedByOthers:
			m.Rings = append(m.Rings, nodeRing{x - 1, y - 1, m.Stroke + 2, false})
			m.Theirs++
		}
	}
}

func verdictOr(verdicts map[string]playbook.NodeVerdict, name string) playbook.NodeVerdict {
	if v, ok := verdicts[name]; ok {
		return v
	}
	return playbook.VerdictExcluded
}

// frontCoded writes sorted names one per line, each as the number of bytes that it shares with the one before, a slash, and the rest.
// It counts ASCII; the names of nodes are DNS names, and others are written whole.
func frontCoded(names []string) string {
	var b strings.Builder
	before := ""
	for _, name := range names {
		shared := 0
		for shared < len(name) && shared < len(before) && name[shared] == before[shared] && name[shared] < 0x80 {
			shared++
		}
		fmt.Fprintf(&b, "%d/%s\n", shared, strings.ReplaceAll(name[shared:], "\n", " "))
		before = name
	}
	return b.String()
}

// sortedNodes are the names in any of the looks, sorted as people count: worker-9 before worker-10.
func sortedNodes(looks ...[]playbook.Verdict) []string {
	seen := map[string]bool{}
	var names []string
	for _, look := range looks {
		for _, v := range look {
			if !seen[v.Node] {
				seen[v.Node] = true
				names = append(names, v.Node)
			}
		}
	}
	slices.SortFunc(names, naturally) // quick where a look has them in this order, as it nearly has
	return names
}

// naturally compares names with their numbers as numbers.
func naturally(a, b string) int {
	i, j := 0, 0
	for i < len(a) && j < len(b) {
		if digit(a[i]) && digit(b[j]) {
			x, y := i, j
			for i < len(a) && digit(a[i]) {
				i++
			}
			for j < len(b) && digit(b[j]) {
				j++
			}
			m, n := strings.TrimLeft(a[x:i], "0"), strings.TrimLeft(b[y:j], "0")
			if len(m) != len(n) {
				return len(m) - len(n)
			}
			if c := strings.Compare(m, n); c != 0 {
				return c
			}
			continue
		}
		if a[i] != b[j] {
			return int(a[i]) - int(b[j])
		}
		i++
		j++
	}
	if c := (len(a) - i) - (len(b) - j); c != 0 {
		return c
	}
	return strings.Compare(a, b)
}

func digit(c byte) bool { return '0' <= c && c <= '9' }
