package pagerduty

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestAnIncidentLives(t *testing.T) {
	t.Parallel()
	w := newTown(t, nil)
	i := w.incident()
	if i.Status != Triggered || !i.AssignedTo(w.bot.ID) || i.Level != 1 || i.IncidentKey != "" || len(i.Alerts) != 1 {
		t.Fatalf("a new incident: %+v", i)
	}
	w.check(w.Acknowledge(i.ID, w.ada.ID))
	w.check(w.Acknowledge(i.ID, w.grace.ID))
	now := w.now(i.ID)
	if len(now.Acknowledgements) != 2 || !now.AssignedTo(w.grace.ID) || !now.EscalatesAt.IsZero() {
		t.Errorf("after two acknowledges: %+v", now)
	}
	w.check(w.Resolve(i.ID, w.ada.ID, "a reboot"))
	now = w.now(i.ID)
	if now.Status != Resolved || len(now.Assignees) != 0 || len(now.Acknowledgements) != 0 || now.Alerts[0].Status != Resolved {
		t.Errorf("after the resolve: %+v", now)
	}
	var refusal *Error
	if err := w.Resolve(i.ID, w.ada.ID, ""); !errors.As(err, &refusal) || !slices.Contains(refusal.Errors, "Incident Already Resolved") {
		t.Errorf("resolving twice: %v", err)
	}
	if _, err := w.AddNote(i.ID, w.ada.ID, "post mortem tomorrow"); err != nil {
		t.Errorf("a note on a resolved incident: %v", err)
	}
	want := []string{"incident.triggered", "incident.acknowledged", "incident.acknowledged", "incident.resolved", "incident.annotated", "incident.annotated"}
	if diff := cmp.Diff(want, w.types(i.ID)); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	if notes := w.Notes(i.ID); notes[0].Content != "Resolution Note: a reboot" {
		t.Errorf("the resolution's note: %+v", notes)
	}
}

