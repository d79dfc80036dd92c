package playbooktest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/drydock/drydock/playbook"
)

// Scenario is one night: what the carriers look like, what happens while Drydock works, and how it has to end.
type Scenario struct {
	Name string
	// Policy changes the policy of TestPolicy.
	Policy func(*playbook.Policy)
	// Setup makes the carriers as they are when the alerts arrive.
	Setup func(*World)
	// Later is what happens from then on; it uses World.When and Clock.After.
	Later func(*World)
	// Alerts are the targets, one incident each; none: the node-exporter of the default carrier.
	Alerts []playbook.Target
	// Ends is how each alert's run ends when no call fails; empty: only the invariants are checked.
	Ends []End
	// Did is what the carriers and the CI were made to do when no call fails, in order.
	Did []playbook.Kind
	// Or lists outcomes that are good enough when a call failed: nothing was damaged, and people know.
	Or []playbook.Outcome
}

// End is how a run has to end.
type End struct {
	Outcome playbook.Outcome
	Finding playbook.Finding
	// Says is what the notes must say.
	Says string
}

// Night is a scenario that was played.
type Night struct {
	Scenario Scenario
	World    *World
	Points   []Point // the external calls, in order
	Hits     []Hit   // planned failures that came to pass
	Problems []string
}

// BeforeAlerts is how long after Setup the alerts come.
const BeforeAlerts = 5 * time.Minute

// nightLimit is far behind every deadline of the scenarios.
const nightLimit = 3 * time.Hour

// Play plays the scenario; faults says which external calls fail, by their number from 1.
func (s Scenario) Play(ctx context.Context, faults map[int]Failure) Night {
	w := NewWorld(faults)
	if s.Policy != nil {
		s.Policy(&w.Policy)
	}
	s.Setup(w)
	w.Clock.Advance(BeforeAlerts)
	alerts := s.Alerts
	if len(alerts) == 0 {
		alerts = []playbook.Target{target(defaultCarrier, defaultDaemon)}
	}
	for i, t := range alerts {
		if _, err := w.Alert(ctx, fmt.Sprintf("PINC%03d", i+1), t); err != nil {
			w.violate("alert: %v", err)
		}
	}
	if s.Later != nil {
		s.Later(w)
	}
	w.Run(ctx, nightLimit)
	n := Night{Scenario: s, World: w, Points: w.probe.points, Hits: w.probe.hit, Problems: slices.Clone(w.Violations())}
	if len(n.Problems) == 0 && len(s.Ends) > 0 {
		n.checkEnds(alerts, len(faults))
	}
	n.checkReplay()
	return n
}

func target(carrier, daemonSet string) playbook.Target {
	return playbook.Target{Carrier: carrier, Namespace: defaultNS, DaemonSet: daemonSet}
}

func (n *Night) problem(format string, args ...any) {
	n.Problems = append(n.Problems, fmt.Sprintf(format, args...))
}

// checkEnds compares how the night ended with how it should have. After a failure the way there may differ, and one of the
// scenario's other outcomes may do; after two, handing over always does: each can have cost half a minute. That a resolved
// incident belongs to a covered carrier must hold in any case.
func (n *Night) checkEnds(alerts []playbook.Target, faults int) {
	failed := faults > 0
	for i, id := range n.World.Ledger.Runs() {
		r, _ := n.World.Ledger.Run(id)
		in := n.World.Pager.Get(r.Incidents[0].ID)
		want := n.Scenario.Ends[i]
		switch {
		case r.Outcome == want.Outcome:
			if !failed && want.Finding != "" && r.Finding != want.Finding {
				n.problem("run %s ended with the finding %s, want %s", id, r.Finding, want.Finding)
			}
			if !failed && !strings.Contains(n.World.Pager.said(in.ID), want.Says) {
				n.problem("the notes of %s do not say %q but:\n%s", in.ID, want.Says, n.World.Pager.said(in.ID))
			}
		case failed && slices.Contains(n.Scenario.Or, r.Outcome):
		case faults > 1 && r.Outcome == playbook.OutcomeEscalated:
		default:
			n.problem("run %s ended as %q, want %q", id, r.Outcome, want.Outcome)
		}
		for _, other := range r.Incidents[1:] {
			if r.Outcome == playbook.OutcomeResolved && other.End != playbook.OutcomeResolved {
				n.problem("run %s resolved its first incident, and %s is %s", id, other.ID, other.End)
			}
		}
		if r.Outcome == playbook.OutcomeResolved && !n.World.Carrier(alerts[i].Carrier).Covered(alerts[i].Namespace, alerts[i].DaemonSet) {
			n.problem("run %s resolved, and %s is not covered", id, alerts[i])
		}
		wantEscalated := r.Outcome == playbook.OutcomeEscalated
		if (len(in.Escalations) > 0) != wantEscalated {
			n.problem("run %s ended as %s, and its incident was escalated %d times", id, r.Outcome, len(in.Escalations))
		}
	}
	if did := n.World.did(); !failed && !slices.Equal(did, n.Scenario.Did) {
		n.problem("did %v, want %v", did, n.Scenario.Did)
	}
}

// did lists the changes that Drydock's calls made, in order.
func (w *World) did() []playbook.Kind {
	var kinds []playbook.Kind
	for _, name := range sorted(w.carriers) {
		for _, e := range w.carriers[name].Effects {
			kinds = append(kinds, e.Action.Kind())
		}
	}
	for _, e := range w.Promoter.Asked {
		kinds = append(kinds, e.Action.Kind())
	}
	return kinds
}

func sorted[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// Report describes a night for the message of a test that failed.
func (n *Night) Report() string {
	var b strings.Builder
	for _, p := range n.Problems {
		fmt.Fprintf(&b, "- %s\n", p)
	}
	for _, id := range n.World.Ledger.Runs() {
		b.WriteString(n.World.Ledger.Dump(id))
	}
	return b.String()
}
