package incident

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestGetIncident(t *testing.T) {
	t.Parallel()
	s := newStandIn(t, answerWith(200, `{"incident":{
		"id":"QTEST0000001","type":"incident","incident_number":"41","title":"a title","status":"acknowledged","urgency":"high",
		"html_url":"https://pd.test/incidents/QTEST0000001","incident_key":null,"created_at":"2026-03-04T06:00:00+01:00",
		"last_status_change_at":"2026-03-04T05:01:00Z","last_status_change_by":{"id":"PHUMAN1","type":"user_reference","summary":"Ada"},
		"assigned_via":"escalation_policy","assignments":[{"at":"2026-03-04T05:00:00Z","assignee":{"id":"PHUMAN1","type":"user","email":"ada@pd.test"}}],
		"acknowledgements":[{"at":"2026-03-04T05:01:00Z","acknowledger":{"id":"PHUMAN1","type":"user"}}],
		"pending_actions":[{"type":"unacknowledge","at":"2026-03-04T05:31:00Z"}],
		"service":{"id":"PSVC001","type":"service","summary":"Carriers","status":"maintenance","acknowledgement_timeout":1800,"auto_resolve_timeout":null},
		"escalation_policy":{"id":"PPOL001","type":"escalation_policy","name":"Ops","summary":null,
			"escalation_rules":[{"targets":[{"id":"PBOT001","type":"user_reference"}]},{"targets":[{"id":"PHUMAN1","type":"user_reference"}]}]},
		"body":{"type":"incident_body","details":{"an":"object"}},"resolve_reason":{"type":"merge_resolve_reason","incident":{"id":"QTEST0000002"}},
		"alert_counts":{"all":3,"triggered":2,"resolved":1},"priority":null}}`))
	c, _ := newTestClient(t, s.server.URL)
	got, err := c.GetIncident(t.Context(), testID)
	if err != nil {
		t.Fatal(err)
	}
	at := func(minute int) time.Time { return time.Date(2026, 3, 4, 5, minute, 0, 0, time.UTC) }
	ada := Ref{ID: "PHUMAN1", Type: "user"}
	want := Incident{
		ID: testID, Number: 41, Title: "a title", Status: StatusAcknowledged, Urgency: "high", URL: "https://pd.test/incidents/QTEST0000001",
		Service:            Service{Ref: Ref{ID: "PSVC001", Type: "service", Summary: "Carriers"}, Status: "maintenance", AcknowledgementTimeout: 30 * time.Minute},
		EscalationPolicy:   EscalationPolicy{Ref: Ref{ID: "PPOL001", Type: "escalation_policy", Summary: "Ops"}, Levels: [][]Ref{{{ID: "PBOT001", Type: "user_reference"}}, {{ID: "PHUMAN1", Type: "user_reference"}}}},
		CreatedAt:          at(0),
		LastStatusChangeAt: at(1), LastStatusChangeBy: Ref{ID: "PHUMAN1", Type: "user_reference", Summary: "Ada"},
		AssignedVia: "escalation_policy", Assignments: []Assignment{{ada, at(0)}}, Acknowledgements: []Acknowledgement{{ada, at(1)}},
		PendingActions: []PendingAction{{"unacknowledge", at(31)}},
		ResolveReason:  mergeResolveReason, MergedInto: "QTEST0000002", AlertCount: 3,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("GetIncident() (-want +got):\n%s", diff)
	}
	if level, ok := EscalationLevel(got); level != 2 || !ok {
		t.Errorf("EscalationLevel() = %d, %v, want 2", level, ok)
	}
	if call := s.seen()[0]; call.Path != "/incidents/"+testID || call.From != "" || !strings.Contains(call.Query, url.QueryEscape("include[]")+"=escalation_policies") {
		t.Errorf("request = %+v", call)
	}
}

