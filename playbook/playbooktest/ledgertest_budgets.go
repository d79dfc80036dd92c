package playbooktest

import (
	"time"

	"github.com/drydock/drydock/playbook"
)

func (f *ledgerFixture) refusedWritesNothing() {
	id := f.start("c1", "a")
	h := f.acquire(id)
	before := f.load(h)
	_, err := f.commit(h,
		playbook.Promise{Action: cordon(id), Reservations: []playbook.Reservation{theClaim("c1"), cordonedNodes("c1")}},
		playbook.Promise{Action: playbook.Annotate{Incident: "PINC0001", Marker: "m", Text: "t"}},
		playbook.Promise{Action: playbook.Evict{Namespace: "n", Pod: "p", UID: "u"}, Reservations: []playbook.Reservation{evictions("c1", 4, 3)}},
	)
	refused := f.wantRefused(err, "commit")
	f.same(refused.Reservation, evictions("c1", 4, 3), "the reservation that refused")
	f.same(refused.Left, 3, "left")
	f.same(f.load(h), before, "the run")
	f.same([]int{f.used(h, cordonedNodes("c1")), f.used(h, evictions("c1", 1, 1))}, []int{0, 0}, "used")
	other := f.start("c1", "b")
	ho := f.acquire(other)
	f.mustCommit(ho, playbook.Promise{Action: cordon(other), Reservations: []playbook.Reservation{theClaim("c1"), cordonedNodes("c1")}})
}

func (f *ledgerFixture) addUp() {
	id := f.start("c1", "a")
	h := f.acquire(id)
	two := playbook.Promise{Action: playbook.Evict{Namespace: "n", Pod: "p", UID: "u"}, Reservations: []playbook.Reservation{evictions("c1", 2, 3)}}
	_, err := f.commit(h, two, two)
	f.same(f.wantRefused(err, "4 of 3 in one commit").Left, 1, "left")
	f.mustCommit(h, two)
	f.same(f.used(h, evictions("c1", 1, 3)), 2, "used")
	_, err = f.commit(h, two)
	f.same(f.wantRefused(err, "4 of 3 in two commits").Left, 1, "left")
	// Another run, another target: the budget is the carrier's.
	ho := f.acquire(f.start("c1", "b"))
	_, err = f.commit(ho, two)
	f.wantRefused(err, "4 of 3 over two runs")
	f.mustCommit(f.acquire(f.start("c2", "a")), playbook.Promise{Action: two.Action, Reservations: []playbook.Reservation{evictions("c2", 2, 3)}})
}

func (f *ledgerFixture) claim() {
	id, other := f.start("c1", "a"), f.start("c1", "b")
	h, ho := f.acquire(id), f.acquire(other)
	claimed := playbook.Promise{Action: playbook.Nudge{Namespace: "monitoring", Name: "a", UID: "u", ResourceVersion: "1", Run: id},
		Reservations: []playbook.Reservation{theClaim("c1")}}
	f.mustCommit(h, claimed)
	f.mustCommit(h, claimed) // one's own claim can be taken again
	_, err := f.commit(ho, claimed)
	f.same(f.wantRefused(err, "claim").Holder, id, "holder")
	holder := func(h playbook.Hold) string {
		facts, err := f.l.Facts(f.Context(), h, f.load(h))
		f.must(err, "facts")
		return facts.ClaimHolder
	}
	f.same([]string{holder(h), holder(ho)}, []string{"", id}, "holder in the facts: another run only")
	// An intent that came to nothing does not give the claim back: only Release does.
	f.settle(h, 1, playbook.NotHappened)
	f.settle(h, 2, playbook.Superseded)
	_, err = f.commit(ho, claimed)
	f.wantRefused(err, "claim, still")
	_, err = f.commitAs(h, func(c *playbook.Commit) { c.Release = true })
	f.must(err, "release")
	f.mustCommit(ho, claimed)
	f.same([]string{holder(h), holder(ho)}, []string{other, ""}, "holder in the facts")
}

