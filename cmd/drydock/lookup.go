package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/drydock/drydock/api"
	"github.com/drydock/drydock/incident"
	"github.com/drydock/drydock/playbook"
	"github.com/drydock/drydock/store"
)

// lookup reads an incident from PagerDuty and finds out which target it is about.
type lookup struct {
	client   pagerDuty // nil: no token is configured
	rules    *incident.Rules
	carriers func() []string
	policy   func(playbook.Target) playbook.Policy
}

var errNoPagerDuty = errors.New(noToken)

// runIncident is an incident as a run keeps it. An open one was open when its status last changed.
func runIncident(in incident.Incident) playbook.RunIncident {
	opened := in.LastStatusChangeAt
	if opened.IsZero() {
		opened = in.CreatedAt
	}
	return playbook.RunIncident{ID: in.ID, Number: in.Number, Title: in.Title, URL: in.URL, OpenedAt: opened}
}

// Read implements api.Incidents.
func (l *lookup) Read(ctx context.Context, id string) (api.IncidentNow, error) {
	if l.client == nil {
		return api.IncidentNow{}, errNoPagerDuty
	}
	in, err := l.client.GetIncident(ctx, id)
	if errors.Is(err, incident.ErrNotFound) {
		return api.IncidentNow{}, api.ErrNoIncident
	}
	if err != nil {
		return api.IncidentNow{}, err
	}
	now := api.IncidentNow{Incident: runIncident(in), Open: in.Open()}
	m := l.rules.Parse(in.Title)
	if m.NeedsDetails || m.Matched && m.Namespace == "" {
		alerts, err := l.client.ListAlerts(ctx, id)
		if err != nil {
			return api.IncidentNow{}, err
		}
		m = l.rules.SubjectFromAlerts(in.Title, alerts)
	}
	switch {
	case !m.Matched:
		now.Reason = m.Reason
	case m.Namespace == "":
		now.Reason = fmt.Sprintf("the namespace of DaemonSet %s is not known: list it under daemonsets", m.DaemonSet)
	case !l.knows(m.Carrier):
		now.Reason = fmt.Sprintf("carrier %s is not configured", m.Carrier)
	default:
		now.Target = playbook.Target{Carrier: m.Carrier, Namespace: m.Namespace, DaemonSet: m.DaemonSet}
	}
	return now, nil
}

func (l *lookup) knows(carrier string) bool { return slices.Contains(l.carriers(), carrier) }

// start says which run an event asks for whose title did not name the target, or whose incident had a run that is over; nil and
// the reason when it asks for none.
func (l *lookup) start(ctx context.Context, w store.Waiting) (*playbook.Start, string, error) {
	start, reason, err := l.look(ctx, w.IncidentID, w.Before)
	if err != nil {
		return nil, "", fmt.Errorf("look up incident %s: %w", w.IncidentID, err)
	}
	if start != nil {
		start.Trigger = playbook.TriggerWebhook
	}
	return start, reason, nil
}

// look reads an incident and says which run it asks for; nil and the reason when it asks for none. before is its newest run,
// which had ended before this look; zero when it has none.
func (l *lookup) look(ctx context.Context, id string, before store.Link) (*playbook.Start, string, error) {
	now, err := l.Read(ctx, id)
	switch {
	case errors.Is(err, errNoPagerDuty):
		return nil, "the incident can not be read: " + noToken, nil
	case errors.Is(err, api.ErrNoIncident):
		return nil, "PagerDuty knows no such incident", nil
	case err != nil:
		return nil, "", err
	case !now.Open:
		return nil, "the incident is resolved already", nil
	}
	if before.Run != "" {
		again, err := l.openAgain(ctx, now.Incident, before)
		if err != nil {
			return nil, "", err
		}
		if !again {
			return nil, "the incident was not reopened since run " + before.Run + " took it up", nil
		}
	}
	if now.Reason != "" {
		return nil, now.Reason, nil
	}
	p := l.policy(now.Target)
	return &playbook.Start{Target: now.Target, Incident: now.Incident, Mode: p.Mode, Deadline: p.Timing.Deadline}, "", nil
}

// openAgain reports whether an incident that is open now has been resolved since its run took it up, and is open once more. It
// compares PagerDuty's times with PagerDuty's only: the end of the run is the database's. An incident that Drydock resolved and
// that is open needs no proof.
func (l *lookup) openAgain(ctx context.Context, in playbook.RunIncident, before store.Link) (bool, error) {
	if before.Outcome == playbook.OutcomeResolved {
		return true, nil
	}
	if !in.OpenedAt.After(before.OpenedAt) {
		return false, nil // its status is as it was then
	}
	entries, err := l.client.LogEntries(ctx, in.ID, before.OpenedAt)
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(entries, func(e incident.LogEntry) bool {
		return e.Type == incident.LogResolved && e.CreatedAt.After(before.OpenedAt)
	}), nil
}
