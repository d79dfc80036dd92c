package store

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/drydock/drydock/incident"
	"github.com/drydock/drydock/playbook"
)

// maxShadows bounds how many observing runs a scorecard is made of: the newest, whose incidents' events are read one by one.
const maxShadows = 5000

// cameBackWithin is how soon another finding about the same target speaks against one that called it healthy.
const cameBackWithin = time.Hour

// causeSQL is a run's cause; runs of before that column was there have none, and are counted by their last finding.
const causeSQL = `coalesce(nullif(r.cause, ''), r.finding)`

// RunStats counts what became of the runs of a time. The error is ErrTooSlow when it took too long.
func (s *Store) RunStats(ctx context.Context, f playbook.StatsFilter) (playbook.RunStats, error) {
	var stats playbook.RunStats
	reads := &pgx.Batch{}
	counts, shadows := countQuery(f), shadowQuery(f)
	reads.Queue(counts.text, counts.args...).Query(func(rows pgx.Rows) error { return scanCauses(rows, &stats) })
	reads.Queue(shadows.text, shadows.args...).Query(func(rows pgx.Rows) (err error) {
		stats.Shadows, err = pgx.CollectRows(rows, scanShadow)
		return err
	})
	if err := s.history(ctx, reads); err != nil {
		return playbook.RunStats{}, fmt.Errorf("count runs: %w", err)
	}
	return stats, nil
}

func (q *query) startedIn(f playbook.StatsFilter) {
	q.where("r.started_at >= $ AND r.started_at < $", f.Since, f.Until)
	if len(f.Carriers) > 0 {
		q.where("r.carrier = ANY($)", f.Carriers)
	}
}

// statement is a query with its text.
type statement struct {
	text string
	args []any
}

func countQuery(f playbook.StatsFilter) statement {
	q := &query{}
	q.startedIn(f)
	return statement{q.sql(`SELECT coalesce(`+causeSQL+`, ''), grouping(`+causeSQL+`) = 1, count(*),
			count(*) FILTER (WHERE state = 'resolved'), count(*) FILTER (WHERE state = 'escalated'),
			count(*) FILTER (WHERE state = 'stood_down'), count(*) FILTER (WHERE state = 'resolved' AND changed),
			coalesce(percentile_cont(0.5) WITHIN GROUP (ORDER BY finished_at - started_at) FILTER (WHERE state = 'resolved' AND changed), '0'),
			coalesce(percentile_cont(0.95) WITHIN GROUP (ORDER BY finished_at - started_at) FILTER (WHERE state = 'resolved' AND changed), '0')
		FROM runs r`, `GROUP BY GROUPING SETS ((), (`+causeSQL+`))`), q.args}
}

func scanCauses(rows pgx.Rows, stats *playbook.RunStats) error {
	var c playbook.CauseStats
	var total bool
	_, err := pgx.ForEachRow(rows, []any{&c.Cause, &total, &c.Runs, &c.Resolved, &c.Escalated, &c.StoodDown, &c.Repairs, &c.P50, &c.P95}, func() error {
		c.Active = c.Runs - c.Resolved - c.Escalated - c.StoodDown
		if total {
			stats.Total = c
			return nil
		}
		if c.Cause == "" {
			c.Cause = playbook.FindingUnknown // it has not had a look yet
		}
		stats.ByCause = append(stats.ByCause, c)
		return nil
	})
	order := playbook.Findings()
	slices.SortFunc(stats.ByCause, func(a, b playbook.CauseStats) int {
		return slices.Index(order, a.Cause) - slices.Index(order, b.Cause)
	})
	return err
}

func shadowQuery(f playbook.StatsFilter) statement {
	q := &query{}
	q.startedIn(f)
	q.where("r.mode = 'observe' AND r.finished_at IS NOT NULL")
	q.args = append(q.args, cameBackWithin)
	within := fmt.Sprintf("$%d::interval", len(q.args))
	return statement{q.sql(`SELECT `+causeSQL+`, r.plan_hash <> '', r.started_at,
			EXISTS (SELECT FROM runs n WHERE n.carrier = r.carrier AND n.daemonset = r.daemonset AND n.namespace = r.namespace
				AND n.started_at > r.started_at AND n.started_at < r.finished_at + `+within+` AND n.cause NOT IN ('', 'unknown', 'healthy')),
			ended.received_at, ended.payload
		FROM runs r LEFT JOIN LATERAL (SELECT e.received_at, e.payload FROM run_incidents i JOIN events e ON e.incident = i.incident
			WHERE i.run = r.id AND e.type = 'incident.resolved' AND e.received_at >= r.started_at ORDER BY e.received_at LIMIT 1) ended ON true`,
		fmt.Sprintf("ORDER BY r.started_at DESC LIMIT %d", maxShadows)), q.args}
}

func scanShadow(row pgx.CollectableRow) (playbook.Shadow, error) {
	var s playbook.Shadow
	var started time.Time
	var received *time.Time
	var payload []byte
	if err := row.Scan(&s.Cause, &s.Planned, &started, &s.CameBack, &received, &payload); err != nil {
		return s, err
	}
	if s.Cause == "" {
		s.Cause = playbook.FindingUnknown
	}
	if received != nil {
		s.EndedBy, s.EndedAfter = endedBy(payload), max(0, received.Sub(started))
	}
	return s, nil
}

// endedBy reads in an event who resolved the incident. A body that can not be read any more tells nothing.
func endedBy(payload []byte) playbook.EndedBy {
	e, err := incident.ParseEvent(payload)
	switch {
	case err != nil:
		return ""
	case e.Agent != nil && e.Agent.IsUser():
		return playbook.EndedByPerson
	}
	return playbook.EndedByMonitoring
}
