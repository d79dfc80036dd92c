package api_test

import (
	"strings"
	"testing"

	"github.com/drydock/drydock/playbook"
)

func TestAuthorization(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.runs["r1"] = playbook.StoredRun{Run: playbook.Run{ID: "r1", Target: target, State: playbook.Triage}}
	reads := []string{"/api/v1/runs", "/api/v1/runs/r1", "/api/v1/runs/r1/explain", "/api/v1/events", "/api/v1/carriers", "/api/v1/kill-switch",
		"/api/v1/carriers/" + knownCarrier + "/daemonsets/monitoring/node-exporter/diagnosis"}
	for _, path := range reads {
		s.wantProblem(t, request{method: "GET", path: path}, 401, "unauthenticated")
		s.wantProblem(t, request{method: "GET", path: path, token: "wrong"}, 401, "unauthenticated")
		if w := s.do(request{method: "GET", path: path, token: "viewer"}); w.Code != 200 {
			t.Errorf("GET %s as a viewer: %d %s", path, w.Code, w.Body)
		}
		// The dashboard's cookie opens no API.
		s.wantProblem(t, request{method: "GET", path: path, header: map[string]string{"Cookie": "drydock_session=tok-admin"}}, 401, "unauthenticated")
	}
	for _, r := range []request{
		{method: "POST", path: "/api/v1/runs/r1/retrigger", body: `{"reason":"x"}`},
		{method: "POST", path: "/api/v1/runs/r1/cancel", body: `{}`},
		{method: "POST", path: "/api/v1/incidents/QTEST0000001/retrigger", body: `{"reason":"x"}`},
		{method: "PUT", path: "/api/v1/kill-switch", body: `{"engaged":true,"reason":"x"}`},
	} {
		s.wantProblem(t, r, 401, "unauthenticated")
		r.token = "viewer"
		s.wantProblem(t, r, 403, "forbidden")
	}
	w := s.do(request{method: "GET", path: "/api/v1/runs"})
	if got := w.Header().Get("WWW-Authenticate"); !strings.HasPrefix(got, "Bearer") {
		t.Errorf("WWW-Authenticate %q", got)
	}
}

func TestUnknownAddresses(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.wantProblem(t, request{method: "GET", path: "/nothing"}, 404, "no-such-address")
	// Below /api nothing is told to those who may not ask, not even what is there.
	for _, path := range []string{"/api", "/api/v1/nothing", "/api/v2/runs"} {
		s.wantProblem(t, request{method: "GET", path: path}, 401, "unauthenticated")
		s.wantProblem(t, request{method: "GET", path: path, token: "viewer"}, 404, "no-such-address")
	}
	s.wantProblem(t, request{method: "DELETE", path: "/api/v1/runs"}, 401, "unauthenticated")
	// A slash too many leads nowhere: a redirect would be told to everybody.
	s.wantProblem(t, request{method: "GET", path: "/api/v1/runs/"}, 401, "unauthenticated")
	s.wantProblem(t, request{method: "GET", path: "/api/v1/runs/", token: "viewer"}, 404, "no-such-address")
	for path, field := range map[string]string{"mon_x/agent": "namespace", "Mon/agent": "namespace", "mon/Agent": "name", "a.b/agent": "namespace", "mon/-a": "name"} {
		namespace, name, _ := strings.Cut(path, "/")
		s.wantProblem(t, request{method: "GET", token: "viewer", path: "/api/v1/carriers/" + knownCarrier + "/daemonsets/" + namespace + "/" + name + "/diagnosis"},
			400, "bad-parameters", `"field":"`+field+`"`)
	}
	s.wantProblem(t, request{method: "GET", path: "/webhooks/pagerduty"}, 405, "method-not-allowed")
	s.wantProblem(t, request{method: "DELETE", path: "/api/v1/runs", token: "admin"}, 405, "method-not-allowed")
	s.wantProblem(t, request{method: "GET", path: "/api/v1/runs/none", token: "viewer"}, 404, "no-such-run")
	s.wantProblem(t, request{method: "GET", path: "/api/v1/carriers/none/daemonsets/a/b/diagnosis", token: "viewer"}, 404, "no-such-carrier")
	s.wantProblem(t, request{method: "GET", path: "/api/v1/kill-switch?carrier=none", token: "viewer"}, 404, "no-such-carrier")
}
