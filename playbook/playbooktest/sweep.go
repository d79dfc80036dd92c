package playbooktest

import (
	"context"
	"fmt"
	"strings"
)

// Trial is one night of a sweep with its planned failures.
type Trial struct {
	Scenario Scenario
	Faults   map[int]Failure
	Where    string
}

// String names the trial as a test's message does.
func (t Trial) String() string { return t.Scenario.Name + ": " + t.Where }

// Trials lists the night without a failure, and one for each of its external calls and each way in which that call can
// fail. Readings that are repeated in the same state, tick after tick, fail in one trial each for the first
// `repeats` of them (0: all of them): the hundredth look at an unreachable carrier is like the third.
func (s Scenario) Trials(ctx context.Context, repeats int) []Trial {
	trials := []Trial{{Scenario: s, Where: "no call fails"}}
	seen := map[Point]int{}
	for i, p := range s.Play(ctx, nil).Points {
		seen[p]++
		if p.Reach != Mutates && repeats > 0 && seen[p] > repeats {
			continue
		}
		for _, f := range p.Reach.Failures() {
			trials = append(trials, Trial{Scenario: s, Faults: map[int]Failure{i + 1: f},
				Where: fmt.Sprintf("call %d (%s, in %s): %s", i+1, p.Op, p.State, f)})
		}
	}
	return trials
}

// Run plays the trial.
func (t Trial) Run(ctx context.Context) Night { return t.Scenario.Play(ctx, t.Faults) }

// Sweep plays every trial of the scenario and returns what went wrong, at most `most` reports (0: all).
func (s Scenario) Sweep(ctx context.Context, repeats, most int) (reports []string, trials int) {
	for _, t := range s.Trials(ctx, repeats) {
		trials++
		n := t.Run(ctx)
		if n.Hit != len(t.Faults) {
			n.problem("the planned failure never came to pass: the night was not repeated exactly")
		}
		if len(n.Problems) == 0 {
			continue
		}
		reports = append(reports, t.String()+"\n"+strings.TrimSpace(n.Report()))
		if most > 0 && len(reports) == most {
			break
		}
	}
	return reports, trials
}
