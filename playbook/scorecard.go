package playbook

import (
	"cmp"
	"slices"
	"time"
)

// RunCounts counts runs by how they ended.
type RunCounts struct {
	Runs, Active, Resolved, Escalated, StoodDown int
}

// CauseStats is what became of the runs of one cause.
type CauseStats struct {
	Cause Finding // empty in a total
	RunCounts
	Repairs  int           // runs that changed something and were resolved
	P50, P95 time.Duration // of those, from start to end; 0 without any
}

// RunStats is what became of the runs of a time, and what the observing ones were worth.
type RunStats struct {
	Total   CauseStats
	ByCause []CauseStats // in the order of Findings
	Shadows []Shadow
}

// StatsFilter picks the runs to count: those that started from Since to before Until. Empty fields do not filter.
type StatsFilter struct {
	Since, Until time.Time
	Carriers     []string
}

// EndedBy is who ended an incident.
type EndedBy string

// Who ends incidents. Empty is unknown: it is still open, or PagerDuty's word did not arrive.
const (
	EndedByPerson     EndedBy = "person"
	EndedByMonitoring EndedBy = "monitoring"
)

// Shadow is a run that only observed, and what happened without it.
type Shadow struct {
	Cause   Finding
	Planned bool // it had something to do
	EndedBy EndedBy
	// EndedAfter is from the run's start to the incident's end; 0 while EndedBy is unknown.
	EndedAfter time.Duration
	// CameBack is set when within an hour another run of the target found something the matter.
	CameBack bool
}

// Would is what an observing run would have done.
type Would string

// What runs do in the end.
const (
	WouldRepair   Would = "repair"
	WouldResolve  Would = "resolve"
	WouldHandOver Would = "hand_over"
)

// Would says what the run would have done if it had been allowed to act.
func (s Shadow) Would() Would {
	switch {
	case s.Cause == FindingHealthy:
		return WouldResolve
	case IsRepairable(s.Cause) && s.Planned:
		return WouldRepair
	}
	return WouldHandOver
}

// Judgement says whether an observing run was right.
type Judgement int

// The judgements.
const (
	Undecided Judgement = iota
	Right
	Wrong
)

// Judge compares what the run would have done with what happened. A repair or a hand-over was right when a person had to end the
// incident, and needless when it went away by itself. To resolve was right unless the target was found ill again within the hour.
func (s Shadow) Judge() Judgement {
	if s.Would() == WouldResolve && s.CameBack {
		return Wrong
	}
	switch {
	case s.EndedBy == "":
		return Undecided
	case s.Would() == WouldResolve, s.EndedBy == EndedByPerson:
		return Right
	}
	return Wrong
}

// Scores is how right a set of observing runs was.
type Scores struct {
	Runs, ByPerson, ByItself int
	Right, Wrong, Undecided  int
	EndedAfterP50            time.Duration // 0 when nobody knows
}

// Precision is the share of the decided runs that were right; ok is false while none is decided.
func (s Scores) Precision() (share float64, ok bool) {
	decided := s.Right + s.Wrong
	if decided == 0 {
		return 0, false
	}
	return float64(s.Right) / float64(decided), true
}

// ScoreOf counts a set of observing runs.
func ScoreOf(shadows []Shadow) Scores {
	s := Scores{Runs: len(shadows)}
	var ended []time.Duration
	for _, shadow := range shadows {
		switch shadow.EndedBy {
		case EndedByPerson:
			s.ByPerson++
		case EndedByMonitoring:
			s.ByItself++
		}
		if shadow.EndedBy != "" {
			ended = append(ended, shadow.EndedAfter)
		}
		switch shadow.Judge() {
		case Right:
			s.Right++
		case Wrong:
			s.Wrong++
		case Undecided:
			s.Undecided++
		}
	}
	if len(ended) > 0 {
		slices.Sort(ended)
		s.EndedAfterP50 = ended[(len(ended)-1)/2]
	}
	return s
}

// ScoreLine is the score of the runs with one cause that would have done one thing.
type ScoreLine struct {
	Cause Finding
	Would Would
	Scores
}

// Scorecard is a line for each cause and what the runs would have done about it, in the order of Findings.
func Scorecard(shadows []Shadow) []ScoreLine {
	type key struct {
		cause Finding
		would Would
	}
	groups := map[key][]Shadow{}
	for _, s := range shadows {
		k := key{s.Cause, s.Would()}
		groups[k] = append(groups[k], s)
	}
	lines := make([]ScoreLine, 0, len(groups))
	for k, group := range groups {
		lines = append(lines, ScoreLine{Cause: k.cause, Would: k.would, Scores: ScoreOf(group)})
	}
	order := Findings()
	slices.SortFunc(lines, func(a, b ScoreLine) int {
		return cmp.Or(cmp.Compare(slices.Index(order, a.Cause), slices.Index(order, b.Cause)), cmp.Compare(a.Would, b.Would))
	})
	return lines
}
