package api_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/drydock/drydock/api"
	"github.com/drydock/drydock/playbook"
)

func TestRetrigger(t *testing.T) {
	t.Parallel()
	ended := playbook.StoredRun{Run: playbook.Run{ID: "old", Target: target, State: playbook.StateEscalated,
		Incidents: []playbook.RunIncident{{ID: "QGONE0000001"}, {ID: "QDONE0000001"}, {ID: "QOPEN0000001"}}}}
	open := api.IncidentNow{Open: true, Target: target, Incident: playbook.RunIncident{ID: "QOPEN0000001", Number: 7, Title: runTitle}}
	setUp := func(t *testing.T) *server {
		s := newServer(t)
		s.runs["old"] = ended
		s.page = playbook.RunPage{Runs: []playbook.Run{ended.Run}}
		s.runs["active"] = playbook.StoredRun{Run: playbook.Run{ID: "active", Target: target, State: playbook.Draining}}
		s.incidents["QOPEN0000001"] = open
		s.incidents["QDONE0000001"] = api.IncidentNow{Incident: playbook.RunIncident{ID: "QDONE0000001"}}
		s.incidents["QODD00000001"] = api.IncidentNow{Open: true, Reason: "no rule matches the title"}
		s.incidents["QFAR00000001"] = api.IncidentNow{Open: true, Target: playbook.Target{Carrier: "far", Namespace: "a", DaemonSet: "b"}}
		return s
	}
	for _, path := range []string{"/api/v1/runs/old/retrigger", "/api/v1/incidents/QOPEN0000001/retrigger"} {
		s := setUp(t)
		w := s.do(request{method: "POST", path: path, token: "operator", body: `{"reason":" disk was cleaned "}`})
		if w.Code != 201 || w.Header().Get("Location") != "/api/v1/runs/run-1" {
			t.Fatalf("%s: %d %s %s", path, w.Code, w.Header().Get("Location"), w.Body)
		}
		start := s.started[0]
		if start.Target != target || start.Incident.ID != "QOPEN0000001" || start.Incident.Number != 7 || start.Reason != "disk was cleaned" ||
			start.RequestedBy != "operator" || start.Trigger != playbook.TriggerRetrigger || start.Deadline != 45*time.Minute {
			t.Errorf("%s: start %+v", path, start)
		}
		if start.RetriggeredFrom != "old" {
			t.Errorf("%s: retriggered from %q, want old", path, start.RetriggeredFrom)
		}
	}
	// Whatever of the run is still open goes on in the new one: nobody else would take it up.
	two := setUp(t)
	two.incidents["QDONE0000001"] = api.IncidentNow{Open: true, Incident: playbook.RunIncident{ID: "QDONE0000001"}}
	if w := two.do(request{method: "POST", path: "/api/v1/runs/old/retrigger", token: "operator", body: `{"reason":"x"}`}); w.Code != 201 ||
		two.started[0].Incident.ID != "QDONE0000001" || len(two.started[0].Also) != 1 || two.started[0].Also[0].ID != "QOPEN0000001" {
		t.Errorf("two incidents are open: %d %s, start %+v", w.Code, w.Body, two.started)
	}
	first := setUp(t)
	first.page = playbook.RunPage{}
	if w := first.do(request{method: "POST", path: "/api/v1/incidents/QOPEN0000001/retrigger", token: "operator", body: `{"reason":"x"}`}); w.Code != 201 ||
		!strings.Contains(w.Body.String(), `"retriggered_from":null`) {
		t.Errorf("an incident without a run: %d %s", w.Code, w.Body)
	}
	if !cmp.Equal(first.filter, playbook.RunFilter{Incident: "QOPEN0000001", Limit: 1}) {
		t.Errorf("looked for earlier runs by %+v", first.filter)
	}
	order := func(path string) request {
		return request{method: "POST", path: path, token: "operator", body: `{"reason":"x"}`}
	}
	s := setUp(t)
	s.wantProblem(t, order("/api/v1/runs/none/retrigger"), 404, "no-such-run")
	s.wantProblem(t, order("/api/v1/runs/active/retrigger"), 409, "run-active", `"run":"active"`)
	s.wantProblem(t, order("/api/v1/incidents/QNONE0000001/retrigger"), 404, "no-such-incident")
	s.wantProblem(t, order("/api/v1/incidents/..%2Fusers/retrigger"), 404, "no-such-address")
	s.wantProblem(t, order("/api/v1/incidents/lower/retrigger"), 404, "no-such-incident")
	s.wantProblem(t, order("/api/v1/incidents/QDONE0000001/retrigger"), 409, "incident-not-open")
	s.wantProblem(t, order("/api/v1/incidents/QODD00000001/retrigger"), 409, "no-target", "no rule matches the title")
	s.wantProblem(t, order("/api/v1/incidents/QFAR00000001/retrigger"), 409, "no-target", "carrier far is not configured")
	delete(s.incidents, "QOPEN0000001")
	s.wantProblem(t, order("/api/v1/runs/old/retrigger"), 409, "incident-not-open")

	s = setUp(t)
	s.orderErr = api.RunActive("other")
	s.wantProblem(t, order("/api/v1/runs/old/retrigger"), 409, "run-active", `"run":"other"`)
	s.orderErr = &playbook.RefusedError{Why: "its breaker is open"}
	s.wantProblem(t, order("/api/v1/runs/old/retrigger"), 409, "refused", "its breaker is open")
	s.readErr = errors.New("502 from secret.internal")
	s.wantProblem(t, order("/api/v1/runs/old/retrigger"), 502, "pagerduty-unavailable")

	for body, field := range map[string]string{
		`{}`: "reason", `{"reason":""}`: "reason", `{"reason":"  "}`: "reason", `{"reason":5}`: "reason", `{"raeson":"x"}`: "raeson",
		`{"reason":"` + strings.Repeat("x", 1001) + `"}`: "reason",
	} {
		r := order("/api/v1/runs/old/retrigger")
		r.body = body
		s.wantProblem(t, r, 400, "bad-parameters", `"field":"`+field+`"`)
	}
	for _, body := range []string{"", "no", "[]", "null", `"x"`} {
		r := order("/api/v1/runs/old/retrigger")
		r.body = body
		s.wantProblem(t, r, 400, "not-json")
	}
	r := order("/api/v1/runs/old/retrigger")
	r.body = `{"reason":"` + strings.Repeat("x", 70<<10) + `"}`
	s.wantProblem(t, r, 413, "too-large")
}

