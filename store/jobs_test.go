package store

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"

	"github.com/drydock/drydock/playbook"
)

// working runs the store's jobs until the test ends or stop is called.
func (f *fixture) working(w Worker) (stop func()) {
	f.Helper()
	if w.LookUp == nil {
		w.LookUp = func(context.Context, Waiting) (*playbook.Start, string, error) { return nil, "", nil }
	}
	ctx, cancel := context.WithCancel(f.Context())
	done := make(chan error, 1)
	go func() { done <- f.Work(ctx, w) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			f.Errorf("work: %v", err)
		}
	})
	f.Cleanup(stop)
	return stop
}

// tickOnce is the least that a tick does: it takes the lease, and commits what change makes of the run.
func (f *fixture) tickOnce(ctx context.Context, run string, change func(c *playbook.Commit, now time.Time)) error {
	h, err := f.Acquire(ctx, run)
	if err != nil {
		return err
	}
	defer h.Release()
	r, now, err := f.Load(ctx, h)
	if err != nil {
		return err
	}
	c := playbook.Commit{Run: r, Store: true, Tick: playbook.Tick{At: now, From: r.State, Observation: playbook.Observation{At: now}}}
	change(&c, now)
	_, err = f.Commit(ctx, h, c)
	return err
}

func TestWorkTicksARunToItsEnd(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	var ticks atomic.Int32
	stop := f.working(Worker{Advance: func(ctx context.Context, run string) error {
		return f.tickOnce(ctx, run, func(c *playbook.Commit, now time.Time) {
			c.Run.State, c.NextTick = playbook.Verifying, now.Add(200*time.Millisecond)
			if ticks.Add(1) == 5 {
				c.Run.State, c.Run.Outcome, c.NextTick = playbook.StateResolved, playbook.OutcomeResolved, time.Time{}
			}
		})
	}})
	run := f.intake(triggered("1", "P1", target("c1", "a"))).Run
	began := time.Now()
	f.until("the run's end", func() bool { return f.run(run).State == playbook.StateResolved })
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("5 ticks, each due 0.2 s after the last, took %s", took)
	}
	stop()
	f.same("ticks", len(f.run(run).Ticks), 5)
	f.same("ticks run", int(ticks.Load()), 5)
	f.same("jobs left", scan[int](f, `SELECT count(*) FROM river_job WHERE kind = 'tick' AND state <> 'completed'`), 0)
}

func TestStaleTickIsANoOp(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	run := f.start("P1", target("c1", "a")).ID
	h := f.acquire(run)
	f.commit(h, nil) // an hour from now; the first job is stale
	h.Release()
	var ticks atomic.Int32
	f.working(Worker{Advance: func(context.Context, string) error { ticks.Add(1); return nil }})
	f.until("the stale job is done", func() bool {
		return scan[int](f, `SELECT count(*) FROM river_job WHERE state = 'completed'`) == 1
	})
	f.same("ticks", int(ticks.Load()), 0)
}

func TestBusyTickComesBack(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	run := f.start("P1", target("c1", "a")).ID
	h := f.acquire(run)
	tried, advanced := make(chan error, 100), make(chan struct{}, 1)
	f.working(Worker{Advance: func(ctx context.Context, run string) error {
		err := f.tickOnce(ctx, run, func(c *playbook.Commit, now time.Time) { c.NextTick = now.Add(time.Hour) })
		if err == nil {
			advanced <- struct{}{}
		}
		tried <- err
		return err
	}})
	f.wantError(<-tried, playbook.ErrBusy)
	h.Release()
	<-advanced
}

// TestWokenDuringATick: something happens to a run while its tick decides; its next tick is not an hour away then.
func TestWokenDuringATick(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	record := f.intake(triggered("1", "P1", target("c1", "a")))
	h := f.acquire(record.Run)
	c := f.commitOf(h, func(c *playbook.Commit) { c.NextTick = c.NextTick.Add(time.Hour) })
	f.intake(acknowledged("2", "P1"))
	_, err := f.Commit(t.Context(), h, c)
	f.must(err)
	h.Release()
	f.same("job of the next tick is due", scan[bool](f, `SELECT scheduled_at <= clock_timestamp() FROM river_job
		WHERE args->>'seq' = '2'`), true)

	h = f.acquire(record.Run)
	f.commit(h, func(c *playbook.Commit) { c.NextTick = c.NextTick.Add(time.Hour) })
	f.same("job of the tick after it is due", scan[bool](f, `SELECT scheduled_at <= clock_timestamp() FROM river_job
		WHERE args->>'seq' = '3'`), false)
}

