package pagerduty

import (
	"encoding/json"
	"slices"
	"strings"
	"time"
)

// happening is an event before it has its envelope.
type happening struct {
	kind   string
	by     Agent
	client Client
	data   object
}

// Event is one event of the account, whether or not a subscription wants it.
type Event struct {
	ID, Type   string
	IncidentID string // Empty for a ping and for events of services.
	At         time.Time
	By         Agent
	Body       []byte // The exact bytes that are signed and sent.
}

// emit announces what happened to an incident. A nil data is the incident
// itself, as it is now.
func (a *account) emit(i *incident, kind string, by Agent, data object) {
	if data == nil {
		data = a.webhookIncident(i)
	}
	a.publish(i, happening{kind, by, i.Client, data})
}

// publish gives an event its envelope and queues it for the subscriptions that
// want it. i is nil for what is of no incident.
func (s *Server) publish(i *incident, h happening) {
	e := s.envelope(i, h)
	s.events = append(s.events, e)
	for _, sub := range s.subs {
		if s.wants(sub, i, h.kind) {
			s.queue(sub, e)
		}
	}
}

func (s *Server) envelope(i *incident, h happening) Event {
	now := s.acct.now()
	resource, _, _ := strings.Cut(h.kind, ".")
	var client any
	if h.client.Name != "" {
		c := object{"name": h.client.Name}
		if h.client.URL != "" {
			c["url"] = h.client.URL
		}
		client = c
	}
	e := Event{ID: newID("01", 26), Type: h.kind, At: now, By: h.by}
	if i != nil {
		e.IncidentID = i.ID
	}
	body, err := json.Marshal(object{"event": object{
		"id": e.ID, "event_type": h.kind, "resource_type": resource,
		"occurred_at": now.Format("2006-01-02T15:04:05.000Z"),
		"agent":       s.acct.agentRef(h.by), "client": client, "data": h.data,
	}})
	if err != nil {
		// Only custom details that are no JSON values could do this, and webhooks
		// have none.
		body = []byte(`{"event":null}`)
	}
	e.Body = body
	return e
}

func (s *Server) wants(sub *subscription, i *incident, kind string) bool {
	if !sub.Active || s.acct.now().Before(sub.DisabledUntil) {
		return false
	}
	// A type that no subscription can ask for is one that PagerDuty added since:
	// it comes to everybody.
	if !slices.Contains(sub.Events, kind) && slices.Contains(eventTypes, kind) {
		return false
	}
	if i == nil {
		return true
	}
	switch sub.FilterType {
	case serviceFilter:
		return sub.FilterID == i.ServiceID
	case teamFilter:
		svc := s.acct.service(i.ServiceID)
		return svc != nil && svc.TeamID != "" && svc.TeamID == sub.FilterID
	default:
		return true
	}
}
