package api_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/drydock/drydock/api"
	"github.com/drydock/drydock/incident"
	"github.com/drydock/drydock/playbook"
)

const (
	webhookSecret = "whsec-test"
	knownCarrier  = "prod-dal10-carrier3"
	runTitle      = "blumemix.containers-kubernetes.prod-dal10-carrier3.not_running_all_node-exporter_demonsets.us-south"
)

var (
	t0     = time.Date(2026, 11, 22, 3, 4, 5, 678_900_000, time.UTC)
	target = playbook.Target{Carrier: knownCarrier, Namespace: "monitoring", DaemonSet: "node-exporter"}
)

// fakes stand in for everything behind the API. A field that is set wins over the fake's own behaviour.
type fakes struct {
	mu       sync.Mutex
	arrivals []playbook.Arrival
	filter   playbook.RunFilter
	started  []playbook.Start
	switches map[string]api.KillSwitch

	runs       map[string]playbook.StoredRun
	page       playbook.RunPage
	eventPage  api.EventPage
	incidents  map[string]api.IncidentNow
	acceptErr  error
	historyErr error
	orderErr   error
	readErr    error
	databaseUp error
	diagnosis  api.Diagnosis
}

func (f *fakes) Accept(_ context.Context, a playbook.Arrival) (playbook.EventRecord, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.acceptErr != nil {
		return playbook.EventRecord{}, f.acceptErr
	}
	r := playbook.EventRecord{ID: fmt.Sprintf("ev-%d", len(f.arrivals)+1), Type: a.Type, Incident: a.IncidentID, ReceivedAt: t0}
	switch {
	case a.Start != nil:
		r.Outcome, r.Run = playbook.EventStarted, a.Start.RunID
	default:
		r.Outcome, r.Reason = playbook.EventIgnored, a.Reason
	}
	f.arrivals = append(f.arrivals, a)
	return r, nil
}

func (f *fakes) Events(context.Context, int, string) (api.EventPage, error) {
	return f.eventPage, f.historyErr
}

func (f *fakes) Runs(_ context.Context, filter playbook.RunFilter) (playbook.RunPage, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.filter = filter
	return f.page, f.historyErr
}

func (f *fakes) Run(_ context.Context, id string) (playbook.StoredRun, error) {
	if f.historyErr != nil {
		return playbook.StoredRun{}, f.historyErr
	}
	r, ok := f.runs[id]
	if !ok {
		return r, fmt.Errorf("read run %s: %w", id, playbook.ErrNoRun)
	}
	return r, nil
}

func (f *fakes) Retrigger(_ context.Context, s playbook.Start) (playbook.Run, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.orderErr != nil {
		return playbook.Run{}, f.orderErr
	}
	r := playbook.Run{ID: s.RunID, Target: s.Target, Incidents: []playbook.RunIncident{s.Incident}, Trigger: s.Trigger, Mode: s.Mode,
		RetriggeredFrom: s.RetriggeredFrom, RequestedBy: s.RequestedBy, Reason: s.Reason, State: playbook.Triage, StartedAt: t0, Deadline: t0.Add(s.Deadline)}
	f.started = append(f.started, s)
	f.runs[r.ID] = playbook.StoredRun{Run: r}
	return r, nil
}

func (f *fakes) Cancel(_ context.Context, id, _, _ string) error {
	if f.orderErr != nil {
		return f.orderErr
	}
	r, ok := f.runs[id]
	switch {
	case !ok:
		return playbook.ErrNoRun
	case r.State.Ended():
		return api.ErrRunEnded
	}
	return nil
}

func (f *fakes) Approve(_ context.Context, id, hash, _ string) error {
	r, ok := f.runs[id]
	switch {
	case !ok:
		return playbook.ErrNoRun
	case r.State != playbook.AwaitingApproval:
		return api.ErrNotAwaitingApproval
	case r.PlanHash != hash:
		return api.ErrPlanChanged
	}
	return nil
}

func (f *fakes) KillSwitch(_ context.Context, carrier string) (api.KillSwitch, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.switches[carrier], f.orderErr
}

func (f *fakes) SetKillSwitch(_ context.Context, k api.KillSwitch, _ string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.switches[k.Carrier] = k
	return f.orderErr
}

