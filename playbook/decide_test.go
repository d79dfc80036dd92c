package playbook

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// Every state has a cell for every finding, whose last edge always holds; every edge leads to a state of the machine; an
// edge into unwinding, and no other, carries an ending.
func TestTableIsTotal(t *testing.T) {
	t.Parallel()
	for _, st := range States() {
		r, ok := machine[st]
		if !ok || r.about == "" {
			t.Errorf("state %s has no row", st)
		}
		for _, f := range Findings() {
			cell := r.cell(f)
			if len(cell) == 0 || cell[len(cell)-1].when != nil {
				t.Errorf("%s/%s: the last edge is guarded", st, f)
			}
			for _, e := range cell {
				if _, ok := machine[e.to]; !ok {
					t.Errorf("%s/%s leads to %q", st, f, e.to)
				}
				if (e.to == Unwinding && st != Unwinding) != (e.end != "") {
					t.Errorf("%s/%s: edge to %s has the ending %q", st, f, e.to, e.end)
				}
			}
		}
	}
}

func TestEveryStateIsReachableAndEnds(t *testing.T) {
	t.Parallel()
	next := func(st State) []State {
		var out []State
		if st != Unwinding && !st.Ended() {
			out = append(out, Unwinding)
		}
		for _, f := range Findings() {
			for _, e := range machine[st].cell(f) {
				out = append(out, e.to)
			}
		}
		return out
	}
	seen := map[State]bool{Queued: true}
	for todo := []State{Queued}; len(todo) > 0; todo = todo[1:] {
		for _, to := range next(todo[0]) {
			if !seen[to] {
				seen[to] = true
				todo = append(todo, to)
			}
		}
	}
	for _, st := range States() {
		if !seen[st] {
			t.Errorf("state %s can not be reached", st)
		}
	}
}

