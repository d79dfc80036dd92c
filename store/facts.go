package store

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/drydock/drydock/playbook"
)

// The windows of the design's safety envelope.
const (
	sameDaemonSetWindow = 15 * time.Minute
	breakerOpen         = time.Hour
	repairedWindow      = 24 * time.Hour
)

// sameCarrierSQL finds the runs that a storm of alerts on one carrier has started, or that have just ended there. A run ends
// within playbook.MaxRun, so that its start bounds the part of runs_by_carrier that is looked at.
const sameCarrierSQL = `SELECT r.id, r.carrier, r.namespace, r.daemonset, r.state, r.finding, r.why, r.memory->'causes', r.outcome, r.started_at,
		r.finished_at,
		EXISTS (SELECT FROM reservations c WHERE c.scope = 'claim' AND c.key = r.carrier AND c.released_at IS NULL AND c.run = r.id),
		(SELECT json_agg(json_build_object('id', i.incident, 'number', i.number, 'url', i.url) ORDER BY i.joined_at, i.incident)
			FROM (SELECT * FROM run_incidents WHERE run = r.id ORDER BY joined_at, incident LIMIT $5) i),
		(SELECT count(*) FROM run_incidents WHERE run = r.id)
	FROM runs r WHERE r.carrier = $1 AND r.id <> $2 AND r.started_at > $3::timestamptz - $4::interval - $6::interval
		AND (r.finished_at IS NULL OR r.finished_at > $3::timestamptz - $4::interval)
	ORDER BY r.started_at DESC, r.id DESC LIMIT $7`

func sameCarrierArgs(r playbook.Run) []any {
	return []any{r.Target.Carrier, r.ID, r.StartedAt, playbook.CarrierRunsWithin, playbook.CarrierRunIncidents, playbook.MaxRun, playbook.CarrierRuns}
}

// sameDaemonSetSQL are the carriers on which a DaemonSet has alerted lately. Ages are taken from statement_timestamp(): an index can not
// be asked for what is younger than clock_timestamp(), which may change from row to row, and the whole history would be read.
const sameDaemonSetSQL = `SELECT DISTINCT carrier FROM runs
	WHERE daemonset = $1 AND namespace = $2 AND started_at > statement_timestamp() - $3::interval`

// Facts implements playbook.Ledger.
func (s *Store) Facts(ctx context.Context, _ playbook.Hold, r playbook.Run) (playbook.LedgerFacts, error) {
	var f playbook.LedgerFacts
	batch := &pgx.Batch{}
	batch.Queue(`SELECT run FROM reservations WHERE scope = $1 AND key = $2 AND released_at IS NULL AND run <> $3`,
		playbook.ScopeClaim, r.Target.Carrier, r.ID).QueryRow(optional(&f.ClaimHolder))
	batch.Queue(`SELECT id FROM runs WHERE target = $1 AND id <> $2
		AND state NOT IN ('queued', 'resolved', 'escalated', 'stood_down')`, r.Target.String(), r.ID).QueryRow(optional(&f.TargetHolder))
	// Keys are a run, a carrier, "*", or begin with "<carrier>/"; "0" follows "/".
	batch.Queue(`SELECT scope || ' ' || key, sum(amount) FROM reservations
		WHERE (key = ANY($1) OR key >= $2 AND key < $3) AND released_at IS NULL AND expires_at > clock_timestamp()
		GROUP BY scope, key`, []string{r.ID, r.Target.Carrier, "*"}, r.Target.Carrier+"/", r.Target.Carrier+"0").
		Query(func(rows pgx.Rows) error { return scanUsed(rows, &f) })
	batch.Queue(sameDaemonSetSQL,
		r.Target.DaemonSet, r.Target.Namespace, sameDaemonSetWindow).
		Query(func(rows pgx.Rows) (err error) {
			f.SameDaemonSet, err = pgx.CollectRows(rows, pgx.RowTo[string])
			return err
		})
	batch.Queue(`SELECT id, finished_at FROM runs r WHERE target = $1 AND id <> $2 AND outcome = 'resolved'
		AND state IN ('resolved', 'escalated', 'stood_down') AND finished_at > statement_timestamp() - $3::interval
		AND EXISTS (SELECT FROM intents i WHERE i.run = r.id AND i.change AND i.result = 'happened')
		ORDER BY finished_at DESC`,
		r.Target.String(), r.ID, repairedWindow).Query(func(rows pgx.Rows) error { return scanRepaired(rows, &f) })
	batch.Queue(sameCarrierSQL, sameCarrierArgs(r)...).Query(func(rows pgx.Rows) (err error) {
		f.SameCarrier, err = pgx.CollectRows(rows, scanCarrierRun)
		return err
	})
	batch.Queue(`SELECT cancelled_by, approved_hash, approved_by FROM runs WHERE id = $1`, r.ID).
		QueryRow(func(row pgx.Row) error { return row.Scan(&f.Cancelled, &f.ApprovedHash, &f.ApprovedBy) })
	batch.Queue(countSQL, r.Target.Carrier).QueryRow(scanCount(&f.Count))
	batch.Queue(`SELECT daemonset FROM last_seen WHERE target = $1`, r.Target.String()).
		QueryRow(func(row pgx.Row) error { return scanLastSeen(row, &f) })
	if err := s.pool.SendBatch(ctx, batch).Close(); err != nil {
		return f, fmt.Errorf("read the facts of run %s: %w", r.ID, err)
	}
	f.SameDaemonSet = sorted(append(f.SameDaemonSet, r.Target.Carrier))

	var err error
	if f.KillSwitch, err = s.killSwitch(ctx, s.pool, r.Target.Carrier); err != nil {
		return f, err
	}
	f.BreakerUntil, f.Tries, err = s.Breaker(ctx, r.Target)
	return f, err
}

