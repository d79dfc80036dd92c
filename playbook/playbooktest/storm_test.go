package playbooktest

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/drydock/drydock/playbook"
)

// stormSets are the DaemonSets of the runbook, all of which want a pod on every worker.
var stormSets = []string{"node-exporter", "docker-metrics-endpoint", "ibm-kube-fluentd"}

// storm is a carrier on which some workers were full before the daemon pods of three DaemonSets came.
func storm(w *World, workers, full int) *Carrier {
	c := w.Carrier(defaultCarrier)
	for i := range workers {
		c.AddNode(Node{Name: fmt.Sprintf("worker-%03d", i+1), Allocatable: slots})
	}
	// The last ones, so that whoever looks for room finds it at once.
	for _, n := range c.nodes[workers-full:] {
		for p := range slots {
			name := fmt.Sprintf("master-of-%s-%d", n.Name, p+1)
			c.AddOwner(Owner{Namespace: victimNamespace, Name: name, Replicas: 2})
			c.AddPod(Pod{Namespace: victimNamespace, Node: n.Name, Owner: "ReplicaSet/" + name})
		}
	}
	w.Clock.Advance(10 * time.Second)
	for _, name := range stormSets {
		c.AddSet(DaemonSet{Namespace: defaultNS, Name: name})
	}
	w.Clock.Advance(5 * time.Minute)
	return c
}

// alertEachNode opens one incident for each DaemonSet and full node. The first of a target starts its run; PagerDuty's other
// alerts of the same target join it.
func alertEachNode(t *testing.T, w *World, full int) {
	t.Helper()
	for _, name := range stormSets {
		run := ""
		for node := range full {
			incident := fmt.Sprintf("P-%s-%03d", name, node+1)
			if run != "" {
				in := w.Pager.Trigger(incident, "alert of worker-"+fmt.Sprint(node+1))
				w.Ledger.JoinRun(run, playbook.RunIncident{ID: incident, Number: in.Number, Title: in.Title, URL: in.URL})
				continue
			}
			var err error
			if run, err = w.Alert(t.Context(), incident, target(defaultCarrier, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestStorm plays the storms of the design: three DaemonSets that alert for the same full nodes.
func TestStorm(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name          string
		workers, full int
		says          string // each last note
		outcome       playbook.Outcome
		evictions     int
	}{
		// Six slots and six pods: each node has to lose three pods, one for each DaemonSet. One run makes the room of all.
		{"few nodes: one run repairs for all", 20, 3, "Drydock resolves this incident", playbook.OutcomeResolved, 9},
		// 147 alerts: the budgets end it, 15 evictions for a run and 30 for the carrier within an hour.
		{"49 nodes: the budgets are used up, and people are told", 300, 49, "left alone: ", playbook.OutcomeEscalated, 30},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := NewWorld(nil)
			c := storm(w, test.workers, test.full)
			alertEachNode(t, w, test.full)
			held := watchStorm(w, c)
			w.Run(t.Context(), nightLimit)
			for _, v := range w.Violations() {
				t.Error(v)
			}
			runs := w.Ledger.Runs()
			if len(runs) != len(stormSets) {
				t.Fatalf("%d runs, want one for each of the %d DaemonSets", len(runs), len(stormSets))
			}
			if len(*held) > 0 {
				t.Errorf("broken: %v", *held)
			}
			evictions := 0
			for _, e := range c.Effects {
				if e.Action.Kind() == playbook.KindEvict {
					evictions++
				}
			}
			if evictions != test.evictions {
				t.Errorf("%d pods were evicted, want %d", evictions, test.evictions)
			}
			for _, id := range runs {
				r, _ := w.Ledger.Run(id)
				if r.Outcome != test.outcome {
					t.Errorf("run %s ended as %q, want %q:\n%s", id, r.Outcome, test.outcome, w.Ledger.Dump(id))
				}
			}
			checkStormNotes(t, w, test.says)
		})
	}
}

// watchStorm notes whatever breaks the limits at any moment: a second node cordoned, or two runs that owe the carrier
// something.
func watchStorm(w *World, c *Carrier) *[]string {
	var broken []string
	limit := 1
	if len(c.nodes) >= 200 {
		limit = 2
	}
	w.When("never", func() bool {
		marked, owing := 0, 0
		for _, n := range c.nodes {
			if n.Mark != nil {
				marked++
			}
		}
		for _, id := range w.Ledger.Runs() {
			if r := w.Ledger.runs[id].run; len(r.Owed()) > 0 {
				owing++
			}
		}
		if marked > limit || owing > 1 {
			broken = append(broken, fmt.Sprintf("%d nodes cordoned, %d runs owe an undo", marked, owing))
		}
		return false
	}, func() {})
	return &broken
}

// checkStormNotes: each incident's last note says the same shared diagnosis and names incidents of both other runs.
func checkStormNotes(t *testing.T, w *World, says string) {
	t.Helper()
	shared := map[string]bool{}
	for _, id := range w.Ledger.Runs() {
		r, _ := w.Ledger.Run(id)
		var others []playbook.RunIncident
		for _, other := range w.Ledger.Runs() {
			if o, _ := w.Ledger.Run(other); other != id {
				others = append(others, o.Incidents[0])
			}
		}
		for _, in := range r.Incidents {
			notes := w.Pager.Get(in.ID).Notes
			if len(notes) != 1 {
				t.Fatalf("incident %s has %d notes, want the one that is kept up to date", in.ID, len(notes))
			}
			text := notes[0].Text
			for _, other := range others {
				if !strings.Contains(text, other.URL) {
					t.Fatalf("the last note of %s does not link %s:\n%s", in.ID, other.URL, text)
				}
			}
			if !strings.Contains(text, says) {
				t.Fatalf("the last note of %s does not say %q:\n%s", in.ID, says, text)
			}
			lines := strings.Split(text, "\n")
			at := slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, "Shared:") })
			if at < 0 {
				t.Fatalf("the last note of %s has no shared diagnosis:\n%s", in.ID, text)
			}
			shared[lines[at]] = true
		}
	}
	if len(shared) != 1 {
		t.Errorf("the runs' shared diagnoses differ: %v", shared)
	}
}
