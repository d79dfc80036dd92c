package store

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/drydock/drydock/migrations"
	"github.com/drydock/drydock/playbook"
	"github.com/drydock/drydock/store/privatepg/pgtest"
)

// triggered is the arrival of an incident.triggered event with ids made from n.
func triggered(n, incident string, t playbook.Target) playbook.Arrival {
	st := startOf(incident, t)
	return playbook.Arrival{WebhookID: "w-" + n, EventID: "e-" + n, Type: "incident.triggered", IncidentID: incident,
		OccurredAt: time.Now(), Payload: []byte(`{"n":"` + n + `\u0000"}`), Start: &st}
}

func acknowledged(n, incident string) playbook.Arrival {
	return playbook.Arrival{WebhookID: "w-" + n, EventID: "e-" + n, Type: "incident.acknowledged", IncidentID: incident,
		OccurredAt: time.Now(), Payload: []byte(`{}`), Reason: "no run for this incident"}
}

func (f *fixture) intake(a playbook.Arrival) playbook.EventRecord {
	f.Helper()
	r, err := f.Intake(f.Context(), a)
	f.must(err)
	return r
}

func (f *fixture) run(id string) playbook.StoredRun {
	f.Helper()
	r, err := f.Store.Run(f.Context(), id)
	f.must(err)
	return r
}

func (f *fixture) incidentsOf(run string) []string {
	f.Helper()
	var ids []string
	for _, in := range f.run(run).Incidents {
		ids = append(ids, in.ID)
	}
	return ids
}

func (f *fixture) same(what string, got, want any) {
	f.Helper()
	if d := cmp.Diff(want, got, cmpopts.EquateEmpty()); d != "" {
		f.Errorf("%s (-want +got):\n%s", what, d)
	}
}

func TestIntakeStartsARun(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	a := triggered("1", "P1", target("c1", "a"))
	a.Start.Incident.Title = "a NUL \x00 and \xff"
	record := f.intake(a)
	f.same("outcome", record.Outcome, playbook.EventStarted)

	run := f.run(record.Run)
	f.same("target", run.Target, target("c1", "a"))
	f.same("state", run.State, playbook.Queued)
	f.same("deadline", run.Deadline.Sub(run.StartedAt), 45*time.Minute)
	want := []playbook.RunIncident{{ID: "P1", Number: 7, Title: "a NUL \uFFFD and \uFFFD", URL: "https://pd/P1", JoinedAt: run.StartedAt,
		OpenedAt: a.OccurredAt.UTC().Truncate(time.Microsecond)}}
	f.same("incidents", run.Incidents, want)
	f.same("jobs", scan[string](f, `SELECT string_agg(kind || args::text || state, ',') FROM river_job`),
		`tick{"run": "`+run.ID+`", "seq": 1}available`)
	page, err := f.Events(t.Context(), nil, 0, "")
	f.must(err)
	f.same("events", page.Events, []playbook.EventRecord{record})
	payload, err := f.Payload(t.Context(), record.ID)
	f.must(err)
	f.same("payload", string(payload), string(a.Payload))
}

func TestIntakeOfOneDeliveryTwice(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	first := f.intake(triggered("1", "P1", target("c1", "a")))
	want := first
	want.Duplicate = true

	f.same("the same delivery", f.intake(triggered("1", "P1", target("c1", "a"))), want)
	other := triggered("1", "P1", target("c1", "a"))
	other.WebhookID = "w-2"
	f.same("the same event through another subscription", f.intake(other), want)
	f.same("runs", scan[int](f, `SELECT count(*) FROM runs`), 1)
	f.same("events", scan[int](f, `SELECT count(*) FROM events`), 1)
	f.same("jobs", scan[int](f, `SELECT count(*) FROM river_job`), 1)
}

// TestIntakeOfManyAtOnce sends each of 20 events six times, to two replicas, about four targets.
func TestIntakeOfManyAtOnce(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	replicas := []*fixture{f, openFixture(t, f.dsn, "two/1")}
	var wg sync.WaitGroup
	var mu sync.Mutex
	outcomes := map[playbook.EventOutcome]int{}
	duplicates := 0
	for n := range 120 {
		event := n % 20
		wg.Go(func() {
			a := triggered(fmt.Sprint(event), fmt.Sprintf("P%d", event), target("c1", fmt.Sprint(event%4)))
			r, err := replicas[n%2].Intake(t.Context(), a)
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			if r.Duplicate {
				duplicates++
			} else {
				outcomes[r.Outcome]++
			}
		})
	}
	wg.Wait()
	f.same("outcomes", outcomes, map[playbook.EventOutcome]int{playbook.EventStarted: 4, playbook.EventJoined: 16})
	f.same("duplicates", duplicates, 100)
	f.same("runs", scan[int](f, `SELECT count(*) FROM runs`), 4)
	f.same("incidents", scan[int](f, `SELECT count(*) FROM run_incidents`), 20)
	f.same("events", scan[int](f, `SELECT count(*) FROM events`), 20)
}

