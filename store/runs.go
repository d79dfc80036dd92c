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
		d, err := readDesk(ctx, tx, []arrival{{Arrival: playbook.Arrival{Start: start}}})
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
		if err := writeDesk(ctx, tx, d); err != nil {
			return err
		}
		if run, err = loadRun(ctx, tx, start.RunID); err != nil {
			return err
		}
		return audit(tx, retriggerDeed(run, *start))
	})
	if err != nil {
		return playbook.Run{}, fmt.Errorf("start run of %s: %w", st.Target, err)
	}
	return run, nil
}

func retriggerDeed(r playbook.Run, st playbook.Start) Deed {
	type after struct {
		Target          string `json:"target"`
		Incident        string `json:"incident"`
		RetriggeredFrom string `json:"retriggered_from,omitempty"`
	}
	return Deed{Who: st.RequestedBy, What: "run.retrigger", Why: st.Reason, Run: r.ID, Carrier: r.Target.Carrier,
		After: after{r.Target.String(), st.Incident.ID, st.RetriggeredFrom}}
}

// Reconcile places an open incident that was found by listing, not by an event: it starts or joins a run when the incident has
// none, or when its newest run is still after, which had ended before the incident was read, and the incident was seen to be
// open again since. Otherwise the outcome is followed, and nothing is written.
func (s *Store) Reconcile(ctx context.Context, st playbook.Start, after string) (outcome playbook.EventOutcome, run string, err error) {
	start, err := withRunID(st)
	if err != nil {
		return "", "", fmt.Errorf("reconcile incident %s: %w", st.Incident.ID, err)
	}
	a := arrival{Arrival: playbook.Arrival{IncidentID: st.Incident.ID, Start: start}, after: after}
	var p placement
	err = s.placing(ctx, func(tx pgx.Tx) error {
		d, err := readDesk(ctx, tx, []arrival{a})
		if err != nil {
			return err
		}
		d.quiet = true
		p = d.place(a)
		return writeDesk(ctx, tx, d)
	})
	if err != nil {
		return "", "", fmt.Errorf("reconcile incident %s: %w", st.Incident.ID, err)
	}
	return p.outcome, p.run, nil
}

// Links reads the newest run of each incident that has one.
func (s *Store) Links(ctx context.Context, incidents []string) (map[string]Link, error) {
	links := map[string]Link{}
	rows, err := s.pool.Query(ctx, linksSQL, incidents)
	if err == nil {
		err = scanLinks(rows, links)
	}
	if err != nil {
		return nil, fmt.Errorf("read the runs of incidents: %w", err)
	}
	return links, nil
}

// Cancel asks a run to stop at its next safe point, on behalf of a person. The reason goes with the name, where the run's notes show
// it. Asking again changes nothing. The error is *RunEndedError or playbook.ErrNoRun.
func (s *Store) Cancel(ctx context.Context, runID, by, reason string) error {
	runID = storable(runID)
	err := s.inTx(ctx, func(tx pgx.Tx) error {
		var state playbook.State
		var carrier string
		err := tx.QueryRow(ctx, `SELECT state, carrier FROM runs WHERE id = $1 FOR NO KEY UPDATE`, runID).Scan(&state, &carrier)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			return playbook.ErrNoRun
		case err != nil:
			return err
		case state.Ended():
			return &RunEndedError{Run: runID}
		}
		who := by
		if reason != "" {
			who += " (" + reason + ")"
		}
		tag, err := tx.Exec(ctx, `UPDATE runs SET cancelled_by = $2, cancelled_at = clock_timestamp()
			WHERE id = $1 AND cancelled_at IS NULL`, runID, storable(who))
		if err != nil || tag.RowsAffected() == 0 {
			return err
		}
		if err := s.wake(ctx, tx, `id = $1`, runID); err != nil {
			return err
		}
		return audit(tx, Deed{Who: by, What: "run.cancel", Why: reason, Run: runID, Carrier: carrier, Before: stateDeed{State: state}})
	})
	if err != nil {
		return fmt.Errorf("cancel run %s: %w", runID, err)
	}
	return nil
}