func (f *fakes) Read(_ context.Context, id string) (api.IncidentNow, error) {
	if f.readErr != nil {
		return api.IncidentNow{}, f.readErr
	}
	in, ok := f.incidents[id]
	if !ok {
		return in, api.ErrNoIncident
	}
	return in, nil
}

func (f *fakes) Names() []string { return []string{knownCarrier} }

func (f *fakes) Reach(context.Context) []api.CarrierStatus {
	return []api.CarrierStatus{{Name: knownCarrier, Mode: "act", Why: "connection refused"}}
}

func (f *fakes) Diagnose(context.Context, playbook.Target) (api.Diagnosis, error) {
	return f.diagnosis, nil
}

type server struct {
	*fakes
	*api.Server
	alarms []bool
	log    *bytes.Buffer
}

func tokenOf(name string, role api.Role) api.Token {
	return api.Token{Name: name, Role: role, SHA256: sha256.Sum256([]byte("tok-" + name))}
}

func newServer(t *testing.T, change ...func(*api.Options)) *server {
	t.Helper()
	s := &server{
		fakes: &fakes{
			switches: map[string]api.KillSwitch{},
			runs:     map[string]playbook.StoredRun{}, incidents: map[string]api.IncidentNow{},
		},
		log: &bytes.Buffer{},
	}
	rules, err := incident.NewRules(incident.RuleConfig{})
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := incident.NewVerifier([]string{webhookSecret}, func(_ string, raised bool) { s.alarms = append(s.alarms, raised) })
	if err != nil {
		t.Fatal(err)
	}
	ids := 0
	o := api.Options{
		Intake: s.fakes, History: s.fakes, Orders: s.fakes, Incidents: s.fakes, Carriers: s.fakes, Signatures: verifier, Rules: rules,
		Policy: func(playbook.Target) playbook.Policy {
			return playbook.Policy{Mode: playbook.ModeAct, Timing: playbook.DefaultTiming()}
		},
		Tokens:  api.Tokens{tokenOf("viewer", api.Viewer), tokenOf("operator", api.Operator), tokenOf("approver", api.Approver), tokenOf("admin", api.Admin)},
		Parts:   []api.Part{{Name: "database", Check: func(context.Context) error { return s.databaseUp }}},
		Metrics: prometheus.NewRegistry(), Log: slog.New(slog.NewTextHandler(s.log, nil)), Now: func() time.Time { return t0 },
		NewID: func() string { ids++; return fmt.Sprintf("run-%d", ids) }, Version: "test",
	}
	for _, c := range change {
		c(&o)
	}
	s.Server = api.New(o)
	return s
}

type request struct {
	method, path, token, body string
	header                    map[string]string
}

func (s *server) do(r request) *httptest.ResponseRecorder {
	req := httptest.NewRequest(r.method, r.path, strings.NewReader(r.body))
	if r.token != "" {
		req.Header.Set("Authorization", "Bearer tok-"+r.token)
	}
	for k, v := range r.header {
		req.Header.Set(k, v)
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, req)
	return w
}

func sign(body string) string {
	mac := hmac.New(sha256.New, []byte(webhookSecret))
	mac.Write([]byte(body))
	return "v1=" + hex.EncodeToString(mac.Sum(nil))
}

// problemOf reads a problem and checks what every one must have.
func problemOf(t *testing.T, w *httptest.ResponseRecorder) map[string]any {
	t.Helper()
	if got := w.Header().Get("Content-Type"); got != "application/problem+json" {
		t.Errorf("Content-Type %q, want application/problem+json", got)
	}
	var p map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil {
		t.Fatalf("problem is not JSON: %v: %s", err, w.Body)
	}
	if p["status"] != float64(w.Code) || p["title"] == "" || p["request_id"] == "" || p["type"] == "" {
		t.Errorf("problem is incomplete: %s", w.Body)
	}
	return p
}

func (s *server) wantProblem(t *testing.T, r request, status int, name string, contains ...string) {
	t.Helper()
	w := s.do(r)
	if w.Code != status {
		t.Fatalf("%s %s: status %d, want %d: %s", r.method, r.path, w.Code, status, w.Body)
	}
	p := problemOf(t, w)
	if p["type"] != "/problems/"+name {
		t.Errorf("%s %s: type %v, want /problems/%s", r.method, r.path, p["type"], name)
	}
	for _, c := range contains {
		if !strings.Contains(w.Body.String(), c) {
			t.Errorf("%s %s: answer lacks %q: %s", r.method, r.path, c, w.Body)
		}
	}
	if page := s.do(request{method: "GET", path: p["type"].(string)}); page.Code != 200 {
		t.Errorf("%v leads to no page: %d", p["type"], page.Code)
	}
}

