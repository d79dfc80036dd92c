package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/drydock/drydock/api"
	"github.com/drydock/drydock/incident"
	"github.com/drydock/drydock/playbook"
)

// lookup reads an incident from PagerDuty and finds out which target it is about.
type lookup struct {
	client   pagerDuty // nil: no token is configured
	rules    *incident.Rules
	carriers func() []string
	policy   func(playbook.Target) playbook.Policy
}

var errNoPagerDuty = errors.New(noToken)

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
	now := api.IncidentNow{
		Incident: playbook.RunIncident{ID: in.ID, Number: in.Number, Title: in.Title, URL: in.URL}, Open: in.Open(),
	}
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

// start says which run an event asks for whose title did not name the target; nil and the reason when it asks for none.
func (l *lookup) start(ctx context.Context, a playbook.Arrival) (*playbook.Start, string, error) {
	now, err := l.Read(ctx, a.IncidentID)
	switch {
	case errors.Is(err, errNoPagerDuty):
		return nil, "the incident's alerts can not be read: " + noToken, nil
	case errors.Is(err, api.ErrNoIncident):
		return nil, "PagerDuty knows no such incident", nil
	case err != nil:
		return nil, "", fmt.Errorf("look up incident %s: %w", a.IncidentID, err)
	case !now.Open:
		return nil, "the incident is resolved already", nil
	case now.Reason != "":
		return nil, now.Reason, nil
	}
	p := l.policy(now.Target)
	return &playbook.Start{
		Target: now.Target, Incident: now.Incident, Trigger: playbook.TriggerWebhook, Mode: p.Mode, Deadline: p.Timing.Deadline,
	}, "", nil
}
