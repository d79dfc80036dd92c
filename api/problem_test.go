package api_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/drydock/drydock/api"
	"github.com/drydock/drydock/playbook"
)

// provoke makes a server answer a call with a problem; nil: the way is not known.
func provoke(t *testing.T, id, problem string, op operation, c call) (*server, request) {
	t.Helper()
	r := request{method: op.method, path: c.path, body: c.body, token: "admin"}
	if id == "receiveWebhook" {
		r = request{method: "POST", path: "/webhooks/pagerduty", body: `{"event":{}}`, token: "operator"}
	}
	panics := 0 // at which reading of the clock
	s := newContractServer(t, func(o *api.Options) {
		readings := 0
		o.Now = func() time.Time {
			if readings++; readings == panics {
				panic("boom at /srv/drydock/secret.go: SELECT 1")
			}
			return t0
		}
	})
	problemError := map[string]error{"database-unavailable": api.ErrDatabase, "history-slow": api.ErrHistorySlow, "run-active": api.RunActive("r9"),
		"run-ended": api.ErrRunEnded, "own-run": api.ErrOwnRun, "plan-changed": api.ErrPlanChanged, "not-awaiting-approval": api.ErrNotAwaitingApproval,
		"refused": &playbook.RefusedError{Why: "kill switch"}, "carrier-unavailable": api.ErrCarrier}[problem]
	if problemError != nil {
		problemError = fmt.Errorf("SELECT 1 at /srv/drydock: %w", problemError)
	}
	switch problem {
	case "unauthenticated":
		r.token = "unknown"
	case "bad-signature":
		r.token = ""
	case "forbidden":
		r.token = "nobody"
		s = newContractServer(t, func(o *api.Options) { o.Tokens = append(o.Tokens, tokenOf("nobody", 0)) })
		if op.role() != "viewer" {
			r.token = "viewer"
		}
	case "out-of-scope":
		r.token = "elsewhere-4"
		if id == "listRuns" {
			r.path += "?carrier=" + knownCarrier
		}
	case "bad-parameters":
		separator := "?"
		if strings.Contains(r.path, "?") {
			separator = "&"
		}
		r.path += separator + "colour=red"
	case "not-json":
		r.body = "{"
		if id == "receiveWebhook" {
			r.token, r.header = "", map[string]string{"X-PagerDuty-Signature": sign("{")}
		}
	case "too-large":
		r.body = `{"reason":"` + strings.Repeat("x", 65<<10) + `"}`
		if id == "receiveWebhook" {
			r.body = strings.Repeat("x", 1<<20+1)
		}
	case "no-such-run":
		r.path = strings.NewReplacer("ended", "none", "going", "none", "waiting", "none").Replace(r.path)
	case "no-such-incident":
		r.path = strings.Replace(r.path, theIncident, "QNONE0000001", 1)
	case "no-such-carrier":
		r.path = strings.Replace(r.path, knownCarrier, "none", 1)
		r.body = strings.Replace(r.body, knownCarrier, "none", 1)
	case "idempotency-key-reused":
		r.header = map[string]string{"Idempotency-Key": "k"}
		s.do(r)
		r.body = strings.NewReplacer(`"x"`, `"y"`, `"h1"`, `"h2"`).Replace(r.body)
	case "too-many-requests":
		for range 100 {
			req := httptest.NewRequest(http.MethodGet, "/api/v1/kill-switch", nil)
			req.Header.Set("Authorization", "Bearer tok-admin")
			s.ServeHTTP(httptest.NewRecorder(), req)
		}
	case "too-many-streams":
		return nil, r // TestTooManyStreams
	case "busy":
		return nil, r // TestWebhookAnswersBeforeTheSenderGivesUp
	case "incident-not-open":
		s.incidents[theIncident] = api.IncidentNow{Incident: playbook.RunIncident{ID: theIncident}, Target: target}
	case "no-target":
		s.incidents[theIncident] = api.IncidentNow{Incident: playbook.RunIncident{ID: theIncident}, Open: true, Reason: "no alert names one"}
	case "pagerduty-unavailable":
		s.readErr = errors.New("dial tcp 10.0.0.1: refused")
	case "not-ready":
		s.databaseUp = errors.New("connect to postgres://secret@db: refused")
	case "internal":
		panics = 2 // observe reads the clock first, outside of what may panic
		if id == "receiveWebhook" {
			r.body, r.header, r.token = `{"event":{"event_type":"incident.triggered"}}`, nil, ""
			r.header = map[string]string{"X-PagerDuty-Signature": sign(r.body)}
		}
	case "issuer-unavailable":
		away := httptest.NewServer(http.NotFoundHandler())
		away.Close()
		r.token = "of.an.issuer"
		s = newContractServer(t, func(o *api.Options) { o.OIDC = api.NewIdentifier(api.OIDC{Issuer: away.URL, Audience: "drydock"}) })
	case "history-slow", "database-unavailable":
		s.historyErr, s.orderErr, s.acceptErr = problemError, problemError, problemError
		if id == "receiveWebhook" {
			r.token, r.header = "", map[string]string{"X-PagerDuty-Signature": sign(r.body)}
		}
	default:
		if problemError == nil {
			return nil, r
		}
		s.orderErr = problemError
	}
	return s, r
}

