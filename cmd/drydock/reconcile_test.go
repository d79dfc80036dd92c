package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/drydock/drydock/incident"
	"github.com/drydock/drydock/migrations"
	"github.com/drydock/drydock/playbook"
	"github.com/drydock/drydock/store"
	"github.com/drydock/drydock/store/privatepg/pgtest"
)

// town is a PagerDuty with several incidents, whose clock is the test's.
type town struct {
	account

	mu        sync.Mutex
	clock     time.Time
	incidents []incident.Incident
	alertsOf  map[string][]incident.Alert
	log       map[string][]incident.LogEntry
	subs      []incident.Subscription
	forbidden bool // to enable subscriptions
	reads     []string
}

func (w *town) find(id string) *incident.Incident {
	for i := range w.incidents {
		if w.incidents[i].ID == id {
			return &w.incidents[i]
		}
	}
	return nil
}

func (w *town) GetIncident(_ context.Context, id string) (incident.Incident, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reads = append(w.reads, id)
	if in := w.find(id); in != nil {
		return *in, w.err("get")
	}
	return incident.Incident{}, incident.ErrNotFound
}

func (w *town) OpenIncidents(context.Context, []string) ([]incident.Incident, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var open []incident.Incident
	for _, in := range w.incidents {
		if in.Open() {
			open = append(open, in)
		}
	}
	return open, w.err("list")
}

func (w *town) ListAlerts(_ context.Context, id string) ([]incident.Alert, error) {
	return w.alertsOf[id], w.err("alerts")
}

func (w *town) LogEntries(_ context.Context, id string, since time.Time) ([]incident.LogEntry, error) {
	return slices.DeleteFunc(slices.Clone(w.log[id]), func(e incident.LogEntry) bool {
		return e.CreatedAt.Before(since.Truncate(time.Second))
	}), w.err("log")
}

func (w *town) Subscriptions(context.Context) ([]incident.Subscription, error) {
	return slices.Clone(w.subs), w.err("subscriptions")
}

func (w *town) EnableSubscription(_ context.Context, id string) error {
	if w.forbidden {
		return fmt.Errorf("enable: %w", incident.ErrUnauthorized)
	}
	for i := range w.subs {
		if w.subs[i].ID == id {
			w.subs[i].Disabled = false
		}
	}
	return nil
}

// trigger opens an incident; the clock goes on by a minute with everything that happens.
func (w *town) trigger(title string, alerts ...incident.Alert) string {
	w.clock = w.clock.Add(time.Minute)
	id := fmt.Sprintf("QTEST%07d", len(w.incidents)+1)
	w.incidents = append(w.incidents, incident.Incident{ID: id, Number: len(w.incidents) + 1, Title: title, Status: incident.StatusTriggered,
		CreatedAt: w.clock, LastStatusChangeAt: w.clock, AlertCount: len(alerts)})
	w.alertsOf[id] = alerts
	return id
}

func (w *town) change(id, status, entry string) {
	w.clock = w.clock.Add(time.Minute)
	in := w.find(id)
	in.Status, in.LastStatusChangeAt = status, w.clock
	w.log[id] = append(w.log[id], incident.LogEntry{ID: fmt.Sprint("R", len(w.log[id])), Type: entry, CreatedAt: w.clock})
}

func (w *town) resolve(id string) { w.change(id, incident.StatusResolved, incident.LogResolved) }
func (w *town) reopen(id string) {
	w.change(id, incident.StatusTriggered, "reopen_log_entry")
}
func (w *town) acknowledge(id string) {
	w.change(id, incident.StatusAcknowledged, "acknowledge_log_entry")
}

// reconciling is a reconciler on a real database, with a PagerDuty whose clock is an hour behind ours.
type reconciling struct {
	*testing.T
	*reconciler
	town *town
	st   *store.Store
	page *pages
}