func TestIntakeJoinsAndFollows(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	first := f.intake(triggered("1", "P1", target("c1", "a")))
	f.move(first.Run, playbook.Triage)
	before := f.run(first.Run)

	joined := f.intake(triggered("2", "P2", target("c1", "a")))
	f.same("another incident of the target", []any{joined.Outcome, joined.Run}, []any{playbook.EventJoined, first.Run})
	f.same("incidents", f.incidentsOf(first.Run), []string{"P1", "P2"})
	if after := f.run(first.Run).Version; after <= before.Version {
		t.Errorf("the join left the version at %d: a tick that did not see it could end the run", after)
	}

	other := f.intake(triggered("3", "P3", target("c1", "b")))
	f.same("another target", other.Outcome, playbook.EventStarted)

	jobs := scan[int](f, `SELECT count(*) FROM river_job`)
	followed := f.intake(acknowledged("4", "P2"))
	f.same("an event of a known incident", []any{followed.Outcome, followed.Run}, []any{playbook.EventFollowed, first.Run})
	f.same("jobs more", scan[int](f, `SELECT count(*) FROM river_job`)-jobs, 1)
	again := f.intake(triggered("5", "P1", target("c1", "a")))
	f.same("triggered, of an incident that has a run", []any{again.Outcome, again.Run}, []any{playbook.EventFollowed, first.Run})

	ignored := f.intake(acknowledged("6", "P9"))
	f.same("an event of an unknown incident", []any{ignored.Outcome, ignored.Reason, ignored.Run},
		[]any{playbook.EventIgnored, "no run for this incident", ""})
	nothing := f.intake(playbook.Arrival{Type: "pagey.ping", Payload: []byte(`{}`), Reason: "nothing to do"})
	f.same("an event without any id", nothing.Outcome, playbook.EventIgnored)
}

func TestIntakeWhileUnwinding(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	first := f.intake(triggered("1", "P1", target("c1", "a")))
	f.move(first.Run, playbook.Unwinding)

	second := f.intake(triggered("2", "P2", target("c1", "a")))
	f.same("outcome", second.Outcome, playbook.EventStarted)
	f.same("reason", second.Reason, "waits for run "+first.Run+", which is unwinding")
	third := f.intake(triggered("3", "P3", target("c1", "a")))
	f.same("a third", []any{third.Outcome, third.Run}, []any{playbook.EventJoined, second.Run})
	f.same("incidents of the first", f.incidentsOf(first.Run), []string{"P1"})
	f.same("incidents of the second", f.incidentsOf(second.Run), []string{"P2", "P3"})

	// The second may not run beside the first, whatever its tick decides.
	h := f.acquire(second.Run)
	_, err := f.Commit(t.Context(), h, f.commitOf(h, func(c *playbook.Commit) { c.Run.State = playbook.Triage }))
	f.wantError(err, playbook.ErrConflict)
	h.Release()

	// When the first ends, the second is due.
	f.exec(`UPDATE runs SET wake_at = clock_timestamp() + '1 hour' WHERE id = $1`, second.Run)
	f.move(first.Run, playbook.StateEscalated)
	f.same("due", scan[bool](f, `SELECT wake_at <= clock_timestamp() FROM runs WHERE id = $1`, second.Run), true)
	f.same("state", f.move(second.Run, playbook.Triage).State, playbook.Triage)
}

// lookUp plays the job that reads the incident of an event: start says what was found.
func (f *fixture) lookUp(event string, start *playbook.Start, reason string) {
	f.Helper()
	w, err := f.waitingEvent(f.Context(), event)
	f.must(err)
	if w == nil {
		f.Fatalf("event %s is not waiting for its incident to be read", event)
	}
	f.lookedUpNow(event, w, start, reason)
}

func (f *fixture) newestEvent() playbook.EventRecord {
	f.Helper()
	page, err := f.Events(f.Context(), nil, 1, "")
	f.must(err)
	return page.Events[0]
}

