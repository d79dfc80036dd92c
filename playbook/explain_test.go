package playbook

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// The flip of the question that decides, and of a few others, in the words that people read.
func TestExplain(t *testing.T) {
	t.Parallel()
	deleted := t0.Add(-time.Minute)
	for _, tt := range []struct {
		name  string
		scene *scene
		m     Memory
		want  string            // of the deciding question
		other map[string]string // of others, by "<finding>" or "<finding> <n-th>"
	}{
		{name: "healthy", scene: healthy(3), want: "node node-00 has no daemon pod: then uncovered", other: map[string]string{
			"unknown":          "the DaemonSet can not be read: then unknown",
			"deleting":         "the DaemonSet has a deletionTimestamp: then deleting",
			"absent":           "the API server answers 404 for the DaemonSet: then absent",
			"controller_stuck": "observedGeneration is 0 and generation 1: then controller_stuck",
			"refused":          "the DaemonSet's newest event is FailedCreate, and node node-00 has no daemon pod though the controller-manager is at work: then refused",
			"rolling_out":      "a new rolling update begins, with 0 of 3 nodes updated: then rolling_out",
			"disk":             "node node-00 has no daemon pod and reports DiskPressure: then disk",
			"unknown 2":        "the open incidents can not be read, and node node-00 has no daemon pod: then unknown",
			"node_full":        "node node-00 is at its pod limit, and its daemon pod waits for a place: then node_full",
			"node_full 2":      "node node-00 is at its pod limit, and its daemon pod waits for a place, and the run leaves it alone: then node_full",
			"no_room":          "node node-00 is short of cpu for its daemon pod, which waits: then no_room",
			"node_down":        "node node-00 is NotReady: then node_down",
			"malfunctioning":   "node node-00 has a daemon pod that crashes: then malfunctioning",
			"not_selected":     "the DaemonSet selects none of the 3 nodes: then not_selected",
		}},
		{name: "one full node", scene: healthy(3).full(1, 2), want: "node node-01 has a free place (30 of 31 pods): then rolling_out", other: map[string]string{
			"disk":         "node node-01 reports DiskPressure: then disk",
			"uncovered":    "node node-01 has no daemon pod though the controller-manager is at work and no pod is refused: then uncovered",
			"not_selected": "the DaemonSet selects none of the 3 nodes: then not_selected",
			"healthy":      "node node-01 has a ready daemon pod: then healthy",
			"node_full 2":  "the run leaves node node-01 alone: then node_full, for another reason",
		}},
		{name: "five full nodes", scene: healthy(9).full(1, 2).full(2, 2).full(3, 2).full(4, 2).full(5, 2),
			want: "nodes node-01, node-02, node-03 and 2 more have a free place each (30 of 31 pods): then rolling_out"},
		{name: "a full node that the run leaves alone", scene: healthy(3).full(1, 2), m: Memory{Skipped: map[string]string{"node-01": "tried"}},
			want:  "node node-01 has a free place (30 of 31 pods): then rolling_out",
			other: map[string]string{"node_full": "the run does not leave node node-01 alone: then node_full, for another reason"}},
		{name: "uncovered", scene: healthy(3).gone(2), want: "node node-02 has a ready daemon pod: then healthy",
			other: map[string]string{"refused": "the DaemonSet's newest event is FailedCreate: then refused"}},
		{name: "absent", scene: healthy(3).ds(func(d *DaemonSet) { *d = DaemonSet{} }), want: "the DaemonSet exists and runs on every node: then healthy",
			other: map[string]string{
				"healthy":   "the DaemonSet exists and runs on every node: then healthy",
				"node_down": "the DaemonSet exists and runs on every node, and node node-00 is NotReady: then node_down",
			}},
		{name: "deleting", scene: healthy(3).ds(func(d *DaemonSet) { d.DeletedAt, d.Finalizers = &deleted, []string{"orphan"} }),
			want: "its finalizers (orphan) are removed, and the object goes: then absent"},
		{name: "unreadable", scene: func() *scene { s := healthy(3); s.o.DaemonSet = Unknown[DaemonSet]("timeout"); return s }(),
			want: "the carrier's API server answers and shows the DaemonSet on every node: then healthy"},
		{name: "the controller is behind", scene: healthy(3).ds(func(d *DaemonSet) { d.Generation = 7; d.ObservedGeneration = 6 }),
			want:  "observedGeneration is 7 instead of 6: then healthy",
			other: map[string]string{"healthy": "node node-00 has no daemon pod: still controller_stuck"}},
		{name: "the controller is dead", scene: func() *scene {
			s := healthy(3).gone(0)
			s.o.Controller = Known(Controller{Holder: "kcm-1", RenewedAt: t0.Add(-2 * time.Minute), Duration: 15 * time.Second})
			return s
		}(), want: "the controller-manager (kcm-1) has just renewed its lease: then uncovered"},
		{name: "whether the controller lives is not known", scene: func() *scene {
			s := healthy(3).gone(0)
			s.o.Controller = Unknown[Controller]("lease not found")
			return s
		}(), want: "the controller-manager's lease can be read, and has just been renewed: then uncovered", other: map[string]string{
			"controller_stuck": "the controller-manager's lease can be read, and was renewed 1m01s ago: then controller_stuck",
		}},
		{name: "refused", scene: func() *scene {
			s := healthy(3).gone(0)
			s.o.Events = Known([]Event{{Reason: "FailedCreate", Message: "exceeded quota", At: t0.Add(-time.Minute)}})
			return s
		}(), want: "the DaemonSet's newest event is SuccessfulCreate instead of FailedCreate: then uncovered"},
		{name: "rolling out", scene: healthy(3).ds(func(d *DaemonSet) { d.Updated = 1 }), want: "all 3 nodes have the new template, instead of 1: then healthy"},
		{name: "a disk-space incident", scene: func() *scene {
			s := healthy(3).gone(0)
			s.o.DiskIncidents = Known([]IncidentRef{{ID: "QD", Number: 9, Title: "disk"}})
			return s
		}(), want: "disk-space incident #9 is resolved: then uncovered"},
		{name: "a full disk and an incident", scene: func() *scene {
			s := healthy(3).node(0, func(n *Node) { n.DiskPressure, n.Pods = true, nil })
			s.o.DiskIncidents = Known([]IncidentRef{{ID: "QD", Number: 9, Title: "disk"}})
			return s
		}(), want: "node node-00 reports no DiskPressure, and disk-space incident #9 is resolved: then uncovered"},
		{name: "the incidents are not known", scene: func() *scene {
			s := healthy(3).gone(0)
			s.o.DiskIncidents = Unknown[[]IncidentRef]("timeout")
			return s
		}(), want: "the open incidents can be read, and none is about disk space: then uncovered"},
		{name: "the events are not known", scene: func() *scene {
			s := healthy(3).gone(0)
			s.o.Events = Unknown[[]Event]("timeout")
			return s
		}(), want: "the DaemonSet's events can be read, and no pod is refused: then uncovered"},
		{name: "no room", scene: healthy(3).full(0, 2).node(0, func(n *Node) {
			n.Pods[0].Unschedulable = "0/3 nodes are available: 1 Insufficient cpu, 1 Insufficient memory."
		}), want: "node node-00 has enough free cpu and memory for its daemon pod, which is ready: then healthy"},
		{name: "two nodes down", scene: healthy(5).node(0, func(n *Node) { n.Ready = false }).node(3, func(n *Node) { n.Ready = false }),
			want: "nodes node-00, node-03 are Ready: then healthy"},
		{name: "a person's cordon", scene: healthy(3).full(0, 2).node(0, func(n *Node) { n.Unschedulable = true }),
			want: "node node-00 is not cordoned: then node_full"},
		{name: "a crash", scene: healthy(3).node(0, func(n *Node) { n.Pods[0].Ready, n.Pods[0].Waiting = false, "CrashLoopBackOff" }),
			want: "node node-00 has its pod agent-node-00 ready: then healthy"},
		{name: "nothing is selected", scene: healthy(1).node(0, func(n *Node) { n.Expected, n.ExcludedBy = false, "taint x" }),
			want: "node node-00 is not excluded (taint x): then healthy"},
		{name: "no nodes", scene: healthy(0), want: "the carrier has a node that the DaemonSet selects: then healthy"},
		{name: "the alert names an excluded node", scene: func() *scene {
			s := healthy(3).node(0, func(n *Node) { n.Expected, n.ExcludedBy, n.Pods = false, "taint x", nil })
			s.o.Incidents["Q1"] = Known(Incident{ID: "Q1", NodesInDetails: []string{"node-00"}})
			return s
		}(), want: "node node-00 is not excluded (taint x): then uncovered"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			list := Explain(testPolicy(), tt.scene.o.Compact(), tt.m)
			if q, ok := Decisive(list); !ok || q.Flip != tt.want {
				t.Errorf("%s:\n got %s\nwant %s", q.Finding, q.Flip, tt.want)
			}
			got, seen := map[string]string{}, map[Finding]int{}
			for _, q := range list {
				key := string(q.Finding)
				if seen[q.Finding]++; seen[q.Finding] > 1 {
					key += fmt.Sprintf(" %d", seen[q.Finding])
				}
				if _, asked := tt.other[key]; asked {
					got[key] = q.Flip
				}
			}
			if len(tt.other) > 0 {
				if diff := cmp.Diff(tt.other, got); diff != "" {
					t.Error(diff)
				}
			}
		})
	}
}