// PagerDuty answers an incident's number with the incident. An id is asked for here, so it is not there; any other incident
// than the one that was asked for is an answer that can not be used.
func TestGetIncidentByNumber(t *testing.T) {
	t.Parallel()
	s := newStandIn(t, answerWith(200, `{"incident":{"id":"QTEST0000001","incident_number":41,"title":"t","status":"triggered",
		"created_at":"2026-03-04T06:00:00Z"}}`))
	c, _ := newTestClient(t, s.server.URL)
	if _, err := c.GetIncident(t.Context(), "41"); !errors.Is(err, ErrNotFound) {
		t.Errorf("by number: %v, want ErrNotFound", err)
	}
	if _, err := c.GetIncident(t.Context(), "42"); err == nil || errors.Is(err, ErrNotFound) {
		t.Errorf("another incident: %v, want another error than ErrNotFound", err)
	}
}

// What can not be read is an error, never an empty answer.
func TestUnreadableAnswers(t *testing.T) {
	t.Parallel()
	incident := func(more string) string {
		return `{"incident":{"id":"QTEST0000001","status":"triggered"` + more + `}}`
	}
	tests := []struct{ name, body string }{
		{"not JSON", `<html>`},
		{"empty", ``},
		{"no incident", `{}`},
		{"no status", `{"incident":{"id":"QTEST0000001"}}`},
		{"status of the future", `{"incident":{"id":"QTEST0000001","status":"levitating"}}`},
		{"another incident", `{"incident":{"id":"QTEST0000002","status":"triggered"}}`},
		{"acknowledgements of an odd shape", incident(`,"acknowledgements":{"at":"x"}`)},
		{"time of an odd shape", incident(`,"created_at":"yesterday"`)},
		{"number of an odd shape", incident(`,"incident_number":"many"`)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newStandIn(t, answerWith(200, tt.body))
			c, _ := newTestClient(t, s.server.URL)
			if in, err := c.GetIncident(t.Context(), testID); !errors.Is(err, ErrUnavailable) {
				t.Errorf("GetIncident() = %+v, %v, want %v", in, err, ErrUnavailable)
			}
		})
	}
	lists := []struct{ name, body string }{
		{"no list", `{}`},
		{"a list of an odd shape", `{"alerts":{},"notes":{},"log_entries":{},"incidents":{}}`},
		{"a row of an odd shape", `{"alerts":[5],"notes":[5],"log_entries":[5],"incidents":[5]}`},
	}
	for _, tt := range lists {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newStandIn(t, answerWith(200, tt.body))
			c, _ := newTestClient(t, s.server.URL)
			_, alerts := c.ListAlerts(t.Context(), testID)
			_, notes := c.ListNotes(t.Context(), testID)
			_, entries := c.LogEntries(t.Context(), testID, time.Time{})
			_, incidents := c.OpenIncidents(t.Context(), nil)
			for i, err := range []error{alerts, notes, entries, incidents} {
				if !errors.Is(err, ErrUnavailable) {
					t.Errorf("list %d: error = %v, want %v", i, err, ErrUnavailable)
				}
			}
		})
	}
}

func TestOpenIncidents(t *testing.T) {
	t.Parallel()
	var rows []any
	for i := range 57 {
		rows = append(rows, map[string]any{"id": fmt.Sprintf("QTEST%07d", i), "status": "triggered", "incident_number": i})
	}
	rows = append(rows, rows[56]) // pages that shift show a row twice
	s := newStandIn(t, pageOf(t, "incidents", rows, 25))
	c, _ := newTestClient(t, s.server.URL)
	got, err := c.OpenIncidents(t.Context(), []string{"PSVC001", "PSVC002"})
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 57 || got[56].Number != 56 {
		t.Errorf("%d incidents, want 57", len(got))
	}
	calls := s.seen()
	if len(calls) != 3 {
		t.Fatalf("%d requests, want 3", len(calls))
	}
	q, err := url.ParseQuery(calls[2].Query)
	if err != nil {
		t.Fatal(err)
	}
	want := url.Values{
		"statuses[]": {"triggered", "acknowledged"}, "date_range": {"all"}, "sort_by": {"created_at:asc"},
		"service_ids[]": {"PSVC001", "PSVC002"}, "limit": {"100"}, "offset": {"50"},
	}
	if diff := cmp.Diff(want, q); diff != "" {
		t.Errorf("query of the last page (-want +got):\n%s", diff)
	}
}