// TestEveryProblemIsDocumented: no error can be answered that no operation has.
func TestEveryProblemIsDocumented(t *testing.T) {
	t.Parallel()
	documented := map[string]bool{}
	for _, op := range operations(t) {
		for _, response := range op.Responses.Map() {
			for _, name := range problemsOfResponse(response.Value) {
				documented[name] = true
			}
		}
	}
	description := theSpec(t).doc.Info.Description // what is not of one operation
	for _, name := range api.ProblemTypes() {
		if !documented[name] && !strings.Contains(description, "("+name+")") {
			t.Errorf("problem %s: no operation has it", name)
		}
		delete(documented, name)
	}
	for name := range documented {
		t.Errorf("problem %s is documented, and no error leads to it", name)
	}
}

// TestEveryDocumentedProblem makes the server answer each operation with each problem that the specification has for it; what is
// answered besides is found by the check that every test's answers pass.
func TestEveryDocumentedProblem(t *testing.T) {
	t.Parallel()
	elsewhere := []string{"too-many-streams", "busy"} // with tests of their own
	for id, op := range operations(t) {
		for status, response := range op.Responses.Map() {
			for _, problem := range problemsOfResponse(response.Value) {
				if slices.Contains(elsewhere, problem) {
					continue
				}
				s, r := provoke(t, id, problem, op, calls[id])
				if s == nil {
					t.Errorf("%s %s %s: how is it made?", id, status, problem)
					continue
				}
				if id == "ready" {
					r = request{method: "GET", path: "/readyz"}
				}
				w := s.over(r)
				if fmt.Sprint(w.Code) != status || !strings.Contains(w.Body.String(), `"/problems/`+problem+`"`) {
					t.Errorf("%s: %d %s, want %s %s", id, w.Code, w.Body, status, problem)
				}
				for _, leak := range []string{"SELECT", "/srv/", ".go", "goroutine", "secret", "dial tcp"} {
					if strings.Contains(w.Body.String(), leak) {
						t.Errorf("%s %s leaks %q: %s", id, problem, leak, w.Body)
					}
				}
			}
		}
	}
}

func TestOurOwnFaultsLeakNothing(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		err     error
		status  int
		problem string
	}{
		"slow":     {fmt.Errorf("%w: over 5s", api.ErrHistorySlow), 503, "history-slow"},
		"database": {fmt.Errorf("%w: dial tcp secret.internal:5432", api.ErrDatabase), 503, "database-unavailable"},
		"anything": {errors.New("dial tcp secret.internal:5432"), 500, "internal"},
	} {
		s := newServer(t)
		s.historyErr = tt.err
		r := request{method: "GET", token: "viewer", path: "/api/v1/runs"}
		s.wantProblem(t, r, tt.status, tt.problem)
		if body := s.do(r).Body.String(); strings.Contains(body, "internal:5432") || strings.Contains(body, "over 5s") {
			t.Errorf("%s: the answer leaks: %s", name, body)
		}
		if !strings.Contains(s.log.String(), tt.err.Error()) {
			t.Errorf("%s: the log lacks the reason: %s", name, s.log)
		}
	}
}

func TestAPanicIsAnAnswer(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(o *api.Options) { o.History = nil })
	s.wantProblem(t, request{method: "GET", path: "/api/v1/runs", token: "viewer"}, 500, "internal")
	if !strings.Contains(s.log.String(), "handler panicked") {
		t.Error("the log does not tell of the panic")
	}
}
