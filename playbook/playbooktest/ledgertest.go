package playbooktest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/drydock/drydock/playbook"
)

// LedgerUnderTest is a ledger with the doors that LedgerTest needs beside playbook.Ledger's own.
type LedgerUnderTest interface {
	playbook.Ledger
	// StartRun makes a run in state queued.
	StartRun(ctx context.Context, s playbook.Start) error
	// SetKillSwitch engages the kill switch of a carrier (of all when it is empty); an empty reason lets go.
	SetKillSwitch(ctx context.Context, carrier, reason string) error
	// ExpireLease makes the lease of the run's target run out at once, while its holder still believes in it.
	ExpireLease(ctx context.Context, runID string) error
	// ConfirmCarrier puts the ledger ahead of a carrier's Lease, on which that number was seen.
	ConfirmCarrier(ctx context.Context, carrier string, seen int64) (playbook.Count, error)
	// Age makes all that is stored d older: reservations, ticks, runs. Leases need not be touched.
	Age(ctx context.Context, d time.Duration) error
}

// LedgerTest checks that a ledger keeps the promises of playbook.Ledger. newLedger makes an empty one for each test.
func LedgerTest(t *testing.T, newLedger func(t *testing.T) LedgerUnderTest) {
	t.Helper()
	tests := []struct {
		name string
		run  func(f *ledgerFixture)
	}{
		{"a new run is queued and can be loaded", (*ledgerFixture).loads},
		{"a run that does not exist", (*ledgerFixture).noRun},
		{"a leased target is busy for every run of it", (*ledgerFixture).busy},
		{"an expired lease is taken over with a higher generation", (*ledgerFixture).takenOver},
		{"a stale hold writes nothing", (*ledgerFixture).stale},
		{"a hold's context ends when it is released or lost", (*ledgerFixture).contextEnds},
		{"compare and swap", (*ledgerFixture).conflict},
		{"intents are numbered and come back as they went in", (*ledgerFixture).numbered},
		{"memory, incidents and ends come back as they went in", (*ledgerFixture).roundTrip},
		{"a refused reservation writes nothing", (*ledgerFixture).refusedWritesNothing},
		{"reservations of one commit add up", (*ledgerFixture).addUp},
		{"the claim belongs to one run of a carrier", (*ledgerFixture).claim},
		{"what is held is given back by the undo", (*ledgerFixture).heldGivenBack},
		{"what came to nothing is given back", (*ledgerFixture).nothingGivenBack},
		{"what is spent comes back with its window", (*ledgerFixture).windowed},
		{"the kill switch refuses changes, not undos", (*ledgerFixture).killSwitch},
		{"the kill switch stops a promised change before its call", (*ledgerFixture).killSwitchAtBegin},
		{"begin notes the call", (*ledgerFixture).begins},
		{"settling twice", (*ledgerFixture).settlesTwice},
		{"an undo is owed from the promise on", (*ledgerFixture).owes},
		{"backups", (*ledgerFixture).backups},
		{"an ended run", (*ledgerFixture).ended},
		{"facts about other runs of the target and the DaemonSet", (*ledgerFixture).facts},
		{"facts about other runs of the carrier", (*ledgerFixture).sameCarrier},
		{"facts about repairs of the target", (*ledgerFixture).repaired},
		{"changes of a carrier are counted, one ahead of its Lease", (*ledgerFixture).counts},
		{"an admin puts a ledger ahead of the Lease", (*ledgerFixture).confirms},
		{"panics are counted", (*ledgerFixture).panics},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			test.run(&ledgerFixture{T: t, l: newLedger(t)})
		})
	}
}

type ledgerFixture struct {
	*testing.T
	l    LedgerUnderTest
	runs int
}

func (f *ledgerFixture) must(err error, what string) {
	f.Helper()
	if err != nil {
		f.Fatalf("%s: %v", what, err)
	}
}

func (f *ledgerFixture) wantError(err, want error, what string) {
	f.Helper()
	if !errors.Is(err, want) {
		f.Errorf("%s: got error %v, want %v", what, err, want)
	}
}

func (f *ledgerFixture) wantRefused(err error, what string) playbook.RefusedError {
	f.Helper()
	var refused *playbook.RefusedError
	if !errors.As(err, &refused) {
		f.Fatalf("%s: got error %v, want a refusal", what, err)
	}
	return *refused
}