func TestIdempotencyKey(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.incidents["QOPEN0000001"] = api.IncidentNow{Open: true, Target: target, Incident: playbook.RunIncident{ID: "QOPEN0000001"}}
	r := request{method: "POST", path: "/api/v1/incidents/QOPEN0000001/retrigger", token: "operator", body: `{"reason":"x"}`,
		header: map[string]string{"Idempotency-Key": "k1"}}
	first := s.do(r)
	r.body = "{ \"reason\" : \"x\" }"
	again := s.do(r)
	if first.Code != 201 || again.Code != 201 || first.Body.String() != again.Body.String() || len(s.started) != 1 {
		t.Errorf("first %d %s, again %d %s, started %d", first.Code, first.Body, again.Code, again.Body, len(s.started))
	}
	// Also when the incident has been resolved meanwhile: it is the answer to the same request.
	s.incidents["QOPEN0000001"] = api.IncidentNow{Incident: playbook.RunIncident{ID: "QOPEN0000001"}}
	if w := s.do(r); w.Code != 201 {
		t.Errorf("after the incident's end: %d %s", w.Code, w.Body)
	}
	s.incidents["QOPEN0000001"] = api.IncidentNow{Open: true, Target: target, Incident: playbook.RunIncident{ID: "QOPEN0000001"}}
	r.body = `{"reason":"y"}`
	s.wantProblem(t, r, 422, "idempotency-key-reused")
	other := r
	other.path, other.body = "/api/v1/incidents/QOTHER000001/retrigger", `{"reason":"x"}`
	s.wantProblem(t, other, 422, "idempotency-key-reused")
	other.path = "/api/v1/runs/run-1/retrigger"
	s.wantProblem(t, other, 422, "idempotency-key-reused")
	other.path, other.body = "/api/v1/runs/run-1/cancel", ""
	s.wantProblem(t, other, 422, "idempotency-key-reused")
	r.body = `{}` // the key is looked at before the body
	s.wantProblem(t, r, 422, "idempotency-key-reused")
	r.body = `{"reason":"y"}`
	r.token = "admin" // another client's key is another key
	if w := s.do(r); w.Code != 201 {
		t.Errorf("another client: %d %s", w.Code, w.Body)
	}
	r.header["Idempotency-Key"] = strings.Repeat("k", 300)
	s.wantProblem(t, r, 400, "bad-parameters", "Idempotency-Key")
}

