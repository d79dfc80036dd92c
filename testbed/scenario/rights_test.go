package scenario

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/drydock/drydock/migrations"
	"github.com/drydock/drydock/playbook"
	"github.com/drydock/drydock/playbook/kube"
	"github.com/drydock/drydock/playbook/playbooktest/scenariofile"
	"github.com/drydock/drydock/store/privatepg/pgtest"
)

// need names, for a right, a scenario that ends otherwise without it, and by what the notes, the run or the failed check tell
// that this right was the reason.
type need struct{ right, scenario, says string }

const (
	neverReapplied = `did: got \[cordon evict uncordon\], want \[cordon evict orphan_delete create uncordon\]`
	notRestarted   = `want \[nudge restart_controller_manager\]`
)

var needed = []need{
	// Those that take the DaemonSet controller's right wait for each other, so they come first.
	{"create subjectaccessreviews.authorization.k8s.io", "revisions-stay-forbidden", `do not say "missing rights of the DaemonSet controller`},
	{"get pods/log in kube-system", "revisions-forbidden-restarts", notRestarted},
	{"patch daemonsets.apps", "revisions-stay-forbidden", "its nudge was refused: Drydock lacks the right to patch daemonsets.apps"},
	{"get deployments.apps", "revisions-forbidden-restarts", notRestarted},
	{"patch deployments.apps", "revisions-forbidden-restarts", notRestarted},
	{"list nodes", "healthy", `cannot list resource "nodes"`},
	{"get nodes", "full", "could not be cordoned: Drydock lacks the right to get nodes"},
	{"list pods", "healthy", `cannot list resource "pods"`},
	{"get leases.coordination.k8s.io kube-controller-manager in kube-system", "full-reapply-always", neverReapplied},
	{"get leases.coordination.k8s.io drydock in kube-system", "full", "it needs the right to get leases"},
	{"create leases.coordination.k8s.io in kube-system", "full", "it needs the right to create leases"},
	{"update leases.coordination.k8s.io drydock in kube-system", "full", "it needs the right to update leases"},
	{"patch nodes", "full", "could not be cordoned: Drydock lacks the right to patch nodes"},
	{"get namespaces", "absent", `cannot get resource "namespaces"`},
	{"get daemonsets.apps", "healthy", `cannot get resource "daemonsets"`},
	{"list events", "refused", `cannot list resource "events"`},
	{"get pods/log", "crash", "lacks a right"},
	{"delete daemonsets.apps", "full-reapply-always", neverReapplied},
	{"create daemonsets.apps", "full-reapply-always", neverReapplied},
	{"list poddisruptionbudgets.policy", "full", `cannot list resource "poddisruptionbudgets"`},
	{"list replicasets.apps", "full", `cannot list resource "replicasets"`},
	{"list statefulsets.apps", "full-statefulset", `cannot list resource "statefulsets"`},
	{"create pods/eviction", "full", "Drydock lacks the right to create pods/eviction"},
	{"get featureflagsetsld.deploy.razee.io", "absent-flag-set", `cannot get resource "featureflagsetsld"`},
}

// everyRight plays all of them, which takes minutes: most runs without a right wait for their deadline.
var everyRight = flag.Bool("every-right", false, "take every right away in turn, not only a sample")

// sampled are the rights that are taken away where there is no time for all.
var sampled = []string{createLease, "patch nodes", "delete daemonsets.apps", "create pods/eviction", "list poddisruptionbudgets.policy", "get namespaces"}

// createLease can only be missed where nobody has created the Lease yet, so it is played before any run that acts.
const createLease = "create leases.coordination.k8s.io in kube-system"

// What a run does without a reading is to wait for its deadline, so the scenarios are played with an early one. They end well
// within it on a calm machine; on a busy one a scenario that ends early for want of time has not the right's words in it.
const earlyDeadline = 45 * time.Second

// TestEachRightIsNeeded takes each right (or those that are sampled) away in turn and plays its scenario, which must end otherwise
// than its file says: no right is superfluous. TestScenarios shows that none is missing.
func TestEachRightIsNeeded(t *testing.T) {
	all, err := scenariofile.Load(os.DirFS("../scenarios"))
	if err != nil {
		t.Fatal(err)
	}
	everything := kube.Needs{Targets: []playbook.Target{{Namespace: "monitoring", DaemonSet: "node-exporter"}}, Drain: []string{"kubx-masters"},
		Restart: kube.ControllerManager{Restart: kube.DriverDeployment, Namespace: "monitoring"}, FlagSets: []kube.FlagSet{{Namespace: "monitoring", Name: "flags"}}}
	var want, have []string
	for _, r := range kube.Rights(everything) {
		want = append(want, kindOf(r))
	}
	without := map[string]string{}
	var copies []scenariofile.Scenario
	disrupting := 0
	var taken []need
	for _, n := range needed {
		have = append(have, n.right)
		if !*everyRight && !slices.Contains(sampled, n.right) {
			continue
		}
		taken = append(taken, n)
		i := slices.IndexFunc(all, func(s scenariofile.Scenario) bool { return s.File == n.scenario })
		if i < 0 {
			t.Fatalf("there is no scenario %s", n.scenario)
		}
		s := all[i]
		s.File = fmt.Sprintf("without-%02d", len(copies)+1)
		s.Settings.Timing.Deadline = scenariofile.Duration(earlyDeadline)
		if s.Disrupts() {
			disrupting++
		}
		without[s.File] = n.right
		copies = append(copies, s)
	}
	slices.Sort(want)
	slices.Sort(have)
	if diff := cmp.Diff(want, have); diff != "" {
		t.Errorf("the rights (-) and those that a scenario is named for (+)\n%s", diff)
	}
	databases := map[common]string{}
	for i := range copies {
		if with := commonOf(&copies[i]); databases[with] == "" {
			databases[with] = pgtest.New(t, migrations.Up)
		}
	}
	st := newStage(t.Context(), t.TempDir(), copies, databases)
	st.without, st.together = without, newGathering(disrupting)
	t.Cleanup(func() {
		if err := st.stop(); err != nil {
			t.Error(err)
		}
	})
	play := func(t *testing.T, i int) {
		s := &copies[i]
		seen, story, err := st.play(t.Context(), s)
		problems := s.Check(seen)
		if err == nil && len(problems) == 0 {
			t.Fatalf("%s ends as its file says, without the right to %s: it is superfluous, or the scenario does not need it", taken[i].scenario, taken[i].right)
		}
		told := strings.Join(problems, "\n") + "\n" + story
		if err != nil {
			told += err.Error()
		}
		for _, r := range seen.Runs {
			for _, in := range r.Incidents {
				told += in.Notes
			}
		}
		if !regexp.MustCompile(taken[i].says).MatchString(told) {
			t.Errorf("%s ends otherwise without the right to %s, and nothing says %q:\n%s", taken[i].scenario, taken[i].right, taken[i].says, told)
		}
	}
	first := slices.IndexFunc(taken, func(n need) bool { return n.right == createLease })
	t.Run(createLease, func(t *testing.T) { play(t, first) })
	t.Run("the others", func(t *testing.T) {
		for i, n := range taken {
			if i == first {
				continue
			}
			t.Run(n.right, func(t *testing.T) {
				t.Parallel()
				play(t, i)
			})
		}
	})
}
