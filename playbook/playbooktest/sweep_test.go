package playbooktest

import (
	"sync/atomic"
	"testing"
)

// TestCrashSweep lets the worker die before and after the external calls of every scenario, one at a time. The other ways
// to fail, and two failures in one night, are package sweep's.
func TestCrashSweep(t *testing.T) {
	t.Parallel()
	var nights atomic.Int64
	t.Run("scenarios", func(t *testing.T) {
		for _, s := range Scenarios() {
			t.Run(s.Name, func(t *testing.T) {
				t.Parallel()
				trials := s.Trials(t.Context(), 1, Crashes())
				nights.Add(int64(len(trials)))
				for _, report := range Sweep(t.Context(), trials) {
					t.Error(report)
				}
			})
		}
	})
	t.Logf("%d nights, each with one crash", nights.Load())
}
