package api_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/drydock/drydock/api"
	"github.com/drydock/drydock/playbook"
)

func event(kind, title string) string {
	return fmt.Sprintf(`{"event":{"id":"01EVENT","event_type":%q,"resource_type":"incident","occurred_at":"2026-11-22T03:00:00.000Z",
		"agent":null,"client":null,"data":{"id":"QTEST0000001","type":"incident","number":3786454,"status":"triggered",
		"title":%q,"html_url":"https://example.pagerduty.com/incidents/QTEST0000001"}}}`, kind, title)
}

// PagerDuty waits 5 s: a database that is stuck is answered for before that.
func TestWebhookAnswersBeforeTheSenderGivesUp(t *testing.T) {
	t.Parallel()
	var left time.Duration
	s := newServer(t, func(o *api.Options) { o.Intake = stuck{&left} })
	body := event("incident.triggered", runTitle)
	r := request{method: "POST", path: "/webhooks/pagerduty", body: body, header: map[string]string{"X-PagerDuty-Signature": sign(body)}}
	s.wantProblem(t, r, 503, "database-unavailable")
	if left <= 0 || left > 4*time.Second {
		t.Errorf("the database had %s, want at most 4s", left)
	}
}

// stuck notes how long it might have taken, and fails.
type stuck struct{ left *time.Duration }

func (s stuck) Accept(ctx context.Context, _ playbook.Arrival) (playbook.EventRecord, error) {
	deadline, _ := ctx.Deadline()
	*s.left = time.Until(deadline)
	return playbook.EventRecord{}, context.DeadlineExceeded
}

func TestWebhook(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		body    string
		request func(*request)
		fake    func(*fakes)
		status  int
		problem string
		arrival func(t *testing.T, a playbook.Arrival)
	}{
		"starts a run": {
			body: event("incident.triggered", "#3786454: "+runTitle), status: 202,
			arrival: func(t *testing.T, a playbook.Arrival) {
				if a.Start == nil || a.Start.Target != target || a.Start.RunID != "run-1" || a.Start.Trigger != playbook.TriggerWebhook ||
					a.Start.Mode != playbook.ModeAct || a.Start.Deadline != 45*time.Minute || a.Start.Incident.ID != "QTEST0000001" ||
					a.Start.Incident.Number != 3786454 || a.WebhookID != "wh-1" || a.EventID != "01EVENT" || a.IncidentID != "QTEST0000001" ||
					len(a.Payload) == 0 {
					t.Errorf("arrival %+v, start %+v", a, a.Start)
				}
			},
		},
		"a delivery id too long for an index is kept as its hash": {
			body: event("incident.triggered", runTitle), status: 202,
			request: func(r *request) { r.header["X-Webhook-Id"] = strings.Repeat("x", 5000) },
			arrival: func(t *testing.T, a playbook.Arrival) {
				if !strings.HasPrefix(a.WebhookID, "sha256:") || len(a.WebhookID) != 71 {
					t.Errorf("webhook id %q", a.WebhookID)
				}
			},
		},
		"address with a slash too many": {
			body: event("incident.triggered", runTitle), status: 202, request: func(r *request) { r.path += "/" },
		},
		"reopened starts too": {
			body: event("incident.reopened", runTitle), status: 202,
			arrival: func(t *testing.T, a playbook.Arrival) {
				if a.Start == nil {
					t.Errorf("no start: %s", a.Reason)
				}
			},
		},
		"signature among others, with spaces": {
			body: event("incident.triggered", runTitle), status: 202,
			request: func(r *request) {
				r.header["X-PagerDuty-Signature"] = "v1=" + strings.Repeat("0", 64) + " , " + r.header["X-PagerDuty-Signature"]
			},
		},
		"other types are recorded": {
			body: event("incident.acknowledged", runTitle), status: 202, arrival: ignored("event type incident.acknowledged starts no run"),
		},
		"unknown types are recorded": {
			body: event("incident.sung_to", runTitle), status: 202, arrival: ignored("event type incident.sung_to starts no run"),
		},
		"ping": {
			body: `{"event":{"id":"01P","event_type":"pagey.ping","resource_type":"pagey","data":{"type":"ping","message":"hello"}}}`, status: 202,
			arrival: ignored("event is not about an incident"),
		},
		"unmatched title":                    {body: event("incident.triggered", "the coffee machine is empty"), status: 202, arrival: ignored("no rule matches the title")},
		"unknown carrier":                    {body: event("incident.triggered", strings.Replace(runTitle, "carrier3", "carrier9", 1)), status: 202, arrival: ignored("carrier prod-dal10-carrier9 is not configured")},
		"title that needs details":           {body: event("incident.triggered", "[FIRING:1] KubeDaemonSetRolloutStuck"), status: 202, arrival: lookedUp},
		"DaemonSet without a namespace":      {body: event("incident.triggered", strings.Replace(runTitle, "node-exporter", "unlisted", 1)), status: 202, arrival: lookedUp},
		"JSON that is no event":              {body: `{"hello":1}`, status: 202, arrival: ignored("body has no event")},
		"webhook V2":                         {body: `{"messages":[{"event":"incident.trigger"}]}`, status: 202, arrival: ignored("webhook V2 is deprecated and unsigned: use a V3 subscription")},
		"wrong signature":                    {body: event("incident.triggered", runTitle), request: signature("v1=" + strings.Repeat("0", 64)), status: 401, problem: "bad-signature"},
		"no signature":                       {body: event("incident.triggered", runTitle), request: signature(""), status: 401, problem: "bad-signature"},
		"wrong signature on what is no JSON": {body: `{`, request: signature("v1=00"), status: 401, problem: "bad-signature"},
		"not JSON":                           {body: `{"event":`, status: 400, problem: "not-json"},
		"empty":                              {body: ``, status: 400, problem: "not-json"},
		"2 MiB":                              {body: `{"x":"` + strings.Repeat("a", 2<<20) + `"}`, status: 413, problem: "too-large"},
		"database down": {
			body: event("incident.triggered", runTitle), fake: func(f *fakes) { f.acceptErr = errors.New("dial tcp 10.0.0.5: refused") },
			status: 503, problem: "database-unavailable",
		},
		"event orchestration with an operator's token": {
			body: `{"__pd_metadata":{"incident":{"id":"QTEST0000001"}},"anything":1}`, request: bearer("operator"), status: 202, arrival: lookedUp,
		},
		"event orchestration with a viewer's token": {
			body: `{"__pd_metadata":{"incident":{"id":"QTEST0000001"}}}`, request: bearer("viewer"), status: 403, problem: "forbidden",
		},
		"event orchestration with a wrong token": {
			body: `{"__pd_metadata":{"incident":{"id":"QTEST0000001"}}}`, request: bearer("nobody"), status: 401, problem: "unauthenticated",
		},
		"event orchestration with nothing": {
			body: `{"__pd_metadata":{"incident":{"id":"QTEST0000001"}}}`, request: signature(""), status: 401, problem: "bad-signature",
		},
		"a token does not stand in for a V3 signature": {
			body: event("incident.triggered", runTitle), request: bearer("admin"), status: 401, problem: "bad-signature",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			if tt.fake != nil {
				tt.fake(s.fakes)
			}
			r := request{method: "POST", path: "/webhooks/pagerduty", body: tt.body,
				header: map[string]string{"X-PagerDuty-Signature": sign(tt.body), "X-Webhook-Id": "wh-1"}}
			if tt.request != nil {
				tt.request(&r)
			}
			if tt.problem != "" {
				s.wantProblem(t, r, tt.status, tt.problem)
				if len(s.arrivals) != 0 {
					t.Errorf("stored %d arrivals of a refused webhook", len(s.arrivals))
				}
				return
			}
			w := s.do(r)
			if w.Code != tt.status {
				t.Fatalf("status %d, want %d: %s", w.Code, tt.status, w.Body)
			}
			if len(s.arrivals) != 1 {
				t.Fatalf("stored %d arrivals", len(s.arrivals))
			}
			if tt.arrival != nil {
				tt.arrival(t, s.arrivals[0])
			}
		})
	}
}

