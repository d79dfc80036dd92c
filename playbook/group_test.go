package playbook

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestSharedDiagnosis(t *testing.T) {
	t.Parallel()
	run := func(daemonSet string, causes ...Cause) CarrierRun {
		return CarrierRun{Run: "run-" + daemonSet, Target: Target{"c1", "monitoring", daemonSet}, Causes: causes}
	}
	tests := []struct {
		name  string
		group []CarrierRun
		want  string
	}{
		{"one run has nothing to share", []CarrierRun{run("a", CauseFull)}, ""},
		{"two runs of one target have nothing to share", []CarrierRun{run("a", CauseFull), run("a", CauseFull)}, ""},
		{"nothing is confirmed", []CarrierRun{run("a"), run("b")},
			"2 DaemonSets of c1 alert together (monitoring/a, monitoring/b); the root cause is not confirmed yet"},
		{"the API server comes before all", []CarrierRun{run("b", CauseFull), run("a", CauseAPI)},
			"2 DaemonSets of c1 alert together (monitoring/a, monitoring/b); root cause: the carrier's API server does not answer; also: " +
				"nodes are at their pod limit, and room made on one serves every daemon pod that waits there"},
		{"a cause of one's own is not said beside a common one", []CarrierRun{run("a", CauseSingle), run("b", CauseDisk)},
			"2 DaemonSets of c1 alert together (monitoring/a, monitoring/b); root cause: disks are short of space"},
		{"only causes of their own", []CarrierRun{run("a", CauseSingle), run("b", CauseSingle)},
			"2 DaemonSets of c1 alert together (monitoring/a, monitoring/b); root cause: none in common; each DaemonSet has its own"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if got := SharedDiagnosis(test.group); got != test.want {
				t.Errorf("got  %q\nwant %q", got, test.want)
			}
			turned := slices.Clone(test.group)
			slices.Reverse(turned)
			if got := SharedDiagnosis(turned); got != test.want {
				t.Errorf("in the other order: got %q", got)
			}
		})
	}
}

// TestCausesRank: of any two causes the one that ranks first is the root cause.
func TestCausesRank(t *testing.T) {
	t.Parallel()
	ranked := Causes()
	for i, first := range ranked {
		for _, second := range ranked[i+1:] {
			got := SharedDiagnosis([]CarrierRun{{Target: Target{"c", "n", "a"}, Causes: []Cause{second}}, {Target: Target{"c", "n", "b"}, Causes: []Cause{first}}})
			if !strings.Contains(got, "root cause: "+first.words()) {
				t.Errorf("%s and %s: %s", first, second, got)
			}
		}
	}
}

// TestCausesAreRemembered: what was confirmed stays a cause, and the API server is one only while it does not answer.
func TestCausesAreRemembered(t *testing.T) {
	t.Parallel()
	p := testPolicy()
	r, d := watch(p, testRun(Triage), healthy(5).full(1, 3), time.Minute+5*time.Second)
	r.Memory = d.Memory
	if !slices.Equal(r.Memory.Causes, []Cause{CauseFull}) {
		t.Fatalf("causes of a full node: %v", r.Memory.Causes)
	}
	away := healthy(5).full(1, 3)
	away.o.DaemonSet = Unknown[DaemonSet]("i/o timeout")
	r.State = Triage
	for i := range 8 {
		d = Decide(p, r, away.at(t0.Add(2*time.Minute+time.Duration(i)*5*time.Second)).o)
		r.Memory = d.Memory
		if i == 0 && !slices.Equal(d.Memory.Causes, []Cause{CauseFull}) {
			t.Errorf("one failed read is no cause: %v", d.Memory.Causes)
		}
	}
	if !slices.Equal(r.Memory.Causes, []Cause{CauseAPI, CauseFull}) {
		t.Errorf("causes while the carrier does not answer: %v", r.Memory.Causes)
	}
	d = Decide(p, r, healthy(5).full(1, 3).at(t0.Add(4*time.Minute)).o)
	if !slices.Equal(d.Memory.Causes, []Cause{CauseFull}) {
		t.Errorf("causes when it answers again: %v", d.Memory.Causes)
	}
}

// TestWaitingSaysTheSharedDiagnosis: who waits for another run's claim names it, and what both share.
func TestWaitingSaysTheSharedDiagnosis(t *testing.T) {
	t.Parallel()
	s := healthy(5).full(1, 3)
	s.o.Ledger = Known(LedgerFacts{ClaimHolder: "run-2", SameCarrier: []CarrierRun{
		{Run: "run-2", Target: Target{"prod-dal10-carrier3", "monitoring", "other"}, Causes: []Cause{CauseFull}, Claim: true, State: Draining,
			Incidents: []IncidentRef{{ID: "Q2", Number: 2, URL: "https://pd/Q2"}}, More: 48},
		{Run: "run-0", Target: Target{"prod-dal10-carrier3", "monitoring", "earlier"}, Outcome: OutcomeResolved, EndedAt: t0.Add(-time.Hour)},
	}})
	_, d := watch(testPolicy(), testRun(Triage), s, 2*time.Minute)
	if d.To != Triage || !strings.Contains(d.Why, "waiting: run run-2 is changing this carrier; 2 DaemonSets of prod-dal10-carrier3 alert together") {
		t.Errorf("state %s, why %q", d.To, d.Why)
	}
	if len(d.Promises) != 1 {
		t.Fatalf("%d promises, want the note", len(d.Promises))
	}
	note, _ := d.Promises[0].Action.(Annotate)
	for _, want := range []string{"Waiting for run run-2 (monitoring/other)", "See also:     monitoring/other (changing the carrier): #2 https://pd/Q2 and 48 more; run run-2"} {
		if !strings.Contains(note.Text, want) {
			t.Errorf("the note does not say %q:\n%s", want, note.Text)
		}
	}
}