func TestTriageLeadsOn(t *testing.T) {
	t.Parallel()
	observe := func(r *Run) { r.Mode = ModeObserve }
	tests := []struct {
		name  string
		scene *scene
		run   func(*Run)
		pol   func(*Policy)
		to    State
		end   Outcome
		why   string
	}{
		{name: "healthy", scene: healthy(5), to: Verifying},
		{name: "full", scene: healthy(12).full(0, 3), to: Draining},
		{name: "full, mode observe", scene: healthy(12).full(0, 3), run: observe, to: Unwinding, end: OutcomeStoodDown, why: "observe"},
		{name: "full, nothing may be moved", scene: healthy(12).full(0, 0), to: Unwinding, end: OutcomeEscalated, why: "none of its pods may be moved"},
		{name: "full, no namespace configured", scene: healthy(12).full(0, 3), pol: func(p *Policy) { p.DrainFrom = nil }, to: Unwinding, end: OutcomeEscalated, why: "drain_namespaces"},
		{name: "too many missing", scene: healthy(12).full(0, 3).full(1, 3).full(2, 3).full(3, 3).full(4, 3).full(5, 3), to: Unwinding, end: OutcomeEscalated, why: "too many"},
		{name: "half missing", scene: healthy(3).full(0, 3).full(1, 3), to: Unwinding, end: OutcomeEscalated, why: "too many"},
		{name: "uncovered", scene: healthy(12).gone(0), to: Reapplying},
		{name: "uncovered, owned by Argo", scene: healthy(12).gone(0).ds(func(d *DaemonSet) { d.GitOps = "Argo CD application x" }), to: Unwinding, end: OutcomeEscalated, why: "Argo"},
		{name: "uncovered, empty selector", scene: healthy(12).gone(0).ds(func(d *DaemonSet) { d.EmptySelector = true }), to: Unwinding, end: OutcomeEscalated, why: "selector is empty"},
		{name: "disk", scene: healthy(12).node(0, func(n *Node) { n.DiskPressure, n.Pods = true, nil }), to: WaitingForDisk},
		{name: "absent", scene: healthy(12).ds(func(d *DaemonSet) { *d = DaemonSet{} }), to: Redeploying},
		{name: "absent, no version any more", scene: func() *scene {
			s := healthy(12).ds(func(d *DaemonSet) { *d = DaemonSet{} })
			s.o.Promotion = Known(Promotion{Component: "armada-ops", Source: "flags"})
			return s
		}(), to: AwaitingApproval},
		{name: "absent, a person says on purpose", scene: func() *scene {
			s := healthy(12).ds(func(d *DaemonSet) { *d = DaemonSet{} })
			s.o.Incidents["Q1"] = Known(Incident{ID: "Q1", Acts: []Act{{Kind: ActOnPurpose, Who: "Ann", At: t0}}})
			return s
		}(), to: AwaitingApproval},
		{name: "absent, namespace gone", scene: func() *scene {
			s := healthy(12).ds(func(d *DaemonSet) { *d = DaemonSet{} })
			s.o.Namespace = Known(Namespace{})
			return s
		}(), to: Unwinding, end: OutcomeEscalated, why: "namespace"},
		{name: "malfunctioning", scene: healthy(12).node(0, func(n *Node) { n.Pods[0].Ready, n.Pods[0].Restarts = false, 3 }), to: Unwinding, end: OutcomeEscalated, why: "restarts"},
		{name: "controller behind", scene: healthy(12).ds(func(d *DaemonSet) { d.Generation = 2 }), to: RestartingController},
		{name: "mode approve", scene: healthy(12).full(0, 3), run: func(r *Run) { r.Mode = ModeApprove }, to: AwaitingApproval},
		{name: "claim held", scene: func() *scene {
			s := healthy(12).full(0, 3)
			s.o.Ledger = Known(LedgerFacts{ClaimHolder: "run-0"})
			return s
		}(), to: Triage, why: "run-0"},
		{name: "breaker open", scene: func() *scene {
			s := healthy(12).full(0, 3)
			s.o.Ledger = Known(LedgerFacts{BreakerUntil: t0.Add(time.Hour), Tries: []string{"a", "b", "c"}})
			return s
		}(), to: Unwinding, end: OutcomeEscalated, why: "breaker"},
		{name: "the same DaemonSet on three carriers", scene: func() *scene {
			s := healthy(12).ds(func(d *DaemonSet) { *d = DaemonSet{} })
			s.o.Ledger = Known(LedgerFacts{SameDaemonSet: []string{"a", "b", "c"}})
			return s
		}(), to: Unwinding, end: OutcomeEscalated, why: "3 carriers"},
		{name: "kill switch", scene: func() *scene {
			s := healthy(12)
			s.o.Ledger = Known(LedgerFacts{KillSwitch: "maintenance"})
			return s
		}(), to: Unwinding, end: OutcomeEscalated, why: "maintenance"},
		{name: "a person resolved", scene: func() *scene {
			s := healthy(12).full(0, 3)
			s.o.Incidents["Q1"] = Known(Incident{ID: "Q1", Status: Resolved, Acts: []Act{{Kind: ActResolved, Who: "Ann", At: t0}}})
			return s
		}(), to: Unwinding, end: OutcomeStoodDown, why: "Ann"},
		{name: "acknowledged before the run began", scene: func() *scene {
			s := healthy(12)
			s.o.Incidents["Q1"] = Known(Incident{ID: "Q1", Status: Acknowledged, Owner: "Ann", Acts: []Act{{Kind: ActAcknowledged, Who: "Ann", At: t0.Add(-time.Hour)}}})
			return s
		}(), to: Verifying},
		{name: "acknowledge continues where configured", scene: func() *scene {
			s := healthy(12)
			s.o.Incidents["Q1"] = Known(Incident{ID: "Q1", Status: Acknowledged, Owner: "Ann", Acts: []Act{{Kind: ActAcknowledged, Who: "Ann", At: t0}}})
			return s
		}(), pol: func(p *Policy) { p.StopOnAck = false }, to: Verifying},
		{name: "recovered by itself", scene: func() *scene {
			s := healthy(12)
			s.o.Incidents["Q1"] = Known(Incident{ID: "Q1", Status: Resolved, ResolvedBy: "monitoring"})
			return s
		}(), to: Unwinding, end: OutcomeStoodDown, why: "recovered"},
		{name: "the incident can not be read", scene: func() *scene {
			s := healthy(12).full(0, 3)
			s.o.Incidents["Q1"] = Unknown[Incident]("503")
			return s
		}(), to: Triage, why: "503"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p, r := testPolicy(), testRun(Triage)
			if tt.run != nil {
				tt.run(&r)
			}
			if tt.pol != nil {
				tt.pol(&p)
			}
			_, d := watch(p, r, tt.scene, 2*time.Minute)
			if d.To != tt.to {
				t.Fatalf("to %s (%s), want %s: %s", d.To, d.Edge, tt.to, d.Why)
			}
			if tt.end != "" && (d.Memory.Ending == nil || d.Memory.Ending.Outcome != tt.end) {
				t.Errorf("ending %+v, want %s", d.Memory.Ending, tt.end)
			}
			if !strings.Contains(d.Why, tt.why) {
				t.Errorf("why %q does not say %q", d.Why, tt.why)
			}
		})
	}
}

