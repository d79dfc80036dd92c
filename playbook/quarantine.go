package playbook

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"time"
)

// MaxPanics is how many panicking ticks quarantine a run: its decision is not run again, people take over, and what it owes
// is put back as for any ended run.
const MaxPanics = 3

// PanicError says that a tick panicked. Nothing that was promised is lost by it: the next tick recovers as after a crash.
type PanicError struct{ Value any }

func (e *PanicError) Error() string { return fmt.Sprintf("tick panicked: %v", e.Value) }

// panicked counts a panic in the ledger, so that three of them are three on whichever replicas they happened.
func (e *Engine) panicked(ctx context.Context, runID string, value any) error {
	err := error(&PanicError{Value: value})
	e.Log.ErrorContext(ctx, "tick panicked", "run", runID, "panic", value, "stack", string(debug.Stack()))
	n, countErr := e.Ledger.Panicked(ctx, runID)
	if countErr != nil {
		return errors.Join(err, fmt.Errorf("count the panic of run %s: %w", runID, countErr))
	}
	if n == MaxPanics && e.Quarantined != nil {
		e.Quarantined(runID, fmt.Sprint(value))
	}
	return err
}

// quarantine ends a run whose ticks panic, without asking Decide: one commit writes the end and promises the last note and
// the escalation of each incident. What is owed stays owed; tidy puts it back.
func (t *tick) quarantine() error {
	before := t.run
	for _, i := range before.OpenIntents() {
		if i.SentAt.IsZero() {
			t.withdrawn = append(t.withdrawn, i.Seq) // a resolve or a change that nobody has thought through to its end
		}
	}
	s := &situation{p: t.policy, r: before, now: t.now}
	after := before
	after.Outcome = OutcomeEscalated
	if before.Mode == ModeObserve {
		after.Outcome = OutcomeStoodDown
	}
	after.State, after.FinishedAt = after.Outcome.State(), t.now
	after.Why = fmt.Sprintf("Drydock itself failed on this run %d times and stopped it; its log says where", before.Panics)
	after.Incidents = append([]RunIncident(nil), before.Incidents...)
	text := s.noteQuarantine(after.Why, after.Outcome == OutcomeEscalated)
	for n, in := range after.Incidents {
		if in.End != "" {
			continue
		}
		s.annotate(in, text, true)
		if after.Outcome == OutcomeEscalated {
			s.promise(Escalate{Incident: in.ID, Policy: t.policy.DaemonSet.EscalationPolicy, Team: t.policy.DaemonSet.Team}, 0)
		}
		after.Incidents[n].End = after.Outcome
	}
	// Its tick is not stored: a replay would decide again what must not be decided again.
	run, err := t.e.Ledger.Commit(t.h.Context(), t.h, Commit{Run: after, Promises: s.promises})
	if err != nil {
		return fmt.Errorf("quarantine run %s: %w", before.ID, err)
	}
	t.run = run
	t.log.Error("run is quarantined", "panics", run.Panics, "owed", len(run.Owed()))
	if err := t.act(); err != nil {
		return err
	}
	return t.endQuarantined()
}

// endQuarantined writes how each incident of a quarantined run ended, once PagerDuty has taken what was promised: a person may
// have been first.
func (t *tick) endQuarantined() error {
	if t.run.Panics < MaxPanics {
		return nil
	}
	s := &situation{r: t.run}
	after := t.run
	after.Incidents = append([]RunIncident(nil), t.run.Incidents...)
	differ := false
	for n, in := range after.Incidents {
		if s.laneOpen(in.ID) {
			continue
		}
		after.Incidents[n].End = s.incidentEnd(in)
		differ = differ || after.Incidents[n].End != in.End
	}
	if !differ {
		return nil
	}
	run, err := t.e.Ledger.Commit(t.h.Context(), t.h, Commit{Run: after})
	if err != nil {
		return fmt.Errorf("end the incidents of run %s: %w", after.ID, err)
	}
	t.run = run
	return nil
}

// noteQuarantine is the last note of a quarantined run. It says only what the ledger knows.
func (s *situation) noteQuarantine(why string, escalated bool) string {
	var n noteText
	verb := "stands down"
	if escalated {
		verb = "hands this over"
	}
	n.line("Drydock %s: %s on %s.", verb, s.name(), s.r.Target.Carrier)
	n.item("Why:", "%s", why)
	if changed := s.changes(); len(changed) > 0 {
		n.list("Done:", changed)
	}
	if still := s.stillChanged(); len(still) > 0 {
		n.list("Left behind:", still)
		n.item("", "Drydock goes on trying to put this back")
	}
	n.item("Run:", "%s", strings.TrimSpace(s.r.ID))
	return strings.TrimRight(clip(n.String(), noteLimit), "\n")
}

// policyOf asks for the policy of a run that is over or quarantined. Its undo and its hand-over need little of it, and must
// not depend on code that may be what panics.
func (e *Engine) policyOf(target Target) (p Policy) {
	defer func() {
		if recover() != nil {
			p = Policy{}
		}
	}()
	return e.Policy(target)
}

// restoreAfter is how old an owed create must be, and how long nobody may have tried it, before people decide about it: the
// ledger is most likely a restored one, and the DaemonSet may be gone on purpose by now.
const restoreAfter = time.Hour

// Forsaken reports whether an owed create must not be made any more without a person. An uncordon never is: the node itself
// says whether it still bears the run's mark.
func (r Run) Forsaken(o Obligation, now time.Time) bool {
	if _, isCreate := o.Action.(Create); !isCreate || now.Before(r.Deadline.Add(restoreAfter)) {
		return false
	}
	tried := o.Since
	for _, i := range r.Intents {
		if i.Undoes != o.Seq {
			continue
		}
		for _, at := range []time.Time{i.PromisedAt, i.SentAt, i.SettledAt} {
			if at.After(tried) {
				tried = at
			}
		}
	}
	return now.Sub(tried) >= restoreAfter
}
