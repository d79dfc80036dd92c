package main

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/drydock/drydock/playbook"
	"github.com/drydock/drydock/playbook/playbooktest"
	"github.com/drydock/drydock/store"
)

// collector is an OpenTelemetry collector that keeps what it is sent.
type collector struct {
	*httptest.Server
	mu    sync.Mutex
	spans []span
	auth  []string
}

func newCollector(t *testing.T) *collector {
	c := &collector{}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var doc struct {
			ResourceSpans []struct {
				ScopeSpans []struct{ Spans []span }
			}
		}
		if err := json.NewDecoder(r.Body).Decode(&doc); err != nil || r.URL.Path != "/v1/traces" || r.Header.Get("Content-Type") != "application/json" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.auth = append(c.auth, r.Header.Get("Authorization"))
		for _, rs := range doc.ResourceSpans {
			for _, ss := range rs.ScopeSpans {
				c.spans = append(c.spans, ss.Spans...)
			}
		}
	}))
	t.Cleanup(c.Close)
	return c
}

// TestOneTraceFromWebhookToLastEffect: a webhook starts a run, two replicas tick it in turns until it is handed over, and all of it
// is one tree of spans, from the webhook to the escalation, under the run's own id.
func TestOneTraceFromWebhookToLastEffect(t *testing.T) {
	t.Parallel()
	d := newTidying(t, newYard("c1", "w1"))
	col := newCollector(t)
	traces, err := newTracer(func(name string) string {
		return map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": col.URL, "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20x"}[name]
	}, d.logger())
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	sent := make(chan struct{})
	go func() { traces.run(ctx); close(sent) }()

	pager := playbooktest.NewPager(playbooktest.NewClock())
	pager.Trigger("QTEST0000001", "agent is absent")
	target := playbook.Target{Carrier: "c1", Namespace: "monitoring", DaemonSet: "agent"}
	record, err := tracedIntake{intake{d.st}, traces}.Accept(t.Context(), playbook.Arrival{WebhookID: "w", EventID: "e", Type: "incident.triggered",
		IncidentID: "QTEST0000001", OccurredAt: time.Now(), Payload: []byte("{}"), Start: &playbook.Start{Target: target, Mode: playbook.ModeAct,
			Trigger: playbook.TriggerWebhook, Deadline: 45 * time.Minute, Incident: playbook.RunIncident{ID: "QTEST0000001", Number: 1}}})
	if err != nil {
		t.Fatal(err)
	}
	logged := &buffer{}
	engine := func(st *store.Store) *playbook.Engine {
		policy := playbook.Policy{Mode: playbook.ModeAct, Installation: ours, Timing: playbook.DefaultTiming(), Limits: playbook.DefaultLimits(),
			DaemonSet: playbook.DaemonSetPolicy{Known: true, EscalationPolicy: "PARMOPS"}}
		policy.Timing.AbsentConfirm = time.Millisecond
		return &playbook.Engine{Ledger: st, Pager: pager, Clock: time.Now,
			Log:     slog.New(runHandler{Handler: slog.NewJSONHandler(logged, nil)}),
			Carrier: func(name string) (playbook.Carrier, error) { return d.yards[name], nil },
			Policy:  func(playbook.Target) playbook.Policy { return policy },
			Watch:   watchAll(nameRun, traces.watch),
			Ticked:  func(before, after playbook.Run, _ playbook.Decision) { traces.ended(before, after) }}
	}
	replicas := []*playbook.Engine{engine(d.st), engine(d.open("two/1"))}
	for n := 0; !d.run(record.Run).State.Ended(); n++ {
		if n > 50 {
			t.Fatalf("the run goes on and on: %+v", d.run(record.Run))
		}
		if err := replicas[n%2].Advance(t.Context(), record.Run); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	<-sent

	col.mu.Lock()
	defer col.mu.Unlock()
	trace, root := traceIDs(record.Run)
	if trace != strings.ReplaceAll(record.Run, "-", "") {
		t.Errorf("trace %s is not that of run %s", trace, record.Run)
	}
	ids, names := map[string]string{}, map[string]int{}
	last := span{}
	for _, s := range col.spans {
		if s.TraceID != trace {
			t.Errorf("%s is in trace %s, want %s", s.Name, s.TraceID, trace)
		}
		ids[s.SpanID] = s.Name
		names[s.Name]++
		if strings.HasPrefix(s.Name, "call ") && s.End > last.End {
			last = s
		}
	}
	for _, s := range col.spans {
		if _, ok := ids[s.Parent]; !ok && s.SpanID != root {
			t.Errorf("the parent of %s was not sent", s.Name)
		}
	}
	if ids[root] != "run" || names["run"] != 1 || names["webhook"] != 1 || names["tick"] < 2 || names["call escalate"] != 1 || last.Name != "call escalate" {
		t.Errorf("spans %v, last call %s", names, last.Name)
	}
	if !slices.Contains(col.auth, "Bearer x") {
		t.Errorf("headers %v", col.auth)
	}
	// Each line that the ticks logged names the run.
	lines := strings.Split(strings.TrimSpace(logged.String()), "\n")
	for _, line := range lines {
		var fields map[string]any
		if err := json.Unmarshal([]byte(line), &fields); err != nil || fields["run"] != record.Run || strings.Count(line, `"run":`) != 1 {
			t.Errorf("%s (%v)", line, err)
		}
	}
	if len(lines) < 3 {
		t.Errorf("only %d lines were logged", len(lines))
	}
}

// TestTracesAreOff: nothing is made or kept where no collector is named, and a wrong address is said at the start.
func TestTracesAreOff(t *testing.T) {
	t.Parallel()
	for address, fails := range map[string]bool{"": false, "collector:4318": true, "grpc://collector": true} {
		traces, err := newTracer(func(name string) string {
			if name == "OTEL_EXPORTER_OTLP_ENDPOINT" {
				return address
			}
			return ""
		}, slog.New(slog.DiscardHandler))
		if traces != nil || (err != nil) != fails {
			t.Errorf("%q: %v, %v", address, traces, err)
		}
	}
	var off *tracer
	off.fromOutside("run", "webhook", time.Now())
	off.ended(playbook.Run{}, playbook.Run{State: playbook.StateResolved})
	off.run(t.Context())
}

// TestCollectorThatIsAway costs a run nothing: what finds no room is dropped.
func TestCollectorThatIsAway(t *testing.T) {
	t.Parallel()
	traces, err := newTracer(func(name string) string {
		if name == "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT" {
			return "http://127.0.0.1:1/v1/traces"
		}
		return ""
	}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for range traceRoom + 10 {
		traces.fromOutside("r", "webhook", time.Now())
	}
	if n := len(traces.spans); n != traceRoom {
		t.Errorf("%d spans wait", n)
	}
}

func TestRunOnEveryLine(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log := slog.New(runHandler{Handler: slog.NewJSONHandler(&out, nil)})
	ctx, _ := nameRun(t.Context(), playbook.Step{Name: playbook.StepTick, Run: "r1"})
	log.InfoContext(ctx, "from the context")
	log.With("run", "r2").InfoContext(ctx, "the logger's own")
	log.InfoContext(ctx, "the line's own", "run", "r2")
	log.With("carrier", "c").WithGroup("g").InfoContext(ctx, "in a group")
	log.InfoContext(t.Context(), "of no run")
	want := []string{`"run":"r1"`, `"run":"r2"`, `"run":"r2"`, `"run":"r1"`, ``}
	for i, line := range strings.Split(strings.TrimSpace(out.String()), "\n") {
		if !strings.Contains(line, want[i]) || strings.Count(line, `"run"`) != min(1, len(want[i])) {
			t.Errorf("%s, want %s", line, want[i])
		}
	}
}