func (f *ledgerFixture) same(got, want any, what string) {
	f.Helper()
	if d := cmp.Diff(want, got); d != "" {
		f.Errorf("%s (-want +got):\n%s", what, d)
	}
}

// start makes a run of a DaemonSet on a carrier and returns its id.
func (f *ledgerFixture) start(carrier, daemonSet string) string {
	f.Helper()
	f.runs++
	id := fmt.Sprintf("01930000-0000-7000-8000-%012x", f.runs)
	f.must(f.l.StartRun(f.Context(), playbook.Start{
		RunID: id, Target: playbook.Target{Carrier: carrier, Namespace: "monitoring", DaemonSet: daemonSet},
		Incident: playbook.RunIncident{ID: fmt.Sprintf("PINC%04d", f.runs), Number: f.runs, Title: "t", URL: "https://pd/" + id},
		Trigger:  playbook.TriggerWebhook, Mode: playbook.ModeAct, Deadline: 45 * time.Minute,
	}), "start run")
	return id
}

func (f *ledgerFixture) acquire(id string) playbook.Hold {
	f.Helper()
	h, err := f.l.Acquire(f.Context(), id)
	f.must(err, "acquire")
	f.Cleanup(h.Release)
	return h
}

func (f *ledgerFixture) load(h playbook.Hold) playbook.Run {
	f.Helper()
	r, _, err := f.l.Load(f.Context(), h)
	f.must(err, "load")
	return r
}

func (f *ledgerFixture) commit(h playbook.Hold, promises ...playbook.Promise) (playbook.Run, error) {
	f.Helper()
	return f.commitAs(h, func(*playbook.Commit) {}, promises...)
}

// commitAs commits the run as it is loaded, with the promises, after the change that it is given.
func (f *ledgerFixture) commitAs(h playbook.Hold, change func(*playbook.Commit), promises ...playbook.Promise) (playbook.Run, error) {
	f.Helper()
	r, now, err := f.l.Load(f.Context(), h)
	f.must(err, "load")
	c := playbook.Commit{Run: r, Promises: promises, Store: true, NextTick: now.Add(time.Second),
		Tick: playbook.Tick{At: now, From: r.State, To: r.State, Observation: playbook.Observation{At: now}}}
	change(&c)
	return f.l.Commit(f.Context(), h, c)
}

func (f *ledgerFixture) mustCommit(h playbook.Hold, promises ...playbook.Promise) playbook.Run {
	f.Helper()
	r, err := f.commit(h, promises...)
	f.must(err, "commit")
	return r
}

func (f *ledgerFixture) settle(h playbook.Hold, seq int, result playbook.Result) playbook.Run {
	f.Helper()
	r, err := f.l.Settle(f.Context(), h, seq, playbook.Settlement{Result: result, Detail: "said so", Receipt: "r1"})
	f.must(err, "settle")
	return r
}

func (f *ledgerFixture) used(h playbook.Hold, r playbook.Reservation) int {
	f.Helper()
	facts, err := f.l.Facts(f.Context(), h, f.load(h))
	f.must(err, "facts")
	return facts.Used[r.Budget()]
}

func cordon(run string) playbook.Cordon {
	return playbook.Cordon{Node: "w1", UID: "u1", ResourceVersion: "7", Mark: playbook.Mark{Installation: "i", Run: run, Reason: "full"}}
}

func uncordon(run string) playbook.Uncordon {
	return playbook.Uncordon{Node: "w1", UID: "u1", Run: run}
}

func evictions(carrier string, amount, limit int) playbook.Reservation {
	return playbook.Reservation{Scope: playbook.ScopeEvictionsHour, Key: carrier, Amount: amount, Limit: limit, Window: time.Hour}
}

func cordonedNodes(carrier string) playbook.Reservation {
	return playbook.Reservation{Scope: playbook.ScopeCordonedNodes, Key: carrier, Amount: 1, Limit: 1}
}

func theClaim(carrier string) playbook.Reservation {
	return playbook.Reservation{Scope: playbook.ScopeClaim, Key: carrier, Amount: 1, Limit: 1}
}

