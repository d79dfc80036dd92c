package playbooktest

import (
	"context"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"strings"
)

// Trial is one night of a sweep with its planned failures.
type Trial struct {
	Scenario Scenario
	Faults   map[int]Failure
	Where    string
	// Comes says that the planned failure must come to pass: the night goes as it went without it, up to there.
	Comes bool
}

// String names the trial as a test's message does.
func (t Trial) String() string { return t.Scenario.Name + ": " + t.Where }

// Crashes are the failures in which the worker dies.
func Crashes() []Failure { return []Failure{CrashBefore, CrashAfter} }

// AllFailures are the failures of every call.
func AllFailures() []Failure { return Mutates.Failures() }

// mutations is how many changes of one kind in one state fail; only a night that is stuck has more.
const mutations = 6

// Trials lists the night without a failure, and one for each of its external calls and each of the failures that the call
// can have. Of readings and commits that come again in the same state, tick after tick, only the first `repeats` fail (0:
// all of them do), and of changes of one kind in one state the first `mutations`: the hundredth look at an unreachable
// carrier is like the third, and so is the fiftieth create that it refuses.
func (s Scenario) Trials(ctx context.Context, repeats int, failures []Failure) []Trial {
	trials := []Trial{{Scenario: s, Where: "no call fails"}}
	seen := map[Point]int{}
	for i, p := range s.Play(ctx, nil).Points {
		seen[p]++
		if most := repeats; repeats > 0 {
			if p.Reach == Mutates {
				most = mutations
			}
			if seen[p] > most {
				continue
			}
		}
		for _, f := range p.Reach.Failures() {
			if slices.Contains(failures, f) {
				trials = append(trials, Trial{Scenario: s, Faults: map[int]Failure{i + 1: f}, Comes: true,
					Where: fmt.Sprintf("call %d (%s, in %s): %s", i+1, p.Op, p.State, f)})
			}
		}
	}
	return trials
}

// Pairs lists n nights with two failures each, drawn from the scenario's calls: the same ones every time. The second call
// is counted in the night as the first failure leaves it, so it may be any, or not come at all.
func (s Scenario) Pairs(ctx context.Context, n int) []Trial {
	points := s.Play(ctx, nil).Points
	draw := s.draw(0)
	trials := make([]Trial, 0, n)
	for range n {
		first := draw.IntN(len(points))
		second := first + 1 + draw.IntN(40)
		failures := points[first].Reach.Failures()
		a, b := failures[draw.IntN(len(failures))], AllFailures()[draw.IntN(len(AllFailures()))]
		trials = append(trials, Trial{Scenario: s, Faults: map[int]Failure{first + 1: a, second + 1: b},
			Where: fmt.Sprintf("call %d (%s): %s, and call %d: %s", first+1, points[first].Op, a, second+1, b)})
	}
	return trials
}

// draw makes the scenario's own generator for a seed: the same one every time.
func (s Scenario) draw(seed uint64) *rand.Rand {
	name := fnv.New64a()
	name.Write([]byte(s.Name))
	return rand.New(rand.NewPCG(name.Sum64(), seed))
}

// PairsOfCrashes plays every night in which the worker dies twice: at each place between two effects, and again at each
// such place of the night as the first death left it. A worker that dies before a reading dies, for everybody else, where
// the last effect before it left things.
func (s Scenario) PairsOfCrashes(ctx context.Context, play func(Trial)) {
	first := s.Play(ctx, nil)
	for _, i := range places(first.Points, 0) {
		once := map[int]Failure{i: CrashAfter}
		for _, j := range places(s.Play(ctx, once).Points, i) {
			play(Trial{Scenario: s, Faults: map[int]Failure{i: CrashAfter, j: CrashAfter}, Comes: true,
				Where: fmt.Sprintf("crash after call %d (%s), and after call %d", i, first.Points[i-1].Op, j)})
		}
	}
}

// places lists the calls behind one that have an effect, by their number.
func places(points []Point, behind int) []int {
	var at []int
	seen := map[Point]int{}
	for i, p := range points {
		if seen[p]++; i+1 > behind && p.Reach != Reads && (p.Reach == Mutates || seen[p] <= 2) {
			at = append(at, i+1)
		}
	}
	return at
}

// Run plays the trial and reports the failures that came to pass, and what went wrong; empty: nothing did.
func (t Trial) Run(ctx context.Context) ([]Hit, string) {
	n := t.Scenario.Play(ctx, t.Faults)
	if t.Comes && len(n.Hits) < len(t.Faults) {
		n.problem("the planned failure never came to pass: the night was not repeated exactly")
	}
	if len(n.Problems) == 0 {
		return n.Hits, ""
	}
	return n.Hits, t.String() + "\n" + strings.TrimSpace(n.Report())
}

// Sweep plays the trials and returns the first reports, at most three: more would be the same again. Under the race detector
// it plays every tenth of them; package sweep is run without it.
func Sweep(ctx context.Context, trials []Trial) (reports []string) {
	step := 1
	if raced {
		step = 10
	}
	for i := 0; i < len(trials) && len(reports) < 3; i += step {
		if _, report := trials[i].Run(ctx); report != "" {
			reports = append(reports, report)
		}
	}
	return reports
}