func TestPagingEnds(t *testing.T) {
	t.Parallel()
	t.Run("an empty page that promises more", func(t *testing.T) {
		t.Parallel()
		s := newStandIn(t, answerWith(200, `{"alerts":[],"more":true}`))
		c, _ := newTestClient(t, s.server.URL)
		if _, err := c.ListAlerts(t.Context(), testID); !errors.Is(err, ErrUnavailable) {
			t.Errorf("error = %v, want %v", err, ErrUnavailable)
		}
	})
	t.Run("more than PagerDuty pages", func(t *testing.T) {
		t.Parallel()
		page := `{"alerts":[` + strings.Repeat(`{"id":"PALERT1"},`, 4999) + `{"id":"PALERT1"}],"more":true}`
		s := newStandIn(t, answerWith(200, page))
		c, _ := newTestClient(t, s.server.URL)
		if _, err := c.ListAlerts(t.Context(), testID); !errors.Is(err, ErrInvalid) {
			t.Errorf("error = %v, want %v", err, ErrInvalid)
		}
		if n := len(s.seen()); n != 2 {
			t.Errorf("%d requests, want 2", n)
		}
	})
	t.Run("a later page fails", func(t *testing.T) {
		t.Parallel()
		s := newStandIn(t, answerWith(200, `{"alerts":[{"id":"PALERT1"}],"more":true}`), answerWith(403, `{}`))
		c, _ := newTestClient(t, s.server.URL)
		if got, err := c.ListAlerts(t.Context(), testID); !errors.Is(err, ErrUnauthorized) || got != nil {
			t.Errorf("ListAlerts() = %v, %v, want no alerts and %v", got, err, ErrUnauthorized)
		}
	})
}

