package pagerduty

import (
	"encoding/json"
	"net/http"
	"time"
)

// ChangeEvent is what /v2/change/enqueue took.
type ChangeEvent struct {
	At        time.Time
	ServiceID string
	Summary   string
	Details   any
}

type enqueueBody struct {
	RoutingKey  string  `json:"routing_key"`
	EventAction string  `json:"event_action"`
	DedupKey    string  `json:"dedup_key"`
	Client      string  `json:"client"`
	ClientURL   string  `json:"client_url"`
	Payload     payload `json:"payload"`
}

type payload struct {
	Summary       string `json:"summary"`
	Source        string `json:"source"`
	Severity      string `json:"severity"`
	CustomDetails any    `json:"custom_details"`
}

// The Events API's own limits.
const (
	maxDedupKey  = 255
	maxSummary   = 1024
	maxEventSize = 512 << 10
)

// problems lists what is wrong with an event, in the order of its fields.
func (b enqueueBody) problems() []string {
	var p []string
	if b.RoutingKey == "" {
		p = append(p, "routing_key: missing")
	}
	if len(b.DedupKey) > maxDedupKey {
		p = append(p, "dedup_key: over 255 characters")
	}
	switch b.EventAction {
	case "trigger":
		if b.Payload.Summary == "" {
			p = append(p, "payload.summary: missing")
		}
		if len(b.Payload.Summary) > maxSummary {
			p = append(p, "payload.summary: over 1024 characters")
		}
		if b.Payload.Source == "" {
			p = append(p, "payload.source: missing")
		}
		switch b.Payload.Severity {
		case "info", "warning", "error", "critical":
		default:
			p = append(p, "payload.severity: not one of critical, error, warning, info")
		}
	case "acknowledge", "resolve":
		if b.DedupKey == "" {
			p = append(p, "dedup_key: missing")
		}
	default:
		p = append(p, "event_action: not one of trigger, acknowledge, resolve")
	}
	return p
}

// enqueue takes events of monitoring: POST /v2/enqueue.
func (s *Server) enqueue(w http.ResponseWriter, r *http.Request) {
	var b enqueueBody
	if !readEvent(w, r, &b) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	problems := b.problems()
	svc := s.acct.serviceByKey(b.RoutingKey)
	if svc == nil && b.RoutingKey != "" {
		problems = append(problems, "routing_key: unknown")
	}
	if len(problems) > 0 {
		invalidEvent(w, problems...)
		return
	}
	if !s.spendEvent(w, b.RoutingKey) {
		return
	}
	switch b.EventAction {
	case "trigger":
		_, alert := s.acct.fire(svc, signal{
			Alert:  Alert{Key: b.DedupKey, Summary: b.Payload.Summary, Severity: b.Payload.Severity, Details: b.Payload.CustomDetails},
			Client: Client{b.Client, b.ClientURL},
		})
		b.DedupKey = alert.Key
	case "acknowledge":
		if i, _ := s.acct.openAlert(svc, b.DedupKey); i != nil {
			s.acct.acknowledge(i, act{byMonitoring(svc), viaEvents})
		}
	case "resolve":
		s.acct.clearAlert(svc, b.DedupKey)
	}
	s.changes.Tell()
	answerEvent(w, http.StatusAccepted, object{"status": "success", "message": "Event processed", "dedup_key": b.DedupKey})
}

// enqueueChange takes change events: POST /v2/change/enqueue. They page nobody.
func (s *Server) enqueueChange(w http.ResponseWriter, r *http.Request) {
	var b struct {
		RoutingKey string  `json:"routing_key"`
		Payload    payload `json:"payload"`
	}
	if !readEvent(w, r, &b) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	svc := s.acct.serviceByKey(b.RoutingKey)
	if svc == nil {
		invalidEvent(w, "routing_key: unknown")
		return
	}
	if b.Payload.Summary == "" {
		invalidEvent(w, "payload.summary: missing")
		return
	}
	if !s.spendEvent(w, b.RoutingKey) {
		return
	}
	s.acct.changes = append(s.acct.changes, ChangeEvent{s.acct.now(), svc.ID, b.Payload.Summary, b.Payload.CustomDetails})
	s.changes.Tell()
	answerEvent(w, http.StatusAccepted, object{"status": "success", "message": "Change event processed"})
}

func readEvent(w http.ResponseWriter, r *http.Request, v any) bool {
	if r.ContentLength > maxEventSize {
		answerEvent(w, http.StatusRequestEntityTooLarge, object{"status": "invalid event", "message": "Event is too large", "errors": []string{"maximum is 512 KB"}})
		return false
	}
	if err := json.NewDecoder(r.Body).Decode(v); err != nil {
		invalidEvent(w, "the body is not a JSON object")
		return false
	}
	return true
}

// spendEvent counts against the routing key's own limit.
func (s *Server) spendEvent(w http.ResponseWriter, routingKey string) bool {
	if _, _, _, ok := s.take("events "+routingKey, s.opts.EventsRateLimit); !ok {
		answerEvent(w, http.StatusTooManyRequests, object{"status": "throttle exceeded", "message": "Too many events for this key"})
		return false
	}
	return true
}

func invalidEvent(w http.ResponseWriter, problems ...string) {
	answerEvent(w, http.StatusBadRequest, object{"status": "invalid event", "message": "Event object is invalid", "errors": problems})
}

func answerEvent(w http.ResponseWriter, status int, body object) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}
