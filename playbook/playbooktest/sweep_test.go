package playbooktest

import (
	"sync/atomic"
	"testing"
	"time"
)

// TestSweep lets every external call of every scenario fail in every way it can, one at a time.
func TestSweep(t *testing.T) {
	t.Parallel()
	var trials atomic.Int64
	began := time.Now()
	t.Run("scenarios", func(t *testing.T) {
		for _, s := range Scenarios() {
			t.Run(s.Name, func(t *testing.T) {
				t.Parallel()
				reports, n := s.Sweep(t.Context(), 2, 3)
				trials.Add(int64(n))
				for _, r := range reports {
					t.Error(r)
				}
			})
		}
	})
	t.Logf("%d nights, each with one failure, in %s", trials.Load(), time.Since(began).Round(time.Millisecond))
}
