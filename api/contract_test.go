package api_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/drydock/drydock/api"
	"github.com/drydock/drydock/playbook"
)

const (
	otherCarrier = "prod-dal12-carrier9"
	theIncident  = "QOPEN0000001"
)

// operation is one of the specification.
type operation struct {
	*openapi3.Operation
	method, path string
	shared       openapi3.Parameters
}

func operations(t *testing.T) map[string]operation {
	t.Helper()
	ops := map[string]operation{}
	for path, item := range theSpec(t).doc.Paths.Map() {
		for method, op := range item.Operations() {
			ops[op.OperationID] = operation{op, method, path, item.Parameters}
		}
	}
	return ops
}

func (o operation) role() string {
	role, _ := o.Extensions["x-role"].(string)
	return role
}

// newContractServer has a run in every position that an operation needs, and tokens of every role for the carrier of the runs, for
// another one, and for all.
func newContractServer(t *testing.T, change ...func(*api.Options)) *server {
	t.Helper()
	s := newServer(t, append([]func(*api.Options){func(o *api.Options) {
		for role := api.Viewer; role <= api.Admin; role++ {
			for scope, carrier := range map[string]string{"here": knownCarrier, "elsewhere": otherCarrier} {
				token := tokenOf(fmt.Sprintf("%s-%d", scope, role), role)
				token.Carriers = []string{carrier}
				o.Tokens = append(o.Tokens, token)
			}
			o.Tokens = append(o.Tokens, tokenOf(fmt.Sprintf("all-%d", role), role))
		}
	}}, change...)...)
	in := playbook.RunIncident{ID: theIncident, Number: 7, Title: runTitle}
	for id, state := range map[string]playbook.State{"ended": playbook.StateEscalated, "going": playbook.Draining, "waiting": playbook.AwaitingApproval} {
		s.runs[id] = playbook.StoredRun{Run: playbook.Run{ID: id, Target: target, State: state, PlanHash: "h1", StartedAt: t0,
			Incidents: []playbook.RunIncident{in}}}
	}
	s.incidents[theIncident] = api.IncidentNow{Incident: in, Open: true, Target: target}
	return s
}

// call is a request that an operation carries out.
type call struct {
	path, body string
	status     int
	elsewhere  int // what it answers to a token of another carrier; 0: as to everyone
}

var calls = map[string]call{
	"listEvents":        {path: "/api/v1/events", status: 200},
	"listRuns":          {path: "/api/v1/runs", status: 200},
	"getRun":            {path: "/api/v1/runs/ended", status: 200, elsewhere: 404},
	"streamRun":         {path: "/api/v1/runs/ended/stream", status: 200, elsewhere: 404},
	"explainRun":        {path: "/api/v1/runs/ended/explain", status: 200, elsewhere: 404},
	"retriggerRun":      {path: "/api/v1/runs/ended/retrigger", body: `{"reason":"x"}`, status: 201, elsewhere: 404},
	"cancelRun":         {path: "/api/v1/runs/going/cancel", body: `{"reason":"x"}`, status: 202, elsewhere: 404},
	"approveRun":        {path: "/api/v1/runs/waiting/approve", body: `{"plan_hash":"h1"}`, status: 200, elsewhere: 404},
	"retriggerIncident": {path: "/api/v1/incidents/" + theIncident + "/retrigger", body: `{"reason":"x"}`, status: 201, elsewhere: 403},
	"listCarriers":      {path: "/api/v1/carriers", status: 200},
	"diagnose":          {path: "/api/v1/carriers/" + knownCarrier + "/daemonsets/monitoring/node-exporter/diagnosis", status: 200, elsewhere: 403},
	"confirmCarrier":    {path: "/api/v1/carriers/" + knownCarrier + "/confirm", body: `{"reason":"x"}`, status: 200, elsewhere: 403},
	"getStats":          {path: "/api/v1/stats?carrier=" + knownCarrier, status: 200, elsewhere: 403},
	"getKillSwitch":     {path: "/api/v1/kill-switch?carrier=" + knownCarrier, status: 200, elsewhere: 403},
	"setKillSwitch":     {path: "/api/v1/kill-switch", body: `{"engaged":true,"carrier":"` + knownCarrier + `","reason":"x"}`, status: 200, elsewhere: 403},
	"listAudit":         {path: "/api/v1/audit?carrier=" + knownCarrier, status: 200, elsewhere: 403},
}

