package playbook

import (
	"testing"
	"time"
)

// Looks come soon while a change of the run's own is fresh, and no quicker than a slow carrier answers.
func TestPace(t *testing.T) {
	t.Parallel()
	tick := testPolicy().Timing.Tick
	for name, c := range map[string]struct {
		action Action
		result Result
		ago    time.Duration
		look   time.Duration
		state  State
		want   time.Duration
	}{
		"nothing was changed":          {state: Triage, want: tick},
		"a change just now":            {action: Uncordon{Node: "n"}, result: Happened, ago: time.Second, state: Verifying, want: soon},
		"a change a while ago":         {action: Uncordon{Node: "n"}, result: Happened, ago: lively, state: Verifying, want: tick},
		"a change that did not happen": {action: Uncordon{Node: "n"}, result: NotHappened, ago: time.Second, state: Verifying, want: tick},
		"a note is no change":          {action: Annotate{Incident: "Q1"}, result: Happened, ago: time.Second, state: Verifying, want: tick},
		"slow looks":                   {action: Uncordon{Node: "n"}, result: Happened, ago: time.Second, look: 2 * time.Second, state: Verifying, want: 4 * time.Second},
		"looks slower than ticks":      {action: Uncordon{Node: "n"}, result: Happened, ago: time.Second, look: time.Minute, state: Verifying, want: tick},
		"the run has ended":            {action: Uncordon{Node: "n"}, result: Happened, ago: time.Second, state: StateResolved, want: tick},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := healthy(12)
			r := testRun(Verifying)
			if c.action != nil {
				r.Intents = []Intent{{Seq: 1, Action: c.action, Result: c.result, PromisedAt: s.o.At.Add(-c.ago), SettledAt: s.o.At.Add(-c.ago)}}
			}
			if c.look > 0 {
				s.o.ReadBy = s.o.At.Add(c.look)
			}
			if got := newSituation(testPolicy(), r, s.o).pace(c.state); got != c.want {
				t.Errorf("the next look comes after %s, want %s", got, c.want)
			}
		})
	}
}
