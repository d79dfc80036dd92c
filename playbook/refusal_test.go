package playbook

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// TestEveryRefusal drives each protection: it refuses under its name, with a sentence, nothing is changed, and the hand-over
// says why.
func TestEveryRefusal(t *testing.T) {
	t.Parallel()
	facts := func(f LedgerFacts) func(*Policy, *Run, *scene) {
		return func(_ *Policy, _ *Run, s *scene) { s.o.Ledger = Known(f) }
	}
	settled := func(a Action) []Intent {
		return []Intent{{Seq: 1, Lane: LaneOf("prod-dal10-carrier3", a), Action: a, PromisedAt: t0.Add(-10 * time.Minute),
			SentAt: t0.Add(-10 * time.Minute), SettledAt: t0.Add(-10 * time.Minute), Result: Happened}}
	}
	uncovered := func(change func(*DaemonSet)) func(*Policy, *Run, *scene) {
		return func(_ *Policy, _ *Run, s *scene) { *s = *healthy(5).gone(1).ds(change) }
	}
	reapplying := func(check ReapplyCheck) func(*Policy, *Run, *scene) {
		return func(_ *Policy, r *Run, s *scene) {
			*s = *healthy(5).gone(1)
			s.o.Reapply = Known(check)
			r.State, r.Memory.Reapply = Reapplying, &ReapplyMemory{Since: t0}
		}
	}
	lease := func(l CarrierLease) func(*Policy, *Run, *scene) {
		return func(_ *Policy, _ *Run, s *scene) { s.o.Lease = Known(l) }
	}
	tests := []struct {
		name    string
		prepare func(*Policy, *Run, *scene) // of a run in triage that sees one full node of five
		says    string
	}{
		{RefusedByMode, func(_ *Policy, r *Run, _ *scene) { r.Mode = ModeObserve }, "mode is observe"},
		{RefusedByBreaker, facts(LedgerFacts{BreakerUntil: t0.Add(time.Hour), Tries: []string{"a", "b", "c"}}), "04:00 UTC"},
		{RefusedByFlapping, facts(LedgerFacts{RepairedToday: 3}), "3 times within a day"},
		{RefusedByCoolDown, facts(LedgerFacts{RepairedToday: 1, RepairedBy: "run-0", RepairedAt: t0.Add(-10 * time.Minute)}), "run run-0 repaired it at 02:50 UTC"},
		{RefusedBySystem, facts(LedgerFacts{SameDaemonSet: []string{"a", "b", "c"}}), "3 carriers"},
		{RefusedByDeadline, func(_ *Policy, r *Run, _ *scene) { r.StartedAt = t0.Add(-40 * time.Minute) }, "too near"},
		{RefusedBySelector, func(_ *Policy, _ *Run, s *scene) { s.ds(func(ds *DaemonSet) { ds.EmptySelector = true }) }, "every pod"},
		{RefusedByShare, func(_ *Policy, _ *Run, s *scene) {
			*s = *healthy(20)
			for i := range 6 {
				s.full(i, 3)
			}
		}, "6 of 20 expected nodes"},
		{RefusedByNamespace, func(p *Policy, _ *Run, _ *scene) { p.DrainFrom = nil }, "drain_namespaces"},
		{RefusedByCordon, func(p *Policy, _ *Run, s *scene) {
			s.node(1, func(n *Node) { n.Unschedulable, n.CordonedBy = true, &Mark{Installation: p.Installation, Run: "run-0"} })
		}, "not by this run"},
		{RefusedByNeed, func(_ *Policy, _ *Run, s *scene) {
			s.o.NodePods["node-01"] = Known(NodePods{Count: 31, PendingDaemon: 7})
		}, "7 pods would have to move"},
		{RefusedByPods, func(_ *Policy, _ *Run, s *scene) { s.full(1, 0) }, "none of its pods may be moved"},
		{RefusedByBudget, facts(LedgerFacts{Used: map[string]int{"evictions_run run-1": 15}}), "evictions of this run has 0 left of 15"},
		{RefusedByConfig, func(p *Policy, _ *Run, s *scene) { *s, p.DaemonSet.Reapply = *healthy(5).gone(1), ReapplyNever }, "reapply: never"},
		{RefusedByOwner, uncovered(func(ds *DaemonSet) { ds.GitOps = "Helm release x" }), "Helm release x"},
		{RefusedByFinalizer, uncovered(func(ds *DaemonSet) { ds.Finalizers = []string{"acme.example/keep"} }), "acme.example/keep"},
		{RefusedByRepeat, func(_ *Policy, r *Run, s *scene) {
			s.o.DaemonSet = Known(DaemonSet{})
			r.Intents = settled(Promote{Component: "armada-ops", Build: 41})
		}, "promoted in this run"},
		{RefusedByProof, func(_ *Policy, r *Run, s *scene) {
			*s = *healthy(5).ds(func(ds *DaemonSet) { ds.Generation = 2 })
			s.o.ManagerLog = Known(ManagerLog{})
			r.Intents = settled(Nudge{Namespace: "monitoring", Name: "node-exporter"})
		}, "lag alone"},
		{RefusedByReapply, reapplying(ReapplyCheck{UID: "ds-1", MayDelete: true}), "lacks the right to create daemonsets.apps in monitoring"},
		{RefusedByDryRun, reapplying(ReapplyCheck{UID: "ds-1", MayDelete: true, MayCreate: true, DryRun: "denied by a webhook"}), "denied by a webhook"},
		{RefusedByRights, lease(CarrierLease{Denied: "leases.coordination.k8s.io is forbidden"}), "is forbidden"},
		{RefusedByOther, lease(CarrierLease{Holder: "elsewhere"}), "another installation of Drydock (elsewhere"},
		{RefusedByStale, lease(CarrierLease{Holder: "here", Count: Count{Number: 9}}), "counts 9 changes"},
		{RefusedByKill, facts(LedgerFacts{KillSwitch: "network maintenance"}), "network maintenance"},
	}
	var driven []string
	for _, test := range tests {
		driven = append(driven, test.name)
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p, r, s := testPolicy(), testRun(Triage), healthy(5).full(1, 3)
			test.prepare(&p, &r, s)
			_, d := watch(p, r, s, 3*time.Minute)
			at := slices.IndexFunc(d.Refused, func(no Refusal) bool { return no.Name == test.name })
			if at < 0 {
				t.Fatalf("refused %v, to %s: %s", d.Refused, d.To, d.Why)
			}
			if !strings.Contains(d.Refused[at].Why, test.says) {
				t.Errorf("it says %q, not %q", d.Refused[at].Why, test.says)
			}
			if promisesChange(d.Promises) {
				t.Errorf("something is promised all the same: %v", d.Promises)
			}
			if d.To == Reapplying {
				r.Memory, r.State = d.Memory, d.To
				s.o.At = s.o.At.Add(time.Second)
				d = Decide(p, r, s.o) // the next tick hands over
			}
			if d.To != Unwinding || !strings.Contains(d.Memory.Ending.Why, test.says) {
				t.Fatalf("to %s, why %q", d.To, d.Why)
			}
			r.Memory, r.State = d.Memory, d.To
			s.o.Evidence = Known([]Evidence(nil))
			d = Decide(p, r, s.o)
			if len(d.Promises) == 0 {
				t.Fatal("nothing is said")
			}
			if note, _ := d.Promises[0].Action.(Annotate); !strings.Contains(note.Text, test.says) {
				t.Errorf("the note does not say %q:\n%s", test.says, note.Text)
			}
		})
	}
	slices.Sort(driven)
	all := Refusals()
	slices.Sort(all)
	if !slices.Equal(driven, all) {
		t.Errorf("driven %v, of all %v", driven, all)
	}
}