// Whatever was seen: every question has a flip, made so it turns the answer, and turns the finding's question where that question
// came first. What was seen stays as it was.
func TestEveryFlipTurnsItsAnswer(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := anyScene(t)
		oddities(t, s)
		m := Memory{Sightings: Sightings{}}
		if rapid.Bool().Draw(t, "skipped") {
			m.Skipped = map[string]string{"node-00": "tried"}
		}
		if rapid.Bool().Draw(t, "stalled") {
			ds, _ := s.o.DaemonSet.Get()
			for updated := range 5 {
				m.Sightings[fmt.Sprintf("rollout/%d/%d", ds.Generation, updated)] = Sighting{First: s.o.At.Add(-time.Hour), Last: s.o.At.Add(-5 * time.Second), Count: 9}
			}
			m.Sightings["rolling_out/node-00"] = Sighting{First: s.o.At.Add(-time.Hour), Last: s.o.At.Add(-5 * time.Second), Count: 9}
		}
		o := s.o
		if rapid.Bool().Draw(t, "compact") {
			o = o.Compact()
		}
		before := encoded(t, o)
		w := world{p: testPolicy(), o: o, sightings: m.Sightings, skipped: m.Skipped}
		now := diagnose(w.p, w.o, w.sightings, w.skipped)
		for i, q := range now.Questions {
			f, ok := w.flip(i)
			if !ok {
				t.Fatalf("question %d (%s, %s: %s) has no flip", i, q.Finding, q.Answer, q.Saw)
			}
			then := diagnose(f.world.p, f.world.o, f.world.sightings, f.world.skipped)
			if (then.Questions[i].Answer == Yes) == (q.Answer == Yes) {
				t.Fatalf("question %d (%s): %q does not turn %s", i, q.Finding, f.facts, q.Answer)
			}
			if i <= decisive(now.Questions) && decisive(then.Questions) == decisive(now.Questions) {
				t.Fatalf("question %d (%s): %q leaves the verdict %s", i, q.Finding, f.facts, then.Finding)
			}
			if text := f.text(now); strings.Contains(text, "::") || !strings.Contains(text, string(then.Finding)) {
				t.Fatalf("question %d: %q", i, text)
			}
		}
		if after := encoded(t, o); after != before {
			t.Fatalf("what was seen has changed: %s", cmp.Diff(before, after))
		}
	})
}