// TestJoinDuringATick: a tick that did not see an incident must not end its run.
func TestJoinDuringATick(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	record := f.intake(triggered("1", "P1", target("c1", "a")))
	h := f.acquire(record.Run)
	c := f.commitOf(h, func(c *playbook.Commit) {
		c.Run.State, c.Run.Outcome, c.NextTick = playbook.StateResolved, playbook.OutcomeResolved, time.Time{}
	})
	f.same("outcome", f.intake(triggered("2", "P2", target("c1", "a"))).Outcome, playbook.EventJoined)
	_, err := f.Commit(t.Context(), h, c)
	f.wantError(err, playbook.ErrConflict)
}

// TestDeadHolder: a worker dies with the lease in its hands, as after kill -9; another replica goes on.
func TestDeadHolder(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	run := f.start("P1", target("c1", "a")).ID
	f.commit(f.acquire(run), func(c *playbook.Commit) { c.NextTick = c.NextTick.Add(time.Hour) })
	generation := scan[int64](f, `SELECT generation FROM leases`)
	f.exec(`UPDATE leases SET expires_at = clock_timestamp()`)
	ticked := make(chan struct{}, 1)
	other := openFixture(t, f.dsn, "two/1")
	other.working(Worker{Advance: func(ctx context.Context, run string) error {
		err := other.tickOnce(ctx, run, func(c *playbook.Commit, now time.Time) { c.NextTick = now.Add(time.Hour) })
		if err == nil {
			ticked <- struct{}{}
		}
		return err
	}})
	<-ticked
	if now := scan[int64](f, `SELECT generation FROM leases`); now <= generation {
		t.Errorf("generation %d follows %d", now, generation)
	}
}

// TestDeadHolderOfMany: one pass of the sweep frees every lease of a replica that died, and wakes each run once.
func TestDeadHolderOfMany(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	const many = 25
	for i := range many {
		run := f.start(fmt.Sprintf("P%d", i), target("c1", fmt.Sprintf("ds-%d", i))).ID
		f.commit(f.acquire(run), func(c *playbook.Commit) { c.NextTick = c.NextTick.Add(time.Hour) })
	}
	f.exec(`UPDATE leases SET expires_at = clock_timestamp()`)
	other := openFixture(t, f.dsn, "two/1")
	f.must(other.SweepLeases(t.Context()))
	f.same("leases that are held", scan[int](f, `SELECT count(*) FROM leases WHERE run <> ''`), 0)
	f.same("runs that are due", scan[int](f, `SELECT count(*) FROM runs WHERE wake_at <= clock_timestamp()`), many)
	f.same("jobs that are due", scan[int](f, `SELECT count(*) FROM river_job j JOIN runs r ON r.id = j.args->>'run'
		AND (j.args->>'seq')::bigint = r.tick_seq WHERE j.scheduled_at <= clock_timestamp()`), many)
}

func TestTakeOver(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	mine, other := f.start("P1", target("c1", "a")).ID, f.start("P2", target("c1", "b")).ID
	f.acquire(mine)
	stranger := openFixture(t, f.dsn, "onetwo/1")
	stranger.acquire(other)
	restarted := openFixture(t, f.dsn, "one/2")
	f.must(restarted.TakeOver(t.Context(), "one"))
	f.must(restarted.SweepLeases(t.Context()))
	if _, err := restarted.Acquire(t.Context(), mine); err != nil {
		t.Errorf("the dead process' lease: %v", err)
	}
	_, err := restarted.Acquire(t.Context(), other)
	f.wantError(err, playbook.ErrBusy)
}