// TestCoolDown: what was repaired a moment ago is not repaired again, unless a person orders it.
func TestCoolDown(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		ago     time.Duration // from the repair's end to the run's beginning
		change  func(*Policy, *Run)
		refused bool
	}{
		{"10 minutes ago", 10 * time.Minute, func(*Policy, *Run) {}, true},
		{"31 minutes ago", 31 * time.Minute, func(*Policy, *Run) {}, false},
		{"10 minutes ago, and a person retriggered", 10 * time.Minute, func(_ *Policy, r *Run) { r.Trigger = TriggerRetrigger }, false},
		{"10 minutes ago, and a person has to approve", 10 * time.Minute, func(_ *Policy, r *Run) { r.Mode = ModeApprove }, false},
		{"5 minutes ago, with a soak of 8 s", 5 * time.Minute, func(p *Policy, _ *Run) { p.Timing.Soak = 8 * time.Second }, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p, r, s := testPolicy(), testRun(Triage), healthy(5).full(1, 3)
			test.change(&p, &r)
			s.o.Ledger = Known(LedgerFacts{RepairedToday: 1, RepairedBy: "run-0", RepairedAt: t0.Add(-test.ago)})
			_, d := watch(p, r, s, 2*time.Minute)
			refused := slices.ContainsFunc(d.Refused, func(no Refusal) bool { return no.Name == RefusedByCoolDown })
			if refused != test.refused {
				t.Errorf("refused: %t, to %s: %s", refused, d.To, d.Why)
			}
			if !refused && d.To != Draining && d.To != AwaitingApproval {
				t.Errorf("to %s: %s", d.To, d.Why)
			}
		})
	}
}

// TestActsCountFromTheTrigger: who acted since the incident was triggered is at work on it, however late the run began; a
// retrigger is an order, so that only what comes after it counts.
func TestActsCountFromTheTrigger(t *testing.T) {
	t.Parallel()
	hour := t0.Add(-time.Hour)
	tests := []struct {
		name      string
		trigger   Trigger
		triggered time.Time
		act       time.Time
		joined    bool // the incident joined a run of another one
		stops     bool
	}{
		{"a webhook that is late", TriggerWebhook, hour, t0.Add(-30 * time.Minute), false, true},
		{"found by listing", TriggerReconcile, hour, t0.Add(-30 * time.Minute), false, true},
		{"before it was reopened", TriggerReconcile, hour, t0.Add(-90 * time.Minute), false, false},
		{"in the second of the trigger", TriggerWebhook, hour.Add(600 * time.Millisecond), hour, false, true},
		{"the trigger's time is not known", TriggerWebhook, time.Time{}, t0.Add(-30 * time.Minute), false, false},
		{"before a retrigger", TriggerRetrigger, hour, t0.Add(-30 * time.Minute), false, false},
		{"after a retrigger", TriggerRetrigger, hour, t0, false, true},
		{"of an incident that joined a retriggered run", TriggerRetrigger, hour, t0.Add(-30 * time.Minute), true, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r, s := testRun(Triage), healthy(5).full(1, 3)
			r.Trigger = test.trigger
			id := "Q1"
			if test.joined {
				id = "Q2"
				r.Incidents = append(r.Incidents, RunIncident{ID: "Q2", Number: 2, JoinedAt: t0})
			}
			s.o.Incidents[id] = Known(Incident{ID: id, Number: 1, Status: Acknowledged, TriggeredAt: test.triggered,
				Acts: []Act{{Kind: ActAcknowledged, Who: "Ada", At: test.act}}})
			d := Decide(testPolicy(), r, s.o)
			if stopped := d.To == Unwinding; stopped != test.stops {
				t.Errorf("to %s: %s", d.To, d.Why)
			}
		})
	}
}
