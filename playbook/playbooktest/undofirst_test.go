package playbooktest

import (
	"slices"
	"strings"
	"testing"
)

// TestWhatIsOwedComesBeforeTheLook lets every worker die in its look at the carrier, from the moment on in which something is
// owed: it is put back all the same.
func TestWhatIsOwedComesBeforeTheLook(t *testing.T) {
	t.Parallel()
	// One death until the DaemonSet is seen to be gone, one until the create is due.
	const most = 3
	for _, tt := range []struct {
		scenario, owing, undo string
	}{
		{"uncovered, reapplied", "carrier orphan_delete", "carrier create"},
		{"node full, drained", "ledger commit uncordon", "carrier uncordon"},
		{"a person acknowledges during a drain", "ledger commit uncordon", "carrier uncordon"},
	} {
		t.Run(tt.scenario, func(t *testing.T) {
			t.Parallel()
			all := Scenarios()
			s := all[slices.IndexFunc(all, func(s Scenario) bool { return s.Name == tt.scenario })]
			find := func(n Night, from int, op string) int {
				return from + slices.IndexFunc(n.Points[from:], func(p Point) bool { return strings.HasPrefix(p.Op, op) })
			}
			n := s.Play(t.Context(), nil)
			at := find(n, 0, tt.owing)
			faults := map[int]Failure{at + 1: CrashAfter}
			for n = s.Play(t.Context(), faults); ; n = s.Play(t.Context(), faults) {
				look, undo := find(n, at+1, "carrier observe"), find(n, at+1, tt.undo)
				if undo > at && undo < look {
					break
				}
				if len(faults) > most {
					t.Fatalf("%d workers have died in their look, and there was no %s before it", len(faults)-1, tt.undo)
				}
				faults[look+1] = CrashBefore
				at = look
			}
			if len(n.Problems) > 0 {
				t.Error(n.Report())
			}
		})
	}
}
