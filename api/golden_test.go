package api_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/drydock/drydock/api"
	"github.com/drydock/drydock/playbook"
)

var update = flag.Bool("update", false, "write the golden files anew")

// storedRun is a run that has a bit of everything.
func storedRun() playbook.StoredRun {
	at := func(s int) time.Time { return t0.Add(time.Duration(s) * time.Second) }
	node := playbook.Node{Name: "worker-07", UID: "u-node", Expected: true, Ready: true, Allocatable: 31}
	cordon := playbook.Cordon{Node: "worker-07", UID: "u-node", ResourceVersion: "12", Mark: playbook.Mark{Run: "run-1"}}
	return playbook.StoredRun{
		Run: playbook.Run{
			ID: "0198aaaa-0000-7000-8000-000000000001", Target: target, Trigger: playbook.TriggerRetrigger, RetriggeredFrom: "0198aaaa-0000-7000-8000-000000000000",
			Mode: playbook.ModeAct, State: playbook.StateResolved, Finding: playbook.FindingHealthy, Confirmed: true,
			Why: "all 40 expected nodes have a ready pod", Outcome: playbook.OutcomeResolved, StartedAt: at(0), FinishedAt: at(250),
			Deadline: at(2700), PlanHash: "p1",
			Incidents: []playbook.RunIncident{
				{ID: "QTEST0000001", Number: 3786454, Title: runTitle, URL: "https://example.pagerduty.com/incidents/QTEST0000001", End: playbook.OutcomeResolved},
				{ID: "QTEST0000002", Number: 3786455, Title: "<script>alert(1)</script>", URL: "javascript:alert(1)"},
			},
			Intents: []playbook.Intent{
				{Seq: 1, Lane: playbook.PagerDutyLane("QTEST0000001"), PromisedAt: at(5), SettledAt: at(6), Result: playbook.Happened,
					Action: playbook.Annotate{Incident: "QTEST0000001", Text: "Drydock is on it <b>", Marker: "m1"}},
				{Seq: 2, Lane: playbook.CarrierLane(knownCarrier), PromisedAt: at(7), SettledAt: at(8), Result: playbook.Happened, Action: cordon},
				{Seq: 3, Lane: playbook.CarrierLane(knownCarrier), PromisedAt: at(9), SettledAt: at(10), Result: playbook.Refused, Detail: "a disruption budget",
					Action: playbook.Evict{Node: "worker-07", Namespace: "kubx-masters", Pod: "master-1", UID: "u-pod"}},
				{Seq: 4, Lane: playbook.CarrierLane(knownCarrier), PromisedAt: at(11), Action: cordon.Undo(), Undoes: 2},
			},
		},
		Ticks: []playbook.StoredTick{
			{Seq: 1, Tick: playbook.Tick{At: at(0), From: playbook.Triage, To: playbook.Triage, Finding: playbook.FindingNodeFull, Why: "worker-07 is full"}},
			{Seq: 2, Tick: playbook.Tick{
				At: at(5), From: playbook.Triage, To: playbook.Draining, Finding: playbook.FindingNodeFull, Confirmed: true, Why: "worker-07 is full",
				Observation: playbook.Observation{
					DaemonSet: playbook.Known(playbook.DaemonSet{Exists: true, UID: "u-ds", Desired: 40}), Nodes: playbook.Known([]playbook.Node{node}),
					Covered: []string{"worker-01"}, Controller: playbook.Unknown[playbook.Controller]("the lease is missing"),
					NodePods: map[string]playbook.Reading[playbook.NodePods]{"worker-07": playbook.Known(playbook.NodePods{Count: 31})},
				},
				Diagnosis: playbook.Diagnosis{
					Finding: playbook.FindingNodeFull, Expected: 40, Missing: 1,
					Verdicts: []playbook.Verdict{{Node: "worker-07", Verdict: playbook.VerdictNodeFull, Why: "31 of 31 pods"}},
					Questions: []playbook.Question{
						{Finding: playbook.FindingUnknown, Answer: playbook.No, Saw: "all was read", Flip: "a read fails"},
						{Finding: playbook.FindingNodeFull, Answer: playbook.Yes, Saw: "31 of 31 pods", Flip: "a pod leaves"},
					},
				},
			}},
		},
	}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-update writes it anew): %s", file, diff)
	}
}

func pretty(t *testing.T, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := json.Indent(&out, b, "", "  "); err != nil {
		t.Fatalf("%v: %s", err, b)
	}
	out.WriteByte('\n')
	return out.Bytes()
}

