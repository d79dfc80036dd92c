package incident

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func TestWrites(t *testing.T) {
	t.Parallel()
	const noted = `{"note":{"id":"PNOTE01","content":"hello"}}`
	put := func(fields string) string {
		return `{"incidents":[{"id":"QTEST0000001","type":"incident_reference",` + fields + `}]}`
	}
	tests := []struct {
		name   string
		answer string
		do     func(context.Context, *Client) error
		want   call
	}{
		{
			"create note", noted, func(ctx context.Context, c *Client) error {
				_, err := c.CreateNote(ctx, testID, "hel\u202elo")
				return err
			},
			call{Method: "POST", Path: "/incidents/QTEST0000001/notes", Body: `{"note":{"content":"hello"}}`},
		},
		{
			"edit note", noted, func(ctx context.Context, c *Client) error {
				_, err := c.UpdateNote(ctx, testID, "PNOTE01", "hello")
				return err
			},
			call{Method: "PUT", Path: "/incidents/QTEST0000001/notes/PNOTE01", Body: `{"note":{"content":"hello"}}`},
		},
		{
			"resolve", `{}`, func(ctx context.Context, c *Client) error { return c.Resolve(ctx, testID) },
			call{Method: "PUT", Path: "/incidents", Body: put(`"status":"resolved"`)},
		},
		{
			"escalate to level", `{}`, func(ctx context.Context, c *Client) error { return c.EscalateToLevel(ctx, testID, 2) },
			call{Method: "PUT", Path: "/incidents", Body: put(`"escalation_level":2`)},
		},
		{
			"escalate to policy", `not JSON, which does not matter`, func(ctx context.Context, c *Client) error { return c.EscalateToPolicy(ctx, testID, "PPOL001") },
			call{Method: "PUT", Path: "/incidents", Body: put(`"escalation_policy":{"id":"PPOL001","type":"escalation_policy_reference"}`)},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newStandIn(t, answerWith(200, tt.answer))
			c, _ := newTestClient(t, s.server.URL)
			if err := tt.do(t.Context(), c); err != nil {
				t.Fatal(err)
			}
			tt.want.From, tt.want.Auth = "bot@pd.test", "Token token=sesame"
			if diff := cmp.Diff([]call{tt.want}, s.seen()); diff != "" {
				t.Errorf("requests (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAcknowledge(t *testing.T) {
	t.Parallel()
	t.Run("an open incident", func(t *testing.T) {
		t.Parallel()
		s := newStandIn(t, answerWith(200, openIncident), answerWith(200, `{}`))
		c, _ := newTestClient(t, s.server.URL)
		if err := c.Acknowledge(t.Context(), testID); err != nil {
			t.Fatal(err)
		}
		if calls := s.seen(); len(calls) != 2 || !strings.Contains(calls[1].Body, `"status":"acknowledged"`) {
			t.Errorf("requests = %+v", calls)
		}
	})
	t.Run("a resolved one is not reopened", func(t *testing.T) {
		t.Parallel()
		s := newStandIn(t, answerWith(200, strings.Replace(openIncident, "triggered", "resolved", 1)))
		c, _ := newTestClient(t, s.server.URL)
		if err := c.Acknowledge(t.Context(), testID); !errors.Is(err, ErrAlreadyResolved) {
			t.Errorf("error = %v, want %v", err, ErrAlreadyResolved)
		}
		if n := len(s.seen()); n != 1 {
			t.Errorf("%d requests, want the read alone", n)
		}
	})
	t.Run("acknowledged already", func(t *testing.T) {
		t.Parallel()
		s := newStandIn(t, answerWith(200, openIncident), answerWith(400, `{"error":{"message":"Incident Already Acknowledged","code":1002}}`))
		c, _ := newTestClient(t, s.server.URL)
		if err := c.Acknowledge(t.Context(), testID); err != nil {
			t.Errorf("error = %v, want none", err)
		}
	})
	t.Run("is not sent again after a lost answer", func(t *testing.T) {
		t.Parallel()
		s := newStandIn(t, answerWith(200, openIncident), hangUp)
		c, _ := newTestClient(t, s.server.URL)
		if err := c.Acknowledge(t.Context(), testID); !errors.Is(err, ErrAmbiguous) {
			t.Errorf("error = %v, want %v", err, ErrAmbiguous)
		}
		if n := len(s.seen()); n != 2 {
			t.Errorf("%d requests, want 2", n)
		}
	})
}

func TestAlreadyResolved(t *testing.T) {
	t.Parallel()
	for _, body := range []string{
		`{"error":{"message":"Invalid Input Provided","code":2001,"errors":["Incident Already Resolved"]}}`,
		`{"error":{"message":"Incident Already Resolved","code":1001}}`,
		`{"error":{"message":"no","code":"1001"}}`,
	} {
		s := newStandIn(t, answerWith(400, body))
		c, _ := newTestClient(t, s.server.URL)
		if err := c.Resolve(t.Context(), testID); err != nil {
			t.Errorf("Resolve() after %s: %v, want success", body, err)
		}
		if err := c.EscalateToPolicy(t.Context(), testID, "PPOL001"); !errors.Is(err, ErrAlreadyResolved) {
			t.Errorf("EscalateToPolicy() after %s: %v, want %v", body, err, ErrAlreadyResolved)
		}
	}
}

func TestNoteEdges(t *testing.T) {
	t.Parallel()
	for status, editable := range map[int]bool{404: false, 405: false, 400: true, 403: true} {
		s := newStandIn(t, answerWith(status, `{}`))
		c, _ := newTestClient(t, s.server.URL)
		if _, err := c.UpdateNote(t.Context(), testID, "PNOTE01", "x"); err == nil || errors.Is(err, ErrNotEditable) == editable {
			t.Errorf("UpdateNote() on %d: error = %v, want not editable: %v", status, err, !editable)
		}
	}
	s := newStandIn(t, answerWith(200, `{}`))
	c, _ := newTestClient(t, s.server.URL)
	if _, err := c.CreateNote(t.Context(), testID, " \x00\u202e\n"); !errors.Is(err, ErrInvalid) {
		t.Errorf("an empty note: error = %v, want %v", err, ErrInvalid)
	}
	if err := c.EscalateToLevel(t.Context(), testID, 0); !errors.Is(err, ErrInvalid) {
		t.Errorf("level 0: error = %v, want %v", err, ErrInvalid)
	}
	if n := len(s.seen()); n != 0 {
		t.Errorf("%d requests went out", n)
	}
}

func newTestAlerter(t *testing.T, url string) *SelfAlerter {
	t.Helper()
	a, err := NewSelfAlerter(SelfAlerterConfig{EventsURL: url, RoutingKey: "R0UT1NG", Transport: newTransport(t)})
	if err != nil {
		t.Fatal(err)
	}
	recordPauses(a.sender)
	return a
}

func TestSelfAlert(t *testing.T) {
	t.Parallel()
	s := newStandIn(t, answerWith(202, `{"status":"success"}`))
	a := newTestAlerter(t, s.server.URL)
	alert := SelfAlert{DedupKey: "drydock/undo/1", Summary: "an undo\nis blocked " + strings.Repeat("é", 2000), Details: map[string]any{"node": "n1"}}
	if err := a.Trigger(t.Context(), alert); err != nil {
		t.Fatal(err)
	}
	if err := a.Trigger(t.Context(), SelfAlert{DedupKey: "k", Details: map[string]any{"x": strings.Repeat("y", 600_000)}}); err != nil {
		t.Fatal(err)
	}
	if err := a.Resolve(t.Context(), "drydock/undo/1"); err != nil {
		t.Fatal(err)
	}
	calls := s.seen()
	var sent struct {
		RoutingKey string `json:"routing_key"`
		Action     string `json:"event_action"`
		DedupKey   string `json:"dedup_key"`
		Payload    struct {
			Summary, Source, Severity string
			Details                   map[string]any `json:"custom_details"`
		}
	}
	if err := json.Unmarshal([]byte(calls[0].Body), &sent); err != nil {
		t.Fatal(err)
	}
	p := sent.Payload
	if sent.RoutingKey != "R0UT1NG" || sent.Action != "trigger" || sent.DedupKey != alert.DedupKey || p.Source != "drydock" || p.Severity != "critical" || p.Details["node"] != "n1" {
		t.Errorf("trigger = %+v", sent)
	}
	if len(p.Summary) > maxSummary || !utf8.ValidString(p.Summary) || !strings.HasPrefix(p.Summary, "an undo is blocked é") {
		t.Errorf("summary of %d bytes: %.40q", len(p.Summary), p.Summary)
	}
	if len(calls[1].Body) > 1000 || !strings.Contains(calls[1].Body, `"summary":"k"`) {
		t.Errorf("an alert with too much detail was sent as %.200s", calls[1].Body)
	}
	want := call{Method: "POST", Path: "/v2/enqueue", Body: `{"routing_key":"R0UT1NG","event_action":"resolve","dedup_key":"drydock/undo/1"}`}
	if diff := cmp.Diff(want, calls[2]); diff != "" {
		t.Errorf("resolve (-want +got):\n%s", diff)
	}
}

func TestSelfAlertErrors(t *testing.T) {
	t.Parallel()
	lost := newStandIn(t, hangUp, answerWith(429, `{}`), answerWith(202, `{}`))
	if err := newTestAlerter(t, lost.server.URL).Resolve(t.Context(), "k"); err != nil || len(lost.seen()) != 3 {
		t.Errorf("after a lost answer and a 429: %v after %d requests, want success after 3", err, len(lost.seen()))
	}
	refused := newStandIn(t, answerWith(400, `{"status":"invalid event","message":"Event object is invalid","errors":["bad key"]}`))
	err := newTestAlerter(t, refused.server.URL).Resolve(t.Context(), "k")
	if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "bad key") {
		t.Errorf("error = %v, want PagerDuty's reason", err)
	}
	for _, key := range []string{"", strings.Repeat("k", 256)} {
		if err := newTestAlerter(t, refused.server.URL).Resolve(t.Context(), key); !errors.Is(err, ErrInvalid) {
			t.Errorf("dedup key of %d bytes: error = %v, want %v", len(key), err, ErrInvalid)
		}
	}
	if _, err := NewSelfAlerter(SelfAlerterConfig{}); err == nil {
		t.Error("an empty routing key was accepted")
	}
	if _, err := NewSelfAlerter(SelfAlerterConfig{RoutingKey: "k", EventsURL: "events"}); err == nil {
		t.Error("an address without a scheme was accepted")
	}
}
