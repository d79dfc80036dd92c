package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/drydock/drydock/playbook"
)

const (
	sweepLeasesEvery = 500 * time.Millisecond
	sweepRunsEvery   = time.Second
	// sweepAfter is how late a tick may be before it is made again: its job was lost, or its worker died before the lease. A
	// run whose worker died is taken over within 5 s (durability.md 3.4); a second job of a tick costs one read.
	sweepAfter = 3 * time.Second
)

// sweep finds what died, on every replica, until ctx ends. Row locks share the work out.
func (s *Store) sweep(ctx context.Context) {
	leases, runs := time.NewTicker(sweepLeasesEvery), time.NewTicker(sweepRunsEvery)
	defer leases.Stop()
	defer runs.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return
		case <-leases.C:
			err = s.SweepLeases(ctx)
		case <-runs.C:
			err = s.SweepRuns(ctx)
		}
		if err != nil && ctx.Err() == nil {
			s.log.WarnContext(ctx, "sweep did not complete", "error", err)
		}
	}
}

// sweepers is how many dead leases are freed at one time. A replica that dies may hold dozens, and freeing one is a few round
// trips: one after another, seven took 2.5 s on a busy machine, and the last run waited for all of them.
const sweepers = 4

// SweepLeases frees the leases of dead holders and ticks their runs at once. Work calls it.
func (s *Store) SweepLeases(ctx context.Context) error {
	// There is hardly ever one: the others look only when the first has found something.
	if freed, err := s.sweepLease(ctx); err != nil || !freed {
		return err
	}
	failed := make([]error, sweepers)
	var all sync.WaitGroup
	for i := range failed {
		all.Go(func() {
			for freed := true; freed && failed[i] == nil; {
				freed, failed[i] = s.sweepLease(ctx)
			}
		})
	}
	all.Wait()
	return errors.Join(failed...)
}

// sweepLease frees one lease in a transaction of its own: a tick's transaction locks its lease before its run, and so must this
// one. It reports whether there was one.
func (s *Store) sweepLease(ctx context.Context) (bool, error) {
	var run string
	err := s.inTx(ctx, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `UPDATE leases l SET generation = generation + 1, expires_at = '-infinity', run = '', node = ''
			FROM (SELECT target, run FROM leases WHERE run <> '' AND expires_at <= clock_timestamp()
				LIMIT 1 FOR UPDATE SKIP LOCKED) dead
			WHERE l.target = dead.target RETURNING dead.run`)
		if err != nil {
			return err
		}
		runs, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil || len(runs) == 0 {
			return err
		}
		run = runs[0]
		return s.wake(ctx, tx, `id = $1`, run)
	})
	if err != nil {
		return false, fmt.Errorf("sweep expired leases: %w", err)
	}
	if run != "" {
		s.log.InfoContext(ctx, "lease of a dead holder was freed", "run", run)
	}
	return run != "", nil
}

// SweepRuns makes the tick again of every run that nobody ticks though it is due. Work calls it. The tick keeps its number: if
// the first job was merely slow, the second to run is stale, and a busy queue is not reordered. Runs of a state table that this
// version does not know are left to a replica that does.
func (s *Store) SweepRuns(ctx context.Context) error {
	err := s.inTx(ctx, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `UPDATE runs SET swept_at = clock_timestamp() WHERE id IN (
				SELECT id FROM runs r WHERE state NOT IN ('resolved', 'escalated', 'stood_down') AND table_version = ANY($2)
					AND wake_at < clock_timestamp() - $1::interval
					AND (swept_at IS NULL OR swept_at < clock_timestamp() - $1::interval)
					AND NOT EXISTS (SELECT FROM leases l WHERE l.target = r.target AND l.expires_at > clock_timestamp())
				ORDER BY id LIMIT 1000 FOR NO KEY UPDATE SKIP LOCKED)
			RETURNING id, tick_seq, table_version`, sweepAfter, tableVersions)
		if err != nil {
			return err
		}
		ticks, err := pgx.CollectRows(rows, scanTickJob)
		if err != nil {
			return err
		}
		return s.insertTicks(ctx, tx, ticks)
	})
	if err != nil {
		return fmt.Errorf("sweep overdue runs: %w", err)
	}
	return nil
}

