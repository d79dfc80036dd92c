package sweep

import (
	"flag"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/drydock/drydock/playbook/playbooktest"
)

var (
	seed  = flag.Int64("seed", -1, "simulate this seed alone and print all that happens")
	from  = flag.Uint64("from", 0, "the first seed")
	seeds = flag.Uint64("seeds", 20_000, "how many seeds are simulated")
)

// replay plays one seed again, from the root of the repository.
const replay = "go test ./playbook/playbooktest/sweep -run 'TestSimulation$' -v -seed=%d"

// TestSimulation plays nights with three workers, each drawn from its seed; see playbooktest.Simulate.
func TestSimulation(t *testing.T) {
	t.Parallel()
	scenarios := nights(t)
	if *seed >= 0 {
		n := playbooktest.Simulate(t.Context(), uint64(*seed), scenarios, true)
		t.Logf("seed %d: %s\n%s", n.Seed, n.Scenario, n.Trace)
		if len(n.Problems) > 0 {
			t.Errorf("- %s", strings.Join(n.Problems, "\n- "))
		}
		return
	}
	var (
		next, failed atomic.Uint64
		mu           sync.Mutex
		wg           sync.WaitGroup
		turns        int
		slowest      time.Duration
		hits         = map[playbooktest.Hit]int{}
	)
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for n := next.Add(1) - 1; n < *seeds && failed.Load() < 10; n = next.Add(1) - 1 {
				night := playbooktest.Simulate(t.Context(), *from+n, scenarios, false)
				if len(night.Problems) > 0 {
					failed.Add(1)
					t.Errorf("seed %d (%s):\n- %s\nplay it again: "+replay, night.Seed, night.Scenario, strings.Join(night.Problems, "\n- "), night.Seed)
				}
				mu.Lock()
				turns += night.Turns
				slowest = max(slowest, night.Healing)
				for h, n := range night.Hits {
					hits[h] += n
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	t.Logf("%d seeds from %d: %d ticks; the slowest came to its end %s after the faults had stopped\n%s", *seeds, *from, turns, slowest, table(hits))
	if *seeds < 20_000 {
		return
	}
	for _, want := range reached() {
		if hits[want] == 0 {
			t.Errorf("in no night: %s at %s", want.Failure, want.Op)
		}
	}
}

// reached is what must have come to pass in some night: a simulation that does not get there proves nothing.
func reached() []playbooktest.Hit {
	var want []playbooktest.Hit
	add := func(op string, failures ...playbooktest.Failure) {
		for _, f := range failures {
			want = append(want, playbooktest.Hit{Op: op, Failure: f})
		}
	}
	for _, k := range kinds {
		add(callOf(k), playbooktest.CrashBefore, playbooktest.CrashAfter, playbooktest.ErrorBefore, playbooktest.ErrorAfter,
			playbooktest.TimeoutBefore, playbooktest.TimeoutAfter, playbooktest.FrozenBefore, playbooktest.FrozenInCall)
	}
	for _, op := range []string{"ledger commit", "ledger begin", "ledger settle"} {
		add(op, playbooktest.CrashBefore, playbooktest.CrashAfter, playbooktest.ErrorBefore, playbooktest.ErrorAfter, playbooktest.CutOff)
	}
	for _, op := range []string{"ledger acquire", "ledger load", "ledger facts", "carrier observe", "carrier state", "pagerduty incident",
		"pagerduty recover", "promotion read"} {
		add(op, playbooktest.CrashBefore, playbooktest.ErrorBefore)
	}
	add("carrier cordon", playbooktest.LateAfterwards)
	add("carrier orphan_delete", playbooktest.LateAfterwards)
	return want
}

// table prints the hits, one call a line.
func table(hits map[playbooktest.Hit]int) string {
	lines := map[string]string{}
	for _, h := range slices.SortedFunc(maps.Keys(hits), func(a, b playbooktest.Hit) int { return strings.Compare(string(a.Failure), string(b.Failure)) }) {
		lines[h.Op] += fmt.Sprintf(", %s %d", h.Failure, hits[h])
	}
	var b strings.Builder
	for _, op := range slices.Sorted(maps.Keys(lines)) {
		fmt.Fprintf(&b, "  %s: %s\n", op, strings.TrimPrefix(lines[op], ", "))
	}
	return b.String()
}

// TestASeedIsANight plays seeds twice: everything must be the same, to the byte.
func TestASeedIsANight(t *testing.T) {
	t.Parallel()
	scenarios := nights(t)
	for seed := range uint64(100) {
		once, again := playbooktest.Simulate(t.Context(), seed, scenarios, true), playbooktest.Simulate(t.Context(), seed, scenarios, true)
		if once.Trace != again.Trace {
			t.Fatalf("seed %d is not the same night twice: %s", seed, firstDifference(once.Trace, again.Trace))
		}
		if len(once.Trace) < 1000 {
			t.Errorf("nothing happened on the night of seed %d:\n%s", seed, once.Trace)
		}
	}
}

func firstDifference(a, b string) string {
	one, other := strings.Split(a, "\n"), strings.Split(b, "\n")
	for i := range min(len(one), len(other)) {
		if one[i] != other[i] {
			return fmt.Sprintf("line %d:\n%s\n%s", i+1, one[i], other[i])
		}
	}
	return fmt.Sprintf("%d and %d lines", len(one), len(other))
}