func newReconciling(t *testing.T) *reconciling {
	t.Helper()
	w := &town{clock: time.Now().Add(-time.Hour).UTC().Truncate(time.Second), alertsOf: map[string][]incident.Alert{}, log: map[string][]incident.LogEntry{}}
	w.fail = map[string]error{}
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	st, err := store.Open(t.Context(), store.Options{DatabaseURL: pgtest.New(t, migrations.Up), Node: "one/1", BackupKey: make([]byte, 32), Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(st.Close)
	p, _ := newTestPager(t, newAccount())
	page := newPages(t)
	alerter, err := incident.NewSelfAlerter(incident.SelfAlerterConfig{EventsURL: page.server.URL, RoutingKey: "key"})
	if err != nil {
		t.Fatal(err)
	}
	find := &lookup{client: w, rules: p.rules, carriers: func() []string { return []string{"prod-dal10-carrier3"} }, policy: func(playbook.Target) playbook.Policy {
		return playbook.Policy{Mode: playbook.ModeAct, Timing: playbook.DefaultTiming()}
	}}
	r := &reconciler{store: st, find: find, publicURL: "https://drydock.example.com", period: time.Minute, now: time.Now, log: log,
		alert: &selfAlert{alerter: alerter, log: log}}
	return &reconciling{T: t, reconciler: r, town: w, st: st, page: page}
}

// pages is an Events API that notes what it is told.
type pages struct {
	server  *httptest.Server
	mu      sync.Mutex
	told    []string
	ofKey   map[string][]string
	refuses bool
}

func newPages(t *testing.T) *pages {
	p := &pages{ofKey: map[string][]string{}}
	p.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var event struct {
			Action string `json:"event_action"`
			Key    string `json:"dedup_key"`
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		if err := json.NewDecoder(r.Body).Decode(&event); err != nil || p.refuses {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		p.told = append(p.told, event.Action)
		p.ofKey[event.Key] = append(p.ofKey[event.Key], event.Action)
		w.WriteHeader(http.StatusAccepted)
		_, _ = io.WriteString(w, `{"status":"success"}`)
	}))
	t.Cleanup(p.server.Close)
	return p
}

func (p *pages) sent() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.told)
}

// about are the actions of one alert.
func (p *pages) about(key string) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.ofKey[key])
}

// open reports whether an alert was raised and not taken back since.
func (p *pages) open(key string) bool {
	said := p.about(key)
	return len(said) > 0 && said[len(said)-1] == "trigger"
}

func (p *pages) refuse(refuses bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuses = refuses
}

// runs are the incident's runs with their triggers, oldest first.
func (b *reconciling) runs(id string) []playbook.Run {
	b.Helper()
	page, err := b.st.Runs(b.Context(), playbook.RunFilter{Incident: id})
	if err != nil {
		b.Fatal(err)
	}
	slices.Reverse(page.Runs)
	return page.Runs
}

func (b *reconciling) wantRuns(what, id string, want int) {
	b.Helper()
	b.reconciler.round(b.Context())
	if got := len(b.runs(id)); got != want {
		b.Errorf("%s: the incident has %d runs, want %d", what, got, want)
	}
}

// end ends the newest run of an incident.
func (b *reconciling) end(id string, state playbook.State) {
	b.Helper()
	runs := b.runs(id)
	h, err := b.st.Acquire(b.Context(), runs[len(runs)-1].ID)
	if err != nil {
		b.Fatal(err)
	}
	defer h.Release()
	r, now, err := b.st.Load(b.Context(), h)
	if err != nil {
		b.Fatal(err)
	}
	r.State, r.Outcome = state, playbook.Outcome(state)
	if _, err := b.st.Commit(b.Context(), h, playbook.Commit{Run: r, Tick: playbook.Tick{At: now}}); err != nil {
		b.Fatal(err)
	}
}

func (b *reconciling) reads() int {
	b.town.mu.Lock()
	defer b.town.mu.Unlock()
	return len(b.town.reads)
}