// Every order takes a key: what is repeated is answered again and not done again, and another request is refused.
func TestIdempotencyKeyOfOrders(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		path, token, body, other string
		status                   int
	}{
		"cancel":  {"/api/v1/runs/r1/cancel", "operator", `{"reason":"a"}`, `{"reason":"b"}`, 202},
		"approve": {"/api/v1/runs/r2/approve", "approver", `{"plan_hash":"p1"}`, `{"plan_hash":"p2"}`, 200},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			s.runs["r1"] = playbook.StoredRun{Run: playbook.Run{ID: "r1", State: playbook.Draining}}
			s.runs["r2"] = playbook.StoredRun{Run: playbook.Run{ID: "r2", State: playbook.AwaitingApproval, PlanHash: "p1"}}
			r := request{method: "POST", path: tt.path, token: tt.token, body: `{"typo":1}`, header: map[string]string{"Idempotency-Key": "k"}}
			s.wantProblem(t, r, 400, "bad-parameters") // and the key is free again
			r.body = tt.body
			for range 2 {
				if w := s.do(r); w.Code != tt.status {
					t.Errorf("%d %s, want %d", w.Code, w.Body, tt.status)
				}
				// What follows from the order does not change the answer to it.
				for id, run := range s.runs {
					run.State = playbook.StateStoodDown
					s.runs[id] = run
				}
			}
			if s.orders != 1 {
				t.Errorf("ordered %d times", s.orders)
			}
			r.body = tt.other
			s.wantProblem(t, r, 422, "idempotency-key-reused")
			r.body, r.path = tt.body, "/api/v1/runs/r9/"+name
			s.wantProblem(t, r, 422, "idempotency-key-reused")
		})
	}
}

func TestCancel(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.runs["r1"] = playbook.StoredRun{Run: playbook.Run{ID: "r1", State: playbook.Draining}}
	s.runs["r2"] = playbook.StoredRun{Run: playbook.Run{ID: "r2", State: playbook.StateResolved}}
	for _, body := range []string{"", `{}`, `{"reason":"x"}`} {
		if w := s.do(request{method: "POST", path: "/api/v1/runs/r1/cancel", token: "operator", body: body}); w.Code != 202 {
			t.Errorf("body %q: %d %s", body, w.Code, w.Body)
		}
	}
	s.wantProblem(t, request{method: "POST", path: "/api/v1/runs/r2/cancel", token: "operator"}, 409, "run-ended")
	s.wantProblem(t, request{method: "POST", path: "/api/v1/runs/r3/cancel", token: "operator"}, 404, "no-such-run")
	s.wantProblem(t, request{method: "POST", path: "/api/v1/runs/r1/cancel", token: "operator", body: `{"x":1}`}, 400, "bad-parameters", `"field":"x"`)
}

func TestApprove(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.runs["r1"] = playbook.StoredRun{Run: playbook.Run{ID: "r1", State: playbook.AwaitingApproval, PlanHash: "p1"}}
	s.runs["r2"] = playbook.StoredRun{Run: playbook.Run{ID: "r2", State: playbook.Draining, PlanHash: "p1"}}
	order := func(id, body, token string) request {
		return request{method: "POST", path: "/api/v1/runs/" + id + "/approve", token: token, body: body}
	}
	if w := s.do(order("r1", `{"plan_hash":"p1"}`, "approver")); w.Code != 200 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	s.wantProblem(t, order("r1", `{"plan_hash":"p1"}`, "operator"), 403, "forbidden")
	s.wantProblem(t, order("r1", `{"plan_hash":"p0"}`, "approver"), 409, "plan-changed")
	s.wantProblem(t, order("r2", `{"plan_hash":"p1"}`, "approver"), 409, "not-awaiting-approval")
	s.wantProblem(t, order("r3", `{"plan_hash":"p1"}`, "approver"), 404, "no-such-run")
	s.wantProblem(t, order("r1", `{}`, "approver"), 400, "bad-parameters", `"field":"plan_hash"`)
}

