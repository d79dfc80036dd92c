package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Retention says how long what is over is kept. Zero: for ever.
type Retention struct {
	Runs   time.Duration // after their end
	Events time.Duration
}

// backupLife is how long a manifest's backup is kept at least, whatever Retention says.
const backupLife = 30 * 24 * time.Hour

// lookLife is how long it is known that an incident was looked at. An incident that is open for longer is looked at again.
const lookLife = 30 * 24 * time.Hour

// Batches are small, so that a delete is never in anybody's way: a run takes with it hundreds of rows of other tables.
const (
	runsBatch = 50
	rowsBatch = 1000
)

// Forgotten counts what Forget has deleted.
type Forgotten struct {
	Runs, Observations, Events, Keys, Looks int
}

// Forget deletes what is older than it has to be kept, in small batches, until nothing is left or ctx ends. One replica at a time
// does it: another one finds it taken and deletes nothing. Runs that have not ended, that owe an undo or have an intent whose
// fate is not known stay, whatever their age, and so do runs with a backup that is younger than 30 days. River deletes its done
// jobs by itself.
func (s *Store) Forget(ctx context.Context, r Retention) (Forgotten, error) {
	var f Forgotten
	type chore struct {
		what  string
		batch func(context.Context, pgx.Tx) (deleted int, err error)
		count *int
	}
	chores := []chore{
		{"idempotency keys", oldRows(`DELETE FROM idempotency_keys WHERE (client, key) IN (
			SELECT client, key FROM idempotency_keys WHERE at < statement_timestamp() - $1::interval ORDER BY at LIMIT $2)`, keyLife), &f.Keys},
		{"looks", oldRows(`DELETE FROM looks WHERE incident IN (
			SELECT incident FROM looks WHERE at < statement_timestamp() - $1::interval ORDER BY at LIMIT $2)`, lookLife), &f.Looks},
	}
	if r.Events > 0 {
		chores = append(chores, chore{"events", oldRows(oldEventsSQL, r.Events), &f.Events})
	}
	if r.Runs > 0 {
		var from time.Time // where the batch before ended: what it deleted is still in the index
		chores = append(chores, chore{"runs", func(ctx context.Context, tx pgx.Tx) (int, error) { return forgetRuns(ctx, tx, r.Runs, &from, &f) }, &f.Runs})
	}
	for _, c := range chores {
		for more := true; more; {
			deleted, taken := 0, false
			err := s.inTx(ctx, func(tx pgx.Tx) error {
				if err := tx.QueryRow(ctx, `SELECT pg_try_advisory_xact_lock($1)`, lockOf("retention", "")).Scan(&taken); err != nil || !taken {
					return err
				}
				var err error
				deleted, err = c.batch(ctx, tx)
				return err
			})
			if err != nil {
				return f, fmt.Errorf("delete old %s: %w", c.what, err)
			}
			*c.count += deleted
			more = deleted > 0
		}
	}
	return f, nil
}

const oldEventsSQL = `DELETE FROM events WHERE id IN (SELECT id FROM events
	WHERE received_at < statement_timestamp() - $1::interval AND NOT look_up ORDER BY received_at, id LIMIT $2)`

// oldRows deletes rows of one table that are older than an age. Ages are taken from statement_timestamp(): an
// index can not be asked for what is older than clock_timestamp(), and all rows that are young would be read.
func oldRows(sql string, age time.Duration) func(context.Context, pgx.Tx) (int, error) {
	return func(ctx context.Context, tx pgx.Tx) (int, error) {
		tag, err := tx.Exec(ctx, sql, age, rowsBatch)
		return int(tag.RowsAffected()), err
	}
}

// oldRunsSQL are the oldest runs that may go.
const oldRunsSQL = `SELECT id, started_at FROM runs r
	WHERE started_at >= $4::timestamptz AND started_at < statement_timestamp() - $1::interval AND finished_at < statement_timestamp() - $1::interval
		AND state IN ('resolved', 'escalated', 'stood_down')
		AND NOT EXISTS (SELECT FROM obligations o WHERE o.run = r.id AND o.discharged_at IS NULL)
		AND NOT EXISTS (SELECT FROM intents i WHERE i.run = r.id AND i.settled_at IS NULL)
		AND NOT EXISTS (SELECT FROM backups b WHERE b.run = r.id AND b.at > statement_timestamp() - $2::interval)
	ORDER BY started_at, id LIMIT $3 FOR UPDATE SKIP LOCKED`

// forgetRuns deletes a few runs, the oldest first, with everything that is theirs, and the observations that no other tick
// has. A run begins before it ends, so the index by its beginning finds those that can be over for long. Those that began before from
// were looked at; it is moved on.
func forgetRuns(ctx context.Context, tx pgx.Tx, age time.Duration, from *time.Time, f *Forgotten) (int, error) {
	rows, err := tx.Query(ctx, oldRunsSQL, age, backupLife, runsBatch, *from)
	if err != nil {
		return 0, err
	}
	var ids []string
	var id string
	if _, err = pgx.ForEachRow(rows, []any{&id, from}, func() error { ids = append(ids, id); return nil }); err != nil || len(ids) == 0 {
		return 0, err
	}
	seen, err := collect[[]byte](ctx, tx, `SELECT DISTINCT observation FROM ticks WHERE run = ANY($1)`, ids)
	if err != nil {
		return 0, err
	}
	// The ticks at once: the foreign key would delete them by a statement for each run.
	if _, err := tx.Exec(ctx, `DELETE FROM ticks WHERE run = ANY($1)`, ids); err != nil {
		return 0, err
	}
	if _, err := tx.Exec(ctx, `DELETE FROM runs WHERE id = ANY($1)`, ids); err != nil {
		return 0, err
	}
	tag, err := tx.Exec(ctx, `DELETE FROM observations o WHERE hash = ANY($1) AND NOT EXISTS (SELECT FROM ticks t WHERE t.observation = o.hash)`, seen)
	if err != nil {
		return 0, err
	}
	f.Observations += int(tag.RowsAffected())
	return len(ids), nil
}

func collect[T any](ctx context.Context, tx pgx.Tx, sql string, args ...any) ([]T, error) {
	rows, err := tx.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[T])
}
