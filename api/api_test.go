package api_test

import (
	"bytes"
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
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

	statsFilter playbook.StatsFilter
	auditFilter api.AuditFilter
	asked       []string // the carriers that events were asked for

	started   []playbook.Start
	confirmed []string
	switches  map[string]api.KillSwitch
	files     map[string]string // kill-switch files, by carrier
	keys      map[string]*keyed
	orders    int // cancels and approvals

	runs      map[string]playbook.StoredRun
	page      playbook.RunPage
	eventPage api.EventPage
	auditPage api.AuditPage
	runStats  playbook.RunStats
	spent     api.Spent

	breakerUntil time.Time
	tries        []string

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

func (f *fakes) Spent(context.Context, string) (api.Spent, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.spent, f.historyErr
}

func (f *fakes) Breaker(context.Context, playbook.Target) (time.Time, []string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.breakerUntil, f.tries, f.historyErr
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

func TestHeaders(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	for _, path := range []string{"/", "/healthz", "/api/v1/runs", "/login", "/static/now/drydock.css"} {
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
