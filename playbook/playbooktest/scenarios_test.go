package playbooktest

import "testing"

func TestScenarios(t *testing.T) {
	t.Parallel()
	for _, s := range Scenarios() {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			n := s.Play(t.Context(), nil)
			if len(n.Problems) > 0 {
				t.Error(n.Report())
			}
			t.Logf("%d external calls in %d ticks", len(n.Points), n.World.ticks)
		})
	}
}
