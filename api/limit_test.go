package api_test

import (
	"testing"
	"time"

	"github.com/drydock/drydock/api"
)

// TestRateLimit: a token's own requests are counted, and an address's guesses, and neither keeps another out.
func TestRateLimit(t *testing.T) {
	t.Parallel()
	now := t0
	s := newContractServer(t, func(o *api.Options) { o.Now = func() time.Time { return now } })
	ask := func(token string) int {
		return s.do(request{method: "GET", path: "/api/v1/kill-switch", token: token}).Code
	}
	for range 100 {
		if code := ask("viewer"); code != 200 {
			t.Fatalf("within the burst: %d", code)
		}
	}
	w := s.do(request{method: "GET", path: "/api/v1/kill-switch", token: "viewer"})
	if w.Code != 429 || w.Header().Get("Retry-After") == "" {
		t.Errorf("over the burst: %d, Retry-After %q", w.Code, w.Header().Get("Retry-After"))
	}
	if code := ask("admin"); code != 200 {
		t.Errorf("another token: %d", code)
	}
	now = now.Add(time.Second)
	if code := ask("viewer"); code != 200 {
		t.Errorf("a second later: %d", code)
	}
	for range 20 {
		ask("guess")
	}
	if code := ask("guess"); code != 429 {
		t.Errorf("the 21st guess: %d", code)
	}
	if w := s.do(request{method: "POST", path: "/login", body: "token=guess", header: map[string]string{"Content-Type": "application/x-www-form-urlencoded"}}); w.Code != 429 {
		t.Errorf("a guess at the login: %d", w.Code)
	}
	if code := ask("admin"); code != 200 {
		t.Errorf("a token from the address of the guesses: %d", code)
	}
	body := `{"event":{"event_type":"incident.triggered"}}`
	for range 300 {
		w := s.do(request{method: "POST", path: "/webhooks/pagerduty", body: body, header: map[string]string{"X-PagerDuty-Signature": sign(body)}})
		if w.Code != 202 {
			t.Fatalf("a signed webhook: %d %s", w.Code, w.Body)
		}
	}
}