func TestListAlerts(t *testing.T) {
	t.Parallel()
	s := newStandIn(t, answerWith(200, `{"alerts":[
		{"id":"PALERT1","alert_key":"k1","summary":"s","status":"triggered","severity":"critical","suppressed":false,"created_at":"2026-03-04T05:00:00Z",
		 "body":{"type":"alert_body","contexts":[],"details":{"daemonset":"node-exporter"},"cef_details":{"details":{"daemonset":"other"}}}},
		{"id":"PALERT2","status":"resolved","body":{"details":"daemonset: x"}},
		{"id":"PALERT3","body":{"details":null,"cef_details":{"details":{"daemonset":"y"}}}},
		{"id":"PALERT4","body":null}],"more":false}`))
	c, _ := newTestClient(t, s.server.URL)
	got, err := c.ListAlerts(t.Context(), testID)
	if err != nil {
		t.Fatal(err)
	}
	want := []Alert{
		{ID: "PALERT1", Key: "k1", Summary: "s", Status: "triggered", Severity: "critical", CreatedAt: time.Date(2026, 3, 4, 5, 0, 0, 0, time.UTC), Details: map[string]any{"daemonset": "node-exporter"}},
		{ID: "PALERT2", Status: "resolved", Details: "daemonset: x"},
		{ID: "PALERT3", Details: map[string]any{"daemonset": "y"}},
		{ID: "PALERT4"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("ListAlerts() (-want +got):\n%s", diff)
	}
}

func TestListNotes(t *testing.T) {
	t.Parallel()
	s := newStandIn(t, answerWith(200, `{"notes":[
		{"id":"PNOTE02","content":"two","user":{"id":"PBOT001","type":"bot_user_reference"},"created_at":"2026-03-04T05:02:00Z"},
		{"id":"PNOTE01","content":"one","user":null,"created_at":"2026-03-04T05:01:00Z","channel":{"type":null}}]}`))
	c, _ := newTestClient(t, s.server.URL)
	got, err := c.ListNotes(t.Context(), testID)
	if err != nil {
		t.Fatal(err)
	}
	want := []Note{
		{ID: "PNOTE01", Content: "one", CreatedAt: time.Date(2026, 3, 4, 5, 1, 0, 0, time.UTC)},
		{ID: "PNOTE02", Content: "two", User: Ref{ID: "PBOT001", Type: "bot_user_reference"}, CreatedAt: time.Date(2026, 3, 4, 5, 2, 0, 0, time.UTC)},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("ListNotes() (-want +got):\n%s", diff)
	}
}

func TestLogEntries(t *testing.T) {
	t.Parallel()
	s := newStandIn(t, answerWith(200, `{"log_entries":[
		{"id":"R2","type":"acknowledge_log_entry","agent":{"id":"PHUMAN1","type":"user_reference"},"created_at":"2026-03-04T05:02:00Z","channel":{"type":null}},
		{"id":"R1","type":"trigger_log_entry","agent":null,"created_at":"2026-03-04T05:01:00Z","event_details":{"n":5}},
		{"id":"R2","type":"acknowledge_log_entry","agent":{"id":"PHUMAN1","type":"user_reference"},"created_at":"2026-03-04T05:02:00Z"}],"more":false}`))
	c, _ := newTestClient(t, s.server.URL)
	got, err := c.LogEntries(t.Context(), testID, time.Date(2026, 3, 4, 6, 0, 0, 999, time.FixedZone("", 3600)))
	if err != nil {
		t.Fatal(err)
	}
	want := []LogEntry{
		{ID: "R1", Type: "trigger_log_entry", CreatedAt: time.Date(2026, 3, 4, 5, 1, 0, 0, time.UTC)},
		{ID: "R2", Type: "acknowledge_log_entry", Agent: Ref{ID: "PHUMAN1", Type: "user_reference"}, CreatedAt: time.Date(2026, 3, 4, 5, 2, 0, 0, time.UTC)},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("LogEntries() (-want +got):\n%s", diff)
	}
	if q, err := url.ParseQuery(s.seen()[0].Query); err != nil || q.Get("since") != "2026-03-04T05:00:00Z" {
		t.Errorf("since = %q (%v)", q.Get("since"), err)
	}
}

func TestEscalationPolicy(t *testing.T) {
	t.Parallel()
	s := newStandIn(t,
		answerWith(200, `{"escalation_policy":{"id":"PPOL001","name":"Ops","escalation_rules":[{"targets":[{"id":"PBOT001"}]},{"targets":[]}]}}`),
		answerWith(200, `{"escalation_policy":{"id":"PPOL001"}}`))
	c, _ := newTestClient(t, s.server.URL)
	got, err := c.EscalationPolicy(t.Context(), "PPOL001")
	if err != nil || len(got.Levels) != 2 || got.Summary != "Ops" {
		t.Errorf("EscalationPolicy() = %+v, %v, want 2 levels", got, err)
	}
	if _, err := c.EscalationPolicy(t.Context(), "PPOL001"); !errors.Is(err, ErrUnavailable) {
		t.Errorf("without levels: error = %v, want %v", err, ErrUnavailable)
	}
}

func TestBotUser(t *testing.T) {
	t.Parallel()
	me := answerWith(200, `{"user":{"id":"PBOT001","name":"Automation","email":"bot@pd.test"}}`)
	notAUser := answerWith(400, `{"error":{"message":"a user token is needed"}}`)
	listed := answerWith(200, `{"users":[{"id":"PHUMAN1","email":"robot@pd.test"},{"id":"PBOT001","name":"Automation","email":"Bot@PD.test"}],"more":false}`)
	tests := []struct {
		name    string
		answers []http.HandlerFunc
		want    error
	}{
		{"user key", []http.HandlerFunc{me}, nil},
		{"account key", []http.HandlerFunc{notAUser, listed}, nil},
		{"account key, 403", []http.HandlerFunc{answerWith(403, `{}`), listed}, nil},
		{"no such user", []http.HandlerFunc{notAUser, answerWith(200, `{"users":[{"id":"PHUMAN1","email":"robot@pd.test"}]}`)}, ErrNotFound},
		{"wrong token", []http.HandlerFunc{answerWith(401, `{}`), listed}, ErrUnauthorized},
		{"down", []http.HandlerFunc{answerWith(500, `{}`)}, ErrUnavailable},
		{"an answer without a user", []http.HandlerFunc{answerWith(200, `{}`)}, ErrUnavailable},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newStandIn(t, tt.answers...)
			c, _ := newTestClient(t, s.server.URL)
			got, err := c.BotUser(t.Context())
			if !errors.Is(err, tt.want) || (err == nil && got.ID != "PBOT001") {
				t.Errorf("BotUser() = %+v, %v, want %v", got, err, tt.want)
			}
		})
	}
}