// TestIntakeAfterTheEnd: whatever its time says, an event that asks for a run of an incident whose run has ended makes the
// incident be read again, and what was read decides. PagerDuty's clock here is an hour behind the database's, or ahead of it.
func TestIntakeAfterTheEnd(t *testing.T) {
	t.Parallel()
	for name, skew := range map[string]time.Duration{"behind": -time.Hour, "ahead": time.Hour} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			at := time.Now().Add(skew).UTC().Truncate(time.Microsecond)
			event := func(n string) playbook.Arrival {
				a := triggered(n, "P1", target("c1", "a"))
				a.OccurredAt = at
				return a
			}
			first := f.intake(event("1"))
			f.move(first.Run, playbook.StateEscalated)

			late := f.intake(event("2"))
			f.same("an old event that comes late", []any{late.Outcome, late.Run}, []any{playbook.EventFollowed, first.Run})
			w, err := f.waitingEvent(t.Context(), late.ID)
			f.must(err)
			f.same("what is known of its run", w.Before, Link{Run: first.Run, Ended: true, Outcome: playbook.OutcomeEscalated, OpenedAt: at})
			f.lookUp(late.ID, nil, "it was not reopened")
			got := f.newestEvent()
			f.same("after the look", []any{got.Outcome, got.Run, got.Reason}, []any{playbook.EventFollowed, first.Run, "it was not reopened"})
			f.same("an event that asks for nothing", f.intake(acknowledged("3", "P1")).Outcome, playbook.EventFollowed)

			reopened := f.intake(event("4"))
			st := startOf("P1", target("c1", "a"))
			st.Incident.OpenedAt = at.Add(time.Minute)
			f.lookUp(reopened.ID, &st, "")
			got = f.newestEvent()
			f.same("open again", got.Outcome, playbook.EventStarted)
			if got.Run == first.Run {
				t.Error("a reopened incident was given to the run that had ended")
			}
			f.same("opened at", f.run(got.Run).Incidents[0].OpenedAt, st.Incident.OpenedAt)
			f.same("its next event", f.intake(acknowledged("5", "P1")).Run, got.Run)
			f.same("runs", scan[int](f, `SELECT count(*) FROM runs`), 2)
		})
	}
}

// TestLookOfAnEarlierTime: between the reading of an incident and the placing of what was read, another run of it came and
// ended. What was read says nothing about the time after that.
func TestLookOfAnEarlierTime(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	first := f.intake(triggered("1", "P1", target("c1", "a")))
	f.move(first.Run, playbook.StateResolved)
	reopened := f.intake(triggered("2", "P1", target("c1", "a")))
	w, err := f.waitingEvent(t.Context(), reopened.ID)
	f.must(err)
	st := startOf("P1", target("c1", "a"))
	outcome, second, err := f.Reconcile(t.Context(), st, first.Run)
	f.must(err)
	f.same("reconciled meanwhile", outcome, playbook.EventStarted)
	f.move(second, playbook.StateResolved)
	f.lookedUpNow(reopened.ID, w, &st, "")
	got := f.newestEvent()
	f.same("the event", []any{got.Outcome, got.Run}, []any{playbook.EventFollowed, second})
	f.same("runs", scan[int](f, `SELECT count(*) FROM runs`), 2)
}

// TestIntakeRejoins: an incident that was over within a run is opened again while the run goes on for another incident.
func TestIntakeRejoins(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	first := f.intake(triggered("1", "P1", target("c1", "a")))
	f.intake(triggered("2", "P2", target("c1", "a")))
	h := f.acquire(first.Run)
	f.commit(h, func(c *playbook.Commit) {
		c.Run.State = playbook.Verifying
		c.Run.Incidents[0].End = playbook.OutcomeStoodDown
	})
	h.Release()
	again := f.intake(triggered("3", "P1", target("c1", "a")))
	st := startOf("P1", target("c1", "a"))
	f.lookUp(again.ID, &st, "")
	got := f.newestEvent()
	f.same("reopened", []any{got.Outcome, got.Run}, []any{playbook.EventJoined, first.Run})
	for _, in := range f.run(first.Run).Incidents {
		f.same("end of "+in.ID, in.End, playbook.Outcome(""))
	}
}

