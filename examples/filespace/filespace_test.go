package filespace

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/drydock/drydock/playbook"
	"github.com/drydock/drydock/playbook/playbooktest"
)

func TestDecide(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 23, 3, 0, 0, 0, time.UTC)
	open := playbook.Known(playbook.Incident{Status: playbook.Triggered})
	well := playbook.Known([]playbook.Node{{Name: "w1"}, {Name: "w2"}})
	full := playbook.Known([]playbook.Node{{Name: "w2", DiskPressure: true}, {Name: "w1", DiskPressure: true}, {Name: "w0", DiskPressure: true, Leaving: true}})
	const said, gone = "disk pressure on w1, w2", "no node has been under disk pressure for 2m0s"
	for name, c := range map[string]struct {
		run  func(*playbook.Run)
		look Look
		want Decision
	}{
		"full":             {look: Look{full, open}, want: Decision{State: playbook.WaitingForDisk, Why: said, Note: said}},
		"said already":     {run: func(r *playbook.Run) { r.Memory.Said = said }, look: Look{full, open}, want: Decision{State: playbook.WaitingForDisk, Why: said}},
		"not readable":     {look: Look{playbook.Unknown[[]playbook.Node]("timeout"), open}, want: Decision{State: playbook.Triage, Why: "the nodes could not be read: timeout"}},
		"over":             {look: Look{full, playbook.Known(playbook.Incident{Status: playbook.Resolved})}, want: Decision{State: playbook.StateStoodDown, Why: "the incident is over", End: playbook.OutcomeStoodDown}},
		"incident unknown": {look: Look{full, playbook.Unknown[playbook.Incident]("503")}, want: Decision{State: playbook.WaitingForDisk, Why: said, Note: said}},
		"well at last":     {look: Look{well, open}, want: Decision{State: playbook.Verifying, Why: "no node is under disk pressure any more"}},
		"well for a while": {run: func(r *playbook.Run) { r.State, r.Memory.EnteredAt = playbook.Verifying, now.Add(-soak) }, look: Look{well, open},
			want: Decision{State: playbook.Verifying, Why: gone, Note: gone}},
		"well, and that was said": {run: func(r *playbook.Run) {
			r.State, r.Memory.EnteredAt, r.Memory.Said = playbook.Verifying, now.Add(-soak), gone
		}, look: Look{well, open}, want: Decision{State: playbook.StateStoodDown, Why: gone, End: playbook.OutcomeStoodDown}},
		"unknown is not well": {run: func(r *playbook.Run) { r.State, r.Memory.EnteredAt = playbook.Verifying, now.Add(-soak) },
			look: Look{playbook.Unknown[[]playbook.Node]("timeout"), open}, want: Decision{State: playbook.Triage, Why: "the nodes could not be read: timeout"}},
	} {
		run := playbook.Run{State: playbook.Queued, Deadline: now.Add(time.Hour)}
		if c.run != nil {
			c.run(&run)
		}
		if got := Decide(run, c.look, now); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}

// losing loses the answers of the first writes: they may have happened.
type losing struct {
	*playbooktest.Pager
	lose int
}

func (l *losing) Do(ctx context.Context, call playbook.Call) (playbook.Settlement, error) {
	s, err := l.Pager.Do(ctx, call)
	if l.lose > 0 {
		l.lose--
		return playbook.Settlement{}, errors.New("connection reset")
	}
	return s, err
}

// TestNight plays a night on the simulated carrier: two replicas in turns, lost answers, a carrier that is away for a while. There
// is one note, it is rewritten, and the run ends by itself.
func TestNight(t *testing.T) {
	t.Parallel()
	clock := playbooktest.NewClock()
	carrier := playbooktest.NewCarrier(clock, "c1")
	carrier.AddNode(playbooktest.Node{Name: "w1", Allocatable: 10})
	carrier.AddNode(playbooktest.Node{Name: "w2", Allocatable: 10})
	carrier.SetDiskPressure("w1", true)
	pager := &losing{Pager: playbooktest.NewPager(clock), lose: 2}
	ledger := playbooktest.NewLedger(clock)
	in := pager.Trigger("QDISK", "c1: filesystem /var/data is 95 % full")
	err := ledger.StartRun(t.Context(), playbook.Start{RunID: "run-1", Trigger: playbook.TriggerWebhook, Mode: playbook.ModeObserve, Deadline: time.Hour,
		Target: playbook.Target{Carrier: "c1", Namespace: "kube-system", DaemonSet: "filesystem-space"}, Incident: playbook.RunIncident{ID: "QDISK", Number: 1}})
	if err != nil {
		t.Fatal(err)
	}
	engine := Engine{Ledger: ledger, Pager: pager, Carrier: func(string) (playbook.Carrier, error) { return carrier, nil }}
	for tick := 0; ; tick++ {
		run, _ := ledger.Run("run-1")
		if run.State.Ended() {
			break
		}
		switch tick {
		case 4:
			carrier.Unreachable = "no route"
		case 6:
			carrier.Unreachable = ""
		case 8:
			carrier.SetDiskPressure("w1", false)
		case 60:
			t.Fatalf("the run goes on and on: %+v", run)
		}
		if err := engine.Advance(t.Context(), "run-1"); err != nil {
			t.Fatalf("tick %d: %v", tick, err)
		}
		clock.Advance(every)
	}
	run, _ := ledger.Run("run-1")
	if run.Outcome != playbook.OutcomeStoodDown || run.Why != "no node has been under disk pressure for 2m0s" || len(run.OpenIntents()) > 0 {
		t.Errorf("the run is %s: %s", run.Outcome, run.Why)
	}
	if len(in.Notes) != 1 || !strings.HasPrefix(in.Notes[0].Text, "no node has been under disk pressure") || in.Notes[0].Edits == 0 {
		t.Errorf("notes %+v", in.Notes)
	}
	for _, i := range run.Intents {
		if i.Action.Kind() != playbook.KindAnnotate {
			t.Errorf("it did %s: it is read-only", i.Action.Kind())
		}
	}
	if ticks := ledger.Ticks("run-1"); len(ticks) < 4 {
		t.Errorf("%d ticks are in the history", len(ticks))
	}
}