func encoded(t *rapid.T, o Observation) string {
	b, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// oddities are what anyScene has none of.
func oddities(t *rapid.T, s *scene) {
	nodes, _ := s.o.Nodes.Get()
	for i := range nodes {
		switch rapid.IntRange(0, 9).Draw(t, "odd node") {
		case 0:
			s.node(i, func(n *Node) { n.Expected, n.ExcludedBy = false, "taint x" })
		case 1:
			s.node(i, func(n *Node) { n.Leaving = true })
		case 2:
			s.full(i, 1).node(i, func(n *Node) { n.Allocatable = 0 })
		case 3:
			s.full(i, 1)
			s.o.NodePods[nodes[i].Name] = Unknown[NodePods]("x")
		case 4:
			s.full(i, 1).node(i, func(n *Node) { n.Pods[0].Unschedulable = "Insufficient cpu" })
		case 5:
			s.full(i, 1).node(i, func(n *Node) { n.Unschedulable = true })
		}
	}
	switch rapid.IntRange(0, 4).Draw(t, "controller") {
	case 0:
		s.o.Controller = Unknown[Controller]("x")
	case 1:
		s.o.Controller = Known(Controller{RenewedAt: s.o.At.Add(-40 * time.Second)})
	case 2:
		s.o.Controller = Known(Controller{RenewedAt: s.o.At.Add(-time.Hour), Duration: time.Minute})
	}
	switch rapid.IntRange(0, 4).Draw(t, "events") {
	case 0:
		s.o.Events = Unknown[[]Event]("x")
	case 1:
		s.o.Events = Reading[[]Event]{}
	case 2:
		s.o.Events = Known([]Event{{Reason: "FailedCreate", Message: "x", At: s.o.At.Add(time.Second)}})
	}
	switch rapid.IntRange(0, 4).Draw(t, "disk incidents") {
	case 0:
		s.o.DiskIncidents = Unknown[[]IncidentRef]("x")
	case 1:
		s.o.DiskIncidents = Reading[[]IncidentRef]{}
	case 2:
		s.o.DiskIncidents = Known([]IncidentRef{{Number: 1}, {Number: 2}})
	}
	switch rapid.IntRange(0, 3).Draw(t, "log") {
	case 0:
		s.o.ManagerLog = Known(ManagerLog{Lines: []LogLine{{At: s.o.At, Text: `monitoring/node-exporter failed with : failed to construct revisions of DaemonSet: ` +
			`controllerrevisions.apps is forbidden: User "system:serviceaccount:kube-system:daemon-set-controller" cannot list resource`}}})
	case 1:
		s.o.ManagerLog = Unknown[ManagerLog]("x")
	}
	if rapid.Bool().Draw(t, "rollout") && s.o.DaemonSet.IsKnown() {
		s.ds(func(d *DaemonSet) { d.Updated = max(0, d.Current-1) })
	}
	if rapid.Bool().Draw(t, "alert") && s.o.Incidents["Q1"].IsKnown() {
		s.o.Incidents["Q1"] = Known(Incident{ID: "Q1", NodesInDetails: []string{"node-00", "node-01"}})
	}
	s.o.Target = Target{"c1", "monitoring", "node-exporter"}
}