// Spent is what is spent and held of a carrier's budgets, by playbook.Reservation.Budget, the budgets of all carriers among them.
type Spent struct {
	Used        map[string]int
	ClaimHolder string // the run; empty for none
}

// Spent reads a carrier's budgets, for people.
func (s *Store) Spent(ctx context.Context, carrier string) (Spent, error) {
	var f playbook.LedgerFacts
	batch := &pgx.Batch{}
	batch.Queue(`SELECT run FROM reservations WHERE scope = $1 AND key = $2 AND released_at IS NULL`, playbook.ScopeClaim, storable(carrier)).
		QueryRow(optional(&f.ClaimHolder))
	batch.Queue(`SELECT scope || ' ' || key, sum(amount) FROM reservations
		WHERE (key = ANY($1) OR key >= $2 AND key < $3) AND released_at IS NULL AND expires_at > clock_timestamp()
		GROUP BY scope, key`, []string{storable(carrier), "*"}, storable(carrier)+"/", storable(carrier)+"0").
		Query(func(rows pgx.Rows) error { return scanUsed(rows, &f) })
	if err := s.pool.SendBatch(ctx, batch).Close(); err != nil {
		return Spent{}, fmt.Errorf("read the budgets of carrier %s: %w", carrier, err)
	}
	return Spent{Used: f.Used, ClaimHolder: f.ClaimHolder}, nil
}

// scanRepaired reads the runs of a target that repaired it, the newest first.
func scanRepaired(rows pgx.Rows, f *playbook.LedgerFacts) error {
	var id string
	var at time.Time
	_, err := pgx.ForEachRow(rows, []any{&id, &at}, func() error {
		if f.RepairedToday++; f.RepairedToday == 1 {
			f.RepairedBy, f.RepairedAt = id, at.UTC()
		}
		return nil
	})
	return err
}

func scanCarrierRun(row pgx.CollectableRow) (playbook.CarrierRun, error) {
	var r playbook.CarrierRun
	var causes, incidents []byte
	var finished *time.Time
	var all int
	if err := row.Scan(&r.Run, &r.Target.Carrier, &r.Target.Namespace, &r.Target.DaemonSet, &r.State, &r.Finding, &r.Why, &causes,
		&r.Outcome, &r.StartedAt, &finished, &r.Claim, &incidents, &all); err != nil {
		return r, err
	}
	r.StartedAt, r.EndedAt = r.StartedAt.UTC(), timeOf(finished)
	if causes != nil {
		if err := json.Unmarshal(causes, &r.Causes); err != nil {
			return r, fmt.Errorf("decode the causes of run %s: %w", r.Run, err)
		}
	}
	if incidents != nil {
		if err := json.Unmarshal(incidents, &r.Incidents); err != nil {
			return r, fmt.Errorf("decode the incidents of run %s: %w", r.Run, err)
		}
	}
	r.More = all - len(r.Incidents)
	return r, nil
}

// optional scans a row that need not exist.
func optional(into *string) func(pgx.Row) error {
	return func(row pgx.Row) error {
		if err := row.Scan(into); !errors.Is(err, pgx.ErrNoRows) {
			return err
		}
		return nil
	}
}

func scanUsed(rows pgx.Rows, f *playbook.LedgerFacts) error {
	var budget string
	var amount int
	_, err := pgx.ForEachRow(rows, []any{&budget, &amount}, func() error {
		if f.Used == nil {
			f.Used = map[string]int{}
		}
		f.Used[budget] = amount
		return nil
	})
	return err
}

func scanLastSeen(row pgx.Row, f *playbook.LedgerFacts) error {
	var body []byte
	err := row.Scan(&body)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	f.LastSeen = &playbook.DaemonSet{}
	return json.Unmarshal(body, f.LastSeen)
}