func (f *ledgerFixture) heldGivenBack() {
	id, other := f.start("c1", "a"), f.start("c1", "b")
	h, ho := f.acquire(id), f.acquire(other)
	held := []playbook.Reservation{cordonedNodes("c1")}
	f.mustCommit(h, playbook.Promise{Action: cordon(id), Reservations: held})
	f.settle(h, 1, playbook.Happened)
	_, err := f.commitAs(h, func(c *playbook.Commit) { c.Release = true })
	f.must(err, "release")
	_, err = f.commit(ho, playbook.Promise{Action: cordon(other), Reservations: held})
	f.wantRefused(err, "cordon while the first one is owed, claim or not")
	f.mustCommit(h, playbook.Promise{Action: uncordon(id), Undoes: 1})
	_, err = f.commit(ho, playbook.Promise{Action: cordon(other), Reservations: held})
	f.wantRefused(err, "cordon while the undo is open")
	f.settle(h, 2, playbook.Happened)
	f.same(f.used(h, held[0]), 0, "used")
	f.mustCommit(ho, playbook.Promise{Action: cordon(other), Reservations: held})
}

func (f *ledgerFixture) nothingGivenBack() {
	id := f.start("c1", "a")
	h := f.acquire(id)
	reservations := []playbook.Reservation{cordonedNodes("c1"), evictions("c1", 3, 3)}
	for n, result := range []playbook.Result{playbook.NotHappened, playbook.Refused, playbook.Superseded} {
		f.mustCommit(h, playbook.Promise{Action: cordon(id), Reservations: reservations})
		f.settle(h, n+1, result)
	}
	f.same([]int{f.used(h, reservations[0]), f.used(h, reservations[1])}, []int{0, 0}, "used")
}

func (f *ledgerFixture) windowed() {
	id := f.start("c1", "a")
	h := f.acquire(id)
	p := playbook.Promise{Action: playbook.Evict{Namespace: "n", Pod: "p", UID: "u"}, Reservations: []playbook.Reservation{
		evictions("c1", 2, 3), {Scope: playbook.ScopeEvictionsRun, Key: id, Amount: 2, Limit: 3}}}
	f.mustCommit(h, p)
	f.settle(h, 1, playbook.Happened)
	_, err := f.commitAs(h, func(c *playbook.Commit) { c.Release = true })
	f.must(err, "release")
	f.must(f.l.Age(f.Context(), 59*time.Minute), "age")
	h.Release()
	h = f.acquire(id)
	_, err = f.commit(h, p)
	f.wantRefused(err, "within the window")
	f.must(f.l.Age(f.Context(), 2*time.Minute), "age")
	h.Release()
	h = f.acquire(id)
	_, err = f.commit(h, p)
	f.same(f.wantRefused(err, "for the run's life").Reservation.Scope, playbook.ScopeEvictionsRun, "scope")
	f.mustCommit(h, playbook.Promise{Action: p.Action, Reservations: p.Reservations[:1]})
}

func (f *ledgerFixture) facts() {
	first := f.start("c1", "a")
	h := f.acquire(first)
	seen := playbook.DaemonSet{Exists: true, UID: "u9", Generation: 4, GitOps: "Helm release x"}
	_, err := f.commitAs(h, func(c *playbook.Commit) {
		c.Run.State = playbook.Unwinding
		c.Tick.Observation.DaemonSet = playbook.Known(seen)
	})
	f.must(err, "commit")
	h.Release()

	f.start("c2", "a")
	f.start("c3", "other")
	second := f.start("c1", "a")
	h = f.acquire(second)
	facts, err := f.l.Facts(f.Context(), h, f.load(h))
	f.must(err, "facts")
	f.same(facts.TargetHolder, first, "the run of this target that is unwinding")
	f.same(facts.SameDaemonSet, []string{"c1", "c2"}, "carriers with this DaemonSet")
	if facts.LastSeen == nil {
		f.Fatal("the DaemonSet was seen, and the facts do not say so")
	}
	f.same(*facts.LastSeen, seen, "the DaemonSet as it was seen last")

	f.must(f.l.Age(f.Context(), 16*time.Minute), "age")
	third := f.start("c4", "a")
	h = f.acquire(third)
	facts, err = f.l.Facts(f.Context(), h, f.load(h))
	f.must(err, "facts")
	f.same(facts.SameDaemonSet, []string{"c4"}, "carriers with this DaemonSet, 15 minutes later")
}