func TestSweepRuns(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	lost, fresh, held := f.start("P1", target("c1", "a")).ID, f.start("P2", target("c1", "b")).ID, f.start("P3", target("c1", "c")).ID
	ended := f.start("P4", target("c1", "d")).ID
	f.move(ended, playbook.StateResolved)
	f.exec(`DELETE FROM river_job`)
	f.exec(`UPDATE runs SET wake_at = clock_timestamp() - interval '31 s' WHERE id <> $1`, fresh)
	f.acquire(held)
	for range 2 { // the second finds nothing left to do
		f.must(f.SweepRuns(t.Context()))
	}
	f.same("jobs", scan[string](f, `SELECT string_agg(args->>'run', ',') FROM river_job`), lost)
	overdue, err := f.OverdueRuns(t.Context(), 30*time.Second)
	f.must(err)
	f.same("overdue, swept or not", sorted(overdue), sorted([]string{lost, held}))
}

// TestForeignTableIsLeftAlone: a run of a state table that this version does not know is left alone, and nobody is kept busy by it: its jobs
// wait in a queue of their own for a replica that knows the table.
func TestForeignTableIsLeftAlone(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	foreign, ours := f.intake(triggered("1", "P1", target("c1", "a"))).Run, f.start("P2", target("c1", "b")).ID
	owing := f.start("P3", target("c1", "c")).ID
	h := f.acquire(owing)
	f.commit(h, func(c *playbook.Commit) { c.Promises = []playbook.Promise{{Action: cordonOf(owing)}} })
	_, err := f.Settle(t.Context(), h, 1, playbook.Settlement{Result: playbook.Happened})
	f.must(err)
	f.commit(h, func(c *playbook.Commit) {
		c.Run.State, c.Run.Outcome, c.NextTick = playbook.StateEscalated, playbook.OutcomeEscalated, time.Time{}
	})
	h.Release()
	f.exec(`UPDATE runs SET table_version = 2, state = CASE WHEN id = $1 THEN 'levitating' ELSE state END WHERE id <> $2`, foreign, ours)
	f.exec(`DELETE FROM river_job WHERE args->>'run' <> $1`, ours)
	f.exec(`UPDATE runs SET wake_at = clock_timestamp() - interval '1 min'`)

	h, err = f.Acquire(t.Context(), foreign)
	f.must(err)
	_, _, err = f.Load(t.Context(), h)
	f.wantError(err, playbook.ErrForeignTable)
	h.Release()
	for range 2 {
		f.must(f.SweepRuns(t.Context()))
	}
	overdue, err := f.OverdueRuns(t.Context(), 30*time.Second)
	f.must(err)
	f.same("the janitor's", overdue, []string{ours})
	owed, err := f.OwingRuns(t.Context())
	f.must(err)
	f.same("the janitor's undos", owed, []string{})
	stats, err := f.Stats(t.Context())
	f.must(err)
	f.same("but both are counted, and paged", []any{stats.Overdue, stats.Owed}, []any{2, 1})

	// What happens to it is not lost: the event is stored, and its tick waits for a replica that knows the table.
	f.same("an event", f.intake(acknowledged("2", "P1")).Run, foreign)
	f.must(f.Cancel(t.Context(), foreign, "ops", ""))
	ticked := make(chan string, 100)
	stop := f.working(Worker{Advance: func(ctx context.Context, run string) error {
		ticked <- run
		return f.tickOnce(ctx, run, func(c *playbook.Commit, now time.Time) { c.NextTick = now.Add(time.Hour) })
	}})
	f.same("ticked", <-ticked, ours)
	f.until("our jobs are done", func() bool {
		return scan[int](f, `SELECT count(*) FROM river_job WHERE args->>'run' = $1 AND state <> 'completed' AND scheduled_at < now() + interval '1 min'`, ours) == 0
	})
	stop()
	close(ticked)
	for run := range ticked {
		f.same("ticked too", run, ours)
	}
	f.same("its jobs", scan[[]string](f, `SELECT array_agg(DISTINCT queue || ' ' || state::text) FROM river_job WHERE args->>'run' = $1`, foreign),
		[]string{"ticks_2 available"})
	f.same("the run", scan[string](f, `SELECT state FROM runs WHERE id = $1`, foreign), "levitating")
}