// OverdueRuns lists the runs whose next tick is that late and whose state table this version knows: for the janitor.
func (s *Store) OverdueRuns(ctx context.Context, late time.Duration) ([]string, error) {
	return s.ids(ctx, "list overdue runs", `SELECT id FROM runs WHERE state NOT IN ('resolved', 'escalated', 'stood_down')
		AND table_version = ANY($2) AND wake_at < clock_timestamp() - $1::interval ORDER BY wake_at`, late, tableVersions)
}

// OwingRuns lists the ended runs of a known state table that still owe an undo, or have said something that was not heard: for the janitor.
func (s *Store) OwingRuns(ctx context.Context) ([]string, error) {
	return s.ids(ctx, "list what ended runs owe", `SELECT id FROM runs WHERE state IN ('resolved', 'escalated', 'stood_down')
		AND table_version = ANY($1) AND id IN (SELECT run FROM obligations WHERE discharged_at IS NULL
			UNION SELECT run FROM intents WHERE settled_at IS NULL) ORDER BY id`, tableVersions)
}

// OwedUndo is an undo that is owed.
type OwedUndo struct {
	Run      string
	Carrier  string
	Action   playbook.Action
	Age      time.Duration // since it was promised to be put back
	Ended    bool          // its run has ended
	EndedFor time.Duration
}

// OwedUndos lists what is owed, oldest first, at most a thousand.
func (s *Store) OwedUndos(ctx context.Context) ([]OwedUndo, error) {
	rows, err := s.pool.Query(ctx, `SELECT o.run, r.carrier, o.action, clock_timestamp() - o.since,
			r.state IN ('resolved', 'escalated', 'stood_down'), coalesce(clock_timestamp() - r.finished_at, '0'::interval)
		FROM obligations o JOIN runs r ON r.id = o.run WHERE o.discharged_at IS NULL ORDER BY o.since, o.run, o.seq LIMIT 1000`)
	if err != nil {
		return nil, fmt.Errorf("list what is owed: %w", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (OwedUndo, error) {
		var o OwedUndo
		var action []byte
		if err := row.Scan(&o.Run, &o.Carrier, &action, &o.Age, &o.Ended, &o.EndedFor); err != nil {
			return o, err
		}
		var err error
		o.Action, err = playbook.DecodeAction(action)
		return o, err
	})
	if err != nil {
		return nil, fmt.Errorf("list what is owed: %w", err)
	}
	return list, nil
}

const endedLatelySQL = `SELECT carrier, min(statement_timestamp() - finished_at) FROM runs r
	WHERE started_at > statement_timestamp() - $1::interval AND finished_at > statement_timestamp() - $2::interval
		AND EXISTS (SELECT FROM intents i WHERE i.run = r.id AND i.change) GROUP BY carrier`

// EndedLately lists the carriers on which a run that changed something has ended within that time, and how long ago the
// newest one did.
func (s *Store) EndedLately(ctx context.Context, within time.Duration) (map[string]time.Duration, error) {
	ended := map[string]time.Duration{}
	rows, err := s.pool.Query(ctx, endedLatelySQL, 2*playbook.MaxRun, within)
	if err == nil {
		var carrier string
		var ago time.Duration
		_, err = pgx.ForEachRow(rows, []any{&carrier, &ago}, func() error { ended[carrier] = ago; return nil })
	}
	if err != nil {
		return nil, fmt.Errorf("list carriers of runs that ended: %w", err)
	}
	return ended, nil
}

// Going picks, of some runs, those that have not ended. The ids come from marks on carriers, so they may be any text.
func (s *Store) Going(ctx context.Context, runs []string) ([]string, error) {
	if len(runs) == 0 {
		return nil, nil
	}
	asked := make([]string, len(runs))
	for i, run := range runs {
		asked[i] = storable(run)
	}
	return s.ids(ctx, "list runs that go on", `SELECT id FROM runs WHERE id = ANY($1) AND state NOT IN ('resolved', 'escalated', 'stood_down')`, asked)
}

func (s *Store) ids(ctx context.Context, what, sql string, args ...any) ([]string, error) {
	rows, err := s.pool.Query(ctx, sql, args...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return ids, nil
}
