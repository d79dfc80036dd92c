package store

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
)

// jobRows are jobs that are due at once, column by column. They are the rows that River's own client would insert (a test
// compares them), which however can neither go with other statements in one round trip nor tell the workers after the COMMIT.
type jobRows struct {
	args, kinds, queues []string
	attempts            []int16
}

func (j *jobRows) add(args interface {
	river.JobArgs
	river.JobArgsWithInsertOpts
}, queue string) {
	text, _ := json.Marshal(args) // never fails: strings and numbers
	j.args, j.kinds, j.queues = append(j.args, string(text)), append(j.kinds, args.Kind()), append(j.queues, queue)
	j.attempts = append(j.attempts, int16(args.InsertOpts().MaxAttempts))
}

func (j *jobRows) queue(queries *pgx.Batch) {
	if len(j.kinds) > 0 {
		queries.Queue(`INSERT INTO river_job (args, kind, queue, max_attempts)
			SELECT a::jsonb, k, q, m FROM unnest($1::text[], $2::text[], $3::text[], $4::smallint[]) AS j (a, k, q, m)`,
			j.args, j.kinds, j.queues, j.attempts)
	}
}

// ringEvery is the shortest time between two notifications. A worker is told within it after the COMMIT, and at once when it
// is quiet; who misses it looks by himself four times a second.
const ringEvery = 10 * time.Millisecond

// ring lets workers know, on whichever replica, that there are jobs.
//
// It is no part of the transaction that makes them: a NOTIFY holds a lock over the whole server from before the COMMIT's sync
// until after it, so that transactions which notify commit one by one (measured: 4,700 a second instead of 14,800).
func (s *Store) ring() {
	select {
	case s.rung <- struct{}{}:
	default: // they are about to be told
	}
}

func (s *Store) tellWorkers(ctx context.Context) {
	for {
		select {
		case <-s.closing:
			return
		case <-s.rung:
		}
		s.notify(ctx)
		pause := time.NewTimer(ringEvery)
		select {
		case <-s.closing:
			pause.Stop()
			return
		case <-pause.C:
		}
	}
}

// notify sends what River's workers listen to. Nothing is lost with it, so it waits for no sync.
func (s *Store) notify(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, commitWait)
	defer cancel()
	_, err := s.pool.Exec(ctx, `SELECT set_config('synchronous_commit', 'off', true),
		pg_notify(current_schema() || '.river_insert', json_build_object('queue', q)::text) FROM unnest($1::text[]) AS q`, slices.Collect(maps.Keys(queues(0))))
	if err != nil {
		s.log.WarnContext(ctx, "workers were not told about new jobs; they look by themselves soon", "error", err)
	}
}
