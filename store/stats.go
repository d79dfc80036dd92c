package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/drydock/drydock/playbook"
)

// Stats are counts for metrics. They are read from small indexes: asking each 15 s costs nothing.
type Stats struct {
	Open       map[playbook.State]int // runs that have not ended
	Overdue    int                    // runs whose tick is later than sweepAfter
	Owed       int                    // undos that are owed
	OldestOwed time.Duration          // since when, for the oldest; 0 when nothing is owed
	// Intents that were promised and not settled, and since when the oldest of them is, by remote. PagerDuty's are the outbox.
	Unsettled       map[string]int
	OldestUnsettled map[string]time.Duration
	Leases          int // alive
	LookUps         int // jobs that wait or are tried again
	Claims          int // carriers with a mutating run
	Breakers        int // targets whose breaker is open
	KillSwitches    int // engaged in the database
	Alarms          int // self-alerts that are raised
	Replicas        int // alive
	// Leader is River's, one of the replicas that work jobs; empty: there is none.
	Leader string
	// Jobs are River's, those that are over left out; OldestDue is for how long one that is due has waited, by kind.
	Jobs      map[JobCount]int
	OldestDue map[string]time.Duration
	// LastEvent is when the newest webhook was stored; zero when there has been none.
	LastEvent time.Time
	// Used are the budgets of whole carriers, and of all together, as far as they are spent.
	Used map[Budget]int
}

// JobCount is a kind and a state of River's jobs.
type JobCount struct{ Kind, State string }

// Budget is one of a carrier, or of all where Key is "*".
type Budget struct {
	Scope playbook.Scope
	Key   string
}

// carrierBudgets are those that belong to no run and no DaemonSet, so that they are few.
var carrierBudgets = []string{string(playbook.ScopeCordonedNodes), string(playbook.ScopeEvictionsHour),
	string(playbook.ScopeEvictionsHourAll), string(playbook.ScopeControllerRestart)}

// breakersSQL counts targets whose breaker is open.
const breakersSQL = `SELECT count(*) FROM (SELECT DISTINCT target FROM runs
		WHERE started_at > statement_timestamp() - $1::interval - $2::interval AND outcome IN ('escalated', 'stood_down')
			AND finished_at > statement_timestamp() - $1::interval) t
	CROSS JOIN LATERAL (SELECT count(*) AS n, bool_or(outcome = 'resolved') AS resolved, max(finished_at) AS newest FROM (
		SELECT outcome, finished_at FROM runs r WHERE r.target = t.target AND r.state IN ('resolved', 'escalated', 'stood_down')
			AND (r.outcome = 'resolved' OR EXISTS (SELECT FROM intents i WHERE i.run = r.id AND i.change AND i.result IN ('', 'happened')))
		ORDER BY finished_at DESC LIMIT $3) last) b
	WHERE b.n = $3 AND NOT b.resolved AND b.newest > statement_timestamp() - $1::interval`

