package playbook

import (
	"fmt"
	"time"
)

// t0 is the tests' beginning of time.
var t0 = time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC)

func testPolicy() Policy {
	return Policy{
		Mode: ModeAct, StopOnAck: true, DrainFrom: []string{"kubx-masters"}, Installation: "here",
		DaemonSet: DaemonSetPolicy{Known: true, EscalationPolicy: "PARMOPS", Team: "armada-ops", Promotion: "armada-ops", Reapply: ReapplyIfNeeded},
		Timing:    DefaultTiming(), Limits: DefaultLimits(),
	}
}

// scene builds an observation of a healthy carrier with n nodes, which tests then break.
type scene struct{ o Observation }

func healthy(n int) *scene {
	ds := DaemonSet{Exists: true, UID: "ds-1", ResourceVersion: "7", Generation: 1, ObservedGeneration: 1, RollingUpdate: true,
		Desired: n, Current: n, Ready: n, Updated: n, Available: n, CreatedAt: t0.Add(-time.Hour), NewestPodAt: t0.Add(-time.Hour)}
	nodes := make([]Node, n)
	for i := range nodes {
		name := fmt.Sprintf("node-%02d", i)
		nodes[i] = Node{Name: name, UID: "uid-" + name, ResourceVersion: "1", Expected: true, Ready: true, Allocatable: 31,
			Pods: []Pod{{Name: "agent-" + name, UID: "pod-" + name, Phase: "Running", Scheduled: true, Ready: true, Owned: true, CreatedAt: t0.Add(-time.Hour)}}}
	}
	return &scene{o: Observation{At: t0, DaemonSet: Known(ds), Nodes: Known(nodes), Namespace: Known(Namespace{Exists: true}),
		Controller: Known(Controller{Holder: "kcm-1", RenewedAt: t0.Add(-time.Second), Duration: 15 * time.Second}),
		Events:     Known([]Event(nil)), DiskIncidents: Known([]IncidentRef(nil)), Ledger: Known(LedgerFacts{}),
		Promotion: Known(Promotion{Component: "armada-ops", Version: "1.2.3", Build: 41, Source: "flags"}),
		Incidents: map[string]Reading[Incident]{"Q1": Known(Incident{ID: "Q1", Number: 1, Status: Triggered})}}}
}

func (s *scene) node(i int, change func(*Node)) *scene {
	nodes, _ := s.o.Nodes.Get()
	change(&nodes[i])
	return s
}

func (s *scene) ds(change func(*DaemonSet)) *scene {
	ds, _ := s.o.DaemonSet.Get()
	change(&ds)
	s.o.DaemonSet = Known(ds)
	return s
}

// full makes node i full: its daemon pod waits, and candidates more pods than fit are there to be moved.
func (s *scene) full(i, candidates int) *scene {
	var name string
	s.node(i, func(n *Node) {
		name = n.Name
		n.Pods = []Pod{{Name: "agent-new", UID: "pod-new-" + n.Name, Phase: "Pending", Owned: true, CreatedAt: t0.Add(-10 * time.Minute),
			Unschedulable: "0/5 nodes are available: 1 Too many pods, 4 node(s) didn't satisfy plugin(s) [NodeAffinity]."}}
	})
	pods := NodePods{Count: 31, PendingDaemon: 1}
	for c := range candidates {
		pods.Candidates = append(pods.Candidates, Candidate{Namespace: "kubx-masters", Name: fmt.Sprintf("master-%d", c),
			UID: fmt.Sprintf("m-%s-%d", name, c), Owner: fmt.Sprintf("ReplicaSet/master-%d", c), OwnerReady: 3, OwnerWants: 3, CreatedAt: t0.Add(-time.Hour)})
	}
	if s.o.NodePods == nil {
		s.o.NodePods = map[string]Reading[NodePods]{}
	}
	s.o.NodePods[name] = Known(pods)
	return s
}

// gone removes the daemon pod of node i.
func (s *scene) gone(i int) *scene { return s.node(i, func(n *Node) { n.Pods = nil }) }

func (s *scene) at(t time.Time) *scene {
	s.o.At = t
	if c, ok := s.o.Controller.Get(); ok {
		c.RenewedAt = t.Add(-time.Second)
		s.o.Controller = Known(c)
	}
	return s
}

// testRun is a run in triage that began at t0.
func testRun(st State) Run {
	return Run{ID: "run-1", Target: Target{"prod-dal10-carrier3", "monitoring", "node-exporter"}, Mode: ModeAct, State: st,
		TableVersion: TableVersion, StartedAt: t0.Add(-time.Second), Trigger: TriggerWebhook,
		Incidents: []RunIncident{{ID: "Q1", Number: 1, JoinedAt: t0.Add(-time.Second)}}, Memory: Memory{EnteredAt: t0.Add(-time.Second)}}
}

// watch decides again and again, every 5 s for d, without anything changing but the clock, and returns the last decision.
func watch(p Policy, r Run, s *scene, d time.Duration) (Run, Decision) {
	var dec Decision
	for at := t0; !at.After(t0.Add(d)); at = at.Add(5 * time.Second) {
		dec = Decide(p, r, s.at(at).o)
		if dec.To != r.State || len(dec.Promises) > 0 {
			return r, dec
		}
		r.Memory, r.State = dec.Memory, dec.To
	}
	return r, dec
}
