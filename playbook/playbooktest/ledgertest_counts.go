package playbooktest

import (
	"github.com/drydock/drydock/playbook"
)

func (f *ledgerFixture) count(carrier string) playbook.Count {
	f.Helper()
	c, err := f.l.Count(f.Context(), carrier)
	f.must(err, "count")
	return c
}

// changes commits a change with what the tick saw on the Lease.
func (f *ledgerFixture) changes(h playbook.Hold, seen int64) {
	f.Helper()
	r := f.load(h)
	_, err := f.l.Commit(f.Context(), h, playbook.Commit{Run: r, NextTick: r.StartedAt, LeaseCount: seen,
		Promises: []playbook.Promise{{Action: cordon(r.ID)}}})
	f.must(err, "commit a change")
}

func (f *ledgerFixture) counts() {
	h := f.acquire(f.start("c1", "a"))
	f.same(f.count("c1"), playbook.Count{}, "before any change")
	f.mustCommit(h)
	f.mustCommit(h, playbook.Promise{Action: playbook.Annotate{Incident: "PINC0001", Marker: "m", Text: "t"}})
	f.same(f.count("c1"), playbook.Count{}, "a note is not a change of the carrier")

	f.changes(h, 0)
	first := f.count("c1")
	if first.Number != 1 || first.Token == "" {
		f.Errorf("after the first change: %+v", first)
	}
	f.changes(h, 0) // it was not written on the Lease yet: one ahead is enough
	f.same(f.count("c1"), first, "the Lease has not caught up")
	f.changes(h, 1)
	second := f.count("c1")
	if second.Number != 2 || second.Token == first.Token {
		f.Errorf("after the Lease caught up: %+v after %+v", second, first)
	}
	f.changes(h, 7)
	f.same(f.count("c1"), second, "a ledger that is behind does not catch up by itself")
	r := f.load(h)
	_, err := f.l.Commit(f.Context(), h, playbook.Commit{Run: r, NextTick: r.StartedAt, LeaseCount: 2,
		Promises: []playbook.Promise{{Action: cordon(r.ID).Undo(), Undoes: 1}}})
	f.must(err, "promise an undo")
	f.same(f.count("c1"), second, "an undo is not counted")
	facts, err := f.l.Facts(f.Context(), h, f.load(h))
	f.must(err, "facts")
	f.same(facts.Count, second, "the facts")
	f.same(f.count("c2"), playbook.Count{}, "another carrier")
}

func (f *ledgerFixture) confirms() {
	h := f.acquire(f.start("c1", "a"))
	f.changes(h, 0)
	before := f.load(h)
	c, err := f.l.ConfirmCarrier(f.Context(), "c1", 17)
	f.must(err, "confirm")
	f.same(f.count("c1"), c, "the count")
	if c.Number != 18 {
		f.Errorf("confirmed as %d, want 18", c.Number)
	}
	after := f.load(h)
	if after.Version <= before.Version || after.Intents[0].SentAt.IsZero() {
		f.Errorf("an unsent intent was left as it was: %+v", after.Intents[0])
	}
	again, err := f.l.ConfirmCarrier(f.Context(), "c1", 3)
	f.must(err, "confirm again")
	if again.Number != 19 || again.Token == c.Token {
		f.Errorf("confirmed again as %+v", again)
	}
}

func (f *ledgerFixture) panics() {
	id := f.start("c1", "a")
	_, err := f.l.Panicked(f.Context(), "01930000-0000-7000-8000-ffffffffffff")
	f.wantError(err, playbook.ErrNoRun, "a panic of no run")
	h := f.acquire(id)
	before := f.load(h)
	for want := 1; want <= 3; want++ {
		n, err := f.l.Panicked(f.Context(), id)
		f.must(err, "count a panic")
		f.same(n, want, "panics")
	}
	_, err = f.l.Commit(f.Context(), h, playbook.Commit{Run: before, NextTick: before.StartedAt})
	f.must(err, "a commit of a tick that began before")
	if run := f.load(h); run.Panics != 3 {
		f.Errorf("%d panics after a commit, want 3", run.Panics)
	}
}
