package api

import (
	"fmt"
	"strings"
	"time"

	"github.com/drydock/drydock/playbook"
)

// The machine's picture. Which transitions there are comes from the state table (playbook.Transitions), so the picture can not show
// one that the product does not have; where the states stand is drawn here, once: the way of a repair that goes well is the straight
// line on top, the repairs hang below it, and what was changed is put back on the right.

const (
	boxWidth, boxHeight = 150, 42
	columnPitch         = 178
	rowPitch            = 52
)

type place struct{ column, row float64 }

var places = map[playbook.State]place{
	playbook.Queued: {0, 0}, playbook.Triage: {1, 0}, playbook.Verifying: {3, 0}, playbook.StateResolved: {4, 0},
	playbook.WaitingForDisk: {2, 1}, playbook.AwaitingApproval: {2, 2}, playbook.Redeploying: {2, 3}, playbook.RestartingController: {2, 4},
	playbook.Draining: {2, 5}, playbook.Reapplying: {2, 6},
	playbook.Unwinding: {3, 3.5}, playbook.StateStoodDown: {4, 2.5}, playbook.StateEscalated: {4, 4.5},
}

type machineBox struct {
	State       playbook.State
	Name, About string
	Class       string // "now", "been", or "dim"
	Sign        string
	X, Y, W, H  int
	TextX       int
	NameY       int
	Spent       string
	SpentY      int
}

type machineEdge struct {
	Path  string
	Taken bool
	Title string
}

type machineView struct {
	Width, Height int
	Edges         []machineEdge
	Boxes         []machineBox
	Label         string
	Steps         []machineStep
}

// machineStep is one state on the way that the run took.
type machineStep struct {
	State stateView
	Spent string
	Now   bool
}

// walk is the way of a run through the machine.
type walk struct {
	steps []playbook.State
	spent []time.Duration
}

func newWalk(r playbook.StoredRun, now time.Time) walk {
	w := walk{steps: []playbook.State{playbook.Queued}}
	since := r.StartedAt
	for _, t := range r.Ticks {
		if t.From == t.To {
			continue
		}
		w.steps = append(w.steps, t.To)
		w.spent = append(w.spent, t.At.Sub(since))
		since = t.At
	}
	w.spent = append(w.spent, endOf(r.Run, now).Sub(since))
	return w
}

func newMachineView(r playbook.StoredRun, now time.Time) machineView {
	w := newWalk(r, now)
	v := machineView{Width: 4*columnPitch + boxWidth + 16, Height: 6*rowPitch + boxHeight + 40}
	spent, taken := map[playbook.State]time.Duration{}, map[playbook.Transition]int{}
	visits := map[playbook.State]int{}
	var names []string
	for i, st := range w.steps {
		spent[st] += w.spent[i]
		visits[st]++
		if i > 0 {
			taken[playbook.Transition{From: w.steps[i-1], To: st}]++
		}
		step := machineStep{State: newStateView(st), Now: i == len(w.steps)-1}
		if !st.Ended() {
			step.Spent = span(w.spent[i])
		}
		v.Steps = append(v.Steps, step)
		names = append(names, plainWords(string(st)))
	}
	v.Label = "The way so far: " + strings.Join(names, ", then ") + "."
	drawn := map[playbook.Transition]bool{}
	var over []machineEdge // what was taken is drawn last, above the rest
	for _, t := range playbook.Transitions() {
		back := playbook.Transition{From: t.To, To: t.From}
		if drawn[back] {
			continue // one line for both directions
		}
		drawn[t] = true
		e := machineEdge{Path: edgePath(t.From, t.To), Title: plainWords(string(t.From)) + " to " + plainWords(string(t.To))}
		if taken[t] > 0 || taken[back] > 0 {
			e.Taken = true
			over = append(over, e)
		} else {
			v.Edges = append(v.Edges, e)
		}
	}
	v.Edges = append(v.Edges, over...)
	for _, st := range playbook.States() {
		at := places[st]
		look := newStateView(st)
		b := machineBox{State: st, Name: look.Text, About: st.About(), Class: "dim", Sign: look.Sign, W: boxWidth, H: boxHeight,
			X: 2 + int(at.column*columnPitch), Y: 2 + int(at.row*rowPitch)}
		if visits[st] > 0 {
			b.Class = "been"
			if !st.Ended() {
				if b.Spent = span(spent[st]); visits[st] > 1 {
					b.Spent = fmt.Sprintf("%d times, %s", visits[st], b.Spent)
				}
			}
		}
		if st == r.State {
			b.Class = "now " + look.Class
		}
		b.TextX = b.X + boxWidth/2
		if b.NameY, b.SpentY = b.Y+26, b.Y+34; b.Spent != "" {
			b.NameY = b.Y + 18
		}
		v.Boxes = append(v.Boxes, b)
	}
	return v
}

// edgePath draws a line between two states: along the grid where they stand apart, straight where they are neighbours.
func edgePath(from, to playbook.State) string {
	a, b := places[from], places[to]
	left := func(p place) (int, int) { return 2 + int(p.column*columnPitch), 2 + int(p.row*rowPitch) + boxHeight/2 }
	ax, ay := left(a)
	bx, by := left(b)
	const half = boxWidth / 2
	bottom := 2 + 6*rowPitch + boxHeight
	switch {
	case a.column == b.column: // one above the other
		if ay < by {
			return fmt.Sprintf("M%d %dV%d", ax+half, ay+boxHeight/2, by-boxHeight/2)
		}
		return fmt.Sprintf("M%d %dV%d", ax+half, ay-boxHeight/2, by+boxHeight/2)
	case b.column < a.column: // back to where it came from: the same line
		return edgePath(to, from)
	case from == playbook.Queued && b.column > 1: // past everything, below
		lane := bottom + 24
		return fmt.Sprintf("M%d %dV%dQ%d %d %d %dH%dQ%d %d %d %dV%d", ax+half, ay+boxHeight/2, lane-8, ax+half, lane, ax+half+8, lane,
			bx+half-8+queuedOffset(to), bx+half+queuedOffset(to), lane, bx+half+queuedOffset(to), lane-8, by+boxHeight/2)
	case from == playbook.Triage && to == playbook.Unwinding:
		lane := bottom + 12
		return fmt.Sprintf("M%d %dV%dQ%d %d %d %dH%dQ%d %d %d %dV%d", ax+half-12, ay+boxHeight/2, lane-8, ax+half-12, lane, ax+half-4, lane,
			bx+half-20, bx+half-12, lane, bx+half-12, lane-8, by+boxHeight/2)
	case from == playbook.Triage && b.row > 0: // down, and into the repair
		return fmt.Sprintf("M%d %dV%dQ%d %d %d %dH%d", ax+half, ay+boxHeight/2, by-8, ax+half, by, ax+half+8, by, bx)
	case a.row == b.row:
		return fmt.Sprintf("M%d %dH%d", ax+boxWidth, ay, bx)
	}
	middle := (ax + boxWidth + bx) / 2
	return fmt.Sprintf("M%d %dC%d %d %d %d %d %d", ax+boxWidth, ay, middle, ay, middle, by, bx, by)
}

// queuedOffset keeps the lines from the queue apart where they arrive.
func queuedOffset(to playbook.State) int {
	if to == playbook.Unwinding {
		return 12
	}
	if to == playbook.StateStoodDown {
		return boxWidth/2 + 8 // past the box below it
	}
	return 0
}
