package playbooktest

import (
	"time"

	"github.com/drydock/drydock/playbook"
)

// disturbances are nights on which people, other targets or remotes get in the way.
func disturbances() []Scenario {
	return []Scenario{
		{
			Name:  "a person acknowledges during a drain",
			Setup: func(w *World) { full(w, "worker-1") },
			Later: func(w *World) {
				w.When("cordoned", marked(w.Carrier(defaultCarrier), "worker-1"), func() {
					w.Clock.After(100*time.Millisecond, func() { w.Pager.Human("PINC001", playbook.ActAcknowledged, "Ada") })
				})
			},
			Ends: []End{{Outcome: playbook.OutcomeStoodDown, Says: "Ada"}}, Did: givenBack,
		},
		{
			Name:  "a person had cordoned the full node",
			Setup: func(w *World) { full(w, "worker-1").HumanCordon("worker-1") },
			Ends:  handedOver(playbook.FindingNodeDown, "somebody else has cordoned"),
		},
		{
			Name:  "a person cordons the full node as Drydock is about to",
			Setup: func(w *World) { full(w, "worker-1") },
			Later: func(w *World) {
				w.When("about to cordon", promised(w, playbook.KindCordon), func() { w.Carrier(defaultCarrier).HumanCordon("worker-1") })
			},
			Ends: handedOver(playbook.FindingNodeDown, "somebody else has cordoned"),
		},
		{
			Name:  "a person wants the drained node to stay cordoned",
			Setup: func(w *World) { full(w, "worker-1") },
			Later: func(w *World) {
				w.When("cordoned", marked(w.Carrier(defaultCarrier), "worker-1"), func() { w.Carrier(defaultCarrier).HumanKeepCordoned("worker-1") })
			},
			Ends: []End{repaired}, Did: drained,
		},
		{
			Name:  "a person edits the DaemonSet as Drydock is about to delete it",
			Setup: func(w *World) { uncovered(w) },
			Later: func(w *World) {
				w.When("about to delete", promised(w, playbook.KindOrphanDelete), func() {
					w.Carrier(defaultCarrier).HumanEdit(defaultNS, defaultDaemon, "team", "armada-ops")
				})
			},
			Ends: []End{repaired}, Did: reapplied,
		},
		{
			Name:  "the alert recovers by itself during triage",
			Setup: func(w *World) { full(w, "worker-1") },
			Later: func(w *World) { w.Clock.After(7*time.Second, func() { w.Pager.MonitoringResolves("PINC001") }) },
			Ends:  []End{{Outcome: playbook.OutcomeStoodDown, Says: "resolved by others"}},
		},
		{
			Name:   "mode observe",
			Setup:  func(w *World) { full(w, "worker-1") },
			Policy: func(p *playbook.Policy) { p.Mode = playbook.ModeObserve },
			Ends:   []End{{Outcome: playbook.OutcomeStoodDown, Finding: playbook.FindingNodeFull, Says: "changed nothing"}},
		},
		{
			Name:   "the carrier can not be reached until the deadline",
			Setup:  func(w *World) { full(w, "worker-1").Unreachable = "dial tcp: i/o timeout" },
			Policy: func(p *playbook.Policy) { p.Timing.Deadline = 4 * time.Minute },
			Ends:   handedOver(playbook.FindingUnknown, "i/o timeout"),
		},
		{
			Name:  "PagerDuty can not be reached for a while",
			Setup: func(w *World) { full(w, "worker-1"); w.Pager.Unreachable = "503" },
			Later: func(w *World) { w.Clock.After(time.Minute, func() { w.Pager.Unreachable = "" }) },
			Ends:  []End{repaired}, Did: drained,
		},
		{
			Name:  "the kill switch is engaged during a drain",
			Setup: func(w *World) { full(w, "worker-1") },
			Later: func(w *World) {
				w.When("cordoned", marked(w.Carrier(defaultCarrier), "worker-1"), func() {
					w.Ledger.kill[""] = "storm"
				})
			},
			Ends: handedOver("", "storm"), Did: givenBack,
		},
		{
			Name: "two targets on one carrier",
			Setup: func(w *World) {
				c := full(w, "worker-1")
				c.AddSet(DaemonSet{Namespace: defaultNS, Name: "docker-metrics-endpoint"})
			},
			Alerts: []playbook.Target{target(defaultCarrier, defaultDaemon), target(defaultCarrier, "docker-metrics-endpoint")},
			Ends:   []End{repaired, {Outcome: playbook.OutcomeResolved, Finding: playbook.FindingHealthy}},
			Did:    []playbook.Kind{playbook.KindCordon, playbook.KindEvict, playbook.KindEvict, playbook.KindUncordon},
		},
		{
			Name:  "a second incident of the target joins the run",
			Setup: func(w *World) { full(w, "worker-1") },
			Later: func(w *World) {
				w.Clock.After(8*time.Second, func() {
					in := w.Pager.Trigger("PINC900", "the same alert from another region")
					w.Ledger.JoinRun("run-01", playbook.RunIncident{ID: in.ID, Number: in.Number, Title: in.Title, URL: in.URL})
				})
			},
			Ends: []End{repaired}, Did: drained,
		},
		{
			Name:  "another pod takes the freed slot",
			Setup: func(w *World) { full(w, "worker-1") },
			Later: func(w *World) {
				c := w.Carrier(defaultCarrier)
				w.When("cordoned", marked(c, "worker-1"), func() {
					// A new DaemonSet's pod is older in the scheduler's queue of this node and fits first.
					c.AddSet(DaemonSet{Namespace: "kube-system", Name: "a-newcomer"})
					for _, p := range c.Pods() {
						if p.App == defaultDaemon && p.Node == "" {
							c.HumanEvict(p)
						}
					}
				})
			},
			Ends: []End{repaired},
			Did:  []playbook.Kind{playbook.KindCordon, playbook.KindEvict, playbook.KindEvict, playbook.KindUncordon},
		},
		{
			Name: "the garbage collector is slow",
			Setup: func(w *World) {
				c := uncovered(w)
				c.Delays.Orphan, c.Delays.PodCache = 12*time.Second, 4*time.Second
			},
			Ends: []End{repaired}, Did: reapplied,
		},
		{
			Name:  "somebody else creates the DaemonSet while it is gone for its reapply",
			Setup: func(w *World) { uncovered(w) },
			Later: func(w *World) {
				c := w.Carrier(defaultCarrier)
				w.When("gone", func() bool { return c.Set(defaultNS, defaultDaemon) == nil }, func() {
					c.HumanCreate(DaemonSet{Namespace: defaultNS, Name: defaultDaemon, Annotations: map[string]string{"by": "Ada"}})
					c.edited(c.Set(defaultNS, defaultDaemon), "by", "Ada")
				})
			},
			Ends: []End{repaired}, Did: []playbook.Kind{playbook.KindOrphanDelete},
		},
		{
			Name: "a pod of the DaemonSet was born just before its reapply",
			Setup: func(w *World) {
				c := uncovered(w)
				// Wide enough that only waiting for the quiet after a new pod keeps it alive.
				c.OrphanRace = 8 * time.Second
				w.Clock.After(5*time.Minute+12*time.Second, func() { c.HumanEvict(podOn(c, defaultDaemon, "worker-2")) })
			},
			Ends: []End{repaired}, Did: reapplied,
		},
		{
			Name: "the controller may not store revisions, until the right is back",
			Setup: func(w *World) {
				c := healthy(w)
				w.Clock.Advance(time.Minute)
				c.RevisionsForbidden = true
				c.HumanUpdate(defaultNS, defaultDaemon, "node-exporter:2")
			},
			Later: func(w *World) {
				c := w.Carrier(defaultCarrier)
				w.Clock.After(3*time.Second, func() { c.RevisionsForbidden = false })
			},
			Ends: []End{repaired}, Did: []playbook.Kind{playbook.KindNudge},
		},
		{
			Name: "a person deletes the DaemonSet during the drain",
			Setup: func(w *World) {
				c := full(w, "worker-1")
				w.Promoter.Add(defaultCarrier, component, "", 0, func() {})
				w.Clock.Advance(time.Minute)
				w.When("cordoned", marked(c, "worker-1"), func() { c.HumanDelete(defaultNS, defaultDaemon) })
			},
			Policy: func(p *playbook.Policy) { p.Timing.Approval = time.Minute },
			Ends:   handedOver(playbook.FindingAbsent, "on purpose"), Did: givenBack,
		},
		{
			Name:  "a person acknowledges as Drydock is about to cordon",
			Setup: func(w *World) { full(w, "worker-1") },
			Later: func(w *World) {
				w.When("about to cordon", promised(w, playbook.KindCordon), func() { w.Pager.Human("PINC001", playbook.ActAcknowledged, "Ada") })
			},
			Ends: []End{{Outcome: playbook.OutcomeStoodDown, Says: "Ada"}}, Did: givenBack,
		},
		{
			Name:  "a person acknowledges as Drydock is about to delete the DaemonSet",
			Setup: func(w *World) { uncovered(w) },
			Later: func(w *World) {
				w.When("about to delete", promised(w, playbook.KindOrphanDelete), func() { w.Pager.Human("PINC001", playbook.ActAcknowledged, "Ada") })
			},
			Ends: []End{{Outcome: playbook.OutcomeStoodDown, Says: "Ada"}}, Did: reapplied,
		},
		{
			Name:  "a person takes over while the DaemonSet is gone for its reapply",
			Setup: func(w *World) { uncovered(w) },
			Later: func(w *World) {
				c := w.Carrier(defaultCarrier)
				w.When("gone", func() bool { return c.Set(defaultNS, defaultDaemon) == nil }, func() {
					w.Clock.After(2*time.Second, func() { w.Pager.Human("PINC001", playbook.ActHandsOff, "Ada") })
				})
			},
			Ends: []End{{Outcome: playbook.OutcomeStoodDown, Says: "Ada"}}, Did: reapplied,
		},
		{
			Name: "somebody replaces the DaemonSet: it is absent for a moment",
			Setup: func(w *World) {
				c := absent(w)
				c.AddSet(DaemonSet{Namespace: defaultNS, Name: defaultDaemon})
				w.Clock.After(5*time.Minute-time.Second, func() { c.HumanDelete(defaultNS, defaultDaemon) })
				w.Clock.After(5*time.Minute+7*time.Second, func() { c.AddSet(DaemonSet{Namespace: defaultNS, Name: defaultDaemon}) })
			},
			Ends: []End{{Outcome: playbook.OutcomeResolved, Finding: playbook.FindingHealthy}},
		},
		{
			Name:  "it breaks again during the soak",
			Setup: func(w *World) { healthy(w) },
			Later: func(w *World) {
				c := w.Carrier(defaultCarrier)
				w.Clock.After(12*time.Second, func() {
					c.Node("worker-3").Broken = true
					c.HumanEvict(podOn(c, defaultDaemon, "worker-3"))
				})
			},
			Ends: handedOver(playbook.FindingMalfunctioning, "CrashLoopBackOff"),
		},
		{
			Name: "the full node is full of a StatefulSet's pods",
			Setup: func(w *World) {
				c := bare(w)
				for i := range slots {
					c.AddOwner(Owner{Namespace: victimNamespace, Kind: "StatefulSet", Name: "etcd-" + string(rune('a'+i)), Replicas: 2})
					c.AddPod(Pod{Namespace: victimNamespace, Name: "etcd-" + string(rune('a'+i)) + "-0", Node: "worker-1",
						Owner: "StatefulSet/etcd-" + string(rune('a'+i))})
				}
				w.Clock.Advance(10 * time.Second)
				c.AddSet(DaemonSet{Namespace: defaultNS, Name: defaultDaemon})
			},
			Ends: []End{repaired}, Did: drained,
		},
	}
}
