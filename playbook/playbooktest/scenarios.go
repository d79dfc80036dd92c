package playbooktest

import (
	"fmt"
	"slices"
	"time"

	"github.com/drydock/drydock/playbook"
)

const (
	slots  = 6 // allocatable.pods of every node
	helmed = "monitoring"
)

// bare makes a carrier of five workers and a master with its usual taint, without any DaemonSet.
func bare(w *World) *Carrier {
	c := w.Carrier(defaultCarrier)
	c.AddNode(Node{Name: "master-01", Allocatable: slots, Master: true})
	for i := range 5 {
		c.AddNode(Node{Name: fmt.Sprintf("worker-%d", i+1), Allocatable: slots})
	}
	return c
}

// healthy is a carrier with a node-exporter on every worker.
func healthy(w *World) *Carrier {
	c := bare(w)
	c.AddSet(DaemonSet{Namespace: defaultNS, Name: defaultDaemon})
	return c
}

// full is a carrier whose named workers were filled with customers' masters before their daemon pods came. Each master
// has a second replica on another worker.
func full(w *World, workers ...string) *Carrier {
	c := bare(w)
	for _, worker := range workers {
		for i := range slots {
			name := fmt.Sprintf("master-%s-%d", worker, i+1)
			c.AddOwner(Owner{Namespace: victimNamespace, Name: name, Replicas: 2})
			c.AddPod(Pod{Namespace: victimNamespace, Node: worker, Owner: "ReplicaSet/" + name})
		}
	}
	w.Clock.Advance(10 * time.Second)
	c.AddSet(DaemonSet{Namespace: defaultNS, Name: defaultDaemon})
	return c
}

// budgets puts every customer's master under a disruption budget.
func budgets(c *Carrier, minAvailable int) {
	for _, o := range c.owners {
		c.AddBudget(Budget{Namespace: o.Namespace, Name: o.Name, Owners: []string{o.Name}, MinAvailable: minAvailable})
	}
}

// uncovered is a carrier whose DaemonSet controller has lost sight of a worker.
func uncovered(w *World) *Carrier {
	c := healthy(w)
	w.Clock.Advance(time.Minute)
	c.Forget(defaultNS, defaultDaemon, "worker-4")
	return c
}

// absent is a carrier whose node-exporter somebody removed; its component can be promoted again.
func absent(w *World) *Carrier {
	c := bare(w)
	c.namespace(defaultNS)
	w.Promoter.Add(defaultCarrier, component, "1.42.0", 118, func() {
		if c.Set(defaultNS, defaultDaemon) == nil {
			c.AddSet(DaemonSet{Namespace: defaultNS, Name: defaultDaemon})
		}
	})
	return c
}

// deadController is a carrier whose controller-manager died before it could replace a daemon pod.
func deadController(w *World) {
	c := healthy(w)
	w.Clock.Advance(time.Minute)
	c.StopController()
	c.HumanEvict(podOn(c, defaultDaemon, "worker-4"))
}

func marked(c *Carrier, node string) func() bool {
	return func() bool { return c.Node(node).Mark != nil }
}

// promised is true while an intent of this kind is open.
func promised(w *World, kind playbook.Kind) func() bool {
	return func() bool {
		for _, id := range w.Ledger.Runs() {
			r := w.Ledger.runs[id].run
			for _, i := range r.Intents {
				if i.Open() && i.Action.Kind() == kind {
					return true
				}
			}
		}
		return false
	}
}

var (
	drained    = []playbook.Kind{playbook.KindCordon, playbook.KindEvict, playbook.KindUncordon}
	givenBack  = []playbook.Kind{playbook.KindCordon, playbook.KindUncordon}
	reapplied  = []playbook.Kind{playbook.KindOrphanDelete, playbook.KindCreate}
	repaired   = End{Outcome: playbook.OutcomeResolved, Finding: playbook.FindingHealthy, Says: "Drydock resolves this incident"}
	orHandOver = []playbook.Outcome{playbook.OutcomeEscalated}
)

func handedOver(f playbook.Finding, says string) []End {
	return []End{{Outcome: playbook.OutcomeEscalated, Finding: f, Says: says}}
}

// Scenarios are the nights of the runbook, and those on which people or remotes get in the way.
func Scenarios() []Scenario {
	return slices.Concat(repairs(), disturbances(), outages(), installations(), calls())
}