// Breaker reads whether the target's breaker is open: its last IneffectiveRuns runs that changed anything or resolved it all
// changed something and none resolved it. A run that neither changed nor resolved anything says nothing about repairs. The
// time is when it closes again, an hour after the last of them, zero when it is closed; tries describes them, newest first.
func (s *Store) Breaker(ctx context.Context, target playbook.Target) (until time.Time, tries []string, err error) {
	rows, err := s.pool.Query(ctx, `SELECT id, outcome, finding, why, finished_at, clock_timestamp() FROM runs r
		WHERE target = $1 AND state IN ('resolved', 'escalated', 'stood_down') AND (outcome = 'resolved'
			OR EXISTS (SELECT FROM intents i WHERE i.run = r.id AND i.change AND i.result IN ('', 'happened')))
		ORDER BY finished_at DESC LIMIT $2`, target.String(), s.opts.IneffectiveRuns)
	if err != nil {
		return time.Time{}, nil, fmt.Errorf("read the breaker of %s: %w", target, err)
	}
	var id, outcome, finding, why string
	var finished, now time.Time
	_, err = pgx.ForEachRow(rows, []any{&id, &outcome, &finding, &why, &finished, &now}, func() error {
		if until.IsZero() {
			until = finished.Add(breakerOpen).UTC()
		}
		if outcome != string(playbook.OutcomeResolved) {
			tries = append(tries, fmt.Sprintf("run %s at %s: %s (%s): %s", id, finished.UTC().Format(time.RFC3339), outcome, finding, why))
		}
		return nil
	})
	if err != nil {
		return time.Time{}, nil, fmt.Errorf("read the breaker of %s: %w", target, err)
	}
	if len(tries) < s.opts.IneffectiveRuns || !until.After(now) {
		return time.Time{}, nil, nil
	}
	return until, tries, nil
}

// KillSwitch is one that is engaged: everywhere when Carrier is empty.
type KillSwitch struct {
	Carrier string
	Reason  string
	By      string
	Since   time.Time
}

// killSwitch is the reason why no change may be made on a carrier, or empty.
func (s *Store) killSwitch(ctx context.Context, q querier, carrier string) (string, error) {
	if why := s.opts.FileSwitch(carrier); why != "" {
		return why, nil
	}
	var reason string
	err := q.QueryRow(ctx, `SELECT reason FROM kill_switches WHERE carrier IN ('', $1) ORDER BY carrier LIMIT 1`, carrier).Scan(&reason)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read the kill switch: %w", err)
	}
	return cmp.Or(reason, "engaged without a reason"), nil
}

// KillSwitches lists the switches that are engaged in the database, the global one first.
func (s *Store) KillSwitches(ctx context.Context) ([]KillSwitch, error) {
	rows, err := s.pool.Query(ctx, `SELECT carrier, reason, by, since FROM kill_switches ORDER BY carrier`)
	if err != nil {
		return nil, fmt.Errorf("list kill switches: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[KillSwitch])
	if err != nil {
		return nil, fmt.Errorf("list kill switches: %w", err)
	}
	return slices.Clip(list), nil
}

// EngageKillSwitch stops new changes: no commit that begins after it returns promises one, and no call of one that is
// promised already begins. One that is engaged already keeps its time and takes the new reason.
func (s *Store) EngageKillSwitch(ctx context.Context, k KillSwitch) error {
	err := s.setKillSwitch(ctx, k, true, `INSERT INTO kill_switches (carrier, reason, by, since) VALUES ($1, $2, $3, clock_timestamp())
		ON CONFLICT (carrier) DO UPDATE SET reason = excluded.reason, by = excluded.by`, k.Carrier, storable(k.Reason), storable(k.By))
	if err != nil {
		return fmt.Errorf("engage the kill switch: %w", err)
	}
	return nil
}

// ReleaseKillSwitch lets changes be made again, by and for a reason that the audit log keeps; it is no error when the switch was not
// engaged.
func (s *Store) ReleaseKillSwitch(ctx context.Context, k KillSwitch) error {
	if err := s.setKillSwitch(ctx, k, false, `DELETE FROM kill_switches WHERE carrier = $1`, k.Carrier); err != nil {
		return fmt.Errorf("release the kill switch: %w", err)
	}
	return nil
}

// setKillSwitch carries an order about a switch out and records it.
func (s *Store) setKillSwitch(ctx context.Context, k KillSwitch, engage bool, sql string, args ...any) error {
	type switchDeed struct {
		Engaged bool   `json:"engaged"`
		Reason  string `json:"reason,omitempty"`
		By      string `json:"by,omitempty"`
	}
	return s.inTx(ctx, func(tx pgx.Tx) error {
		var before switchDeed
		err := tx.QueryRow(ctx, `SELECT true, reason, by FROM kill_switches WHERE carrier = $1 FOR UPDATE`, k.Carrier).
			Scan(&before.Engaged, &before.Reason, &before.By)
		if err != nil && !errors.Is(err, pgx.ErrNoRows) {
			return err
		}
		if _, err := tx.Exec(ctx, sql, args...); err != nil {
			return err
		}
		after := switchDeed{Engaged: engage}
		if engage {
			after.Reason, after.By = k.Reason, k.By
		}
		return audit(tx, Deed{Who: k.By, What: "kill_switch.set", Why: k.Reason, Carrier: k.Carrier, Before: before, After: after})
	})
}