func (f *ledgerFixture) loads() {
	id := f.start("c1", "a")
	h := f.acquire(id)
	r, now, err := f.l.Load(f.Context(), h)
	f.must(err, "load")
	if now.IsZero() || r.StartedAt.IsZero() || now.Before(r.StartedAt) {
		f.Errorf("the ledger's clock says %s, the run started at %s", now, r.StartedAt)
	}
	f.same(r.Deadline.Sub(r.StartedAt), 45*time.Minute, "deadline after the start")
	f.same(r.State, playbook.Queued, "state")
	f.same(r.Target, playbook.Target{Carrier: "c1", Namespace: "monitoring", DaemonSet: "a"}, "target")
	f.same(r.TableVersion, playbook.TableVersion, "table version")
	f.same([]any{r.ID, r.Mode, r.Trigger, len(r.Intents), len(r.Incidents)},
		[]any{id, playbook.ModeAct, playbook.TriggerWebhook, 0, 1}, "run")
	f.same([]any{h.RunID(), h.Generation() > 0, h.Context().Err()}, []any{id, true, error(nil)}, "hold")
}

func (f *ledgerFixture) noRun() {
	_, err := f.l.Acquire(f.Context(), "01930000-0000-7000-8000-ffffffffffff")
	f.wantError(err, playbook.ErrNoRun, "acquire")
}

func (f *ledgerFixture) busy() {
	id, other, elsewhere := f.start("c1", "a"), f.start("c1", "b"), f.start("c2", "a")
	h := f.acquire(id)
	_, err := f.l.Acquire(f.Context(), id)
	f.wantError(err, playbook.ErrBusy, "acquire the same run again")
	f.acquire(other)
	f.acquire(elsewhere)
	h.Release()
	h.Release()
	next := f.acquire(id)
	if next.Generation() <= h.Generation() {
		f.Errorf("generation %d follows %d", next.Generation(), h.Generation())
	}
}

func (f *ledgerFixture) takenOver() {
	id := f.start("c1", "a")
	old := f.acquire(id)
	f.must(f.l.ExpireLease(f.Context(), id), "expire")
	next := f.acquire(id)
	if next.Generation() <= old.Generation() {
		f.Errorf("generation %d follows %d", next.Generation(), old.Generation())
	}
	old.Release() // a late release must not take the successor's lease away
	_, err := f.l.Acquire(f.Context(), id)
	f.wantError(err, playbook.ErrBusy, "acquire after the stale release")
	f.mustCommit(next)
}

func (f *ledgerFixture) stale() {
	id := f.start("c1", "a")
	old := f.acquire(id)
	before := f.mustCommit(old, playbook.Promise{Action: playbook.Annotate{Incident: "PINC0001", Marker: "m", Text: "t"}})
	f.must(f.l.ExpireLease(f.Context(), id), "expire")

	refuses := func(when string) {
		_, err := f.l.Commit(f.Context(), old, playbook.Commit{Run: before, NextTick: before.StartedAt})
		f.wantError(err, playbook.ErrLeaseLost, when+": commit")
		f.wantError(f.l.Begin(f.Context(), old, 1, before.StartedAt), playbook.ErrLeaseLost, when+": begin")
		_, err = f.l.Settle(f.Context(), old, 1, playbook.Settlement{Result: playbook.Happened})
		f.wantError(err, playbook.ErrLeaseLost, when+": settle")
	}
	refuses("run out")
	next := f.acquire(id)
	refuses("taken over")
	f.same(f.load(next), before, "the run")
}

func (f *ledgerFixture) contextEnds() {
	ends := func(h playbook.Hold, when string) {
		select {
		case <-h.Context().Done():
		case <-time.After(20 * time.Second): // a ledger with a database finds out when it renews
			f.Errorf("%s: the context goes on", when)
		}
	}
	id := f.start("c1", "a")
	h := f.acquire(id)
	h.Release()
	ends(h, "released")
	h = f.acquire(id)
	f.must(f.l.ExpireLease(f.Context(), id), "expire")
	f.acquire(id)
	ends(h, "taken over")
}

func (f *ledgerFixture) conflict() {
	h := f.acquire(f.start("c1", "a"))
	old := f.load(h)
	now := f.mustCommit(h)
	if now.Version <= old.Version {
		f.Errorf("version %d follows %d", now.Version, old.Version)
	}
	old.Why = "decided on what was"
	_, err := f.l.Commit(f.Context(), h, playbook.Commit{Run: old, NextTick: old.StartedAt,
		Promises: []playbook.Promise{{Action: cordon(old.ID), Reservations: []playbook.Reservation{cordonedNodes("c1")}}}})
	f.wantError(err, playbook.ErrConflict, "commit of an old version")
	f.same(f.load(h), now, "the run")
	f.same(f.used(h, cordonedNodes("c1")), 0, "cordoned nodes")
}