// Nothing is believed at the first look.
func TestUnconfirmedClaimsOnlyWait(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]*scene{
		"full": healthy(12).full(0, 3), "uncovered": healthy(12).gone(0), "absent": healthy(12).ds(func(d *DaemonSet) { *d = DaemonSet{} }),
		"crash": healthy(12).node(0, func(n *Node) { n.Pods[0].Ready, n.Pods[0].Restarts = false, 3 }),
	} {
		d := Decide(testPolicy(), testRun(Triage), s.o)
		if d.To != Triage || len(d.Promises) > 0 {
			t.Errorf("%s: the first look led to %s with %d promises", name, d.To, len(d.Promises))
		}
	}
}

// A drain reserves its whole need with the cordon, and the cordon is the head of the plan.
func TestDrainBeginsWithACordon(t *testing.T) {
	t.Parallel()
	r, d := watch(testPolicy(), testRun(Triage), healthy(12).full(0, 3), 2*time.Minute)
	if d.To != Draining {
		t.Fatalf("to %s: %s", d.To, d.Why)
	}
	changes := slices.DeleteFunc(slices.Clone(d.Promises), func(p Promise) bool { return !IsChange(p.Action) })
	if len(changes) != 1 || changes[0].Action.Kind() != KindCordon {
		t.Fatalf("promises %v", d.Promises)
	}
	plan := Plan(testPolicy(), r, healthy(12).full(0, 3).at(d.Memory.LookedAt).o)
	var kinds []Kind
	for _, a := range plan {
		kinds = append(kinds, a.Kind())
	}
	if !slices.Equal(kinds, []Kind{KindCordon, KindEvict, KindUncordon}) {
		t.Errorf("plan %v", kinds)
	}
	scopes := map[Scope]int{}
	for _, res := range changes[0].Reservations {
		scopes[res.Scope] = res.Amount
	}
	for _, sc := range []Scope{ScopeClaim, ScopeCordonedNodes, ScopeEvictionsRun, ScopeEvictionsHour, ScopeEvictionsHourAll} {
		if scopes[sc] != 1 {
			t.Errorf("reservation %s of %d, want 1", sc, scopes[sc])
		}
	}
}

func TestVerifyingSoaksThenNotesThenResolves(t *testing.T) {
	t.Parallel()
	r := testRun(Verifying)
	s := healthy(12)
	var d Decision
	for at := t0; !at.After(t0.Add(2 * time.Minute)); at = at.Add(5 * time.Second) {
		d = Decide(testPolicy(), r, s.at(at).o)
		if at.Before(t0.Add(2*time.Minute)) && len(d.Promises) > 0 {
			t.Fatalf("promised after %s: %v", at.Sub(t0), d.Promises)
		}
		r.Memory = d.Memory
	}
	if len(d.Promises) != 1 || d.Promises[0].Action.Kind() != KindAnnotate {
		t.Fatalf("after the soak: %v", d.Promises)
	}
	note := Intent{Seq: 1, Lane: PagerDutyLane("Q1"), Action: d.Promises[0].Action, PromisedAt: s.o.At, SentAt: s.o.At}
	r.Intents = []Intent{note}
	if d = Decide(testPolicy(), r, s.at(s.o.At.Add(time.Second)).o); len(d.Promises) > 0 {
		t.Fatalf("promised %v before the note had settled", d.Promises)
	}
	r.Memory = d.Memory
	note.SettledAt, note.Result, note.Receipt = s.o.At, Happened, "PN1"
	r.Intents = []Intent{note}
	broken := Decide(testPolicy(), r, healthy(12).gone(3).at(s.o.At.Add(time.Second)).o)
	if len(broken.Promises) > 0 || broken.To != Triage {
		t.Fatalf("a carrier that broke after the note: to %s, %v", broken.To, broken.Promises)
	}
	if d = Decide(testPolicy(), r, s.at(s.o.At.Add(time.Second)).o); len(d.Promises) != 1 || d.Promises[0].Action.Kind() != KindResolve {
		t.Fatalf("after the note: %v", d.Promises)
	}
}

