package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/drydock/drydock/api"
)

// metricNames are those that docs/operations.md, the alert rules and the dashboard may rely on. Removing one breaks somebody.
var metricNames = []string{
	"drydock_breakers_open", "drydock_budget_left", "drydock_build_info", "drydock_carrier_claims", "drydock_database_up",
	"drydock_http_request_duration_seconds", "drydock_http_requests_total", "drydock_intents_unsettled", "drydock_kill_switches_engaged",
	"drydock_last_webhook_timestamp_seconds", "drydock_obligations", "drydock_oldest_obligation_age_seconds",
	"drydock_oldest_unsettled_intent_age_seconds", "drydock_replicas", "drydock_river_jobs", "drydock_river_oldest_due_job_age_seconds",
	"drydock_runs_active", "drydock_runs_overdue", "drydock_safety_blocks_total", "drydock_self_alerts_raised",
	"drydock_tick_duration_seconds", "drydock_tick_step_duration_seconds", "drydock_webhook_bad_signatures_total",
	"drydock_webhook_events_total",
}

// laterMetrics appear with the first run that ends, the first call, PagerDuty's first answer.
var laterMetrics = []string{"drydock_runs_total", "drydock_run_duration_seconds", "drydock_intent_calls_total", "drydock_pagerduty_rate_limit_remaining"}

// boundedLabels are the labels that may be used, and how many values each may have at most.
var boundedLabels = map[string]int{
	"state": 20, "remote": 3, "guard": 40, "kind": 20, "result": 6, "step": 10, "budget": 9, "carrier": 200, "trigger": 3, "finding": 15,
	"outcome": 6, "event_type": 20, "route": 60, "code": 60, "version": 2, "go": 1, "go_version": 1, "quantile": 5, "le": 30,
}

var (
	sample = regexp.MustCompile(`(?m)^([a-z_]+)(?:\{(.*)\})? (\S+)$`)
	label  = regexp.MustCompile(`([a-z_]+)="((?:[^"\\]|\\.)*)"`)
)

func scrape(t *testing.T, base string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// baseName is a metric's name without what a histogram's series add.
func baseName(name string) string {
	for _, suffix := range []string{"_bucket", "_count", "_sum"} {
		name = strings.TrimSuffix(name, suffix)
	}
	return name
}

// TestMetrics: a server that works a run tells all its figures, by Prometheus' rules for names, with labels of few values.
func TestMetrics(t *testing.T) {
	t.Parallel()
	s, _ := testServer(t)
	_, a := s.webhook("w1", triggered("e1", "QTEST0000001", nodeExporterTitle))
	var body string
	eventually(t, "a tick is measured", func() bool {
		body = scrape(t, s.base)
		return strings.Contains(body, "\ndrydock_database_up 1\n") && !strings.Contains(body, `drydock_tick_duration_seconds_count{result="ok"} 0`)
	})
	problems, err := promlint.New(strings.NewReader(body)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	told, values := map[string]string{}, map[string]map[string]bool{}
	for _, m := range sample.FindAllStringSubmatch(body, -1) {
		name := baseName(m[1])
		told[name] = m[3]
		if !slices.Contains(metricNames, name) && !slices.Contains(laterMetrics, name) &&
			!strings.HasPrefix(name, "drydock_go_") && !strings.HasPrefix(name, "drydock_process_") {
			t.Errorf("%s is not in the list of this test", name)
		}
		for _, l := range label.FindAllStringSubmatch(m[2], -1) {
			if boundedLabels[l[1]] == 0 {
				t.Errorf("%s has the label %s, which may have any number of values", name, l[1])
			}
			if values[l[1]] == nil {
				values[l[1]] = map[string]bool{}
			}
			values[l[1]][l[2]] = true
		}
	}
	for _, name := range metricNames {
		if told[name] == "" {
			t.Errorf("%s is missing", name)
		}
	}
	for key, seen := range values {
		if len(seen) > boundedLabels[key] {
			t.Errorf("the label %s has %d values", key, len(seen))
		}
	}
	for _, id := range []string{a["run"].(string), "QTEST0000001", "node-exporter"} {
		if strings.Contains(body, id) {
			t.Errorf("%s is among the labels", id)
		}
	}
	for name, want := range map[string]string{"drydock_database_up": "1", "drydock_replicas": "1", "drydock_kill_switches_engaged": "0"} {
		if told[name] != want {
			t.Errorf("%s is %s, want %s", name, told[name], want)
		}
	}
}

var inExpression = regexp.MustCompile(`drydock_[a-z_]+`)

// TestEveryMetricThatIsAskedForExists: an alert rule or a panel on a name that no server tells would be silent for ever.
func TestEveryMetricThatIsAskedForExists(t *testing.T) {
	t.Parallel()
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	raw, err := os.ReadFile("../../deploy/grafana/drydock.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &dashboard); err != nil {
		t.Fatal(err)
	}
	asked := map[string]string{}
	for _, p := range dashboard.Panels {
		for _, target := range p.Targets {
			for _, name := range inExpression.FindAllString(target.Expr, -1) {
				asked[name] = "the dashboard's " + p.Title
			}
		}
	}
	if len(asked) < 20 {
		t.Errorf("the dashboard asks for %d metrics: has its form changed?", len(asked))
	}
	var rules struct {
		Groups []struct {
			Rules []struct{ Alert, Expr string }
		}
	}
	raw, err = os.ReadFile("../../deploy/prometheus/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(raw, &rules); err != nil {
		t.Fatal(err)
	}
	for _, g := range rules.Groups {
		for _, r := range g.Rules {
			names := inExpression.FindAllString(r.Expr, -1)
			if len(names) == 0 {
				t.Errorf("%s asks for nothing", r.Alert)
			}
			for _, name := range names {
				asked[name] = r.Alert
			}
		}
	}
	for name, by := range asked {
		base := baseName(name)
		if !slices.Contains(metricNames, base) && !slices.Contains(laterMetrics, base) && base != "drydock_process_resident_memory_bytes" {
			t.Errorf("%s asks for %s, which does not exist", by, name)
		}
	}
}

// TestDeadMan: the address is called while the server works, and not while it does not.
func TestDeadMan(t *testing.T) {
	t.Parallel()
	d := newTidying(t, newYard("c1"))
	var calls atomic.Int32
	listener := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { calls.Add(1) }))
	defer listener.Close()
	man := func() *deadMan {
		return &deadMan{url: listener.URL, store: d.st, client: listener.Client(), log: d.logger()}
	}
	man().turn(t.Context())
	man().turn(t.Context()) // another replica, in the same minute
	if n := calls.Load(); n != 1 {
		t.Errorf("%d calls in a minute, want 1", n)
	}
	d.exec(`UPDATE turns SET taken_at = taken_at - interval '1 min'`)
	bad := man()
	bad.parts = []api.Part{{Name: "worker", Check: (&worker{}).check}}
	bad.turn(t.Context())
	if n := calls.Load(); n != 1 {
		t.Error("it was called though no run is worked")
	}
	man().turn(t.Context())
	if n := calls.Load(); n != 2 {
		t.Errorf("%d calls, want 2", n)
	}
	listener.Close()
	if err := man().call(t.Context()); err == nil || strings.Contains(err.Error(), listener.URL+"/") {
		t.Errorf("error %v", err)
	}
}
