package scenariofile

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/drydock/drydock/playbook"
)

func scenarios(t *testing.T) []Scenario {
	t.Helper()
	all, err := Load(os.DirFS("../../../testbed/scenarios"))
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestScenarios plays every file on the simulated carrier. Package testbed/scenario plays them on a real one.
func TestScenarios(t *testing.T) {
	t.Parallel()
	all := scenarios(t)
	const atLeast = 120
	if len(all) < atLeast {
		t.Errorf("there are %d scenarios, want %d", len(all), atLeast)
	}
	for _, s := range all {
		if !s.PlayedOn(Simulator) {
			t.Logf("not here: %s: %s", s.File, s.Only.Because)
			continue
		}
		t.Run(s.File, func(t *testing.T) {
			t.Parallel()
			seen, story := Simulate(t.Context(), s)
			if problems := s.Check(seen); len(problems) > 0 {
				t.Errorf("%s\n- %s\n%s", s.Name, strings.Join(problems, "\n- "), story)
			}
		})
	}
}

func TestParse(t *testing.T) {
	t.Parallel()
	s, err := Parse("full", []byte(`
name: full
says: It is full.
carrier: {full: [worker-2]}
then:
  - {when: cordoned worker-2, after: 1s, do: acknowledge}
expect: {outcome: stood_down}
did: [cordon, uncordon]
`))
	if err != nil {
		t.Fatal(err)
	}
	want := []Step{{When: &Sight{Seen: Cordoned, On: "worker-2"}, After: 1e9, Do: Act{Verb: Acknowledge}}}
	if diff := cmp.Diff(want, s.Then); diff != "" {
		t.Error(diff)
	}
	if s.Expect.Status != playbook.Triggered || s.Alerts[0] != NodeExporter || s.Carrier.Workers != 4 {
		t.Errorf("defaults are missing: %+v", s)
	}
}

func TestParseNamesTheField(t *testing.T) {
	t.Parallel()
	const good = "name: n\nsays: s\nexpect: {outcome: resolved}\n"
	if _, err := Parse("good", []byte(good)); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ add, want string }{
		"unknown key":     {"colour: red\n", "colour"},
		"unknown verb":    {"fault: [explode worker-1]\n", `fault[0]: "explode" is no verb`},
		"unknown worker":  {"fault: [cordon worker-9]\n", `fault[0]: "worker-9" is no worker`},
		"a word too many": {"then: [{do: acknowledge Ada}]\n", "then[0].do: acknowledge takes no word"},
		"no words":        {"then: [{do: kill-switch}]\n", "then[0].do: kill-switch needs words"},
		"unknown sight":   {"then: [{when: painted worker-1, do: resolve}]\n", `then[0].when: "painted"`},
		"bad duration":    {"then: [{after: soon, do: resolve}]\n", `"soon" is not a duration`},
		"unknown alert":   {"alerts: [fluentd]\n", `alerts[0]: "fluentd" is not listed`},
		"left how":        {"leaves: {daemonset: blue}\n", `leaves.daemonset: "blue"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := Parse("bad", []byte(good+c.add))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want it to say %q", err, c.want)
			}
		})
	}
}

// TestCheckNotices lets every kind of difference be noticed: a check that sees nothing would pass everything.
func TestCheckNotices(t *testing.T) {
	t.Parallel()
	s, err := Parse("f", []byte("name: n\nsays: s\ncarrier: {full: [worker-1]}\n"+
		"expect: {outcome: resolved, findings: [node_full, healthy], through: [draining], notes: [resolves]}\ndid: [cordon, evict, uncordon]\n"))
	if err != nil {
		t.Fatal(err)
	}
	good, story := Simulate(t.Context(), s)
	if problems := s.Check(good); len(problems) > 0 {
		t.Fatalf("%v\n%s", problems, story)
	}
	for name, spoil := range map[string]func(*Seen, *Run){
		"outcome": func(_ *Seen, r *Run) { r.Outcome = playbook.OutcomeEscalated },
		"finding": func(_ *Seen, r *Run) { r.Findings = r.Findings[:1] },
		"states":  func(_ *Seen, r *Run) { r.States = nil },
		"did":     func(_ *Seen, r *Run) { r.Intents = r.Intents[1:] },
		"no note": func(_ *Seen, r *Run) { r.Incidents = []Incident{{Status: playbook.Resolved}} },
		"status":  func(_ *Seen, r *Run) { r.Incidents = []Incident{{Status: playbook.Triggered, Notes: "resolves"}} },
		"escalation": func(_ *Seen, r *Run) {
			r.Incidents = []Incident{{Status: playbook.Resolved, Notes: "resolves", Escalated: []string{"P"}}}
		},
		"no run":   func(s *Seen, _ *Run) { delete(s.Runs, NodeExporter) },
		"cordoned": func(s *Seen, _ *Run) { s.Left.Cordoned = []string{"worker-1"} },
		"marked":   func(s *Seen, _ *Run) { s.Left.Marked = []string{"worker-1"} },
		"lost":     func(s *Seen, _ *Run) { s.Left.Lost = []string{"worker-2"} },
		"absent":   func(s *Seen, _ *Run) { s.Left.DaemonSet = Absent },
		"broken":   func(s *Seen, _ *Run) { s.Broken = []string{"I1"} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bad := good
			r := good.Runs[NodeExporter]
			bad.Runs = map[string]Run{}
			spoil(&bad, &r)
			if name != "no run" {
				bad.Runs[NodeExporter] = r
			}
			if len(s.Check(bad)) == 0 {
				t.Error("it was not noticed")
			}
		})
	}
}

func TestOrder(t *testing.T) {
	t.Parallel()
	night := time.Date(2026, time.November, 22, 3, 0, 0, 0, time.UTC)
	intent := func(kind playbook.Kind, promised, settled time.Duration) Intent {
		return Intent{Lane: playbook.PagerDutyLane("P"), Kind: kind, Result: playbook.Happened,
			PromisedAt: night.Add(promised * time.Second), SettledAt: night.Add(settled * time.Second)}
	}
	for name, c := range map[string]struct {
		intents []Intent
		good    bool
	}{
		"note first":    {[]Intent{intent(playbook.KindAnnotate, 1, 2), intent(playbook.KindResolve, 3, 4)}, true},
		"no note":       {[]Intent{intent(playbook.KindResolve, 3, 4)}, false},
		"resolve first": {[]Intent{intent(playbook.KindResolve, 1, 2), intent(playbook.KindAnnotate, 3, 4)}, false},
		"twice":         {[]Intent{intent(playbook.KindAnnotate, 1, 2), intent(playbook.KindResolve, 3, 4), intent(playbook.KindEscalate, 5, 6)}, false},
	} {
		if got := len(Run{Intents: c.intents}.order("P")) == 0; got != c.good {
			t.Errorf("%s: good is %t, want %t", name, got, c.good)
		}
	}
}