func TestDeadlineDoesNotCountWaits(t *testing.T) {
	t.Parallel()
	r := testRun(WaitingForDisk)
	s := healthy(12).node(0, func(n *Node) { n.DiskPressure, n.Pods = true, nil })
	d := Decide(testPolicy(), r, s.o)
	r.Memory = d.Memory
	d = Decide(testPolicy(), r, s.at(t0.Add(5*time.Second)).o)
	if got := d.Deadline.Sub(r.StartedAt); got != 45*time.Minute+5*time.Second {
		t.Errorf("deadline after 5 s of waiting for disks: %s", got)
	}
	r.Memory.Paused = 3 * time.Hour
	if d = Decide(testPolicy(), r, s.at(t0.Add(10*time.Second)).o); d.Deadline.Sub(r.StartedAt) != MaxRun {
		t.Errorf("deadline after hours of waiting: %s", d.Deadline.Sub(r.StartedAt))
	}
}

// Slow looks bring the hand-over forward, so that it is done by the deadline (I8); and no more than they need.
func TestSlowLooksHandOverEarlier(t *testing.T) {
	t.Parallel()
	tick := testPolicy().Timing.Tick
	for _, c := range []struct {
		left, look time.Duration
		over       bool
	}{
		{left: time.Second},
		{left: 0, over: true},
		{left: tick + 126*time.Second, look: 25 * time.Second},
		{left: tick + 125*time.Second, look: 25 * time.Second, over: true},
		{left: tick + 11*time.Second, look: 2 * time.Second},
	} {
		r := testRun(Verifying)
		s := healthy(12).ds(func(d *DaemonSet) { *d = DaemonSet{} })
		s.o.DaemonSet = Unknown[DaemonSet]("no answer")
		s.o.At = r.StartedAt.Add(testPolicy().Timing.Deadline - c.left)
		if c.look > 0 {
			s.o.ReadBy = s.o.At.Add(c.look)
		}
		if d := Decide(testPolicy(), r, s.o); (d.To == Unwinding) != c.over {
			t.Errorf("%s before the deadline, with looks of %s: to %s, %s", c.left, c.look, d.To, d.Why)
		} else if c.look > 0 && c.over && !strings.Contains(d.Why, "deadline is in "+short(c.left)+" and a look takes 25s") {
			t.Errorf("why: %s", d.Why)
		}
	}
}

// A run that could not decide hands over with the reading that was missing.
func TestHandOverNamesTheMissingReading(t *testing.T) {
	t.Parallel()
	s := healthy(12).ds(func(d *DaemonSet) { *d = DaemonSet{} })
	s.o.Promotion = Unknown[Promotion]("flags: connection refused")
	r, d := watch(testPolicy(), testRun(Triage), s, time.Hour)
	if d.To != Unwinding || !strings.Contains(d.Why, "connection refused") {
		t.Fatalf("to %s: %s", d.To, d.Why)
	}
	if found := r.Memory.Found; len(found) != 1 || !strings.Contains(found[0].Why, "connection refused") {
		t.Errorf("found %+v", found)
	}
}

func TestAnIncidentThatIsGoneStandsDown(t *testing.T) {
	t.Parallel()
	s := healthy(12)
	s.o.Incidents["Q1"] = Known(Incident{ID: "Q1", Gone: true})
	if d := Decide(testPolicy(), testRun(Verifying), s.o); d.To != Unwinding || d.Memory.Ending.Outcome != OutcomeStoodDown || !strings.Contains(d.Why, "knows no incident") {
		t.Errorf("to %s: %s", d.To, d.Why)
	}
}

// The deadline may pass between the resolve and the tick that finds it: the run has done its work, and is not handed over.
func TestAResolveBeforeTheDeadlineIsNotHandedOver(t *testing.T) {
	t.Parallel()
	r := testRun(Verifying)
	r.StartedAt = t0.Add(-testPolicy().Timing.Deadline - 2*testPolicy().Timing.Soak) // behind the time that a soak is given as well
	said := func(seq int, a Action) Intent {
		return Intent{Seq: seq, Lane: PagerDutyLane("Q1"), Action: a, PromisedAt: t0, SentAt: t0, SettledAt: t0, Result: Happened}
	}
	r.Intents = []Intent{said(1, Annotate{Incident: "Q1", Final: true}), said(2, Resolve{Incident: "Q1"})}
	d := Decide(testPolicy(), r, healthy(3).at(t0.Add(time.Second)).o)
	if d.To != StateResolved || d.Ends["Q1"] != OutcomeResolved {
		t.Errorf("to %s with the ends %v: %s", d.To, d.Ends, d.Why)
	}
}