func TestRunJSON(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	r := storedRun()
	s.runs["r1"] = r
	fresh := playbook.Run{ID: "0198aaaa-0000-7000-8000-000000000002", Target: target, Trigger: playbook.TriggerWebhook, Mode: playbook.ModeObserve,
		State: playbook.Triage, StartedAt: t0, Deadline: t0.Add(45 * time.Minute), Incidents: []playbook.RunIncident{{ID: "QTEST0000003"}}}
	s.runs["r2"] = playbook.StoredRun{Run: fresh}
	s.page = playbook.RunPage{Runs: []playbook.Run{fresh, r.Run}}
	s.eventPage = api.EventPage{Next: "c", Events: []playbook.EventRecord{
		{ID: "e2", Type: "incident.triggered", Incident: "QTEST0000001", ReceivedAt: t0, Outcome: playbook.EventStarted, Run: "r1"},
		{ID: "e1", Type: "pagey.ping", ReceivedAt: t0, Outcome: playbook.EventIgnored, Reason: "event is not about an incident"},
	}}
	s.diagnosis = api.NewDiagnosis(target, r.Ticks[1].Observation, r.Ticks[1].Diagnosis, []playbook.Action{r.Intents[1].Action, r.Intents[2].Action})
	for name, path := range map[string]string{
		"run.json": "/api/v1/runs/r1", "run_fresh.json": "/api/v1/runs/r2", "runs.json": "/api/v1/runs", "explain.json": "/api/v1/runs/r1/explain",
		"events.json": "/api/v1/events", "carriers.json": "/api/v1/carriers",
		"diagnosis.json": "/api/v1/carriers/" + knownCarrier + "/daemonsets/monitoring/node-exporter/diagnosis",
	} {
		w := s.do(request{method: "GET", path: path, token: "viewer"})
		if w.Code != 200 || !strings.HasPrefix(w.Header().Get("Content-Type"), "application/json") {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
			continue
		}
		golden(t, name, pretty(t, w.Body.Bytes()))
	}
}

// The contract's shape of a run, key by key.
func TestRunHasExactlyTheContractsKeys(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.runs["r1"] = storedRun()
	var got map[string]any
	if err := json.Unmarshal(s.do(request{method: "GET", path: "/api/v1/runs/r1", token: "viewer"}).Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	first := func(key string) map[string]any {
		list, _ := got[key].([]any)
		if len(list) == 0 {
			t.Fatalf("%s is empty", key)
		}
		object, _ := list[0].(map[string]any)
		return object
	}
	for name, tt := range map[string]struct {
		object map[string]any
		keys   string
	}{
		"run": {got, "id carrier namespace daemonset incidents trigger retriggered_from mode state finding confirmed why outcome started_at finished_at " +
			"deadline plan_hash ticks intents notes readings"},
		"incident": {first("incidents"), "id number title url end"},
		"tick":     {first("ticks"), "seq at from to finding why"},
		"intent":   {first("intents"), "seq lane kind target promised_at settled_at undoes result"},
		"target":   {first("intents")["target"].(map[string]any), "kind namespace name uid"},
	} {
		want := map[string]bool{}
		for _, key := range strings.Fields(tt.keys) {
			want[key] = true
		}
		for key := range tt.object {
			if !want[key] {
				t.Errorf("%s has the key %s, which the contract does not name", name, key)
			}
			delete(want, key)
		}
		for key := range want {
			t.Errorf("%s lacks the key %s", name, key)
		}
	}
	if got["started_at"] != "2026-11-22T03:04:05.678Z" {
		t.Errorf("started_at %v is not RFC 3339 in UTC", got["started_at"])
	}
}

// Every address of the specification is served, and every address that is served is specified.
func TestOpenAPI(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	var spec struct {
		Paths map[string]map[string]any `json:"paths"`
	}
	if err := json.Unmarshal(s.do(request{method: "GET", path: "/openapi.json"}).Body.Bytes(), &spec); err != nil {
		t.Fatal(err)
	}
	specified := map[string]bool{}
	for path, methods := range spec.Paths {
		for method := range methods {
			if method != "parameters" {
				specified[strings.ToUpper(method)+" "+path] = true
			}
		}
	}
	for _, route := range s.Routes() {
		if !specified[route] {
			t.Errorf("%s is served and not specified", route)
		}
		delete(specified, route)
	}
	for route := range specified {
		t.Errorf("%s is specified and not served", route)
	}
}
