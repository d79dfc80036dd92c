package main

import (
	"cmp"
	"fmt"
	"io"
	"strings"

	"github.com/drydock/drydock/playbook"
)

// mark is how a verdict is drawn: always by a letter of its own, and by a colour where there are colours.
type mark struct {
	verdict playbook.NodeVerdict
	letter  byte
	style   style
}

// marks from the worst to the best: where one cell stands for several nodes, the worst shows.
var marks = []mark{
	{playbook.VerdictUnknown, '?', yellow},
	{playbook.VerdictNodeFull, 'F', red},
	{playbook.VerdictUncovered, 'U', red},
	{playbook.VerdictDisk, 'D', red},
	{playbook.VerdictNoRoom, 'R', red},
	{playbook.VerdictNodeDown, 'X', red},
	{playbook.VerdictMalfunctioning, 'M', red},
	{playbook.VerdictRollingOut, 'r', cyan},
	{playbook.VerdictCovered, '.', green},
	{playbook.VerdictExcluded, '-', faint},
}

func rankOf(v playbook.NodeVerdict) int {
	for i, m := range marks {
		if m.verdict == v {
			return i
		}
	}
	return 0 // a verdict that this table forgot shows as unknown
}

const (
	pictureWidth = 80 // where nothing says how wide a line may be
	pictureRows  = 8
	cellGroup    = 10 // cells between two spaces, so that they can be counted
)

// picture draws one cell per node, in the nodes' order, and the legend with counts. A carrier that is too large for the rows
// gets cells of several nodes.
func (t terminal) picture(w io.Writer, nodes []playbook.Verdict) {
	if len(nodes) == 0 {
		return
	}
	width := cmp.Or(t.width, pictureWidth)
	perRow := max(cellGroup, width/(cellGroup+1)*cellGroup)
	per := (len(nodes) + perRow*pictureRows - 1) / (perRow * pictureRows)
	var row strings.Builder
	cells := 0
	for at := 0; at < len(nodes); at += per {
		worst := len(marks) - 1
		for _, n := range nodes[at:min(at+per, len(nodes))] {
			worst = min(worst, rankOf(n.Verdict))
		}
		if cells > 0 && cells%perRow == 0 {
			fmt.Fprintln(w, strings.TrimRight(row.String(), " "))
			row.Reset()
		} else if cells > 0 && cells%cellGroup == 0 {
			row.WriteByte(' ')
		}
		row.WriteString(t.paint(marks[worst].style, string(marks[worst].letter)))
		cells++
	}
	fmt.Fprintln(w, row.String())

	count := map[int]int{}
	for _, n := range nodes {
		count[rankOf(n.Verdict)]++
	}
	legend := make([]string, 0, len(marks)+1)
	for i, m := range marks {
		if count[i] > 0 {
			legend = append(legend, t.paint(m.style, string(m.letter))+"\u00a0"+string(m.verdict)+"\u00a0"+fmt.Sprint(count[i]))
		}
	}
	if per > 1 {
		legend = append(legend, fmt.Sprintf("(each\u00a0cell:\u00a0%d\u00a0nodes,\u00a0the\u00a0worst\u00a0shows)", per))
	}
	fmt.Fprintln(w, strings.ReplaceAll(t.legend(legend), "\u00a0", " "))
}

// legend puts the entries on as few lines as fit.
func (t terminal) legend(entries []string) string {
	width := cmp.Or(t.width, pictureWidth)
	var b strings.Builder
	used := 0
	for _, e := range entries {
		n := visible(e)
		switch {
		case used == 0:
		case used+3+n > width:
			b.WriteByte('\n')
			used = 0
		default:
			b.WriteString("   ")
			used += 3
		}
		b.WriteString(e)
		used += n
	}
	return b.String()
}

// visible is how many columns a text takes, colours left out.
func visible(s string) int {
	n, escape := 0, false
	for _, r := range s {
		switch {
		case r == '\x1b':
			escape = true
		case escape:
			escape = r != 'm'
		default:
			n++
		}
	}
	return n
}
