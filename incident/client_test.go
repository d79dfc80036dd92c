package incident

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const testID = "QTEST0000001"

// call is one request that the stand-in saw.
type call struct {
	Method, Path, Query, From, Auth, Body string
}

// standIn answers each request with the next of its answers, and the last one from then on.
type standIn struct {
	t       *testing.T
	mu      sync.Mutex
	calls   []call
	answers []http.HandlerFunc
	server  *httptest.Server
}

func newStandIn(t *testing.T, answers ...http.HandlerFunc) *standIn {
	t.Helper()
	s := &standIn{t: t, answers: answers}
	s.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Errorf("read request: %v", err)
		}
		s.mu.Lock()
		n := min(len(s.calls), len(s.answers)-1)
		s.calls = append(s.calls, call{r.Method, r.URL.Path, r.URL.RawQuery, r.Header.Get("From"), r.Header.Get("Authorization"), string(body)})
		s.mu.Unlock()
		s.answers[n](w, r)
	}))
	t.Cleanup(s.server.Close)
	return s
}

func (s *standIn) seen() []call {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]call(nil), s.calls...)
}

// answerWith writes a status, a body and header pairs.
func answerWith(status int, body string, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// hangUp closes the connection after the request was read: the write may have happened, the answer is lost.
func hangUp(w http.ResponseWriter, _ *http.Request) {
	if c, _, err := http.NewResponseController(w).Hijack(); err == nil {
		_ = c.Close()
	}
}

// breakOff answers 200 and closes the connection in the middle of the body.
func breakOff(w http.ResponseWriter, _ *http.Request) {
	c, buf, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	_, _ = buf.WriteString("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{\"note\":")
	_ = buf.Flush()
	_ = c.Close()
}

// newTestClient returns a Client of the stand-in that records its pauses and does not make them.
func newTestClient(t *testing.T, url string) (*Client, *[]time.Duration) {
	t.Helper()
	c, err := New(Config{APIURL: url, Token: "sesame", From: "bot@pd.test", Transport: newTransport(t)})
	if err != nil {
		t.Fatal(err)
	}
	return c, recordPauses(c.sender)
}

func recordPauses(s *sender) *[]time.Duration {
	var pauses []time.Duration
	s.pause = func(ctx context.Context, d time.Duration) error { pauses = append(pauses, d); return ctx.Err() }
	s.jitter = func(most time.Duration) time.Duration { return most }
	return &pauses
}

func newTransport(t *testing.T) *http.Transport {
	tr := &http.Transport{}
	t.Cleanup(tr.CloseIdleConnections)
	return tr
}

const openIncident = `{"incident":{"id":"QTEST0000001","incident_number":41,"title":"a title","status":"triggered"}}`

func TestNew(t *testing.T) {
	t.Parallel()
	good := Config{Token: "t", From: "bot@pd.test"}
	tests := []struct {
		name   string
		change func(*Config)
		want   string
	}{
		{"no token", func(c *Config) { c.Token = "" }, "token is empty"},
		{"token with a line feed", func(c *Config) { c.Token = "a\n" }, "white space"},
		{"no from", func(c *Config) { c.From = "" }, "from"},
		{"from with a header in it", func(c *Config) { c.From = "a@b\r\nX: y" }, "from"},
		{"no scheme", func(c *Config) { c.APIURL = "api.pd.test" }, "api_url"},
		{"other scheme", func(c *Config) { c.APIURL = "file:///etc/passwd" }, "api_url"},
		{"password in the address", func(c *Config) { c.APIURL = "https://a:b@pd.test" }, "api_url"},
	}
	if _, err := New(good); err != nil {
		t.Fatalf("New() = %v", err)
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			cfg := good
			tt.change(&cfg)
			if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("New() error = %v, want one about %q", err, tt.want)
			}
		})
	}
}

func TestTokenForms(t *testing.T) {
	t.Parallel()
	for oauth, want := range map[bool]string{false: "Token token=sesame", true: "Bearer sesame"} {
		s := newStandIn(t, answerWith(200, openIncident))
		c, err := New(Config{APIURL: s.server.URL + "/", Token: "sesame", OAuth: oauth, From: "bot@pd.test", Transport: newTransport(t)})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.GetIncident(t.Context(), testID); err != nil {
			t.Fatal(err)
		}
		if got := s.seen()[0].Auth; got != want {
			t.Errorf("Authorization = %q, want %q", got, want)
		}
	}
}

