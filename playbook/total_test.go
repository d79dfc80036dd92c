package playbook

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// Decide is total: whatever was observed, in whatever state, it returns a state of the machine and a why, promises at
// most one change, none while blind, and none that the present node or DaemonSet facts forbid.
func TestDecideIsTotalAndCareful(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := anyScene(t)
		r := testRun(rapid.SampledFrom(States()).Draw(t, "state"))
		r.Mode = rapid.SampledFrom([]Mode{ModeObserve, ModeApprove, ModeAct}).Draw(t, "mode")
		if r.State == Draining {
			r.Memory.Drain = &DrainMemory{Node: "node-00", UID: "uid-node-00", Started: t0}
		}
		if r.State == Unwinding {
			r.Memory.Ending = &Ending{Outcome: OutcomeEscalated, Why: "x"}
		}
		p := testPolicy()
		p.Timing.FullConfirm = rapid.SampledFrom([]time.Duration{0, time.Minute}).Draw(t, "confirm")
		for range rapid.IntRange(1, 20).Draw(t, "ticks") {
			d := Decide(p, r, s.at(s.o.At.Add(5*time.Second)).o)
			if _, ok := machine[d.To]; !ok {
				t.Fatalf("state %q", d.To)
			}
			changes := 0
			for _, pr := range d.Promises {
				if !IsChange(pr.Action) || pr.Undoes != 0 {
					continue
				}
				changes++
				_, ledgerKnown := s.o.Ledger.Get()
				if !s.o.Incidents["Q1"].IsKnown() || !ledgerKnown {
					t.Fatalf("promised %s while blind", pr.Action.Kind())
				}
				if r.Mode == ModeObserve {
					t.Fatalf("promised %s in mode observe", pr.Action.Kind())
				}
				if c, ok := pr.Action.(Cordon); ok {
					if n, _ := nodeOf(s.o, c.Node); n.Unschedulable {
						t.Fatalf("cordons %s, which is cordoned already", c.Node)
					}
				}
			}
			if changes > 1 {
				t.Fatalf("%d changes in one tick", changes)
			}
			if d.To.Ended() {
				return
			}
			r.State, r.Memory = d.To, d.Memory
		}
	})
}

// anyScene is a carrier on which anything may be the matter.
func anyScene(t *rapid.T) *scene {
	s := healthy(rapid.IntRange(0, 6).Draw(t, "nodes"))
	nodes, _ := s.o.Nodes.Get()
	for i := range nodes {
		switch rapid.IntRange(0, 9).Draw(t, "node") {
		case 0:
			s.full(i, rapid.IntRange(0, 4).Draw(t, "candidates"))
		case 1:
			s.gone(i)
		case 2:
			s.node(i, func(n *Node) { n.Ready = false })
		case 3:
			s.node(i, func(n *Node) { n.DiskPressure = true; n.Pods = nil })
		case 4:
			s.node(i, func(n *Node) { n.Unschedulable = true })
		case 5:
			s.node(i, func(n *Node) { n.Pods[0].Ready = false; n.Pods[0].Waiting = "CrashLoopBackOff" })
		case 6:
			s.node(i, func(n *Node) { n.Unschedulable = true; n.CordonedBy = &Mark{Installation: "here", Run: "run-1"} })
		}
	}
	switch rapid.IntRange(0, 8).Draw(t, "carrier") {
	case 0:
		s.o.DaemonSet = Unknown[DaemonSet]("x")
	case 1:
		s.o.DaemonSet = Known(DaemonSet{})
	case 2:
		s.o.Nodes = Unknown[[]Node]("x")
	case 3:
		s.ds(func(d *DaemonSet) { d.DeletedAt = &t0 })
	case 4:
		s.ds(func(d *DaemonSet) { d.Generation++ })
	}
	if rapid.IntRange(0, 4).Draw(t, "incident") == 0 {
		s.o.Incidents["Q1"] = Unknown[Incident]("x")
	}
	if rapid.IntRange(0, 6).Draw(t, "ledger") == 0 {
		s.o.Ledger = Unknown[LedgerFacts]("x")
	}
	return s
}

func nodeOf(o Observation, name string) (Node, bool) {
	nodes, _ := o.Nodes.Get()
	for _, n := range nodes {
		if n.Name == name {
			return n, true
		}
	}
	return Node{}, false
}
