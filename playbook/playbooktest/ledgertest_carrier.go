package playbooktest

import (
	"fmt"
	"time"

	"github.com/drydock/drydock/playbook"
)

// carrierFacts asks what a new run is told about the other runs of its carrier.
func (f *ledgerFixture) carrierFacts(id string) []playbook.CarrierRun {
	f.Helper()
	h := f.acquire(id)
	facts, err := f.l.Facts(f.Context(), h, f.load(h))
	f.must(err, "facts")
	h.Release()
	return facts.SameCarrier
}

// end commits a run's end, after the change that it is given.
func (f *ledgerFixture) end(id string, outcome playbook.Outcome, change func(*playbook.Commit)) {
	f.Helper()
	h := f.acquire(id)
	_, err := f.commitAs(h, func(c *playbook.Commit) {
		c.Run.State, c.Run.Outcome, c.Run.FinishedAt = outcome.State(), outcome, c.Tick.At
		c.NextTick, c.Release = time.Time{}, true
		change(c)
	})
	f.must(err, "end")
	h.Release()
}

// sameCarrier: a run is told about the others of its carrier, about those that ended within the half hour before it began
// as well, and about nobody else's.
func (f *ledgerFixture) sameCarrier() {
	old, first, elsewhere := f.start("c1", "old"), f.start("c1", "a"), f.start("c2", "a")
	nothing := func(*playbook.Commit) {}
	f.end(old, playbook.OutcomeEscalated, nothing)
	f.end(elsewhere, playbook.OutcomeEscalated, nothing)
	f.must(f.l.Age(f.Context(), 20*time.Minute), "age")

	h := f.acquire(first)
	started := f.load(h).StartedAt
	_, err := f.commitAs(h, func(c *playbook.Commit) {
		c.Run.State, c.Run.Finding, c.Run.Why = playbook.Draining, playbook.FindingNodeFull, "node w1: full"
		c.Run.Memory.Causes = []playbook.Cause{playbook.CauseNodes, playbook.CauseFull}
	}, playbook.Promise{Action: cordon(first), Reservations: []playbook.Reservation{theClaim("c1")}})
	f.must(err, "commit")
	h.Release()
	second := f.start("c1", "b")

	told := f.carrierFacts(second)
	var runs []string
	for _, r := range told {
		runs = append(runs, r.Run)
	}
	f.same(runs, []string{first, old}, "the runs that the second one is told about")
	want := playbook.CarrierRun{
		Run: first, Target: playbook.Target{Carrier: "c1", Namespace: "monitoring", DaemonSet: "a"}, State: playbook.Draining,
		Finding: playbook.FindingNodeFull, Why: "node w1: full", Causes: []playbook.Cause{playbook.CauseNodes, playbook.CauseFull},
		StartedAt: started, Claim: true,
		Incidents: []playbook.IncidentRef{{ID: "PINC0002", Number: 2, URL: "https://pd/" + first}},
	}
	f.same(told[0], want, "the run that changes the carrier")
	f.same([]any{told[1].Outcome, told[1].EndedAt.IsZero(), told[1].Claim}, []any{playbook.OutcomeEscalated, false, false}, "the run that ended")

	f.must(f.l.Age(f.Context(), 15*time.Minute), "age")
	third := f.start("c1", "c")
	runs = nil
	for _, r := range f.carrierFacts(third) {
		runs = append(runs, r.Run)
	}
	f.same(runs, []string{second, first}, "the runs that one is told about which began 35 minutes after an end")

	// A storm does not make the facts long.
	for i := range playbook.CarrierRuns {
		f.start("c1", fmt.Sprintf("d%d", i))
	}
	f.same(len(f.carrierFacts(third)), playbook.CarrierRuns, "how many runs one is told about")
}

// repaired: which run repaired the target last, and how many did within a day.
func (f *ledgerFixture) repaired() {
	change := func(c *playbook.Commit) {
		c.Promises = []playbook.Promise{{Action: playbook.Nudge{Namespace: "monitoring", Name: "a"}}}
	}
	repair := func() string {
		id := f.start("c1", "a")
		h := f.acquire(id)
		_, err := f.commitAs(h, change)
		f.must(err, "commit")
		f.settle(h, 1, playbook.Happened)
		h.Release()
		f.end(id, playbook.OutcomeResolved, func(*playbook.Commit) {})
		return id
	}
	read := func() playbook.LedgerFacts {
		id := f.start("c1", "a")
		h := f.acquire(id)
		facts, err := f.l.Facts(f.Context(), h, f.load(h))
		f.must(err, "facts")
		h.Release()
		f.end(id, playbook.OutcomeResolved, func(*playbook.Commit) {})
		return facts
	}
	facts := read()
	f.same([]any{facts.RepairedToday, facts.RepairedBy, facts.RepairedAt.IsZero()}, []any{0, "", true}, "before a repair")
	repair()
	f.must(f.l.Age(f.Context(), 23*time.Hour), "age")
	second := repair()
	facts = read() // a run that resolved without a change repaired nothing
	f.same([]any{facts.RepairedToday, facts.RepairedBy, facts.RepairedAt.IsZero()}, []any{2, second, false}, "after two repairs")
	f.must(f.l.Age(f.Context(), 2*time.Hour), "age")
	facts = read()
	f.same([]any{facts.RepairedToday, facts.RepairedBy}, []any{1, second}, "a day after the first one")
}