// The retry rules, for a read, a note (sent once) and a resolve (may be sent again).
func TestRetries(t *testing.T) {
	t.Parallel()
	read := func(ctx context.Context, c *Client) error { _, err := c.GetIncident(ctx, testID); return err }
	note := func(ctx context.Context, c *Client) error { _, err := c.CreateNote(ctx, testID, "hello"); return err }
	resolve := func(ctx context.Context, c *Client) error { return c.Resolve(ctx, testID) }
	escalate := func(ctx context.Context, c *Client) error { return c.EscalateToLevel(ctx, testID, 2) }
	noted := answerWith(201, `{"note":{"id":"PNOTE01","content":"hello"}}`)
	changed := answerWith(200, `{"incidents":[]}`)
	limited := func(header ...string) http.HandlerFunc {
		return answerWith(429, `{"error":{"message":"Rate Limit Exceeded","code":2020}}`, header...)
	}
	broken := answerWith(503, `<html>sorry</html>`, "Content-Type", "text/html")
	resolved := answerWith(400, `{"error":{"message":"Invalid Input Provided","code":2001,"errors":["Incident Already Resolved"]}}`)

	tests := []struct {
		name    string
		do      func(context.Context, *Client) error
		answers []http.HandlerFunc
		calls   int
		pauses  []time.Duration
		is, not []error
	}{
		{"read, all well", read, []http.HandlerFunc{answerWith(200, openIncident)}, 1, nil, nil, nil},
		{"read after 503", read, []http.HandlerFunc{broken, answerWith(200, openIncident)}, 2, []time.Duration{time.Second}, nil, nil},
		{"read after 408", read, []http.HandlerFunc{answerWith(408, `{}`), answerWith(200, openIncident)}, 2, []time.Duration{time.Second}, nil, nil},
		{"read after a broken connection", read, []http.HandlerFunc{hangUp, answerWith(200, openIncident)}, 2, []time.Duration{time.Second}, nil, nil},
		{"read after a body that breaks off", read, []http.HandlerFunc{breakOff, answerWith(200, openIncident)}, 2, []time.Duration{time.Second}, nil, nil},
		{"read while it stays down", read, []http.HandlerFunc{broken}, 4, []time.Duration{time.Second, 2 * time.Second, 4 * time.Second}, []error{ErrUnavailable}, []error{ErrAmbiguous}},
		{"429 with a reset", read, []http.HandlerFunc{limited("ratelimit-reset", "7"), answerWith(200, openIncident)}, 2, []time.Duration{8 * time.Second}, nil, nil},
		{"429 with Retry-After", read, []http.HandlerFunc{limited("Retry-After", "3"), answerWith(200, openIncident)}, 2, []time.Duration{4 * time.Second}, nil, nil},
		{"429 without headers", read, []http.HandlerFunc{limited(), answerWith(200, openIncident)}, 2, []time.Duration{time.Second}, nil, nil},
		{"429 for longer than we wait", read, []http.HandlerFunc{limited("ratelimit-reset", "58")}, 1, nil, []error{ErrRateLimited}, []error{ErrUnavailable}},
		{"400 is final", read, []http.HandlerFunc{answerWith(400, `{"error":{"message":"no"}}`)}, 1, nil, []error{ErrInvalid}, []error{ErrAmbiguous}},
		{"401 is final", read, []http.HandlerFunc{answerWith(401, `{}`)}, 1, nil, []error{ErrUnauthorized}, nil},
		{"403 is final", read, []http.HandlerFunc{answerWith(403, `{}`)}, 1, nil, []error{ErrUnauthorized}, nil},
		{"404 is final", read, []http.HandlerFunc{answerWith(404, `{}`)}, 1, nil, []error{ErrNotFound}, nil},
		{"a redirect is refused", read, []http.HandlerFunc{answerWith(302, ``, "Location", "http://127.0.0.1:1/")}, 1, nil, []error{ErrInvalid}, nil},
		{"not the JSON that was asked for", read, []http.HandlerFunc{answerWith(200, `{"incident":{}}`)}, 1, nil, []error{ErrUnavailable}, nil},

		{"note after 429", note, []http.HandlerFunc{limited(), noted}, 2, []time.Duration{time.Second}, nil, nil},
		{"note, answer lost", note, []http.HandlerFunc{hangUp, noted}, 1, nil, []error{ErrAmbiguous, ErrUnavailable}, nil},
		{"note, answer breaks off", note, []http.HandlerFunc{breakOff, noted}, 1, nil, []error{ErrAmbiguous}, nil},
		{"note, 502", note, []http.HandlerFunc{answerWith(502, `bad gateway`), noted}, 1, nil, []error{ErrAmbiguous, ErrUnavailable}, nil},
		{"note, answer without an id", note, []http.HandlerFunc{answerWith(201, `{"note":{}}`)}, 1, nil, []error{ErrAmbiguous}, nil},
		{"note refused", note, []http.HandlerFunc{answerWith(400, `{"error":"no"}`)}, 1, nil, []error{ErrInvalid}, []error{ErrAmbiguous}},
		{"note, 429 to the end", note, []http.HandlerFunc{limited()}, 4, []time.Duration{time.Second, 2 * time.Second, 4 * time.Second}, []error{ErrRateLimited}, []error{ErrAmbiguous}},

		{"resolve, answer lost, then found resolved", resolve, []http.HandlerFunc{hangUp, resolved}, 2, []time.Duration{time.Second}, nil, nil},
		{"resolve, answer breaks off after 200", resolve, []http.HandlerFunc{breakOff}, 1, nil, nil, nil},
		{"resolve, lost, then rate limited", resolve, []http.HandlerFunc{hangUp, limited("ratelimit-reset", "60")}, 2, []time.Duration{time.Second}, []error{ErrAmbiguous, ErrRateLimited}, nil},
		{"resolve while it stays down", resolve, []http.HandlerFunc{broken}, 4, []time.Duration{time.Second, 2 * time.Second, 4 * time.Second}, []error{ErrAmbiguous}, nil},
		{"escalate is sent once", escalate, []http.HandlerFunc{hangUp, changed}, 1, nil, []error{ErrAmbiguous}, nil},
		{"escalate what is resolved", escalate, []http.HandlerFunc{resolved}, 1, nil, []error{ErrAlreadyResolved}, []error{ErrAmbiguous}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newStandIn(t, tt.answers...)
			c, pauses := newTestClient(t, s.server.URL)
			err := tt.do(t.Context(), c)
			if (err == nil) != (len(tt.is) == 0) {
				t.Errorf("error = %v, want %v", err, tt.is)
			}
			for _, is := range tt.is {
				if !errors.Is(err, is) {
					t.Errorf("error = %v, want it to be %q", err, is)
				}
			}
			for _, not := range tt.not {
				if errors.Is(err, not) {
					t.Errorf("error = %v, want it not to be %q", err, not)
				}
			}
			calls := s.seen()
			if len(calls) != tt.calls {
				t.Errorf("%d requests, want %d", len(calls), tt.calls)
			}
			for _, again := range calls[1:] {
				if diff := cmp.Diff(calls[0], again); diff != "" {
					t.Errorf("a repeated request differs (-first +again):\n%s", diff)
				}
			}
			if diff := cmp.Diff(tt.pauses, *pauses); diff != "" {
				t.Errorf("pauses (-want +got):\n%s", diff)
			}
		})
	}
}

