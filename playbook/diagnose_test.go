package playbook

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestDiagnose(t *testing.T) {
	t.Parallel()
	deleted := t0.Add(-time.Minute)
	tests := []struct {
		name      string
		scene     *scene
		want      Finding
		confirmed bool
		node      NodeVerdict // of node-00
	}{
		{"healthy", healthy(5), FindingHealthy, true, VerdictCovered},
		{"tainted masters do not count", healthy(5).node(0, func(n *Node) {
			n.Expected, n.Pods, n.ExcludedBy = false, nil, "taint node-role.kubernetes.io/control-plane:NoSchedule"
		}), FindingHealthy, true, VerdictExcluded},
		{"a leaving node does not count", healthy(5).node(0, func(n *Node) { n.Leaving, n.Pods = true, nil }), FindingHealthy, true, VerdictExcluded},
		{"carrier unreadable", func() *scene { s := healthy(5); s.o.DaemonSet = Unknown[DaemonSet]("timeout"); return s }(), FindingUnknown, false, ""},
		{"nodes unreadable", func() *scene { s := healthy(5); s.o.Nodes = Unknown[[]Node]("timeout"); return s }(), FindingUnknown, false, ""},
		{"no nodes at all", healthy(0), FindingNotSelected, false, ""},
		{"deleting", healthy(5).ds(func(d *DaemonSet) { d.DeletedAt = &deleted; d.Finalizers = []string{"orphan"} }), FindingDeleting, false, ""},
		{"absent", healthy(5).ds(func(d *DaemonSet) { *d = DaemonSet{} }), FindingAbsent, false, ""},
		{"controller behind", healthy(5).ds(func(d *DaemonSet) { d.Generation = 2 }), FindingControllerStuck, false, VerdictCovered},
		{"full by the scheduler's word and our count", healthy(5).full(0, 3), FindingNodeFull, false, VerdictNodeFull},
		{"the 2018 sign of full nodes is no proof", healthy(5).ds(func(d *DaemonSet) { d.Desired, d.Current, d.Ready = 4, 4, 4 }).
			node(0, func(n *Node) { n.Ready, n.Pods = false, nil }), FindingNodeDown, false, VerdictNodeDown},
		{"too many pods said, room counted", func() *scene {
			s := healthy(5).full(0, 3)
			s.o.NodePods["node-00"] = Known(NodePods{Count: 30})
			return s
		}(), FindingRollingOut, true, VerdictRollingOut},
		{"too many pods said, count failed", func() *scene {
			s := healthy(5).full(0, 3)
			s.o.NodePods["node-00"] = Unknown[NodePods]("timeout")
			return s
		}(), FindingUnknown, false, VerdictUnknown},
		{"full and short of cpu", healthy(5).full(0, 3).node(0, func(n *Node) {
			n.Pods[0].Unschedulable = "0/5 nodes are available: 1 Insufficient cpu, 1 Too many pods."
		}), FindingNoRoom, false, VerdictNoRoom},
		{"a preemption is under way", healthy(5).full(0, 3).node(0, func(n *Node) { n.Pods[0].Nominated = true }), FindingRollingOut, true, VerdictRollingOut},
		{"full and cordoned by somebody", healthy(5).full(0, 3).node(0, func(n *Node) { n.Unschedulable = true }), FindingNodeDown, false, VerdictNodeDown},
		{"full and cordoned by another installation", healthy(5).full(0, 3).node(0, func(n *Node) {
			n.Unschedulable, n.CordonedBy = true, &Mark{Installation: "elsewhere", Run: "x"}
		}), FindingNodeDown, false, VerdictNodeDown},
		{"uncovered", healthy(5).gone(0), FindingUncovered, false, VerdictUncovered},
		{"no pod, controller not fresh", func() *scene {
			s := healthy(5).gone(0)
			s.o.Controller = Known(Controller{RenewedAt: t0.Add(-40 * time.Second), Duration: 15 * time.Second})
			return s
		}(), FindingUnknown, false, VerdictUnknown},
		{"no pod, lease missing", func() *scene {
			s := healthy(5).gone(0)
			s.o.Controller = Unknown[Controller]("lease not found")
			return s
		}(), FindingUnknown, false, VerdictUnknown},
		{"no pod, controller dead", func() *scene {
			s := healthy(5).gone(0)
			s.o.Controller = Known(Controller{RenewedAt: t0.Add(-2 * time.Minute), Duration: 15 * time.Second})
			return s
		}(), FindingControllerStuck, false, VerdictUnknown},
		{"no pod, refused", func() *scene {
			s := healthy(5).gone(0)
			s.o.Events = Known([]Event{{Reason: "FailedCreate", Message: "is forbidden: exceeded quota", At: t0.Add(-time.Minute)}})
			return s
		}(), FindingRefused, false, VerdictUnknown},
		{"no pod, refused long ago", func() *scene {
			s := healthy(5).gone(0)
			s.o.Events = Known([]Event{{Reason: "FailedCreate", At: t0.Add(-time.Hour)}})
			return s
		}(), FindingUncovered, false, VerdictUncovered},
		{"no pod, events unreadable", func() *scene {
			s := healthy(5).gone(0)
			s.o.Events = Unknown[[]Event]("timeout")
			return s
		}(), FindingUnknown, false, VerdictUnknown},
		{"rolling update between two pods", healthy(5).ds(func(d *DaemonSet) { d.Updated = 3 }), FindingRollingOut, true, VerdictCovered},
		{"OnDelete never counts as a rollout", healthy(5).ds(func(d *DaemonSet) { d.Updated, d.RollingUpdate = 3, false }), FindingHealthy, true, VerdictCovered},
		{"its pod is terminating", healthy(5).node(0, func(n *Node) { n.Pods[0].Terminating = true }), FindingRollingOut, true, VerdictRollingOut},
		{"disk pressure", healthy(5).node(0, func(n *Node) { n.DiskPressure, n.Pods = true, nil }), FindingDisk, true, VerdictDisk},
		{"disk pressure on a covered node holds nobody up", healthy(5).node(0, func(n *Node) { n.DiskPressure = true }), FindingHealthy, true, VerdictCovered},
		{"a disk incident is open and a node is missing", func() *scene {
			s := healthy(5).full(0, 3)
			s.o.DiskIncidents = Known([]IncidentRef{{ID: "QD", Number: 9, Title: "disk"}})
			return s
		}(), FindingDisk, true, VerdictNodeFull},
		{"crash loop", healthy(5).node(0, func(n *Node) {
			n.Pods[0].Ready, n.Pods[0].Waiting, n.Pods[0].Restarts = false, "CrashLoopBackOff", 7
		}), FindingMalfunctioning, false, VerdictMalfunctioning},
		{"a pod that starts is no fault", healthy(5).node(0, func(n *Node) {
			n.Pods[0].Ready, n.Pods[0].CreatedAt = false, t0.Add(-20*time.Second)
		}), FindingRollingOut, true, VerdictRollingOut},
		{"NotReady with a running pod", healthy(5).node(0, func(n *Node) { n.Ready = false }), FindingNodeDown, false, VerdictNodeDown},
		{"a crashing node never hides a full one", healthy(5).full(1, 3).node(0, func(n *Node) {
			n.Pods[0].Ready, n.Pods[0].Waiting = false, "CrashLoopBackOff"
		}), FindingNodeFull, false, VerdictMalfunctioning},
		{"the alert names an excluded node", func() *scene {
			s := healthy(5).node(0, func(n *Node) { n.Expected, n.ExcludedBy = false, "taint x" })
			s.o.Incidents["Q1"] = Known(Incident{ID: "Q1", NodesInDetails: []string{"node-00"}})
			return s
		}(), FindingNotSelected, true, VerdictExcluded},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := Diagnose(testPolicy(), tt.scene.o, nil)
			if d.Finding != tt.want || d.Confirmed != tt.confirmed {
				t.Fatalf("got %s (confirmed %v), want %s (%v): %s", d.Finding, d.Confirmed, tt.want, tt.confirmed, d.Why)
			}
			if d.Why == "" {
				t.Error("a finding without a why")
			}
			var got NodeVerdict
			for _, v := range d.Verdicts {
				if v.Node == "node-00" {
					got = v.Verdict
				}
			}
			if got != tt.node {
				t.Errorf("node-00 is %q, want %q", got, tt.node)
			}
			for _, q := range d.Questions {
				if q.Saw == "" {
					t.Errorf("question %s says nothing: %+v", q.Finding, q)
				}
			}
		})
	}
}