func TestOwingRuns(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	run := f.start("P1", target("c1", "a")).ID
	h := f.acquire(run)
	claim := playbook.Reservation{Scope: playbook.ScopeClaim, Key: "c1", Amount: 1, Limit: 1}
	f.commit(h, func(c *playbook.Commit) {
		c.Promises = []playbook.Promise{{Action: cordonOf(run), Reservations: []playbook.Reservation{claim}}}
	})
	_, err := f.Settle(t.Context(), h, 1, playbook.Settlement{Result: playbook.Happened})
	f.must(err)
	list := func() []string {
		t.Helper()
		ids, err := f.OwingRuns(t.Context())
		f.must(err)
		return ids
	}
	f.same("while it goes on", list(), []string{})
	stats, err := f.Stats(t.Context())
	f.must(err)
	f.same("stats", []any{stats.Open[playbook.Queued], stats.Owed, stats.OldestOwed > 0, stats.Leases, stats.Claims}, []any{1, 1, true, 1, 1})
	end := func(c *playbook.Commit) {
		c.Run.State, c.Run.Outcome, c.NextTick = playbook.StateEscalated, playbook.OutcomeEscalated, time.Time{}
	}
	f.commit(h, end)
	f.same("ended", list(), []string{run})
	f.same("claims", scan[int](f, `SELECT count(*) FROM reservations WHERE released_at IS NULL`), 1)

	// The janitor takes it back; then nothing is held any more.
	f.commit(h, func(c *playbook.Commit) {
		c.NextTick = time.Time{}
		c.Promises = []playbook.Promise{{Action: playbook.Uncordon{Node: "w1", UID: "u1", Run: run}, Undoes: 1}}
	})
	_, err = f.Settle(t.Context(), h, 2, playbook.Settlement{Result: playbook.Superseded})
	f.must(err)
	f.same("undone", list(), []string{})
	f.same("claims", scan[int](f, `SELECT count(*) FROM reservations WHERE released_at IS NULL`), 0)
}

// TestJobsAreRivers compares the jobs that the inbox makes with those that River's client makes of the same arguments.
func TestJobsAreRivers(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.must(f.inTx(t.Context(), func(tx pgx.Tx) error {
		_, err := f.jobs.InsertManyFastTx(t.Context(), tx, []river.InsertManyParams{Tick{RunID: "r", Seq: 3}.params(playbook.TableVersion),
			{Args: LookUp{EventID: "e"}}})
		if err != nil {
			return err
		}
		var jobs jobRows
		jobs.add(Tick{RunID: "r", Seq: 3}, ticksQueue(playbook.TableVersion))
		jobs.add(LookUp{EventID: "e"}, lookUpsQueue)
		batch := &pgx.Batch{}
		jobs.queue(batch)
		return tx.SendBatch(t.Context(), batch).Close()
	}))
	rows := func(order string) string {
		return scan[string](f, `SELECT string_agg((to_jsonb(j) - '{id,created_at,scheduled_at}'::text[])::text, E'\n' ORDER BY kind)
			FROM (SELECT * FROM river_job ORDER BY id `+order+` LIMIT 2) AS j`)
	}
	f.same("jobs", rows("DESC"), rows("ASC"))
	f.same("due", scan[bool](f, `SELECT every(scheduled_at <= clock_timestamp()) FROM river_job`), true)
}

// TestWorkersAreTold listens as River's workers do.
func TestWorkersAreTold(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	conn, err := f.pool.Acquire(t.Context())
	f.must(err)
	defer conn.Release()
	_, err = conn.Exec(t.Context(), `LISTEN "public.river_insert"`)
	f.must(err)
	f.intake(triggered("1", "P1", target("c1", "a")))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	told := map[string]bool{}
	for range queues(1) {
		n, err := conn.Conn().WaitForNotification(ctx)
		f.must(err)
		told[n.Payload] = true
	}
	f.same("told", told, map[string]bool{`{"queue" : "ticks"}`: true, `{"queue" : "look_ups"}`: true})
}
