package playbooktest

import (
	"sync/atomic"
	"testing"

	"github.com/drydock/drydock/playbook"
)

// eachStoredRun plays every scenario, and looks at its runs as they come out of their stored form. It returns when all are done.
func eachStoredRun(t *testing.T, look func(*testing.T, playbook.StoredRun, *Ledger)) {
	t.Helper()
	t.Run("scenarios", func(t *testing.T) {
		for _, s := range Scenarios() {
			t.Run(s.Name, func(t *testing.T) {
				t.Parallel()
				ledger := s.Play(t.Context(), nil).World.Ledger
				for _, id := range ledger.Runs() {
					run, err := Encoded(ledger.History(id))
					if err != nil {
						t.Fatal(err)
					}
					look(t, run, ledger)
				}
			})
		}
	})
}

// Every stored tick of every scenario decides again as it did, after it went through its stored form.
func TestReplayOfEveryScenario(t *testing.T) {
	t.Parallel()
	var ticks atomic.Int64
	eachStoredRun(t, func(t *testing.T, run playbook.StoredRun, ledger *Ledger) {
		for n, tick := range run.Ticks {
			ticks.Add(1)
			if _, diff := playbook.Replay(tick.Policy, run, n); len(diff) > 0 {
				t.Fatalf("tick %d of run %s decides otherwise: %+v\n%s", n+1, run.ID, diff, ledger.Dump(run.ID))
			}
		}
	})
	t.Logf("%d ticks", ticks.Load())
}

// A changed policy is found on the history that it would have changed, and only there.
func TestReplayFindsAChangedPolicy(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		change func(*playbook.Policy)
		what   string
	}{
		"pods of no namespace may be moved": {func(p *playbook.Policy) { p.DrainFrom = nil }, "promises"},
		"a longer look at a full node":      {func(p *playbook.Policy) { p.Timing.FullConfirm *= 3 }, "confirmed"},
		"observe only":                      {func(p *playbook.Policy) { p.Mode = playbook.ModeObserve }, "state"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			found := map[string]bool{}
			for _, s := range Scenarios() {
				if s.Name != "node full, drained" {
					continue
				}
				ledger := s.Play(t.Context(), nil).World.Ledger
				run := ledger.History(ledger.Runs()[0])
				for n, tick := range run.Ticks {
					p := tick.Policy
					tt.change(&p)
					changed := run
					changed.Mode = p.Mode
					_, diff := playbook.Replay(p, changed, n)
					for _, d := range diff {
						found[d.What] = true
					}
				}
			}
			if !found[tt.what] {
				t.Errorf("found %v, not %q", found, tt.what)
			}
		})
	}
}