// What is read only on request is asked for before it is decided upon.
func TestDiagnoseWants(t *testing.T) {
	t.Parallel()
	s := healthy(5).full(0, 3)
	s.o.NodePods = nil
	if d := Diagnose(testPolicy(), s.o, nil); !slices.Contains(wantKinds(d.Wants), WantNodePods) || d.Finding != FindingUnknown {
		t.Errorf("a full node without a recount: %s, wants %v", d.Finding, d.Wants)
	}
	s = healthy(5).gone(0)
	s.o.Events = Reading[[]Event]{}
	s.o.DiskIncidents = Reading[[]IncidentRef]{}
	d := Diagnose(testPolicy(), s.o, nil)
	if kinds := wantKinds(d.Wants); !slices.Contains(kinds, WantEvents) || !slices.Contains(kinds, WantDiskIncidents) {
		t.Errorf("an uncovered node wants %v", kinds)
	}
}

func wantKinds(ws []Want) []WantKind {
	var out []WantKind
	for _, w := range ws {
		out = append(out, w.Kind)
	}
	return out
}

// The stored form of an observation decides as the whole one does.
func TestCompactKeepsTheDiagnosis(t *testing.T) {
	t.Parallel()
	scenes := map[string]*scene{"healthy": healthy(8), "full": healthy(8).full(3, 4), "uncovered": healthy(8).gone(2),
		"down": healthy(8).node(1, func(n *Node) { n.Ready = false })}
	for name, s := range scenes {
		b, err := json.Marshal(s.o.Compact())
		if err != nil {
			t.Fatal(err)
		}
		var back Observation
		if err := json.Unmarshal(b, &back); err != nil {
			t.Fatal(err)
		}
		whole, stored := Diagnose(testPolicy(), s.o, nil), Diagnose(testPolicy(), back, nil)
		if whole.Finding != stored.Finding || whole.Expected != stored.Expected || whole.Missing != stored.Missing || whole.Why != stored.Why {
			t.Errorf("%s: whole %s %d/%d, stored %s %d/%d", name, whole.Finding, whole.Missing, whole.Expected, stored.Finding, stored.Missing, stored.Expected)
		}
		if diff := cmp.Diff(whole.Sightings, stored.Sightings); diff != "" {
			t.Errorf("%s: sightings differ: %s", name, diff)
		}
	}
}