// TestIntakeOfOneBatch: events that meet in one transaction behave as if they had come one after another.
func TestIntakeOfOneBatch(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	var batch []arrival
	add := func(a playbook.Arrival) {
		id, err := newID()
		f.must(err)
		if a.Start != nil {
			a.Start, err = withRunID(*a.Start)
			f.must(err)
		}
		batch = append(batch, arrival{Arrival: a, id: id})
	}
	add(triggered("1", "P1", target("c1", "a")))
	add(triggered("1", "P1", target("c1", "a")))
	add(triggered("2", "P2", target("c1", "a")))
	add(acknowledged("3", "P2"))
	add(triggered("4", "P4", target("c2", "a")))
	add(acknowledged("5", "P9"))
	records, err := f.storeArrivals(t.Context(), batch)
	f.must(err)
	run := records[0].Run
	type row struct {
		Outcome   playbook.EventOutcome
		SameRun   bool
		Duplicate bool
	}
	var got []row
	for _, r := range records {
		got = append(got, row{r.Outcome, r.Run == run, r.Duplicate})
	}
	f.same("records", got, []row{{playbook.EventStarted, true, false}, {playbook.EventStarted, true, true}, {playbook.EventJoined, true, false},
		{playbook.EventFollowed, true, false}, {playbook.EventStarted, false, false}, {playbook.EventIgnored, false, false}})
	f.same("incidents", f.incidentsOf(run), []string{"P1", "P2"})
	f.same("jobs", scan[int](f, `SELECT count(*) FROM river_job`), 2)
}

// TestIntakeOfABadEvent: one event that the database refuses does not take its batch with it.
func TestIntakeOfABadEvent(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	taken := f.start("P0", target("c0", "a")).ID
	answers := make(chan answer, 3)
	var batch []arrival
	for n := range 3 {
		a := triggered(fmt.Sprint(n), fmt.Sprintf("P%d", n+1), target("c1", fmt.Sprint(n)))
		a.Start.RunID = fmt.Sprintf("run-%d", n)
		if n == 1 {
			a.Start.RunID = taken
		}
		batch = append(batch, arrival{Arrival: a, id: fmt.Sprint(n), answer: answers})
	}
	f.commitBatch(t.Context(), batch)
	var failed []bool
	for range batch {
		failed = append(failed, (<-answers).err != nil)
	}
	f.same("failed", failed, []bool{false, true, false})
}

func TestLookUp(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	a := triggered("1", "P1", target("c1", "a"))
	start := *a.Start
	a.Start, a.LookUp = nil, true
	record := f.intake(a)
	f.same("outcome", record.Outcome, playbook.EventIgnored)
	f.same("job", scan[string](f, `SELECT kind || args::text FROM river_job`), `look_up{"event": "`+record.ID+`"}`)

	w, err := f.waitingEvent(t.Context(), record.ID)
	f.must(err)
	a.OccurredAt = a.OccurredAt.UTC().Truncate(time.Microsecond)
	f.same("the event", w, &Waiting{Arrival: a})
	for range 2 { // a job may run twice
		f.lookedUpNow(record.ID, w, &start, "")
	}
	event := f.newestEvent()
	f.same("outcome", event.Outcome, playbook.EventStarted)
	f.same("incidents", f.incidentsOf(event.Run), []string{"P1"})
	f.same("runs", scan[int](f, `SELECT count(*) FROM runs`), 1)
	w, err = f.waitingEvent(t.Context(), record.ID)
	f.must(err)
	if w != nil {
		t.Errorf("the event still waits: %+v", w)
	}

	a = acknowledged("2", "P2")
	a.LookUp = true
	record = f.intake(a)
	f.lookUp(record.ID, nil, "no alert names a DaemonSet")
	event = f.newestEvent()
	f.same("reason", []any{event.Outcome, event.Reason}, []any{playbook.EventIgnored, "no alert names a DaemonSet"})
}

// TestStartRunOfSeveral: a retrigger takes up every incident of the old run that is still open.
func TestStartRunOfSeveral(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	old := f.intake(triggered("1", "P1", target("c1", "a"))).Run
	f.intake(triggered("2", "P2", target("c1", "a")))
	f.move(old, playbook.StateEscalated)
	st := startOf("P1", target("c1", "a"))
	st.Also = []playbook.RunIncident{{ID: "P2", Number: 8}}
	run, err := f.StartRun(t.Context(), st)
	f.must(err)
	f.same("incidents", f.incidentsOf(run.ID), []string{"P1", "P2"})
	f.same("an event of the second", f.intake(acknowledged("3", "P2")).Run, run.ID)
}