func TestKillSwitch(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	get := func(path string) string {
		return s.do(request{method: "GET", path: path, token: "viewer"}).Body.String()
	}
	if got := get("/api/v1/kill-switch"); got != `{"engaged":false,"carrier":null,"reason":null}` {
		t.Error(got)
	}
	w := s.do(request{method: "PUT", path: "/api/v1/kill-switch", token: "operator", body: `{"engaged":true,"carrier":null,"reason":"maintenance"}`})
	if want := `{"engaged":true,"carrier":null,"reason":"maintenance"}`; w.Code != 200 || w.Body.String() != want || get("/api/v1/kill-switch") != want {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	w = s.do(request{method: "PUT", path: "/api/v1/kill-switch", token: "operator", body: `{"engaged":true,"carrier":"` + knownCarrier + `","reason":"m"}`})
	if want := `{"engaged":true,"carrier":"prod-dal10-carrier3","reason":"m"}`; w.Body.String() != want || get("/api/v1/kill-switch?carrier="+knownCarrier) != want {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	put := func(body string) request {
		return request{method: "PUT", path: "/api/v1/kill-switch", token: "operator", body: body}
	}
	// A switch that a file holds is not turned off by the order, and the answer does not say so.
	s.files[knownCarrier] = "bad night (file kill-switch)"
	w = s.do(put(`{"engaged":false,"carrier":"` + knownCarrier + `","reason":"over"}`))
	if want := `{"engaged":true,"carrier":"prod-dal10-carrier3","reason":"bad night (file kill-switch)"}`; w.Code != 200 || w.Body.String() != want {
		t.Errorf("%d %s, want %s", w.Code, w.Body, want)
	}
	w = s.do(put(`{"engaged":false,"reason":"over"}`))
	if want := `{"engaged":false,"carrier":null,"reason":null}`; w.Code != 200 || w.Body.String() != want {
		t.Errorf("%d %s, want %s", w.Code, w.Body, want)
	}
	s.wantProblem(t, put(`{}`), 400, "bad-parameters", `"field":"engaged"`, `"field":"reason"`)
	s.wantProblem(t, put(`{"engaged":true,"reason":"x","carrier":"none"}`), 404, "no-such-carrier")
	s.wantProblem(t, put(`{"engaged":"yes","reason":"x"}`), 400, "bad-parameters", `"field":"engaged"`)
}

func TestConfirmCarrier(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	confirm := func(carrier, token, body string) request {
		return request{method: "POST", path: "/api/v1/carriers/" + carrier + "/confirm", token: token, body: body}
	}
	w := s.do(confirm(knownCarrier, "admin", `{"reason":" restored "}`))
	if w.Code != 200 || !strings.Contains(w.Body.String(), `"carrier":"`+knownCarrier+`"`) {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	if want := knownCarrier + " by admin: restored"; len(s.confirmed) != 1 || s.confirmed[0] != want {
		t.Errorf("confirmed %q, want %q", s.confirmed, want)
	}
	s.wantProblem(t, confirm(knownCarrier, "approver", `{"reason":"x"}`), 403, "forbidden")
	s.wantProblem(t, confirm("far", "admin", `{"reason":"x"}`), 404, "no-such-carrier")
	s.wantProblem(t, confirm(knownCarrier, "admin", `{}`), 400, "bad-parameters")
	s.orderErr = &playbook.RefusedError{Why: "the mode is observe"}
	s.wantProblem(t, confirm(knownCarrier, "admin", `{"reason":"x"}`), 409, "refused", "observe")
	s.orderErr = api.ErrCarrier
	s.wantProblem(t, confirm(knownCarrier, "admin", `{"reason":"x"}`), 502, "carrier-unavailable")
	if len(s.confirmed) != 3 {
		t.Errorf("what was refused before it reached the carrier was asked of it: %q", s.confirmed)
	}
}
