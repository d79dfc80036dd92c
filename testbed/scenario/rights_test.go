package scenario

import (
	"fmt"
	"os"
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

// needed names, for each right, a scenario that ends otherwise without it, and words by which the notes, the run or the
// failed check tell that this right was the reason.
var needed = []struct{ right, scenario, words string }{
	{"list nodes", "healthy", `cannot list resource "nodes"`},
	{"get nodes", "full", `cannot get resource "nodes"`},
	{"list pods", "healthy", `cannot list resource "pods"`},
	{"create subjectaccessreviews.authorization.k8s.io", "revisions-stay-forbidden", "controllerrevisions.apps"},
	{"get pods/log in kube-system", "revisions-forbidden-restarts", `cannot get resource "pods/log"`},
	{"get leases.coordination.k8s.io kube-controller-manager in kube-system", "uncovered", `cannot get resource "leases"`},
	{"get leases.coordination.k8s.io drydock in kube-system", "full", "it needs the right to get leases"},
	{"create leases.coordination.k8s.io in kube-system", "full", "it needs the right to create leases"},
	{"update leases.coordination.k8s.io drydock in kube-system", "full", "it needs the right to update leases"},
	{"patch nodes", "full", `cannot patch resource "nodes"`},
	{"get namespaces", "absent", `cannot get resource "namespaces"`},
	{"get daemonsets.apps", "healthy", `cannot get resource "daemonsets"`},
	{"list events", "refused", `cannot list resource "events"`},
	{"get pods/log", "crash", `cannot get resource "pods/log"`},
	{"patch daemonsets.apps", "revisions-stay-forbidden", `cannot patch resource "daemonsets"`},
	{"delete daemonsets.apps", "full-reapply-always", "may not"},
	{"create daemonsets.apps", "full-reapply-always", "may not"},
	{"list poddisruptionbudgets.policy", "full", `cannot list resource "poddisruptionbudgets"`},
	{"list replicasets.apps", "full", `cannot list resource "replicasets"`},
	{"list statefulsets.apps", "full-statefulset", `cannot list resource "statefulsets"`},
	{"create pods/eviction", "full", `cannot create resource "pods/eviction"`},
	{"get deployments.apps", "revisions-forbidden-restarts", `cannot get resource "deployments"`},
	{"patch deployments.apps", "revisions-forbidden-restarts", `cannot patch resource "deployments"`},
	{"get featureflagsetsld.deploy.razee.io", "absent-flag-set", `cannot get resource "featureflagsetsld"`},
}

// createLease can only be missed where nobody has created the Lease yet, so it is played before any run that acts.
const createLease = "create leases.coordination.k8s.io in kube-system"

// What a run does without a reading is to wait for its deadline, so the scenarios are played with an early one. They end well
// within it on a calm machine; on a busy one a scenario that ends early for want of time has not the right's words in it.
const earlyDeadline = 45 * time.Second

// TestEachRightIsNeeded takes each right away in turn and plays its scenario, which must end otherwise than its file says: no
// right is superfluous. TestScenarios shows that none is missing.
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
	for _, n := range needed {
		have = append(have, n.right)
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
			t.Fatalf("%s ends as its file says, without the right to %s: it is superfluous, or the scenario does not need it", needed[i].scenario, needed[i].right)
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
		if !strings.Contains(told, needed[i].words) {
			t.Errorf("%s ends otherwise without the right to %s, and nothing says %q:\n%s", needed[i].scenario, needed[i].right, needed[i].words, told)
		}
	}
	first := slices.IndexFunc(needed, func(n struct{ right, scenario, words string }) bool { return n.right == createLease })
	t.Run(createLease, func(t *testing.T) { play(t, first) })
	t.Run("the others", func(t *testing.T) {
		for i, n := range needed {
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