func ignored(reason string) func(*testing.T, playbook.Arrival) {
	return func(t *testing.T, a playbook.Arrival) {
		if a.Start != nil || a.LookUp || a.Reason != reason {
			t.Errorf("got %+v, want it ignored because %q", a, reason)
		}
	}
}

func lookedUp(t *testing.T, a playbook.Arrival) {
	if a.Start != nil || !a.LookUp {
		t.Errorf("got %+v, want a look-up", a)
	}
}

func signature(value string) func(*request) {
	return func(r *request) {
		delete(r.header, "X-PagerDuty-Signature")
		if value != "" {
			r.header["X-PagerDuty-Signature"] = value
		}
	}
}

func bearer(token string) func(*request) {
	return func(r *request) {
		delete(r.header, "X-PagerDuty-Signature")
		r.token = token
	}
}

func TestThreeBadSignaturesRaiseTheAlarm(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	bad := request{method: "POST", path: "/webhooks/pagerduty", body: "{}", header: map[string]string{"X-PagerDuty-Signature": "v1=00"}}
	for range 3 {
		s.do(bad)
	}
	good := event("incident.triggered", runTitle)
	s.do(request{method: "POST", path: "/webhooks/pagerduty", body: good, header: map[string]string{"X-PagerDuty-Signature": sign(good)}})
	if len(s.alarms) != 2 || !s.alarms[0] || s.alarms[1] {
		t.Errorf("alarms %v, want raised and over", s.alarms)
	}
	metrics := s.do(request{method: "GET", path: "/metrics"}).Body.String()
	if !strings.Contains(metrics, "drydock_webhook_bad_signatures_total 3") {
		t.Error("metric does not count the refusals")
	}
	for line := range strings.Lines(metrics) {
		if !strings.HasPrefix(line, "#") && !strings.HasPrefix(line, "drydock_") {
			t.Errorf("metric has another prefix: %s", line)
		}
	}
}
