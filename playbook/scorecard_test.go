package playbook

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestShadowJudge(t *testing.T) {
	t.Parallel()
	full := Shadow{Cause: FindingNodeFull, Planned: true}
	for name, tt := range map[string]struct {
		shadow Shadow
		would  Would
		want   Judgement
	}{
		"a repair that a person had to make":       {with(full, EndedByPerson), WouldRepair, Right},
		"a repair that was not needed":             {with(full, EndedByMonitoring), WouldRepair, Wrong},
		"nobody knows yet":                         {full, WouldRepair, Undecided},
		"a repair that would have been refused":    {with(Shadow{Cause: FindingNodeFull}, EndedByPerson), WouldHandOver, Right},
		"a hand-over that a person took":           {with(Shadow{Cause: FindingNodeDown}, EndedByPerson), WouldHandOver, Right},
		"a page for what went away":                {with(Shadow{Cause: FindingNodeDown}, EndedByMonitoring), WouldHandOver, Wrong},
		"healthy, and the monitoring agreed":       {with(Shadow{Cause: FindingHealthy}, EndedByMonitoring), WouldResolve, Right},
		"healthy, and a person agreed":             {with(Shadow{Cause: FindingHealthy}, EndedByPerson), WouldResolve, Right},
		"healthy, and ill again within the hour":   {Shadow{Cause: FindingHealthy, CameBack: true}, WouldResolve, Wrong},
		"ill, and again something else":            {with(Shadow{Cause: FindingNodeDown, CameBack: true}, EndedByPerson), WouldHandOver, Right},
		"what could not be read would be a person": {with(Shadow{Cause: FindingUnknown, Planned: true}, EndedByPerson), WouldHandOver, Right},
	} {
		if got := tt.shadow.Would(); got != tt.would {
			t.Errorf("%s: would %s, want %s", name, got, tt.would)
		}
		if got := tt.shadow.Judge(); got != tt.want {
			t.Errorf("%s: judged %d, want %d", name, got, tt.want)
		}
	}
}

func with(s Shadow, by EndedBy) Shadow {
	s.EndedBy = by
	return s
}

func TestScorecard(t *testing.T) {
	t.Parallel()
	if _, ok := ScoreOf(nil).Precision(); ok {
		t.Error("nothing has a precision")
	}
	ended := func(cause Finding, by EndedBy, after time.Duration) Shadow {
		return Shadow{Cause: cause, Planned: true, EndedBy: by, EndedAfter: after}
	}
	got := Scorecard([]Shadow{
		ended(FindingHealthy, EndedByPerson, 0), ended(FindingNodeFull, EndedByPerson, 3*time.Minute), ended(FindingNodeFull, EndedByMonitoring, time.Minute),
		ended(FindingNodeFull, EndedByPerson, 2*time.Minute), {Cause: FindingNodeFull},
	})
	want := []ScoreLine{
		{FindingNodeFull, WouldHandOver, Scores{Runs: 1, Undecided: 1}},
		{FindingNodeFull, WouldRepair, Scores{Runs: 3, ByPerson: 2, ByItself: 1, Right: 2, Wrong: 1, EndedAfterP50: 2 * time.Minute}},
		{FindingHealthy, WouldResolve, Scores{Runs: 1, ByPerson: 1, Right: 1}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if share, ok := got[1].Precision(); !ok || share != 2.0/3 {
		t.Errorf("precision %v, %v", share, ok)
	}
}

func TestCause(t *testing.T) {
	t.Parallel()
	r := Run{Finding: FindingHealthy}
	if got := r.Cause(); got != FindingHealthy {
		t.Errorf("without a confirmed finding: %s", got)
	}
	r.Memory.Found = []Found{{Finding: FindingNodeFull}, {Finding: FindingUncovered}}
	if got := r.Cause(); got != FindingNodeFull {
		t.Errorf("with two: %s", got)
	}
}
