package api_test

import (
	"bytes"
	"cmp"
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

	gocmp "github.com/google/go-cmp/cmp"
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

	statsFilter playbook.StatsFilter
	auditFilter api.AuditFilter
	asked       []string // the carriers that events were asked for

	started   []playbook.Start
	confirmed []string
	switches  map[string]api.KillSwitch
	files     map[string]string // kill-switch files, by carrier
	keys      map[string]*keyed
	orders    int // cancels and approvals

	runs       map[string]playbook.StoredRun
	page       playbook.RunPage
	eventPage  api.EventPage
	auditPage  api.AuditPage
	runStats   playbook.RunStats
	changes    []playbook.RunChange
	incidents  map[string]api.IncidentNow
	acceptErr  error
	historyErr error
	orderErr   error
	readErr    error
	databaseUp error
	diagnosis  api.Diagnosis
}

// keyed is what an Idempotency-Key is bound to.
type keyed struct {
	request []byte
	done    bool
}

func (f *fakes) ClaimKey(_ context.Context, client, key string, request []byte) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	k := f.keys[client+" "+key]
	if k == nil {
		k = &keyed{request: request}
		f.keys[client+" "+key] = k
	}
	if !bytes.Equal(k.request, request) {
		return false, api.ErrKeyReused
	}
	return k.done, nil
}

func (f *fakes) KeepKey(_ context.Context, client, key string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.keys[client+" "+key].done = true
	return nil
}

func (f *fakes) FreeKey(_ context.Context, client, key string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.keys, client+" "+key)
	return nil
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

func (f *fakes) Events(_ context.Context, carriers []string, _ int, _ string) (api.EventPage, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = carriers
	return f.eventPage, f.historyErr
}

func (f *fakes) Changes(_ context.Context, id string, after int64) (playbook.RunChanges, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r, ok := f.runs[id]
	switch {
	case f.historyErr != nil:
		return playbook.RunChanges{}, f.historyErr
	case !ok:
		return playbook.RunChanges{}, playbook.ErrNoRun
	}
	c := playbook.RunChanges{Run: whole(r.Run), Last: int64(len(f.changes))}
	for _, change := range f.changes {
		if change.Seq > after {
			c.Changes = append(c.Changes, change)
		}
	}
	return c, nil
}

func (f *fakes) LastChange(_ context.Context, id string) (int64, bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r, ok := f.runs[id]
	if !ok {
		return 0, false, playbook.ErrNoRun
	}
	return int64(len(f.changes)), r.State.Ended(), f.historyErr
}

func (f *fakes) RunStats(_ context.Context, filter playbook.StatsFilter) (playbook.RunStats, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.statsFilter = filter
	return f.runStats, f.historyErr
}

func (f *fakes) Audit(_ context.Context, filter api.AuditFilter) (api.AuditPage, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.auditFilter = filter
	return f.auditPage, f.historyErr
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
	r.Run = whole(r.Run)
	return r, nil
}

// whole gives a run what every stored run has and most tests do not care about.
func whole(r playbook.Run) playbook.Run {
	r.Mode, r.Trigger = cmp.Or(r.Mode, playbook.ModeAct), cmp.Or(r.Trigger, playbook.TriggerWebhook)
	r.State = cmp.Or(r.State, playbook.Queued)
	return r
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
	f.mu.Lock()
	defer f.mu.Unlock()
	f.orders++
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
	f.mu.Lock()
	defer f.mu.Unlock()
	f.orders++
	r, ok := f.runs[id]
	switch {
	case f.orderErr != nil:
		return f.orderErr
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
	if why := f.files[carrier]; why != "" {
		return api.KillSwitch{Engaged: true, Carrier: carrier, Reason: why}, nil
	}
	k := f.switches[carrier]
	if !k.Engaged {
		k.Reason = ""
	}
	return k, f.orderErr
}

func (f *fakes) SetKillSwitch(_ context.Context, k api.KillSwitch, _ string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.switches[k.Carrier] = k
	return f.orderErr
}

func (f *fakes) ConfirmCarrier(_ context.Context, carrier, by, reason string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.confirmed = append(f.confirmed, carrier+" by "+by+": "+reason)
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
	if f.diagnosis.Finding == "" {
		return api.NewDiagnosis(target, playbook.Observation{}, playbook.Diagnosis{Finding: playbook.FindingUnknown}, nil), nil
	}
	return f.diagnosis, nil
}

type server struct {
	*fakes
	*api.Server
	t      *testing.T
	alarms []bool
	log    *bytes.Buffer
}

func tokenOf(name string, role api.Role) api.Token {
	return api.Token{Name: name, Role: role, SHA256: sha256.Sum256([]byte("tok-" + name))}
}

func newServer(t *testing.T, change ...func(*api.Options)) *server {
	t.Helper()
	return newServerFor(t, change...)
}

// newServerFor makes a server for a test, or without one for what tests share.
func newServerFor(t *testing.T, change ...func(*api.Options)) *server {
	s := &server{
		t: t,
		fakes: &fakes{
			switches: map[string]api.KillSwitch{}, files: map[string]string{}, keys: map[string]*keyed{},
			runs: map[string]playbook.StoredRun{}, incidents: map[string]api.IncidentNow{},
		},
		log: &bytes.Buffer{},
	}
	rules, err := incident.NewRules(incident.RuleConfig{})
	if err != nil {
		panic(err) // a fixture with a mistake
	}
	verifier, err := incident.NewVerifier([]string{webhookSecret}, func(_ string, raised bool) { s.alarms = append(s.alarms, raised) })
	if err != nil {
		panic(err) // a fixture with a mistake
	}
	ids := 0
	o := api.Options{
		Intake: s.fakes, History: s.fakes, Orders: s.fakes, Keys: s.fakes, Incidents: s.fakes, Carriers: s.fakes, Signatures: verifier, Rules: rules,
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
	s.conforms(r, w)
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
	if diff := gocmp.Diff(want, s.filter); diff != "" {
		t.Errorf("filter (-want +got):\n%s", diff)
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

func TestProbes(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	if w := s.do(request{method: "GET", path: "/healthz"}); w.Code != 200 {
		t.Errorf("healthz %d", w.Code)
	}
	if w := s.do(request{method: "GET", path: "/readyz"}); w.Code != 200 || w.Body.String() != `{"parts":{"database":"ok"},"status":"ok"}` {
		t.Errorf("readyz %d %s", w.Code, w.Body)
	}
	for _, path := range []string{"/healthz", "/readyz"} {
		if w := s.do(request{method: "HEAD", path: path}); w.Code != 200 {
			t.Errorf("HEAD %s: %d", path, w.Code)
		}
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
