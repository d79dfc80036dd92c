// Package sweep is the long form of the crash sweep: every external call of every scenario fails in every way that it can,
// in nights with one failure and with two; and nights on which people, remotes and failures do what they like. It is a
// package of its own so that a quick test of the core need not wait for it. A world is single-threaded: the race detector
// has nothing to find here and makes each night ten times as long, so that make test runs this package without it.
package sweep

import (
	"context"
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/drydock/drydock/playbook"
	"github.com/drydock/drydock/playbook/playbooktest"
	"github.com/drydock/drydock/playbook/playbooktest/scenariofile"
)

// How many nights there have to be, at least: a sweep that shrinks without anybody noticing proves nothing.
const (
	leastSingles = 40_000
	leastPairs   = 7_000
	leastCore    = 20
)

// repeats is how often calls that come again in the same state, tick after tick, fail. Only the nights on which a remote
// stays away have more of them: their hundredth look at it is like the fifth.
const repeats = 5

func TestMain(m *testing.M) {
	debug.SetGCPercent(400) // these nights make much garbage and keep nothing
	os.Exit(m.Run())
}

// nights are all scenarios: those of package playbooktest and those of the scenario files.
func nights(t *testing.T) []playbooktest.Scenario {
	t.Helper()
	all := playbooktest.Scenarios()
	files, err := scenariofile.Load(os.DirFS("../../../testbed/scenarios"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		all = append(all, f.Night())
	}
	return all
}

// TestSweep lets each external call of each scenario fail in each way, one in a night.
func TestSweep(t *testing.T) {
	t.Parallel()
	all := over(t, nights(t), func(ctx context.Context, s playbooktest.Scenario, play func(playbooktest.Trial)) {
		for _, trial := range s.Trials(ctx, repeats, playbooktest.AllFailures()) {
			play(trial)
		}
	})
	if all.partial {
		return // -run chose some scenarios
	}
	if all.nights < leastSingles {
		t.Errorf("%d nights were played, want at least %d", all.nights, leastSingles)
	}
	for _, want := range points() {
		if all.hits[want] == 0 {
			t.Errorf("no night has %q at %q", want.Failure, want.Op)
		}
	}
}

var kinds = []playbook.Kind{playbook.KindCordon, playbook.KindUncordon, playbook.KindEvict, playbook.KindOrphanDelete,
	playbook.KindCreate, playbook.KindNudge, playbook.KindRestart, playbook.KindPromote, playbook.KindAnnotate,
	playbook.KindAcknowledge, playbook.KindEscalate, playbook.KindResolve}

// points are what must have come to pass somewhere: each way to fail at each kind of call.
func points() []playbooktest.Hit {
	var want []playbooktest.Hit
	add := func(reach playbooktest.Reach, ops ...string) {
		for _, op := range ops {
			for _, f := range reach.Failures() {
				want = append(want, playbooktest.Hit{Op: op, Failure: f})
			}
		}
	}
	for _, k := range kinds {
		add(playbooktest.Mutates, callOf(k))
	}
	add(playbooktest.Mutates, "carrier touch")
	add(playbooktest.Writes, "ledger commit", "ledger begin", "ledger settle")
	add(playbooktest.Reads, "ledger acquire", "ledger load", "ledger facts", "ledger backup", "carrier observe", "carrier state",
		"pagerduty incident", "pagerduty disk incidents", "pagerduty recover", "promotion read", "promotion recover")
	return want
}

// callOf names the call of an action as the sweep does.
func callOf(k playbook.Kind) string {
	switch k { //nolint:exhaustive // the others are the carrier's
	case playbook.KindPromote:
		return "promotion ask"
	case playbook.KindAnnotate, playbook.KindAcknowledge, playbook.KindEscalate, playbook.KindResolve:
		return "pagerduty " + string(k)
	}
	return "carrier " + string(k)
}

// TestPairs lets two calls of a night fail, drawn from all of them.
func TestPairs(t *testing.T) {
	t.Parallel()
	const pairs = 60
	over(t, nights(t), func(ctx context.Context, s playbooktest.Scenario, play func(playbooktest.Trial)) {
		for _, trial := range s.Pairs(ctx, pairs) {
			play(trial)
		}
	})
}

// core are the scenarios whose every pair of crashes is played: all repairs, and people who come in the middle of one.
var core = []string{
	"healthy", "absent, promoted again", "node full, drained", "two nodes full", "uncovered, reapplied",
	"node full, drained and reapplied as the runbook's letter says", "node full, a disruption budget blocks for good",
	"the controller-manager is dead, and is restarted", "the controller may not store revisions, until the right is back",
	"one worker down does not hide a full one", "a pod crashes on one worker", "a person acknowledges during a drain",
	"a person cordons the full node as Drydock is about to", "a person wants the drained node to stay cordoned",
	"a person edits the DaemonSet as Drydock is about to delete it", "the kill switch is engaged during a drain",
	"another pod takes the freed slot", "a person takes over while the DaemonSet is gone for its reapply",
	"somebody else creates the DaemonSet while it is gone for its reapply", "the full node is full of a StatefulSet's pods",
	"the garbage collector is slow",
}

// TestPairsOfCrashes lets the worker die at every two places of the core scenarios.
func TestPairsOfCrashes(t *testing.T) {
	t.Parallel()
	scenarios := slices.DeleteFunc(playbooktest.Scenarios(), func(s playbooktest.Scenario) bool { return !slices.Contains(core, s.Name) })
	if len(scenarios) != len(core) || len(core) < leastCore {
		t.Fatalf("%d of the %d core scenarios are there, want all and at least %d", len(scenarios), len(core), leastCore)
	}
	all := over(t, scenarios, func(ctx context.Context, s playbooktest.Scenario, play func(playbooktest.Trial)) {
		s.PairsOfCrashes(ctx, play)
	})
	if !all.partial && all.nights < leastPairs {
		t.Errorf("%d nights were played, want at least %d", all.nights, leastPairs)
	}
}

// TestCrowds lets people, remotes and failures do what they like; the seed in a report plays its night again.
func TestCrowds(t *testing.T) {
	t.Parallel()
	const seeds = 60
	over(t, playbooktest.Scenarios(), func(_ context.Context, s playbooktest.Scenario, play func(playbooktest.Trial)) {
		for seed := range uint64(seeds) {
			play(s.Crowded(seed))
		}
	})
}

// tally is what was played.
type tally struct {
	nights, scenarios int
	partial           bool // not every scenario was played
	hits              map[playbooktest.Hit]int
}

// over plays the trials of each scenario and reports the first three of each that went wrong: more would be the same again.
func over(t *testing.T, scenarios []playbooktest.Scenario, trials func(context.Context, playbooktest.Scenario, func(playbooktest.Trial))) tally {
	t.Helper()
	all := tally{hits: map[playbooktest.Hit]int{}}
	var mu sync.Mutex
	t.Run("scenarios", func(t *testing.T) {
		for _, s := range scenarios {
			t.Run(s.Name, func(t *testing.T) {
				t.Parallel()
				mine, reports := tally{hits: map[playbooktest.Hit]int{}}, 0
				trials(t.Context(), s, func(trial playbooktest.Trial) {
					if reports == 3 {
						return
					}
					hits, report := trial.Run(t.Context())
					mine.nights++
					for _, h := range hits {
						mine.hits[h.General()]++
					}
					if report != "" {
						reports++
						t.Error(report)
					}
				})
				mu.Lock()
				defer mu.Unlock()
				all.nights += mine.nights
				all.scenarios++
				for h, n := range mine.hits {
					all.hits[h] += n
				}
			})
		}
	})
	all.partial = all.scenarios < len(scenarios)
	t.Logf("%d nights of %d scenarios, %s", all.nights, all.scenarios, all)
	return all
}

func (a tally) String() string {
	by := map[playbooktest.Failure]int{}
	for h, n := range a.hits {
		by[h.Failure] += n
	}
	var parts []string
	for _, f := range playbooktest.AllFailures() {
		parts = append(parts, fmt.Sprintf("%s %d", f, by[f]))
	}
	return strings.Join(parts, ", ")
}
