package main

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/drydock/drydock/playbook"
	"github.com/drydock/drydock/playbook/playbooktest"
	"github.com/drydock/drydock/store"
)

// TestQuarantine: a run whose ticks panic, on two replicas, is handed over after three of them, and what it owes is put back; the run of
// another DaemonSet goes on.
func TestQuarantine(t *testing.T) {
	t.Parallel()
	d := newTidying(t, newYard("c1", "w1"))
	pager := playbooktest.NewPager(playbooktest.NewClock())
	bad, good := d.begin("c1"), d.begin("c1")
	incidentOf := func(run string) string { return d.run(run).Incidents[0].ID }
	pager.Trigger(incidentOf(bad), "agent is not running")
	pager.Trigger(incidentOf(good), "other agent is not running")
	d.cordon(bad, "c1", "w1")

	broken := d.run(bad).Target
	engine := func(st *store.Store) *playbook.Engine {
		return &playbook.Engine{Ledger: st, Pager: pager, Clock: time.Now, Log: d.logger(),
			Carrier: func(name string) (playbook.Carrier, error) { return d.yards[name], nil },
			Policy: func(target playbook.Target) playbook.Policy {
				if target == broken {
					panic("index out of range")
				}
				return playbook.Policy{Mode: playbook.ModeAct, Installation: ours, Timing: playbook.DefaultTiming()}
			},
			Quarantined: d.pager.quarantined}
	}
	one, two := engine(d.st), engine(d.open("two/1"))
	d.janitor.engine = one

	for n, e := range []*playbook.Engine{one, two, one} {
		var panicked *playbook.PanicError
		if err := e.Advance(t.Context(), bad); !errors.As(err, &panicked) {
			t.Fatalf("tick %d: %v, want a panic", n+1, err)
		}
		if r := d.run(bad); r.Panics != n+1 || r.State.Ended() {
			t.Fatalf("tick %d: %d panics, state %s", n+1, r.Panics, r.State)
		}
		if err := e.Advance(t.Context(), good); err != nil {
			t.Errorf("the other run: %v", err)
		}
	}
	key := "drydock-quarantined-" + bad
	eventually(t, "the self-alert", func() bool { return d.page.open(key) })
	d.wantCordoned("before it is quarantined", "c1", "w1")

	// The fourth tick, on the other replica, ends it without a decision.
	if err := two.Advance(t.Context(), bad); err != nil {
		t.Fatal(err)
	}
	r := d.run(bad)
	if r.State != playbook.StateEscalated || r.Outcome != playbook.OutcomeEscalated || !strings.Contains(r.Why, "failed on this run 3 times") {
		t.Errorf("the run is %s, %s: %s", r.State, r.Outcome, r.Why)
	}
	if end := r.Incidents[0].End; end != playbook.OutcomeEscalated {
		t.Errorf("its incident's end is %q", end)
	}
	in := pager.Get(incidentOf(bad))
	if len(in.Escalations) != 1 || len(in.Notes) != 1 {
		t.Fatalf("escalations %v and notes %v, want one of each", in.Escalations, in.Notes)
	}
	for _, want := range []string{"hands this over", "failed on this run 3 times", "w1", bad} {
		if !strings.Contains(in.Notes[0].Text, want) {
			t.Errorf("the note does not say %q:\n%s", want, in.Notes[0].Text)
		}
	}

	// No tick of it is left; the janitor takes its cordon off, under the same policy.
	late, err := d.st.OverdueRuns(t.Context(), -2*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if len(late) != 1 || late[0] != good {
		t.Errorf("runs with a tick to come are %v, want the other one, %s", late, good)
	}
	d.rounds(d.janitor, 2)
	d.wantCordoned("tidied", "c1")
	after := d.run(bad)
	if len(after.Owed()) > 0 || len(after.OpenIntents()) > 0 || after.Panics != playbook.MaxPanics {
		t.Errorf("owed %v, open %v, %d panics", after.Owed(), after.OpenIntents(), after.Panics)
	}
	if n := len(in.Escalations) + len(in.Notes); n != 2 {
		t.Errorf("the incident was written to %d times, want 2", n)
	}
	other := d.run(good)
	if other.Panics != 0 || other.State.Ended() || other.Version < 3 || len(pager.Get(incidentOf(good)).Escalations) > 0 {
		t.Errorf("the other run is disturbed: state %s, version %d, %d panics", other.State, other.Version, other.Panics)
	}
	if said := d.page.about(key); len(said) != 1 {
		t.Errorf("self-alerts are %v, want one", said)
	}
}

// TestPanicOfTheJanitor: a panic while something is put back ends no process, is counted, and does not end the trying.
func TestPanicOfTheJanitor(t *testing.T) {
	t.Parallel()
	d := newTidying(t, newYard("c1", "w1"))
	run := d.begin("c1")
	d.cordon(run, "c1", "w1")
	d.end(run)
	d.engine.Carrier = func(string) (playbook.Carrier, error) { panic("nil map") }
	d.rounds(d.janitor, 1)
	if n := d.run(run).Panics; n == 0 {
		t.Error("the panic was not counted")
	}
	d.engine.Carrier = func(name string) (playbook.Carrier, error) { return d.yards[name], nil }
	d.rounds(d.janitor, 2)
	d.wantCordoned("it panics no more", "c1")
}