func event(kind, title string) string {
	return fmt.Sprintf(`{"event":{"id":"01EVENT","event_type":%q,"resource_type":"incident","occurred_at":"2026-11-22T03:00:00.000Z",
		"agent":null,"client":null,"data":{"id":"QTEST0000001","type":"incident","number":3786454,"status":"triggered",
		"title":%q,"html_url":"https://example.pagerduty.com/incidents/QTEST0000001"}}}`, kind, title)
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
	s.wantProblem(t, request{method: "GET", path: "/webhooks/pagerduty"}, 405, "method-not-allowed")
	s.wantProblem(t, request{method: "DELETE", path: "/api/v1/runs", token: "admin"}, 405, "method-not-allowed")
	s.wantProblem(t, request{method: "GET", path: "/api/v1/runs/none", token: "viewer"}, 404, "no-such-run")
	s.wantProblem(t, request{method: "GET", path: "/api/v1/carriers/none/daemonsets/a/b/diagnosis", token: "viewer"}, 404, "no-such-carrier")
	s.wantProblem(t, request{method: "GET", path: "/api/v1/kill-switch?carrier=none", token: "viewer"}, 404, "no-such-carrier")
}

func TestRunFilters(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.page = playbook.RunPage{Next: "c2"}
	w := s.do(request{method: "GET", token: "viewer", path: "/api/v1/runs?carrier=c&daemonset=d&namespace=n&state=draining&finding=node_full&outcome=resolved" +
		"&incident=Q1&trigger=retrigger&since=2026-11-22T04:00:00%2B01:00&until=2026-11-23T00:00:00Z&limit=200&cursor=c1"})
	if w.Code != 200 || w.Body.String() != `{"items":[],"next_cursor":"c2"}` {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	want := playbook.RunFilter{Carrier: "c", DaemonSet: "d", Namespace: "n", State: playbook.Draining, Finding: playbook.FindingNodeFull,
		Outcome: playbook.OutcomeResolved, Incident: "Q1", Trigger: playbook.TriggerRetrigger, Limit: 200, Cursor: "c1",
		Since: time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC), Until: time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)}
	if s.filter != want {
		t.Errorf("filter %+v, want %+v", s.filter, want)
	}
	s.do(request{method: "GET", token: "viewer", path: "/api/v1/runs"})
	if s.filter.Limit != 50 {
		t.Errorf("default limit %d, want 50", s.filter.Limit)
	}
	for query, field := range map[string]string{
		"limit=0": "limit", "limit=201": "limit", "limit=ten": "limit", "limit=": "limit", "colour=red": "colour", "state=sleeping": "state",
		"finding=x": "finding", "outcome=x": "outcome", "trigger=x": "trigger", "since=yesterday": "since", "until=2026-11-22": "until",
		"carrier=a&carrier=b": "carrier", "carrier=": "carrier", "carrier=%FF": "carrier", "carrier=%00": "carrier",
		"since=2026-11-23T00:00:00Z&until=2026-11-22T00:00:00Z": "until",
	} {
		s.wantProblem(t, request{method: "GET", token: "viewer", path: "/api/v1/runs?" + query}, 400, "bad-parameters", `"field":"`+field+`"`)
	}
	s.wantProblem(t, request{method: "GET", token: "viewer", path: "/api/v1/runs?limit=0&state=x&y=1"}, 400, "bad-parameters",
		`"field":"limit"`, `"field":"state"`, `"field":"y"`)
	s.wantProblem(t, request{method: "GET", token: "viewer", path: "/api/v1/events?carrier=x"}, 400, "bad-parameters", `"field":"carrier"`)
	s.wantProblem(t, request{method: "GET", token: "viewer", path: "/api/v1/runs/r1?x=1"}, 400, "bad-parameters", `"field":"x"`)
	s.historyErr = fmt.Errorf("%w: malformed", api.ErrBadCursor)
	s.wantProblem(t, request{method: "GET", token: "viewer", path: "/api/v1/runs?cursor=zzz"}, 400, "bad-parameters", `"field":"cursor"`)
	s.wantProblem(t, request{method: "GET", token: "viewer", path: "/api/v1/events?cursor=zzz"}, 400, "bad-parameters", `"field":"cursor"`)
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