func TestConnectionRefused(t *testing.T) {
	t.Parallel()
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	url := "http://" + l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	c, pauses := newTestClient(t, url)
	_, err = c.CreateNote(t.Context(), testID, "hello")
	if !errors.Is(err, ErrUnavailable) || errors.Is(err, ErrAmbiguous) {
		t.Errorf("error = %v, want unavailable and not ambiguous: nothing was sent", err)
	}
	if len(*pauses) != 3 {
		t.Errorf("%d pauses, want 3: a note that was not sent may be sent again", len(*pauses))
	}
}

func TestAttemptTimeout(t *testing.T) {
	t.Parallel()
	s := newStandIn(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	c, err := New(Config{
		APIURL: s.server.URL, Token: "t", From: "bot@pd.test", Transport: newTransport(t),
		Patience: Patience{Attempts: 2, PerAttempt: 50 * time.Millisecond},
	})
	if err != nil {
		t.Fatal(err)
	}
	recordPauses(c.sender)
	if _, err := c.GetIncident(t.Context(), testID); !errors.Is(err, ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error = %v, want unavailable by deadline", err)
	}
	if n := len(s.seen()); n != 2 {
		t.Errorf("%d requests, want 2", n)
	}
}

func TestCallerGivesUp(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	s := newStandIn(t, func(_ http.ResponseWriter, r *http.Request) { cancel(); <-r.Context().Done() })
	c, _ := newTestClient(t, s.server.URL)
	_, err := c.CreateNote(ctx, testID, "hello")
	if !errors.Is(err, context.Canceled) || !errors.Is(err, ErrAmbiguous) || errors.Is(err, ErrUnavailable) {
		t.Errorf("while under way: error = %v, want cancelled and ambiguous, and not PagerDuty's fault", err)
	}
	_, err = c.CreateNote(ctx, testID, "hello")
	if !errors.Is(err, context.Canceled) || errors.Is(err, ErrAmbiguous) {
		t.Errorf("before it was sent: error = %v, want cancelled and not ambiguous", err)
	}
}

func TestOneRequestAtATime(t *testing.T) {
	t.Parallel()
	s := newStandIn(t, answerWith(200, openIncident))
	c, _ := newTestClient(t, s.server.URL)
	var now, most atomic.Int64
	do := c.sender.do
	c.sender.do = func(r *http.Request) (*http.Response, error) {
		most.Store(max(most.Load(), now.Add(1)))
		defer now.Add(-1)
		for range 100 {
			runtime.Gosched() // an invitation to the others
		}
		return do(r)
	}
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if _, err := c.GetIncident(t.Context(), testID); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if most.Load() != 1 {
		t.Errorf("%d requests at a time, want 1", most.Load())
	}
}

func TestRateRemaining(t *testing.T) {
	t.Parallel()
	s := newStandIn(t, answerWith(200, openIncident, "ratelimit-remaining", "17"))
	c, _ := newTestClient(t, s.server.URL)
	if n, ok := c.RateRemaining(); ok {
		t.Errorf("RateRemaining() = %d before any answer", n)
	}
	if _, err := c.GetIncident(t.Context(), testID); err != nil {
		t.Fatal(err)
	}
	if n, ok := c.RateRemaining(); n != 17 || !ok {
		t.Errorf("RateRemaining() = %d, %v, want 17", n, ok)
	}
}

func TestErrorShapes(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, contentType, body string
		code                    int
		message                 string
	}{
		{"object", "application/json", `{"error":{"message":"Invalid Input","code":2001,"errors":["one","two"]}}`, 2001, "Invalid Input: one: two"},
		{"PagerDuty's own type", "application/vnd.pagerduty+json", `{"error":{"message":"m","code":2001}}`, 2001, "m"},
		{"errors as a string", "application/json", `{"error":{"message":"m","code":"2016","errors":"one"}}`, 2016, "m: one"},
		{"errors as objects", "application/json", `{"error":{"message":"m","errors":[{"message":"one"},5]}}`, 0, "m: one"},
		{"error as an array", "application/json", `{"error":["one","two"]}`, 0, "one: two"},
		{"error as a string", "application/json", `{"error":"one"}`, 0, "one"},
		{"flat", "application/json", `{"message":"m","code":2100}`, 2100, "m"},
		{"Events API", "application/json", `{"status":"invalid event","message":"m","errors":["one"]}`, 0, "m: one"},
		{"string", "application/json", `"one"`, 0, "one"},
		{"no words", "application/json", `{}`, 0, "Bad Request"},
		{"null", "application/json", `{"error":null}`, 0, "Bad Request"},
		{"HTML", "text/html", `<h1>no</h1>`, 0, "Bad Request (the answer is not JSON)"},
		{"empty", "text/plain", ``, 0, "Bad Request (the answer is not JSON)"},
		{"control characters", "application/json", `{"error":"a\u001b[31m\n\nb"}`, 0, "a[31m b"},
		{"long", "application/json", `{"error":"` + strings.Repeat("x", 5000) + `"}`, 0, strings.Repeat("x", 300)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newStandIn(t, answerWith(400, tt.body, "Content-Type", tt.contentType))
			c, _ := newTestClient(t, s.server.URL)
			_, err := c.GetIncident(t.Context(), testID)
			var e *APIError
			if !errors.As(err, &e) {
				t.Fatalf("error = %v, want an APIError", err)
			}
			if e.Status != 400 || e.Code != tt.code || e.Message != tt.message {
				t.Errorf("status %d code %d message %q, want 400, %d, %q", e.Status, e.Code, e.Message, tt.code, tt.message)
			}
			if want := "read incident " + testID; !strings.HasPrefix(e.Error(), want) {
				t.Errorf("Error() = %q, want it to begin with %q", e.Error(), want)
			}
		})
	}
}