// TestRolesAndScopes is the whole matrix: each operation below /api, for every role, for tokens of this carrier, of another one and of
// all, and for nobody.
func TestRolesAndScopes(t *testing.T) {
	t.Parallel()
	ops := operations(t)
	for id, op := range ops {
		if _, ok := calls[id]; strings.HasPrefix(op.path, "/api/") != ok {
			t.Errorf("%s %s: calls says nothing about it, or should not", op.method, op.path)
		}
	}
	for id, c := range calls {
		needed, ok := api.ParseRole(ops[id].role())
		if !ok {
			t.Errorf("%s has no x-role", id)
		}
		for role := api.Viewer; role <= api.Admin; role++ {
			for _, scope := range []string{"all", "here", "elsewhere"} {
				want := c.status
				switch {
				case role < needed:
					want = http.StatusForbidden
				case scope == "elsewhere" && c.elsewhere != 0:
					want = c.elsewhere
				}
				r := request{method: ops[id].method, path: c.path, body: c.body, token: fmt.Sprintf("%s-%d", scope, role)}
				if w := newContractServer(t).do(r); w.Code != want {
					t.Errorf("%s as %s: %d, want %d: %s", id, r.token, w.Code, want, w.Body)
				}
			}
		}
		newContractServer(t).wantProblem(t, request{method: ops[id].method, path: c.path, body: c.body}, 401, "unauthenticated")
	}
}

// TestWhatNeedsNoToken: these and no others.
func TestWhatNeedsNoToken(t *testing.T) {
	t.Parallel()
	var open []string
	for id, op := range operations(t) {
		if op.Security != nil && len(*op.Security) == 0 {
			open = append(open, id)
		}
	}
	slices.Sort(open)
	want := []string{"docs", "headHealth", "headReady", "headStatic", "health", "login", "loginPage", "logout", "metrics", "openAPI", "problem", "ready", "static"}
	if !slices.Equal(open, want) {
		t.Errorf("open to everybody: %v, want %v", open, want)
	}
	s := newContractServer(t)
	for _, path := range []string{"/", "/runs/ended"} {
		if w := s.do(request{method: "GET", path: path}); w.Code != http.StatusSeeOther || !strings.HasPrefix(w.Header().Get("Location"), "/login") {
			t.Errorf("GET %s: %d to %q", path, w.Code, w.Header().Get("Location"))
		}
	}
	s.wantProblem(t, request{method: "POST", path: "/webhooks/pagerduty", body: "{}"}, 401, "bad-signature")
}

// TestScopedLists: lists show a token with carriers what is theirs, and an order for all carriers is not theirs to give.
func TestScopedLists(t *testing.T) {
	t.Parallel()
	s := newContractServer(t)
	only := []string{otherCarrier}
	for _, path := range []string{"/api/v1/runs", "/api/v1/events", "/api/v1/audit", "/api/v1/stats", "/api/v1/carriers"} {
		if w := s.do(request{method: "GET", path: path, token: "elsewhere-1"}); w.Code != 200 || strings.Contains(w.Body.String(), knownCarrier) {
			t.Errorf("GET %s: %d %s", path, w.Code, w.Body)
		}
	}
	for what, got := range map[string][]string{"runs": s.filter.Carriers, "events": s.asked, "audit": s.auditFilter.Carriers, "stats": s.statsFilter.Carriers} {
		if !slices.Equal(got, only) {
			t.Errorf("%s were asked for of carriers %v, want %v", what, got, only)
		}
	}
	s.wantProblem(t, request{method: "GET", path: "/api/v1/runs?carrier=" + knownCarrier, token: "elsewhere-1"}, 403, "out-of-scope")
	s.wantProblem(t, request{method: "PUT", path: "/api/v1/kill-switch", body: `{"engaged":false,"reason":"x"}`, token: "here-4"}, 403, "out-of-scope")
	if w := s.do(request{method: "GET", path: "/runs/ended", header: map[string]string{"Authorization": "Bearer tok-elsewhere-1"}}); w.Code != 404 {
		t.Errorf("another carrier's run is shown on a page: %d", w.Code)
	}
}

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
		r.body = `{"reason":"` + strings.Repeat("x", 1<<20) + `"}`
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
				w := s.do(r)
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

// TestBadParameters sends what the specification's schemas forbid, for every parameter of every operation: 400 with the field named.
func TestBadParameters(t *testing.T) {
	t.Parallel()
	s := newContractServer(t)
	n := 0
	for id, c := range calls {
		op := operations(t)[id]
		for _, p := range append(slices.Clone(op.shared), op.Parameters...) {
			for _, value := range badValues(p.Value) {
				n++
				r := request{method: op.method, path: c.path, body: c.body, token: "all-4"}
				switch p.Value.In {
				case "query":
					path, rest, _ := strings.Cut(c.path, "?")
					query, _ := url.ParseQuery(rest)
					query.Set(p.Value.Name, value)
					r.path = path + "?" + query.Encode()
				case "header":
					r.header = map[string]string{p.Value.Name: value}
				default:
					continue // an id of a path is opaque: what it does not name is 404
				}
				s.wantRefused(t, r, p.Value.Name)
			}
		}
		for field, bodies := range badBodies(op, c.body) {
			for _, body := range bodies {
				n++
				s.wantRefused(t, request{method: op.method, path: c.path, body: body, token: "all-4"}, field)
			}
		}
	}
	if n < 100 {
		t.Errorf("only %d mistakes were tried", n)
	}
}

func (s *server) wantRefused(t *testing.T, r request, field string) {
	t.Helper()
	fresh := newContractServer(t) // no rate is used up
	w := fresh.do(r)
	if w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), `"field":"`+field+`"`) {
		t.Errorf("%s %s %s %v: %d %s, want 400 naming %s", r.method, r.path, r.body, r.header, w.Code, w.Body, field)
	}
}