func TestRetrigger(t *testing.T) {
	t.Parallel()
	ended := playbook.StoredRun{Run: playbook.Run{ID: "old", Target: target, State: playbook.StateEscalated,
		Incidents: []playbook.RunIncident{{ID: "QGONE0000001"}, {ID: "QDONE0000001"}, {ID: "QOPEN0000001"}}}}
	open := api.IncidentNow{Open: true, Target: target, Incident: playbook.RunIncident{ID: "QOPEN0000001", Number: 7, Title: runTitle}}
	setUp := func(t *testing.T) *server {
		s := newServer(t)
		s.runs["old"] = ended
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
		from := ""
		if strings.Contains(path, "/runs/") {
			from = "old"
		}
		if start.RetriggeredFrom != from {
			t.Errorf("%s: retriggered from %q, want %q", path, start.RetriggeredFrom, from)
		}
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
	r.token = "admin" // another client's key is another key
	if w := s.do(r); w.Code != 201 {
		t.Errorf("another client: %d %s", w.Code, w.Body)
	}
	r.header["Idempotency-Key"] = strings.Repeat("k", 300)
	s.wantProblem(t, r, 400, "bad-parameters", "Idempotency-Key")
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
	s.wantProblem(t, put(`{}`), 400, "bad-parameters", `"field":"engaged"`, `"field":"reason"`)
	s.wantProblem(t, put(`{"engaged":true,"reason":"x","carrier":"none"}`), 404, "no-such-carrier")
	s.wantProblem(t, put(`{"engaged":"yes","reason":"x"}`), 400, "bad-parameters", `"field":"engaged"`)
}

func TestProbes(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	if w := s.do(request{method: "GET", path: "/healthz"}); w.Code != 200 {
		t.Errorf("healthz %d", w.Code)
	}
	if w := s.do(request{method: "GET", path: "/readyz"}); w.Code != 200 || w.Body.String() != `{"parts":{"database":"ok"},"status":"ok"}` {
		t.Errorf("readyz %d %s", w.Code, w.Body)
	}
	s.databaseUp = errors.New("dial tcp secret.internal: refused")
	s.wantProblem(t, request{method: "GET", path: "/readyz"}, 503, "not-ready", `"database":"failing"`)
	if w := s.do(request{method: "GET", path: "/healthz"}); w.Code != 200 {
		t.Errorf("healthz with the database down: %d", w.Code)
	}
}

func TestReadyzDoesNotWaitForever(t *testing.T) {
	t.Parallel()
	stuck := make(chan struct{})
	defer close(stuck)
	s := newServer(t, func(o *api.Options) {
		o.Parts = []api.Part{{Name: "stuck", Check: func(context.Context) error { <-stuck; return nil }}}
	})
	s.wantProblem(t, request{method: "GET", path: "/readyz"}, 503, "not-ready", `"stuck":"failing"`)
}

func TestAPanicIsAnAnswer(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(o *api.Options) { o.History = nil })
	s.wantProblem(t, request{method: "GET", path: "/api/v1/runs", token: "viewer"}, 500, "internal")
	if !strings.Contains(s.log.String(), "handler panicked") {
		t.Error("the log does not tell of the panic")
	}
}

func TestHeaders(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	for _, path := range []string{"/", "/healthz", "/api/v1/runs", "/login", "/static/drydock.css"} {
		h := s.do(request{method: "GET", path: path}).Header()
		csp := h.Get("Content-Security-Policy")
		if !strings.Contains(csp, "default-src 'none'") || strings.Contains(csp, "unsafe") || h.Get("X-Content-Type-Options") != "nosniff" ||
			h.Get("X-Request-Id") == "" {
			t.Errorf("%s: headers %v", path, h)
		}
	}
	w := s.do(request{method: "GET", path: "/healthz", header: map[string]string{"X-Request-Id": "abc-1"}})
	if w.Header().Get("X-Request-Id") != "abc-1" {
		t.Error("a request id from outside is not kept")
	}
	w = s.do(request{method: "GET", path: "/healthz", header: map[string]string{"X-Request-Id": "a b\x1b"}})
	if strings.Contains(w.Header().Get("X-Request-Id"), "\x1b") {
		t.Error("a request id with control characters is kept")
	}
}
