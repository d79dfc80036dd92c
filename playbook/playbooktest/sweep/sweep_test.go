// Package sweep is the long form of the crash sweep: every external call of every scenario fails in every way that it can,
// and nights in which two calls fail. It is a package of its own so that a quick test of the core need not wait for it.
package sweep

import (
	"sync/atomic"
	"testing"

	"github.com/drydock/drydock/playbook/playbooktest"
)

// pairs is how many nights with two failures are played of each scenario.
const pairs = 100

func TestSweep(t *testing.T) {
	t.Parallel()
	over(t, func(t *testing.T, s playbooktest.Scenario) []playbooktest.Trial {
		return s.Trials(t.Context(), 2, playbooktest.AllFailures())
	})
}

func TestPairs(t *testing.T) {
	t.Parallel()
	over(t, func(t *testing.T, s playbooktest.Scenario) []playbooktest.Trial { return s.Pairs(t.Context(), pairs) })
}

func over(t *testing.T, trialsOf func(*testing.T, playbooktest.Scenario) []playbooktest.Trial) {
	t.Helper()
	var nights atomic.Int64
	t.Run("scenarios", func(t *testing.T) {
		for _, s := range playbooktest.Scenarios() {
			t.Run(s.Name, func(t *testing.T) {
				t.Parallel()
				trials := trialsOf(t, s)
				nights.Add(int64(len(trials)))
				for _, report := range playbooktest.Sweep(t.Context(), trials) {
					t.Error(report)
				}
			})
		}
	})
	t.Logf("%d nights", nights.Load())
}

// seeds is how many crowded nights are played of each scenario.
const seeds = 60

// TestCrowds lets people, remotes and failures do what they like; the seed in a report plays its night again.
func TestCrowds(t *testing.T) {
	t.Parallel()
	over(t, func(_ *testing.T, s playbooktest.Scenario) []playbooktest.Trial {
		trials := make([]playbooktest.Trial, 0, seeds)
		for seed := range uint64(seeds) {
			trials = append(trials, s.Crowded(seed))
		}
		return trials
	})
}
