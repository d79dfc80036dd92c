package playbook

import (
	"testing"
	"time"
)

// A run whose turn never comes is handed over from where it waits: the other's undo may stay blocked for ever (I8), and the
// target has room for one run that acts (I6).
func TestQueuedIsHandedOverAtItsDeadline(t *testing.T) {
	t.Parallel()
	p, r, s := testPolicy(), testRun(Queued), healthy(12).full(0, 3)
	s.o.Ledger = Known(LedgerFacts{TargetHolder: "run-0"})
	if r, d := watch(p, r, s, p.Timing.Deadline-time.Minute); d.To != Queued || len(d.Promises) > 0 || r.Memory.Ending != nil {
		t.Fatalf("before its deadline the run went to %s with %d promises", d.To, len(d.Promises))
	}

	s.at(r.StartedAt.Add(p.Timing.Deadline))
	s.o.Evidence = Known([]Evidence(nil))
	d := Decide(p, r, s.o)
	if d.To != Queued || len(d.Promises) != 2 || d.Promises[0].Action.Kind() != KindAnnotate || d.Promises[1].Action.Kind() != KindEscalate {
		t.Fatalf("at its deadline: to %s, promises %v; want queued, a note and an escalation", d.To, d.Promises)
	}

	r.Memory = d.Memory
	for n, promise := range d.Promises {
		r.Intents = append(r.Intents, Intent{Seq: n + 1, Lane: PagerDutyLane("Q1"), Action: promise.Action, PromisedAt: s.o.At})
	}
	s.at(s.o.At.Add(time.Second))
	if d := Decide(p, r, s.o); d.To != Queued || len(d.Promises) > 0 {
		t.Fatalf("while it is being said: to %s, promises %v", d.To, d.Promises)
	}
	// The earlier run may end at that very moment: what is being said stays said.
	s.o.Ledger = Known(LedgerFacts{})
	if d := Decide(p, r, s.o); d.To != Queued || len(d.Promises) > 0 {
		t.Fatalf("while it is being said and the target is free: to %s, promises %v", d.To, d.Promises)
	}
	for n := range r.Intents {
		r.Intents[n].SettledAt, r.Intents[n].Result = s.o.At, Happened
	}
	d = Decide(p, r, s.o)
	if d.To != StateEscalated || d.Outcome != OutcomeEscalated || d.Ends["Q1"] != OutcomeEscalated {
		t.Fatalf("after it was said: to %s, outcome %q, ends %v", d.To, d.Outcome, d.Ends)
	}
}

func TestQueuedInModeObserveCallsNobody(t *testing.T) {
	t.Parallel()
	p, r, s := testPolicy(), testRun(Queued), healthy(12)
	r.Mode = ModeObserve
	s.o.Ledger = Known(LedgerFacts{TargetHolder: "run-0"})
	d := Decide(p, r, s.at(r.StartedAt.Add(p.Timing.Deadline)).o)
	if len(d.Promises) != 1 || d.Promises[0].Action.Kind() != KindAnnotate {
		t.Fatalf("promises %v, want one note", d.Promises)
	}
}