func TestTheResolutionNoteMayComeFirst(t *testing.T) {
	t.Parallel()
	w := newTown(t, nil)
	w.Behave(Behaviour{ResolutionNoteFirst: true})
	i := w.incident()
	w.check(w.Resolve(i.ID, w.ada.ID, "done"))
	want := []string{"incident.triggered", "incident.annotated", "incident.resolved"}
	if diff := cmp.Diff(want, w.types(i.ID)); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

func TestALateActReopens(t *testing.T) {
	t.Parallel()
	w := newTown(t, nil)
	i := w.incident()
	w.check(w.Resolve(i.ID, w.ada.ID, ""))
	w.check(w.Acknowledge(i.ID, w.grace.ID))
	now := w.now(i.ID)
	if now.Status != Acknowledged || now.ReopenedAt.IsZero() || len(now.Assignees) != 1 || !now.AssignedTo(w.grace.ID) {
		t.Errorf("acknowledge on resolved: %+v", now)
	}
	w.check(w.Resolve(i.ID, w.ada.ID, ""))
	w.check(w.Reopen(i.ID, w.ada.ID))
	if now = w.now(i.ID); now.Status != Triggered || !now.AssignedTo(w.bot.ID) || now.Level != 1 {
		t.Errorf("triggered on resolved: %+v", now)
	}
	want := []string{"incident.triggered", "incident.resolved", "incident.reopened", "incident.resolved", "incident.reopened"}
	if diff := cmp.Diff(want, w.types(i.ID)); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

func TestTimers(t *testing.T) {
	t.Parallel()
	w := newTown(t, nil)
	i := w.incident()
	w.clock.Advance(9 * time.Minute)
	if got := w.now(i.ID).Level; got != 1 {
		t.Fatalf("level %d before the delay", got)
	}
	w.clock.Advance(time.Minute)
	now := w.now(i.ID)
	if now.Level != 2 || !now.AssignedTo(w.ada.ID) || !now.EscalatesAt.IsZero() {
		t.Fatalf("after the delay: %+v", now)
	}
	w.check(w.Acknowledge(i.ID, w.ada.ID))
	w.clock.Advance(20 * time.Minute)
	w.check(w.Acknowledge(i.ID, w.ada.ID)) // Starts the timeout anew.
	w.clock.Advance(20 * time.Minute)
	if now = w.now(i.ID); now.Status != Acknowledged || len(now.Acknowledgements) != 1 {
		t.Fatalf("the second acknowledge did not restart the timeout: %+v", now)
	}
	w.check(w.Snooze(i.ID, w.ada.ID, 3*time.Hour))
	w.clock.Advance(2 * time.Hour)
	if now = w.now(i.ID); now.Status != Acknowledged {
		t.Fatalf("the acknowledgement timed out under a snooze")
	}
	w.clock.Advance(time.Hour)
	if now = w.now(i.ID); now.Status != Triggered {
		t.Fatalf("the snooze did not end: %+v", now)
	}
	want := []string{"incident.triggered", "incident.escalated", "incident.acknowledged", "incident.acknowledged", "incident.unacknowledged"}
	if diff := cmp.Diff(want, w.types(i.ID)); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	last := w.Timeline(i.ID)[len(w.Timeline(i.ID))-1]
	if last.Type != "notify_log_entry" || last.Users[0] != w.ada.ID {
		t.Errorf("the end of a snooze calls the assignee again: %+v", last)
	}
}

func TestEscalation(t *testing.T) {
	t.Parallel()
	w := newTown(t, nil)
	i := w.incident()
	refused := func(name string, err error) {
		t.Helper()
		var e *Error
		if !errors.As(err, &e) || e.Status != 400 {
			t.Errorf("%s: %v, want a 400", name, err)
		}
	}
	refused("level 3 of 2", w.Escalate(i.ID, w.ada.ID, 3))
	refused("level 0", w.Escalate(i.ID, w.ada.ID, 0))
	w.check(w.Acknowledge(i.ID, w.ada.ID))
	w.check(w.Escalate(i.ID, w.ada.ID, 2))
	if now := w.now(i.ID); now.Status != Triggered || now.Level != 2 || len(now.Acknowledgements) != 0 {
		t.Errorf("after the escalation: %+v", now)
	}
	w.check(w.Delegate(i.ID, w.ada.ID, w.single.ID))
	if now := w.now(i.ID); now.PolicyID != w.single.ID || now.Level != 1 || !now.AssignedTo(w.grace.ID) {
		t.Errorf("after the change of policy: %+v", now)
	}
	refused("level 2 of a one-level policy", w.Escalate(i.ID, w.ada.ID, 2))
	w.check(w.Reassign(i.ID, w.ada.ID, w.ada.ID))
	now := w.now(i.ID)
	if now.AssignedVia != Directly || !now.AssignedTo(w.ada.ID) || !now.EscalatesAt.IsZero() {
		t.Errorf("after the reassignment: %+v", now)
	}
	w.check(w.SetUrgency(i.ID, w.ada.ID, "low"))
	refused("a level at low urgency", w.Escalate(i.ID, w.ada.ID, 1))
	w.check(w.Acknowledge(i.ID, w.ada.ID))
	w.check(w.SetUrgency(i.ID, w.ada.ID, "high"))
	if now := w.now(i.ID); now.Status != Triggered {
		t.Errorf("raising the urgency keeps the acknowledgement: %+v", now)
	}
	want := []string{"incident.triggered", "incident.acknowledged", "incident.escalated", "incident.delegated", "incident.reassigned", "incident.acknowledged", "incident.unacknowledged"}
	if diff := cmp.Diff(want, w.types(i.ID)); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

func TestMerge(t *testing.T) {
	t.Parallel()
	w := newTown(t, nil)
	source, target := w.incident(), w.incident()
	w.check(w.Merge(target.ID, w.ada.ID, source.ID))
	now := w.now(source.ID)
	if now.Status != Resolved || now.MergedInto != target.ID || len(now.Alerts) != 0 || len(w.now(target.ID).Alerts) != 2 {
		t.Errorf("after the merge: %+v", now)
	}
	events := w.Events()
	last := events[len(events)-1]
	if last.Type != "incident.resolved" || last.By.ID != w.ada.ID || !strings.Contains(string(last.Body), `"resolve_reason":{"incident":{`) {
		t.Errorf("the event of a merge: %s by %+v: %s", last.Type, last.By, last.Body)
	}
}

func TestAlerts(t *testing.T) {
	t.Parallel()
	w := newTown(t, nil)
	i, err := w.Trigger(w.svc.ID, Alert{Key: "ds-1", Summary: title, Details: "as text"})
	w.check(err)
	again, err := w.Trigger(w.svc.ID, Alert{Key: "ds-1", Summary: title, Details: "newer"})
	w.check(err)
	if again.ID != i.ID || again.Alerts[0].Details != "newer" {
		t.Errorf("the same key opened %s beside %s", again.ID, i.ID)
	}
	_, err = w.AddAlert(i.ID, Alert{Key: "ds-2", Details: map[string]any{"node": "b"}})
	w.check(err)
	if got := w.types(i.ID); len(got) != 1 {
		t.Errorf("a late alert was announced: %v", got)
	}
	w.check(w.ClearAlert(w.svc.ID, "ds-1"))
	if now := w.now(i.ID); now.Status != Triggered {
		t.Errorf("resolved with an open alert: %+v", now)
	}
	w.check(w.ClearAlert(w.svc.ID, "ds-2"))
	now := w.now(i.ID)
	if now.Status != Resolved || now.StatusChangedBy.Type != "inbound_integration_reference" {
		t.Errorf("after the last alert: %+v", now)
	}
	fresh, err := w.Trigger(w.svc.ID, Alert{Key: "ds-1", Summary: title})
	w.check(err)
	if fresh.ID == i.ID {
		t.Error("a trigger after the resolve must open a new incident")
	}
	w.check(w.SetServiceStatus(w.svc.ID, "maintenance"))
	silent, err := w.Trigger(w.svc.ID, Alert{Key: "ds-9", Summary: title})
	w.check(err)
	if silent.ID != "" {
		t.Errorf("a service in maintenance opened %+v", silent)
	}
}

func TestAutoResolve(t *testing.T) {
	t.Parallel()
	w := newTown(t, nil)
	svc, err := w.AddService(Service{Name: "short", PolicyID: w.single.ID, AutoResolveTimeout: time.Hour})
	w.check(err)
	i, err := w.TriggerIncident(title, svc.ID)
	w.check(err)
	w.clock.Advance(time.Hour)
	if now := w.now(i.ID); now.Status != Resolved || now.StatusChangedBy != (Agent{}) {
		t.Errorf("after the auto-resolve timeout: %+v", now)
	}
}