// Approve approves the plan of a run that awaits it, on behalf of a person. The error is playbook.ErrNoRun, *RunEndedError,
// ErrNotAwaitingApproval, ErrPlanChanged, or ErrOwnRun when it is the person who asked for the run.
func (s *Store) Approve(ctx context.Context, runID, planHash, by string) error {
	runID = storable(runID)
	err := s.inTx(ctx, func(tx pgx.Tx) error {
		var state playbook.State
		var hash, carrier, requestedBy string
		err := tx.QueryRow(ctx, `SELECT state, plan_hash, carrier, requested_by FROM runs WHERE id = $1 FOR NO KEY UPDATE`, runID).
			Scan(&state, &hash, &carrier, &requestedBy)
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
		case requestedBy == storable(by) && by != "":
			return ErrOwnRun
		}
		if _, err := tx.Exec(ctx, `UPDATE runs SET approved_hash = $2, approved_by = $3, approved_at = clock_timestamp() WHERE id = $1`,
			runID, planHash, storable(by)); err != nil {
			return err
		}
		if err := s.wake(ctx, tx, `id = $1`, runID); err != nil {
			return err
		}
		return audit(tx, Deed{Who: by, What: "run.approve", Why: "the plan was looked at and approved", Run: runID, Carrier: carrier,
			PlanHash: planHash, Before: stateDeed{State: state}})
	})
	if err != nil {
		return fmt.Errorf("approve the plan of run %s: %w", runID, err)
	}
	return nil
}

// Waiting is an event whose incident is to be read before it is placed.
type Waiting struct {
	playbook.Arrival
	// Before is the incident's newest run, which had ended when the event came; zero when there was none.
	Before Link
}

// waitingEvent reads an event whose incident is still to be looked up; nil when that was done.
func (s *Store) waitingEvent(ctx context.Context, event string) (*Waiting, error) {
	var w Waiting
	var webhook, pagerduty *string
	var occurred *time.Time
	var waiting bool
	err := s.pool.QueryRow(ctx, `SELECT webhook_id, event_id, type, incident, occurred_at, payload, look_up, run FROM events WHERE id = $1`, event).
		Scan(&webhook, &pagerduty, &w.Type, &w.IncidentID, &occurred, &w.Payload, &waiting, &w.Before.Run)
	switch {
	case errors.Is(err, pgx.ErrNoRows): // deleted by retention
		return nil, nil //nolint:nilnil // there is nothing to do
	case err != nil:
		return nil, fmt.Errorf("read event %s: %w", event, err)
	case !waiting:
		return nil, nil //nolint:nilnil // there is nothing to do
	}
	if webhook != nil {
		w.WebhookID = *webhook
	}
	if pagerduty != nil {
		w.EventID = *pagerduty
	}
	w.OccurredAt, w.LookUp = timeOf(occurred), true
	if w.Before.Run == "" {
		return &w, nil
	}
	links, err := s.Links(ctx, []string{w.IncidentID})
	if err != nil {
		return nil, err
	}
	if l := links[w.IncidentID]; l.Run == w.Before.Run {
		w.Before = l
	}
	return &w, nil
}

// lookedUp places an event after its incident was read, and returns its run. It does nothing when that was done meanwhile.
func (s *Store) lookedUp(ctx context.Context, event string, w *Waiting, st *playbook.Start, reason string) (run string, err error) {
	if st != nil {
		if st, err = withRunID(*st); err != nil {
			return "", fmt.Errorf("place event %s: %w", event, err)
		}
	}
	// Without the event's own ids: it is stored already, and must not be found as its own duplicate.
	a := arrival{Arrival: playbook.Arrival{IncidentID: w.IncidentID, Start: st, Reason: reason}, after: w.Before.Run}
	err = s.placing(ctx, func(tx pgx.Tx) error {
		var waiting bool
		err := tx.QueryRow(ctx, `SELECT look_up FROM events WHERE id = $1 FOR UPDATE`, event).Scan(&waiting)
		if errors.Is(err, pgx.ErrNoRows) || err == nil && !waiting {
			return nil
		}
		if err != nil {
			return err
		}
		d, err := readDesk(ctx, tx, []arrival{a})
		if err != nil {
			return err
		}
		p := d.place(a)
		if p.lookUp { // it was read before a run that began and ended meanwhile, which has seen what was read
			p.lookUp, p.reason = false, ""
		}
		run = p.run
		if _, err := tx.Exec(ctx, `UPDATE events SET outcome = $2, reason = $3, run = $4, look_up = false WHERE id = $1`,
			event, p.outcome, storable(p.reason), p.run); err != nil {
			return err
		}
		return writeDesk(ctx, tx, d)
	})
	if err != nil {
		return "", fmt.Errorf("place event %s: %w", event, err)
	}
	return run, nil
}
