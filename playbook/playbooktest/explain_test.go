package playbooktest

import (
	"strings"
	"sync/atomic"
	"testing"

	"github.com/drydock/drydock/playbook"
)

// Every stored tick of every scenario can be explained from its stored form: the answers are those of the tick, and each has a flip.
func TestExplainEveryScenario(t *testing.T) {
	t.Parallel()
	var flips atomic.Int64
	eachStoredRun(t, func(t *testing.T, run playbook.StoredRun, _ *Ledger) {
		for n, tick := range run.Ticks {
			list := playbook.ExplainTick(run, n)
			if q, ok := playbook.Decisive(list); !ok || q.Finding != tick.Finding || q.Saw != tick.Diagnosis.Why {
				t.Fatalf("tick %d is explained as %s (%s), and was %s (%s)", n+1, q.Finding, q.Saw, tick.Finding, tick.Diagnosis.Why)
			}
			for _, q := range list {
				flips.Add(1)
				if !strings.Contains(q.Flip, ": then ") && !strings.Contains(q.Flip, ": still ") {
					t.Fatalf("tick %d: question %s (%s: %s) has no flip: %s", n+1, q.Finding, q.Answer, q.Saw, q.Flip)
				}
			}
		}
	})
	t.Logf("%d flips", flips.Load())
}
