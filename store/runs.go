package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/drydock/drydock/playbook"
)

// StartRun starts a run that a person asked for. The error is *RunActiveError when the target has a run that has not ended.
// With the same Start.RunID again it returns the run that was started then, so that it can be repeated when its answer got
// lost. An empty RunID is made here.
func (s *Store) StartRun(ctx context.Context, st playbook.Start) (playbook.Run, error) {
	start, err := withRunID(st)
	if err != nil {
		return playbook.Run{}, fmt.Errorf("start run: %w", err)
	}
	var run playbook.Run
	err = s.placing(ctx, func(tx pgx.Tx) error {
		d, err := s.readDesk(ctx, tx, []arrival{{Arrival: playbook.Arrival{Start: start}}})
		if err != nil {
			return err
		}
		run, err = loadRun(ctx, tx, start.RunID)
		if !errors.Is(err, playbook.ErrNoRun) {
			return err
		}
		for _, open := range []*openRun{d.active[start.Target.String()], d.queued[start.Target.String()]} {
			if open != nil {
				return &RunActiveError{Run: open.id}
			}
		}
		d.start(*start)
		if err := s.writeDesk(ctx, tx, d); err != nil {
			return err
		}
		run, err = loadRun(ctx, tx, start.RunID)
		return err
	})
	if err != nil {
		return playbook.Run{}, fmt.Errorf("start run of %s: %w", st.Target, err)
	}
	return run, nil
}

// Reconcile places an open incident that was found by listing, not by an event: it starts or joins a run when the incident has
// none, or when it was triggered or reopened (triggeredAt) after its run had ended. Otherwise the outcome is followed, and
// nothing is written.
func (s *Store) Reconcile(ctx context.Context, st playbook.Start, triggeredAt time.Time) (outcome playbook.EventOutcome, run string, err error) {
	start, err := withRunID(st)
	if err != nil {
		return "", "", fmt.Errorf("reconcile incident %s: %w", st.Incident.ID, err)
	}
	a := arrival{Arrival: playbook.Arrival{IncidentID: st.Incident.ID, OccurredAt: triggeredAt, Start: start}}
	err = s.placing(ctx, func(tx pgx.Tx) error {
		d, err := s.readDesk(ctx, tx, []arrival{a})
		if err != nil {
			return err
		}
		d.quiet = true
		outcome, _, run, _ = d.place(a.Arrival)
		return s.writeDesk(ctx, tx, d)
	})
	if err != nil {
		return "", "", fmt.Errorf("reconcile incident %s: %w", st.Incident.ID, err)
	}
	return outcome, run, nil
}

// Cancel asks a run to stop at its next safe point, on behalf of a person. Asking again changes nothing. The error is
// *RunEndedError or playbook.ErrNoRun.
func (s *Store) Cancel(ctx context.Context, runID, by string) error {
	runID = storable(runID)
	err := s.inTx(ctx, func(tx pgx.Tx) error {
		var state playbook.State
		err := tx.QueryRow(ctx, `SELECT state FROM runs WHERE id = $1 FOR NO KEY UPDATE`, runID).Scan(&state)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			return playbook.ErrNoRun
		case err != nil:
			return err
		case state.Ended():
			return &RunEndedError{Run: runID}
		}
		tag, err := tx.Exec(ctx, `UPDATE runs SET cancelled_by = $2, cancelled_at = clock_timestamp()
			WHERE id = $1 AND cancelled_at IS NULL`, runID, storable(by))
		if err != nil || tag.RowsAffected() == 0 {
			return err
		}
		return s.wake(ctx, tx, `id = $1`, runID)
	})
	if err != nil {
		return fmt.Errorf("cancel run %s: %w", runID, err)
	}
	return nil
}

// Approve approves the plan of a run that awaits it, on behalf of a person. The error is playbook.ErrNoRun, *RunEndedError,
// ErrNotAwaitingApproval or ErrPlanChanged.
func (s *Store) Approve(ctx context.Context, runID, planHash, by string) error {
	runID = storable(runID)
	err := s.inTx(ctx, func(tx pgx.Tx) error {
		var state playbook.State
		var hash string
		err := tx.QueryRow(ctx, `SELECT state, plan_hash FROM runs WHERE id = $1 FOR NO KEY UPDATE`, runID).Scan(&state, &hash)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			return playbook.ErrNoRun
		case err != nil:
			return err
		case state.Ended():
			return &RunEndedError{Run: runID}
		case state != playbook.AwaitingApproval:
			return ErrNotAwaitingApproval
		case hash != planHash:
			return ErrPlanChanged
		}
		if _, err := tx.Exec(ctx, `UPDATE runs SET approved_hash = $2, approved_by = $3, approved_at = clock_timestamp() WHERE id = $1`,
			runID, planHash, storable(by)); err != nil {
			return err
		}
		return s.wake(ctx, tx, `id = $1`, runID)
	})
	if err != nil {
		return fmt.Errorf("approve the plan of run %s: %w", runID, err)
	}
	return nil
}

// waitingArrival reads an event whose incident is still to be looked up; waiting is false when that was done.
func (s *Store) waitingArrival(ctx context.Context, event string) (a playbook.Arrival, waiting bool, err error) {
	var webhook, pagerduty *string
	var occurred *time.Time
	err = s.pool.QueryRow(ctx, `SELECT webhook_id, event_id, type, incident, occurred_at, payload, look_up FROM events WHERE id = $1`, event).
		Scan(&webhook, &pagerduty, &a.Type, &a.IncidentID, &occurred, &a.Payload, &waiting)
	if errors.Is(err, pgx.ErrNoRows) {
		return a, false, nil // deleted by retention
	}
	if err != nil {
		return a, false, fmt.Errorf("read event %s: %w", event, err)
	}
	if webhook != nil {
		a.WebhookID = *webhook
	}
	if pagerduty != nil {
		a.EventID = *pagerduty
	}
	a.OccurredAt, a.LookUp = timeOf(occurred), true
	return a, waiting, nil
}

// lookedUp places an event after its incident was read. It does nothing when that was done meanwhile.
func (s *Store) lookedUp(ctx context.Context, event string, a playbook.Arrival, st *playbook.Start, reason string) error {
	var err error
	if st != nil {
		if st, err = withRunID(*st); err != nil {
			return fmt.Errorf("place event %s: %w", event, err)
		}
	}
	a.Start, a.Reason, a.LookUp = st, reason, false
	// The event is stored already: it must not be found as its own duplicate.
	placed := arrival{Arrival: playbook.Arrival{IncidentID: a.IncidentID, Start: a.Start}}
	err = s.placing(ctx, func(tx pgx.Tx) error {
		var waiting bool
		err := tx.QueryRow(ctx, `SELECT look_up FROM events WHERE id = $1 FOR UPDATE`, event).Scan(&waiting)
		if errors.Is(err, pgx.ErrNoRows) || err == nil && !waiting {
			return nil
		}
		if err != nil {
			return err
		}
		d, err := s.readDesk(ctx, tx, []arrival{placed})
		if err != nil {
			return err
		}
		outcome, why, run, _ := d.place(a)
		if _, err := tx.Exec(ctx, `UPDATE events SET outcome = $2, reason = $3, run = $4, look_up = false WHERE id = $1`,
			event, outcome, storable(why), run); err != nil {
			return err
		}
		return s.writeDesk(ctx, tx, d)
	})
	if err != nil {
		return fmt.Errorf("place event %s: %w", event, err)
	}
	return nil
}