func TestSightings(t *testing.T) {
	t.Parallel()
	look := func(s Sightings, at time.Duration, yes bool) Sightings {
		c := claims{yes: map[string]bool{}}
		if yes {
			c.yes["x"] = true
		}
		return s.fold(t0.Add(at), t0.Add(at), c)
	}
	s := look(nil, 0, true)
	s = look(s, 10*time.Second, true)
	s = look(s, 20*time.Second, true)
	if !s.held("x", 20*time.Second, 3) || s.held("x", 21*time.Second, 3) || s.held("x", 20*time.Second, 4) {
		t.Errorf("three looks over 20 s: %+v", s["x"])
	}
	if again := look(s, 20*time.Second, true); again["x"].Count != 3 {
		t.Error("the same look counted twice")
	}
	if after := look(s, 51*time.Second, true); after["x"].Count != 1 {
		t.Errorf("a gap of 31 s did not start again: %+v", after["x"])
	}
	if _, kept := look(s, 25*time.Second, false)["x"]; kept {
		t.Error("a claim that no longer holds is still there")
	}
	slow := Sightings(nil).fold(t0, t0.Add(9*time.Second), claims{yes: map[string]bool{"x": true}})
	if slow = look(slow, 10*time.Second, true); slow.held("x", 2*time.Second, 2) || !slow.held("x", time.Second, 2) {
		t.Errorf("what a look of 9 s saw first counts from its end: %+v", slow["x"])
	}
	kept := s.fold(t0.Add(25*time.Second), t0.Add(25*time.Second), claims{unknown: func(string) bool { return true }})
	if kept["x"] != s["x"] {
		t.Error("unknown changed a sighting")
	}
}