// TestReconcile plays what no webhook told of. PagerDuty's clock and the database's are an hour apart all the time.
func TestReconcile(t *testing.T) {
	t.Parallel()
	b := newReconciling(t)
	id := b.town.trigger(nodeExporterTitle)
	b.wantRuns("its webhook was lost", id, 1)
	if r := b.runs(id)[0]; r.Trigger != playbook.TriggerReconcile || r.Target != testTarget {
		t.Errorf("the run is %+v", r)
	}
	b.wantRuns("listed again", id, 1)

	b.end(id, playbook.StateEscalated)
	b.wantRuns("handed over and still open", id, 1)
	b.town.acknowledge(id)
	b.wantRuns("acknowledged after the hand-over", id, 1)
	before := b.reads()
	for range 5 {
		b.wantRuns("nothing has changed", id, 1)
	}
	if n := b.reads() - before; n != 0 {
		t.Errorf("an incident that did not change was read %d times", n)
	}
	b.town.resolve(id)
	b.wantRuns("resolved by a person", id, 1)
	b.town.reopen(id)
	b.wantRuns("reopened", id, 2)

	b.end(id, playbook.StateResolved)
	b.town.resolve(id)
	b.wantRuns("resolved by us", id, 2)
	b.town.reopen(id)
	b.wantRuns("reopened after we resolved it", id, 3)
	b.town.resolve(id)
	b.end(id, playbook.StateStoodDown)
	b.wantRuns("resolved by others", id, 3)
	b.town.reopen(id)
	b.wantRuns("reopened after others resolved it", id, 4)
	b.town.acknowledge(id)
	b.end(id, playbook.StateStoodDown)
	for range 3 {
		b.wantRuns("taken over by a person, and not reopened since", id, 4)
	}
}

// TestReconcileNearTheEnd: the incident is resolved and reopened before the tick that ends the run commits.
func TestReconcileNearTheEnd(t *testing.T) {
	t.Parallel()
	for _, end := range []playbook.State{playbook.StateResolved, playbook.StateStoodDown} {
		t.Run(string(end), func(t *testing.T) {
			t.Parallel()
			b := newReconciling(t)
			id := b.town.trigger(nodeExporterTitle)
			b.wantRuns("triggered", id, 1)
			b.town.resolve(id)
			b.town.reopen(id)
			b.wantRuns("while its run goes on", id, 1)
			b.end(id, end)
			b.wantRuns("after its end", id, 2)
		})
	}
}

func TestReconcileReadsAlertsOnce(t *testing.T) {
	t.Parallel()
	b := newReconciling(t)
	const vague = "KubeDaemonSetRolloutStuck"
	about := func(daemonset string) incident.Alert {
		return incident.Alert{ID: "A1", Status: incident.StatusTriggered, Details: map[string]any{
			"alertname": vague, "cluster": "prod-dal10-carrier3", "namespace": "tools", "daemonset": daemonset}}
	}
	named, unnamed := b.town.trigger(vague, about("my-agent")), b.town.trigger(vague)
	other := b.town.trigger("coffee machine is empty")
	for range 3 {
		b.wantRuns("its alert names the target", named, 1)
		b.wantRuns("no alert does", unnamed, 0)
		b.wantRuns("about something else", other, 0)
	}
	if n := b.reads(); n != 2 {
		t.Errorf("%d reads (%v), want one for each incident that asks for it", n, b.town.reads)
	}
	b.town.alertsOf[unnamed] = append(b.town.alertsOf[unnamed], about("your-agent"))
	b.town.find(unnamed).AlertCount++
	b.wantRuns("a late alert says it", unnamed, 1)
}

func TestReconcileLeavesTheYoung(t *testing.T) {
	t.Parallel()
	b := newReconciling(t)
	b.town.clock = time.Now()
	id := b.town.trigger(nodeExporterTitle)
	b.wantRuns("its webhook is on its way", id, 0)
	b.wantRuns("it did not come", id, 1)
}

