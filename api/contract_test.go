package api_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
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
	s := newServerFor(t, append([]func(*api.Options){func(o *api.Options) {
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

// over sends a request over a connection, to a server that listens: the whole of net/http is between, as it is for everybody.
func (s *server) over(r request) *httptest.ResponseRecorder {
	s.t.Helper()
	listening := httptest.NewServer(s)
	defer listening.Close()
	req, err := http.NewRequestWithContext(s.t.Context(), r.method, listening.URL+r.path, strings.NewReader(r.body))
	if err != nil {
		s.t.Fatal(err)
	}
	if r.token != "" {
		req.Header.Set("Authorization", "Bearer tok-"+r.token)
	}
	for k, v := range r.header {
		req.Header.Set(k, v)
	}
	answer, err := listening.Client().Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer answer.Body.Close()
	w := httptest.NewRecorder()
	w.Code = answer.StatusCode
	for name, values := range answer.Header {
		w.Header()[name] = values
	}
	if _, err := io.Copy(w.Body, answer.Body); err != nil {
		s.t.Fatal(err)
	}
	s.conforms(r, w)
	return w
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
				s := newContractServer(t, func(o *api.Options) { o.Now = time.Now }) // by which a stream's connection is given time
				if w := s.over(r); w.Code != want {
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
	want := []string{"callbackOIDC", "docs", "headHealth", "headReady", "headStatic", "health", "login", "loginOIDC", "loginPage", "logout", "metrics", "openAPI", "problem", "ready", "static"}
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