func TestStartRun(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	st := startOf("P1", target("c1", "a"))
	st.Trigger, st.RequestedBy, st.Reason, st.RetriggeredFrom = playbook.TriggerRetrigger, "ops", "again", "r0"
	first, err := f.StartRun(t.Context(), st)
	f.must(err)
	f.same("run", []any{first.Trigger, first.RequestedBy, first.Reason, first.RetriggeredFrom, first.State},
		[]any{playbook.TriggerRetrigger, "ops", "again", "r0", playbook.Queued})

	var active *RunActiveError
	_, err = f.StartRun(t.Context(), st)
	if f.wantErrorAs(err, &active); active.Run != first.ID {
		t.Errorf("active run is %s, want %s", active.Run, first.ID)
	}
	st.RunID = first.ID
	same, err := f.StartRun(t.Context(), st)
	f.must(err)
	f.same("with the id again", same, first)

	f.move(first.ID, playbook.StateEscalated)
	st.RunID = ""
	if _, err := f.StartRun(t.Context(), st); err != nil {
		t.Errorf("after the end: %v", err)
	}
}

func TestReconcile(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	st := startOf("P1", target("c1", "a"))
	st.Trigger = playbook.TriggerReconcile
	place := func(after string) (playbook.EventOutcome, string) {
		t.Helper()
		outcome, run, err := f.Reconcile(t.Context(), st, after)
		f.must(err)
		return outcome, run
	}
	outcome, run := place("")
	f.same("an incident whose webhook was lost", outcome, playbook.EventStarted)
	jobs := scan[int](f, `SELECT count(*) FROM river_job`)
	outcome, again := place("")
	f.same("listed again", []any{outcome, again}, []any{playbook.EventFollowed, run})
	f.same("jobs more", scan[int](f, `SELECT count(*) FROM river_job`)-jobs, 0)
	f.move(run, playbook.StateEscalated)
	outcome, again = place("")
	f.same("still open after its run", []any{outcome, again}, []any{playbook.EventFollowed, run})
	outcome, second := place(run)
	f.same("seen to be open again", outcome, playbook.EventStarted)
	f.move(second, playbook.StateEscalated)
	outcome, again = place(run)
	f.same("seen before the end of its newest run", []any{outcome, again}, []any{playbook.EventFollowed, second})
}

func TestCancel(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	run := f.start("P1", target("c1", "a"))
	f.must(f.Cancel(t.Context(), run.ID, "ops", ""))
	f.must(f.Cancel(t.Context(), run.ID, "somebody else", ""))
	h := f.acquire(run.ID)
	facts, err := f.Facts(t.Context(), h, run)
	f.must(err)
	f.same("cancelled by", facts.Cancelled, "ops")
	h.Release()
	f.move(run.ID, playbook.StateStoodDown)
	var ended *RunEndedError
	f.wantErrorAs(f.Cancel(t.Context(), run.ID, "ops", ""), &ended)
	f.wantError(f.Cancel(t.Context(), "no-such-run", "ops", ""), playbook.ErrNoRun)
}

func TestApprove(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	run := f.start("P1", target("c1", "a")).ID
	f.wantError(f.Approve(t.Context(), run, "h1", "ops"), ErrNotAwaitingApproval)
	f.wantError(f.Approve(t.Context(), "no-such-run", "h1", "ops"), playbook.ErrNoRun)
	h := f.acquire(run)
	r := f.commit(h, func(c *playbook.Commit) { c.Run.State, c.Run.PlanHash = playbook.AwaitingApproval, "h1" })
	f.wantError(f.Approve(t.Context(), run, "h0", "ops"), ErrPlanChanged)
	f.must(f.Approve(t.Context(), run, "h1", "ops"))
	facts, err := f.Facts(t.Context(), h, r)
	f.must(err)
	f.same("approved", []string{facts.ApprovedHash, facts.ApprovedBy}, []string{"h1", "ops"})
	h.Release()
	f.move(run, playbook.StateStoodDown)
	var ended *RunEndedError
	f.wantErrorAs(f.Approve(t.Context(), run, "h1", "ops"), &ended)
}

func TestClosedStore(t *testing.T) {
	t.Parallel()
	s, err := Open(t.Context(), testOptions(t, pgtest.New(t, migrations.Up), "one/1"))
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{T: t, Store: s}
	s.Close()
	_, err = s.Intake(t.Context(), acknowledged("1", "P1"))
	f.wantError(err, ErrClosed)
}

// lookedUpNow places an event that was looked up.
func (f *fixture) lookedUpNow(event string, w *Waiting, st *playbook.Start, reason string) {
	f.Helper()
	_, err := f.lookedUp(f.Context(), event, w, st, reason)
	f.must(err)
}
