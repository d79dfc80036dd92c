package pagerduty

import (
	"errors"
	"testing"

	gopagerduty "github.com/PagerDuty/go-pagerduty"
)

// TestGoPagerDuty drives the stand-in with the client library that the product
// wraps: what the library can not read here, it could not read there.
func TestGoPagerDuty(t *testing.T) {
	t.Parallel()
	w := newTown(t, nil)
	ctx := t.Context()
	c := gopagerduty.NewClient(w.key, gopagerduty.WithAPIEndpoint(w.url), gopagerduty.WithV2EventsAPIEndpoint(w.url))
	made, err := w.TriggerIncident(title, w.svc.ID, map[string]any{"daemonset": "node-exporter"}, "text")
	w.check(err)

	i, err := c.GetIncidentWithContext(ctx, made.ID)
	w.check(err)
	if i.ID != made.ID || i.Title != title || int(i.IncidentNumber) != made.Number || i.Status != Triggered ||
		i.Service.ID != w.svc.ID || i.Assignments[0].Assignee.ID != w.bot.ID || i.AlertCounts.Triggered != 2 {
		t.Errorf("GetIncident: %+v", i)
	}
	list, err := c.ListIncidentsWithContext(ctx, gopagerduty.ListIncidentsOptions{
		Statuses: []string{Triggered, Acknowledged}, ServiceIDs: []string{w.svc.ID}, DateRange: "all", Limit: 100, Includes: []string{"services", "first_trigger_log_entries"},
	})
	w.check(err)
	if len(list.Incidents) != 1 || list.More {
		t.Errorf("ListIncidents: %+v", list)
	}
	alerts, err := c.ListIncidentAlertsWithContext(ctx, made.ID, gopagerduty.ListIncidentAlertsOptions{})
	w.check(err)
	if details, ok := alerts.Alerts[0].Body["details"].(map[string]any); !ok || details["daemonset"] != "node-exporter" {
		t.Errorf("ListIncidentAlerts: %+v", alerts.Alerts)
	}
	note, err := c.CreateIncidentNoteWithContext(ctx, made.ID, gopagerduty.IncidentNote{Content: "looking", User: gopagerduty.APIObject{Summary: w.bot.Email}})
	w.check(err)
	notes, err := c.ListIncidentNotesWithContext(ctx, made.ID)
	w.check(err)
	if len(notes) != 1 || notes[0].ID != note.ID || notes[0].User.ID != w.bot.ID {
		t.Errorf("notes: %+v", notes)
	}

	manage := func(m gopagerduty.ManageIncidentsOptions) error {
		m.ID = made.ID
		_, err := c.ManageIncidentsWithContext(ctx, w.bot.Email, []gopagerduty.ManageIncidentsOptions{m})
		return err
	}
	w.check(manage(gopagerduty.ManageIncidentsOptions{EscalationPolicy: &gopagerduty.APIReference{ID: w.single.ID, Type: "escalation_policy_reference"}}))
	w.check(manage(gopagerduty.ManageIncidentsOptions{Status: Resolved, Resolution: "done"}))
	var refusal gopagerduty.APIError
	if err := manage(gopagerduty.ManageIncidentsOptions{Status: Resolved}); !errors.As(err, &refusal) || refusal.StatusCode != 400 ||
		refusal.APIError.ErrorObject.Code != 2001 || refusal.APIError.ErrorObject.Errors[0] != "Incident Already Resolved" {
		t.Errorf("resolving twice: %v", err)
	}
	// The library sends no From with a snooze, which an account key needs.
	if _, err := c.SnoozeIncidentWithContext(ctx, made.ID, 60); !errors.As(err, &refusal) || refusal.StatusCode != 400 {
		t.Errorf("snooze without From: %v", err)
	}
	log, err := c.ListIncidentLogEntriesWithContext(ctx, made.ID, gopagerduty.ListIncidentLogEntriesOptions{Includes: []string{"channels"}, Limit: 100})
	w.check(err)
	if n := len(w.Timeline(made.ID)); len(log.LogEntries) != n || log.LogEntries[n-1].Type != "trigger_log_entry" || log.LogEntries[n-1].Agent.Type != "inbound_integration_reference" {
		t.Errorf("ListIncidentLogEntries: %+v", log.LogEntries)
	}
	if _, err := c.GetIncidentWithContext(ctx, "QNOSUCHINCIDENT"); !errors.As(err, &refusal) || !refusal.NotFound() {
		t.Errorf("unknown incident: %v", err)
	}

	event, err := c.ManageEventWithContext(ctx, &gopagerduty.V2Event{
		RoutingKey: w.svc.RoutingKey, Action: "trigger", DedupKey: "self",
		Payload: &gopagerduty.V2Payload{Summary: "drydock is blocked", Source: "drydock", Severity: "error", Details: map[string]any{"run": "1"}},
	})
	w.check(err)
	if event.DedupKey != "self" || len(w.Incidents()) != 2 {
		t.Errorf("ManageEvent: %+v", event)
	}
	services, err := c.ListServicesWithContext(ctx, gopagerduty.ListServiceOptions{})
	w.check(err)
	policy, err := c.GetEscalationPolicyWithContext(ctx, w.policy.ID, nil)
	w.check(err)
	if len(services.Services) != 1 || len(policy.EscalationRules) != 2 || policy.EscalationRules[1].Targets[0].ID != w.ada.ID {
		t.Errorf("services %+v, policy %+v", services, policy)
	}

	users := gopagerduty.NewClient(w.AddKey(Key{Kind: UserKey, UserID: w.ada.ID}), gopagerduty.WithOAuth(), gopagerduty.WithAPIEndpoint(w.url))
	me, err := users.GetCurrentUserWithContext(ctx, gopagerduty.GetCurrentUserOptions{})
	w.check(err)
	if me.Email != w.ada.Email {
		t.Errorf("GetCurrentUser: %+v", me)
	}
}
