package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/drydock/drydock/playbook"
)

// Stats are counts for metrics. They are read from small indexes: asking each 15 s costs nothing.
type Stats struct {
	Open       map[playbook.State]int // runs that have not ended
	Owed       int                    // undos that are owed
	OldestOwed time.Duration          // since when, for the oldest; 0 when nothing is owed
	Unsettled  map[string]int         // intents that were promised and not settled, by remote
	Leases     int                    // alive
	Overdue    int                    // runs whose tick is later than sweepAfter
	LookUps    int                    // jobs that wait or are tried again
	Claims     int                    // carriers with a mutating run
}

// Stats counts.
func (s *Store) Stats(ctx context.Context) (Stats, error) {
	st := Stats{Open: map[playbook.State]int{}, Unsettled: map[string]int{}}
	batch := &pgx.Batch{}
	batch.Queue(`SELECT state, count(*) FROM runs WHERE state NOT IN ('resolved', 'escalated', 'stood_down') GROUP BY state`).
		Query(func(rows pgx.Rows) error { return scanCounts(rows, st.Open) })
	batch.Queue(`SELECT count(*), coalesce(clock_timestamp() - min(since), '0'::interval) FROM obligations WHERE discharged_at IS NULL`).
		QueryRow(func(row pgx.Row) error { return row.Scan(&st.Owed, &st.OldestOwed) })
	batch.Queue(`SELECT split_part(lane, '/', 1), count(*) FROM intents WHERE settled_at IS NULL GROUP BY 1`).
		Query(func(rows pgx.Rows) error { return scanCounts(rows, st.Unsettled) })
	batch.Queue(`SELECT count(*) FROM leases WHERE expires_at > clock_timestamp()`).
		QueryRow(func(row pgx.Row) error { return row.Scan(&st.Leases) })
	batch.Queue(`SELECT count(*) FROM runs WHERE state NOT IN ('resolved', 'escalated', 'stood_down')
		AND wake_at < clock_timestamp() - $1::interval`, sweepAfter).
		QueryRow(func(row pgx.Row) error { return row.Scan(&st.Overdue) })
	batch.Queue(`SELECT count(*) FROM river_job WHERE kind = $1 AND state IN ('available', 'scheduled', 'retryable', 'running')`,
		LookUp{}.Kind()).QueryRow(func(row pgx.Row) error { return row.Scan(&st.LookUps) })
	batch.Queue(`SELECT count(*) FROM reservations WHERE scope = 'claim' AND released_at IS NULL`).
		QueryRow(func(row pgx.Row) error { return row.Scan(&st.Claims) })
	if err := s.pool.SendBatch(ctx, batch).Close(); err != nil {
		return Stats{}, fmt.Errorf("count for metrics: %w", err)
	}
	return st, nil
}

func scanCounts[K ~string](rows pgx.Rows, into map[K]int) error {
	var key K
	var n int
	_, err := pgx.ForEachRow(rows, []any{&key, &n}, func() error { into[key] = n; return nil })
	return err
}