func TestReconcileBoundsItsReads(t *testing.T) {
	t.Parallel()
	b := newReconciling(t)
	for range looksPerRound + 5 {
		b.town.trigger(nodeExporterTitle)
	}
	b.round(t.Context())
	if n := b.reads(); n != looksPerRound {
		t.Errorf("%d incidents were read in the first round, want %d", n, looksPerRound)
	}
	b.round(t.Context())
	if n := b.reads(); n != looksPerRound+5 {
		t.Errorf("%d incidents were read in two rounds, want %d", n, looksPerRound+5)
	}
}

// TestReconcileAfterTrouble: what could not be read is read in a later round.
func TestReconcileAfterTrouble(t *testing.T) {
	t.Parallel()
	b := newReconciling(t)
	id := b.town.trigger(nodeExporterTitle)
	for _, call := range []string{"list", "get"} {
		b.town.fail[call] = incident.ErrUnavailable
		b.wantRuns(call+" fails", id, 0)
		delete(b.town.fail, call)
	}
	b.wantRuns("PagerDuty is back", id, 1)
}

// TestReconcileRuns: at its start at once, then by turns with the other replicas.
func TestReconcileRuns(t *testing.T) {
	t.Parallel()
	b := newReconciling(t)
	if _, err := b.st.Turn(t.Context(), "reconcile", 0); err != nil { // another replica has just made a round
		t.Fatal(err)
	}
	id := b.town.trigger(nodeExporterTitle)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); b.run(ctx) }()
	eventually(t, "the run of an incident from before the start", func() bool { return len(b.runs(id)) == 1 })
	cancel()
	<-done
}

func TestDisabledSubscription(t *testing.T) {
	t.Parallel()
	b := newReconciling(t)
	b.town.subs = []incident.Subscription{
		{ID: "PSUB001", URL: "https://drydock.example.com/webhooks/pagerduty", Active: true},
		{ID: "PSUB002", URL: "https://other.example.com/webhooks/pagerduty", Active: true, Disabled: true},
		{ID: "PSUB003", URL: "https://drydock.example.com/else", Active: true, Disabled: true},
	}
	steps := []struct {
		what     string
		before   func()
		pages    []string
		disabled bool
	}{
		{what: "nothing of ours is disabled"},
		{what: "disabled, and may not be enabled", before: func() { b.town.subs[0].Disabled, b.town.forbidden = true, true }, pages: []string{"trigger"}, disabled: true},
		{what: "still", pages: []string{"trigger"}, disabled: true},
		{what: "may be enabled", before: func() { b.town.forbidden = false }, pages: []string{"trigger"}},
		{what: "is seen to be enabled", pages: []string{"trigger", "resolve"}},
		{what: "nothing more", pages: []string{"trigger", "resolve"}},
		{what: "disabled again, and enabled at once", before: func() { b.town.subs[0].Disabled = true }, pages: []string{"trigger", "resolve", "trigger"}},
		{what: "seen by a replica that began since", before: func() { b.reconciler.denied = false }, pages: []string{"trigger", "resolve", "trigger", "resolve"}},
		{what: "may not be listed", before: func() { b.town.fail["subscriptions"] = incident.ErrUnauthorized }, pages: []string{"trigger", "resolve", "trigger", "resolve"}},
	}
	for _, step := range steps {
		if step.before != nil {
			step.before()
		}
		b.round(t.Context())
		if diff := cmp.Diff(step.pages, b.page.sent()); diff != "" {
			t.Errorf("%s: pages (-want +got):\n%s", step.what, diff)
		}
		if got := b.town.subs[0].Disabled; got != step.disabled {
			t.Errorf("%s: disabled is %t", step.what, got)
		}
	}
	if !b.town.subs[1].Disabled || !b.town.subs[2].Disabled {
		t.Error("a stranger's subscription was enabled")
	}
}
