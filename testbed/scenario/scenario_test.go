package scenario

import (
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/drydock/drydock/migrations"
	"github.com/drydock/drydock/playbook"
	"github.com/drydock/drydock/playbook/playbooktest/scenariofile"
	"github.com/drydock/drydock/store/privatepg/pgtest"
)

// atOnce is how many scenarios are played at one time: they wait most of the time, also on a machine with two cores.
const atOnce = "8"

func TestMain(m *testing.M) {
	flag.Parse()
	set := false
	flag.Visit(func(f *flag.Flag) { set = set || f.Name == "test.parallel" })
	if !set {
		if err := flag.Set("test.parallel", atOnce); err != nil {
			panic(err) // the flag exists, and 8 is a number
		}
	}
	pgtest.Main(m)
}

// agreed is in what two plays of a scenario must agree. Times differ, and so do rolling_out's seconds (see Run.Confirmed).
type agreed struct {
	Findings map[string][]playbook.Finding
	Outcomes map[string]playbook.Outcome
	Did      []playbook.Kind
	Left     scenariofile.Left
}

func agreedOf(s *scenariofile.Scenario, seen scenariofile.Seen) agreed {
	a := agreed{map[string][]playbook.Finding{}, map[string]playbook.Outcome{}, seen.Did(), seen.Left}
	for name, r := range seen.Runs {
		a.Findings[name], a.Outcomes[name] = r.Confirmed(s.Expected(name).Findings), r.Outcome
	}
	a.Left.Lost = nil // a file allows pods to be replaced, and does not demand it
	return a
}

// atLeastCompared keeps the comparison with the simulated carrier from shrinking unseen.
const atLeastCompared = 110

// played picks the scenarios that a real control plane can play, and says which and how many are left out of what.
func played(t *testing.T, all []scenariofile.Scenario) []scenariofile.Scenario {
	var here []scenariofile.Scenario
	compared := 0
	for _, s := range all {
		switch {
		case !s.PlayedOn(scenariofile.ControlPlane):
			t.Logf("not here: %s: %s", s.File, s.Only.Because)
			continue
		case !s.PlayedOn(scenariofile.Simulator):
			t.Logf("only here: %s: %s", s.File, s.Only.Because)
		default:
			compared++
		}
		here = append(here, s)
	}
	t.Logf("%d scenarios: %d on a real control plane, %d of them compared with the simulated carrier", len(all), len(here), compared)
	if compared < atLeastCompared {
		t.Errorf("%d scenarios are compared with the simulated carrier, want at least %d", compared, atLeastCompared)
	}
	return here
}

// TestScenarios plays every file on a real control plane, and holds what it saw against the file and the simulated carrier.
func TestScenarios(t *testing.T) {
	all, err := scenariofile.Load(os.DirFS("../scenarios"))
	if err != nil {
		t.Fatal(err)
	}
	all = played(t, all)
	databases := map[common]string{}
	for i := range all {
		if with := commonOf(&all[i]); databases[with] == "" {
			databases[with] = pgtest.New(t, migrations.Up)
		}
	}
	st := newStage(t.Context(), t.TempDir(), all, databases)
	t.Cleanup(func() {
		if err := st.stop(); err != nil {
			t.Error(err)
		}
	})
	for i := range all {
		s := &all[i]
		t.Run(s.File, func(t *testing.T) {
			t.Parallel()
			seen, story, err := st.play(t.Context(), s)
			if err != nil {
				t.Fatalf("%s: %v\n%s", s.Name, err, story)
			}
			if problems := s.Check(seen); len(problems) > 0 {
				t.Errorf("%s\n- %s\n%s", s.Name, strings.Join(problems, "\n- "), story)
			}
			if !s.PlayedOn(scenariofile.Simulator) {
				return
			}
			simulated, simulatedStory := scenariofile.Simulate(t.Context(), *s)
			if diff := cmp.Diff(agreedOf(s, simulated), agreedOf(s, seen), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("%s: the simulated (-) and the real carrier (+) do not agree\n%s\n%s\n%s", s.Name, diff, simulatedStory, story)
			}
		})
	}
}