// Stats counts. The budgets are those of the given carriers.
func (s *Store) Stats(ctx context.Context, carriers ...string) (Stats, error) {
	st := Stats{Open: map[playbook.State]int{}, Unsettled: map[string]int{}, OldestUnsettled: map[string]time.Duration{},
		Jobs: map[JobCount]int{}, OldestDue: map[string]time.Duration{}, Used: map[Budget]int{}}
	batch := &pgx.Batch{}
	one := func(into any, sql string, args ...any) {
		batch.Queue(sql, args...).QueryRow(func(row pgx.Row) error { return row.Scan(into) })
	}
	batch.Queue(`SELECT state, count(*) FROM runs WHERE state NOT IN ('resolved', 'escalated', 'stood_down') GROUP BY state`).
		Query(func(rows pgx.Rows) error { return scanCounts(rows, st.Open) })
	batch.Queue(`SELECT count(*), coalesce(clock_timestamp() - min(since), '0'::interval) FROM obligations WHERE discharged_at IS NULL`).
		QueryRow(func(row pgx.Row) error { return row.Scan(&st.Owed, &st.OldestOwed) })
	batch.Queue(`SELECT split_part(lane, '/', 1), count(*), clock_timestamp() - min(promised_at) FROM intents WHERE settled_at IS NULL GROUP BY 1`).
		Query(func(rows pgx.Rows) error {
			var remote string
			var n int
			var age time.Duration
			_, err := pgx.ForEachRow(rows, []any{&remote, &n, &age}, func() error {
				st.Unsettled[remote], st.OldestUnsettled[remote] = n, age
				return nil
			})
			return err
		})
	one(&st.Leases, `SELECT count(*) FROM leases WHERE expires_at > clock_timestamp()`)
	one(&st.Overdue, `SELECT count(*) FROM runs WHERE state NOT IN ('resolved', 'escalated', 'stood_down')
		AND wake_at < clock_timestamp() - $1::interval`, sweepAfter)
	batch.Queue(`SELECT kind, state::text, count(*), coalesce(clock_timestamp() - min(scheduled_at) FILTER (WHERE state = 'available'), '0'::interval)
		FROM river_job WHERE state IN ('available', 'scheduled', 'retryable', 'running') GROUP BY kind, state`).
		Query(func(rows pgx.Rows) error { return scanJobs(rows, &st) })
	one(&st.Leader, `SELECT coalesce(max(leader_id), '') FROM river_leader WHERE expires_at > clock_timestamp()`)
	one(&st.Claims, `SELECT count(*) FROM reservations WHERE scope = 'claim' AND released_at IS NULL`)
	one(&st.KillSwitches, `SELECT count(*) FROM kill_switches`)
	one(&st.Alarms, `SELECT count(*) FROM alarms`)
	one(&st.Replicas, `SELECT count(*) FROM replicas WHERE seen_at > clock_timestamp() - $1::interval`, ReplicaLife)
	// Breaker, for every target with a run that ended lately without resolving it.
	one(&st.Breakers, breakersSQL, breakerOpen, playbook.MaxRun, s.opts.IneffectiveRuns)
	batch.Queue(`SELECT received_at FROM events ORDER BY received_at DESC, id DESC LIMIT 1`).QueryRow(func(row pgx.Row) error {
		if err := row.Scan(&st.LastEvent); !errors.Is(err, pgx.ErrNoRows) {
			return err
		}
		return nil
	})
	batch.Queue(`SELECT scope, key, sum(amount) FROM reservations WHERE key = ANY($1) AND scope = ANY($2)
		AND released_at IS NULL AND expires_at > clock_timestamp() GROUP BY scope, key`, append([]string{"*"}, carriers...), carrierBudgets).
		Query(func(rows pgx.Rows) error {
			var b Budget
			var used int
			_, err := pgx.ForEachRow(rows, []any{&b.Scope, &b.Key, &used}, func() error { st.Used[b] = used; return nil })
			return err
		})
	if err := s.pool.SendBatch(ctx, batch).Close(); err != nil {
		return Stats{}, fmt.Errorf("count for metrics: %w", err)
	}
	return st, nil
}

func scanJobs(rows pgx.Rows, st *Stats) error {
	var c JobCount
	var n int
	var due time.Duration
	_, err := pgx.ForEachRow(rows, []any{&c.Kind, &c.State, &n, &due}, func() error {
		st.Jobs[c] = n
		st.OldestDue[c.Kind] = max(st.OldestDue[c.Kind], due)
		if c.Kind == (LookUp{}).Kind() {
			st.LookUps += n
		}
		return nil
	})
	return err
}

func scanCounts[K ~string](rows pgx.Rows, into map[K]int) error {
	var key K
	var n int
	_, err := pgx.ForEachRow(rows, []any{&key, &n}, func() error { into[key] = n; return nil })
	return err
}