// repairs are the findings of the runbook, one by one.
func repairs() []Scenario {
	return []Scenario{
		{
			Name:  "healthy",
			Setup: func(w *World) { healthy(w) },
			Ends:  []End{{Outcome: playbook.OutcomeResolved, Finding: playbook.FindingHealthy, Says: "nothing had to be changed"}},
		},
		{
			// The masters' taint excludes them; the 2018 comparison of counts would call this carrier full.
			Name:  "tainted masters, one worker cordoned by a person, healthy",
			Setup: func(w *World) { c := healthy(w); c.HumanCordon("worker-2") },
			Ends:  []End{{Outcome: playbook.OutcomeResolved, Finding: playbook.FindingHealthy}},
		},
		{
			Name:  "disk pressure clears",
			Setup: func(w *World) { c := healthy(w); w.Clock.Advance(time.Minute); c.SetDiskPressure("worker-3", true) },
			Later: func(w *World) {
				w.Clock.After(30*time.Second, func() { w.Carrier(defaultCarrier).SetDiskPressure("worker-3", false) })
			},
			Ends: []End{repaired},
		},
		{
			Name:  "disk pressure stays",
			Setup: func(w *World) { c := healthy(w); w.Clock.Advance(time.Minute); c.SetDiskPressure("worker-3", true) },
			Ends:  handedOver(playbook.FindingDisk, "armada-carrier-node-filesystem-space"),
		},
		{
			Name:  "a disk-space incident is open, then resolved, and the full node remains",
			Setup: func(w *World) { full(w, "worker-1"); w.Pager.OpenDisk(defaultCarrier) },
			Later: func(w *World) { w.Clock.After(25*time.Second, func() { w.Pager.CloseDisks(defaultCarrier) }) },
			Ends:  []End{repaired}, Did: drained,
		},
		{
			Name:  "absent, promoted again",
			Setup: func(w *World) { absent(w) },
			Ends:  []End{repaired}, Did: []playbook.Kind{playbook.KindPromote},
			Or: orHandOver, // a promotion whose fate is not known is never sent again
		},
		{
			Name:  "absent, and the CI's queue is slow",
			Setup: func(w *World) { absent(w); w.Promoter.QueueTime = time.Minute },
			Ends:  []End{repaired}, Did: []playbook.Kind{playbook.KindPromote},
			Or: orHandOver, // as above
		},
		{
			Name:  "absent, and the promotion fails",
			Setup: func(w *World) { absent(w); w.Promoter.Fails = true },
			Ends:  handedOver(playbook.FindingAbsent, "FAILURE"), Did: []playbook.Kind{playbook.KindPromote},
		},
		{
			Name: "absent on purpose: the source names no version",
			Setup: func(w *World) {
				absent(w)
				w.Promoter.Add(defaultCarrier, component, "", 0, func() {})
			},
			Policy: func(p *playbook.Policy) { p.Timing.Approval = time.Minute },
			Ends:   handedOver(playbook.FindingAbsent, "on purpose"),
		},
		{
			Name:  "node full, drained",
			Setup: func(w *World) { full(w, "worker-1") },
			Ends:  []End{repaired}, Did: drained,
		},
		{
			Name:  "node full, and the daemon pod comes slowly into the freed place",
			Setup: func(w *World) { full(w, "worker-1") },
			Later: func(w *World) {
				c := w.Carrier(defaultCarrier)
				c.Delays.React, c.Delays.Start = 7*time.Second, 8*time.Second
			},
			Ends: []End{repaired}, Did: drained,
		},
		{
			Name:   "node full, drained and reapplied as the runbook's letter says",
			Setup:  func(w *World) { full(w, "worker-1") },
			Policy: func(p *playbook.Policy) { p.DaemonSet.Reapply = playbook.ReapplyAlways },
			Ends:   []End{repaired},
			Did:    []playbook.Kind{playbook.KindCordon, playbook.KindEvict, playbook.KindOrphanDelete, playbook.KindCreate, playbook.KindUncordon},
		},
		{
			Name:  "node full, a disruption budget blocks for a while",
			Setup: func(w *World) { budgets(full(w, "worker-1"), 2) },
			Later: func(w *World) {
				w.Clock.After(45*time.Second, func() {
					for _, b := range w.Carrier(defaultCarrier).budgets {
						b.MinAvailable = 1
					}
				})
			},
			Ends: []End{repaired}, Did: drained,
		},
		{
			Name:  "node full, a disruption budget blocks for good",
			Setup: func(w *World) { budgets(full(w, "worker-1"), 2) },
			Ends:  handedOver(playbook.FindingNodeFull, "worker-1"), Did: givenBack,
		},
		{
			Name:   "node full, nothing may be moved",
			Setup:  func(w *World) { full(w, "worker-1") },
			Policy: func(p *playbook.Policy) { p.DrainFrom = nil },
			Ends:   handedOver(playbook.FindingNodeFull, "drain_namespaces"),
		},
		{
			Name:  "two nodes full",
			Setup: func(w *World) { full(w, "worker-1", "worker-2") },
			Ends:  []End{repaired}, Did: append(append([]playbook.Kind{}, drained...), drained...),
		},
		{
			Name:  "uncovered, reapplied",
			Setup: func(w *World) { uncovered(w) },
			Ends:  []End{repaired}, Did: reapplied,
		},
		{
			Name: "uncovered, but a Helm release owns it",
			Setup: func(w *World) {
				uncovered(w).Set(defaultNS, defaultDaemon).Annotations[helmKey] = helmed
			},
			Ends: handedOver(playbook.FindingUncovered, "Helm release monitoring"),
		},
		{
			Name: "a rolling update is under way",
			Setup: func(w *World) {
				c := healthy(w)
				w.Clock.Advance(2 * time.Minute)
				c.Delays.Start = 8 * time.Second
				w.Clock.After(5*time.Minute, func() { c.HumanUpdate(defaultNS, defaultDaemon, "node-exporter:2") })
			},
			Ends: []End{{Outcome: playbook.OutcomeResolved, Finding: playbook.FindingHealthy}},
		},
		{
			Name: "a pod crashes on one worker",
			Setup: func(w *World) {
				c := bare(w)
				c.Node("worker-5").Broken = true
				c.AddSet(DaemonSet{Namespace: defaultNS, Name: defaultDaemon})
			},
			Ends: handedOver(playbook.FindingMalfunctioning, "CrashLoopBackOff"),
		},
		{
			Name: "a worker is down",
			Setup: func(w *World) {
				c := healthy(w)
				w.Clock.Advance(time.Minute)
				c.SetNotReady("worker-5", "kubelet stopped")
			},
			Ends: handedOver(playbook.FindingNodeDown, "kubelet stopped"),
		},
		{
			Name: "one worker down does not hide a full one",
			Setup: func(w *World) {
				c := full(w, "worker-1")
				w.Clock.Advance(time.Minute)
				c.SetNotReady("worker-5", "kubelet stopped")
			},
			Ends: handedOver(playbook.FindingNodeDown, "worker-5"), Did: drained,
		},
		{
			Name:   "the controller-manager is dead, and is restarted",
			Setup:  func(w *World) { deadController(w) },
			Policy: func(p *playbook.Policy) { p.RestartDriver = "deployment" },
			Ends:   []End{repaired}, Did: []playbook.Kind{playbook.KindRestart},
			Or: orHandOver, // a lost answer is looked up, and the look may come too late
		},
		{
			Name:  "the controller-manager is dead, and no driver can restart it",
			Setup: func(w *World) { deadController(w) },
			Ends:  handedOver(playbook.FindingControllerStuck, "controller_manager.restart"),
		},
		{
			Name: "the controller may not store revisions, for good",
			Setup: func(w *World) {
				c := healthy(w)
				w.Clock.Advance(time.Minute)
				c.RevisionsForbidden = true
				c.HumanUpdate(defaultNS, defaultDaemon, "node-exporter:2")
			},
			Policy: func(p *playbook.Policy) { p.RestartDriver = "deployment" },
			Ends:   handedOver(playbook.FindingControllerStuck, "create controllerrevisions"),
			Did:    []playbook.Kind{playbook.KindNudge, playbook.KindRestart},
		},
		{
			Name: "a quota refuses the pods",
			Setup: func(w *World) {
				c := healthy(w)
				w.Clock.Advance(time.Minute)
				c.Quota[defaultNS] = "exceeded quota: pods"
				for _, p := range c.Pods() {
					if p.Node == "worker-4" {
						c.HumanEvict(p)
					}
				}
			},
			Ends: handedOver(playbook.FindingRefused, "exceeded quota"),
		},
	}
}

// podOn finds the daemon pod of a node.
func podOn(c *Carrier, app, node string) *Pod {
	for _, p := range c.pods {
		if p.App == app && p.Pinned == node {
			return p
		}
	}
	return nil
}