// Ids come from the network: none may reach a path that does not have the form of an id.
func TestIDsAreChecked(t *testing.T) {
	t.Parallel()
	s := newStandIn(t, answerWith(200, `{}`))
	c, _ := newTestClient(t, s.server.URL)
	for _, bad := range []string{"", "Q1/../../users?x=", ".", "..", "Q%2e", "QTEST 000001", strings.Repeat("Q", 65), "QTEST0000001\n"} {
		calls := map[string]func(context.Context) error{
			"GetIncident":        func(ctx context.Context) error { _, err := c.GetIncident(ctx, bad); return err },
			"ListAlerts":         func(ctx context.Context) error { _, err := c.ListAlerts(ctx, bad); return err },
			"ListNotes":          func(ctx context.Context) error { _, err := c.ListNotes(ctx, bad); return err },
			"LogEntries":         func(ctx context.Context) error { _, err := c.LogEntries(ctx, bad, time.Time{}); return err },
			"OpenIncidents":      func(ctx context.Context) error { _, err := c.OpenIncidents(ctx, []string{bad}); return err },
			"EscalationPolicy":   func(ctx context.Context) error { _, err := c.EscalationPolicy(ctx, bad); return err },
			"CreateNote":         func(ctx context.Context) error { _, err := c.CreateNote(ctx, bad, "x"); return err },
			"UpdateNote":         func(ctx context.Context) error { _, err := c.UpdateNote(ctx, bad, "PNOTE01", "x"); return err },
			"UpdateNote, note":   func(ctx context.Context) error { _, err := c.UpdateNote(ctx, testID, bad, "x"); return err },
			"Acknowledge":        func(ctx context.Context) error { return c.Acknowledge(ctx, bad) },
			"Resolve":            func(ctx context.Context) error { return c.Resolve(ctx, bad) },
			"EscalateToLevel":    func(ctx context.Context) error { return c.EscalateToLevel(ctx, bad, 2) },
			"EscalateToPolicy":   func(ctx context.Context) error { return c.EscalateToPolicy(ctx, bad, "PPOL001") },
			"EscalateToPolicy 2": func(ctx context.Context) error { return c.EscalateToPolicy(ctx, testID, bad) },
		}
		for name, do := range calls {
			if err := do(t.Context()); !errors.Is(err, ErrInvalid) {
				t.Errorf("%s(%q) error = %v, want %v", name, bad, err, ErrInvalid)
			}
		}
	}
	if n := len(s.seen()); n != 0 {
		t.Errorf("%d requests went out", n)
	}
}

func jsonOf(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// pageOf answers list requests from rows, size at a time whatever limit was asked for.
func pageOf(t *testing.T, key string, rows []any, size int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var offset int
		if _, err := fmt.Sscan(r.URL.Query().Get("offset"), &offset); err != nil {
			t.Errorf("offset: %v", err)
		}
		from := min(offset, len(rows))
		to := min(from+size, len(rows))
		answerWith(200, jsonOf(t, map[string]any{key: rows[from:to], "more": to < len(rows), "offset": offset, "limit": size, "total": nil}))(w, r)
	}
}
