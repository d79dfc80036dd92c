package store

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/drydock/drydock/playbook"
)

// changesIn renders changes as "3 tick triage" and "4 cordon happened".
func changesIn(c playbook.RunChanges) []string {
	var out []string
	for _, change := range c.Changes {
		if change.Tick != nil {
			out = append(out, fmt.Sprintf("%d tick %s", change.Seq, change.Tick.To))
		} else {
			out = append(out, fmt.Sprintf("%d %s %s", change.Seq, change.Intent.Action.Kind(), change.Intent.Result))
		}
	}
	return out
}

func TestChanges(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	run := f.start("P1", target("c1", "agent"))
	h := f.acquire(run.ID)
	f.commit(h, func(c *playbook.Commit) { c.Run.State, c.Tick.To = playbook.Triage, playbook.Triage })
	f.commit(h, func(c *playbook.Commit) { c.Store = false }) // nothing changed
	f.commit(h, func(c *playbook.Commit) {
		c.Run.State, c.Tick.To = playbook.Draining, playbook.Draining
		c.Promises = []playbook.Promise{{Action: cordonOf(run.ID)}}
	})
	_, err := f.Settle(t.Context(), h, 1, playbook.Settlement{Result: playbook.Happened})
	f.must(err)
	all, err := f.Changes(t.Context(), run.ID, -1)
	f.must(err)
	f.same("changes", changesIn(all), []string{"1 tick triage", "2 tick draining", "3 cordon ", "4 cordon happened"})
	f.same("the newest", all.Last, int64(4))
	later, err := f.Changes(t.Context(), run.ID, 3)
	f.must(err)
	f.same("later changes", changesIn(later), []string{"4 cordon happened"})
	last, ended, err := f.LastChange(t.Context(), run.ID)
	f.must(err)
	f.same("last change", []any{last, ended}, []any{int64(4), false})
	_, err = f.Changes(t.Context(), "none", 0)
	f.wantError(err, playbook.ErrNoRun)
	_, _, err = f.LastChange(t.Context(), "none")
	f.wantError(err, playbook.ErrNoRun)
	f.same("changed", scan[bool](f, `SELECT changed FROM runs`), true)

	// What is there from before changes were numbered comes first, in the order of its time, and only to those who saw nothing yet.
	f.exec(`UPDATE ticks SET change = 0`)
	f.exec(`UPDATE intents SET promised_change = 0, settled_change = 0`)
	all, err = f.Changes(t.Context(), run.ID, -1)
	f.must(err)
	f.same("unnumbered", len(all.Changes), 4)
	later, err = f.Changes(t.Context(), run.ID, 0)
	f.must(err)
	f.same("after none of them", changesIn(later), []string(nil))
}

// TestChangesAreNeverSkipped follows a run from another replica while it is written: whoever asks for what came after the last
// change that they saw sees all of them, once, in their order.
func TestChangesAreNeverSkipped(t *testing.T) {
	t.Parallel()
	writer := newFixture(t)
	reader := openFixture(t, writer.dsn, "two/1")
	run := writer.start("P1", target("c1", "agent"))
	const ticks = 60
	var followers sync.WaitGroup
	for range 3 {
		followers.Go(func() {
			after, seen := int64(0), int64(0)
			for after < 3*ticks {
				c, err := reader.Changes(t.Context(), run.ID, after)
				if err != nil {
					t.Error(err)
					return
				}
				for _, change := range c.Changes {
					if seen++; change.Seq != seen {
						t.Errorf("change %d came as number %d", change.Seq, seen)
						return
					}
				}
				after = max(after, c.Last)
			}
		})
	}
	h := writer.acquire(run.ID)
	for n := range ticks {
		writer.commit(h, func(c *playbook.Commit) {
			c.Run.State, c.Tick.To = playbook.Draining, playbook.Draining
			c.Promises = []playbook.Promise{{Action: cordonOf(run.ID)}}
		})
		if _, err := writer.Settle(t.Context(), h, n+1, playbook.Settlement{Result: playbook.NotHappened, Detail: fmt.Sprint(rand.N(9))}); err != nil {
			t.Fatal(err)
		}
	}
	followers.Wait()
}