// badValues are values that a parameter's schema forbids.
func badValues(p *openapi3.Parameter) []string {
	schema := p.Schema.Value
	if p.In == "header" {
		switch p.Name {
		case "Idempotency-Key":
			return []string{strings.Repeat("k", 256), "\xff"}
		case "Last-Event-ID":
			return []string{"x", "-1", "1.5", "99999999999999999999", "1 or 1=1"}
		}
		return nil // If-None-Match takes anything
	}
	bad := []string{"", "\x00", "\xff"}
	switch {
	case len(schema.Enum) > 0:
		return append(bad, "none", "RESOLVED", "resolved ")
	case schema.Type.Is("integer"):
		return append(bad, "0", "-1", "1e2", "100000", "ten", "9999999999999999999999")
	case schema.Format == "date-time":
		return append(bad, "yesterday", "2026-11-22", "2026-11-22T03:04:05", "0000-01-01T00:00:00Z")
	}
	return append(bad, strings.Repeat("x", 1025))
}

// badBodies are bodies that a request's schema forbids, by the field that is wrong.
func badBodies(op operation, good string) map[string][]string {
	bad := map[string][]string{}
	if op.RequestBody == nil {
		return bad
	}
	schema := op.RequestBody.Value.Content.Get("application/json").Schema.Value
	bad["colour"] = []string{strings.Replace(good, "{", `{"colour":"red",`, 1)}
	for _, name := range schema.Required {
		var members map[string]any
		_ = json.Unmarshal([]byte(good), &members)
		delete(members, name)
		without, _ := json.Marshal(members)
		bad[name] = append(bad[name], string(without))
	}
	for name, property := range schema.Properties {
		for _, value := range []string{"[]", "{}", "7.5"} {
			bad[name] = append(bad[name], `{"`+name+`":`+value+`}`)
		}
		if most := property.Value.MaxLength; most != nil {
			bad[name] = append(bad[name], fmt.Sprintf(`{"engaged":true,"%s":"%s"}`, name, strings.Repeat("x", int(*most)+1)))
			if _, ok := schema.Properties["engaged"]; !ok {
				bad[name][len(bad[name])-1] = fmt.Sprintf(`{"%s":"%s"}`, name, strings.Repeat("x", int(*most)+1))
			}
		}
	}
	return bad
}

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

func TestETag(t *testing.T) {
	t.Parallel()
	s := newContractServer(t)
	get := func(tag string) (int, string, int) {
		r := request{method: "GET", path: "/api/v1/runs/going", token: "viewer"}
		if tag != "" {
			r.header = map[string]string{"If-None-Match": tag}
		}
		w := s.do(r)
		return w.Code, w.Header().Get("ETag"), w.Body.Len()
	}
	_, tag, _ := get("")
	for _, same := range []string{tag, `"other", ` + tag, "*", strings.TrimPrefix(tag, "W/")} {
		if code, again, size := get(same); code != 304 || again != tag || size != 0 {
			t.Errorf("If-None-Match %s: %d, ETag %s, %d bytes", same, code, again, size)
		}
	}
	run := s.runs["going"]
	run.Why = "something else"
	s.runs["going"] = run
	if code, again, _ := get(tag); code != 200 || again == tag {
		t.Errorf("after a change: %d, ETag %s", code, again)
	}
}

func FuzzQuery(f *testing.F) {
	for _, query := range []string{"limit=1", "cursor=x", "since=2026-11-22T00:00:00Z&until=x", "carrier=%zz", "a=1&a=2", "%00", "state=%ff"} {
		f.Add(query)
	}
	f.Fuzz(func(t *testing.T, query string) {
		for _, path := range []string{"/api/v1/runs", "/api/v1/events", "/api/v1/audit", "/api/v1/stats", "/api/v1/kill-switch", "/api/v1/runs/ended"} {
			r := request{method: "GET", path: path + "?" + (&url.URL{RawQuery: query}).Query().Encode(), token: "viewer"}
			w := newContractServer(t).do(r)
			if w.Code != 200 && w.Code != 400 && w.Code != 404 {
				t.Errorf("%s: %d %s", r.path, w.Code, w.Body)
			}
		}
	})
}

func FuzzBody(f *testing.F) {
	for _, body := range []string{`{"reason":"x"}`, `{"reason":`, `[]`, `{"engaged":true,"reason":"\u0000"}`, `{"plan_hash":"h1","plan_hash":7}`, "", `{"reason":1e400}`} {
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body string) {
		for id, c := range calls {
			if c.body == "" {
				continue
			}
			r := request{method: "POST", path: c.path, token: "admin", body: body}
			if id == "setKillSwitch" {
				r.method = "PUT"
			}
			if w := newContractServer(t).do(r); w.Code != c.status && w.Code != 400 && w.Code != 404 && w.Code != 409 && w.Code != 413 {
				t.Errorf("%s %q: %d %s", c.path, body, w.Code, w.Body)
			}
		}
	})
}
