package scenariofile

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/drydock/drydock/playbook"
)

// Seen is what a runner saw of a scenario that was played.
type Seen struct {
	Runs map[string]Run // by name, see Scenario.Names
	Left Left
	// Broken are invariants that the runner itself saw broken.
	Broken []string
}

// Run is what was seen of a run.
type Run struct {
	Findings []playbook.Finding // of the ticks that had one confirmed, in order
	States   []playbook.State   // in order, without repeats
	Intents  []Intent
	Outcome  playbook.Outcome
	// Planned is the plan as it was shown when a finding that Drydock repairs was first confirmed, in words.
	Planned []string
	// Incidents are those of the run as PagerDuty has them.
	Incidents []Incident
}

// Intent is what was seen of an intent.
type Intent struct {
	Lane       playbook.Lane
	Kind       playbook.Kind
	Target     string // "Node worker-1"
	Result     playbook.Result
	PromisedAt time.Time
	SettledAt  time.Time
}

// Incident is an incident at the end.
type Incident struct {
	ID        string
	Status    playbook.IncidentStatus
	Escalated []string // to which policies Drydock did
	Notes     string   // all of them, as they are at the end
	Count     int      // how many notes
	End       playbook.Outcome
}

// Left is the carrier at the end.
type Left struct {
	Cordoned []string // nodes, by name
	Marked   []string // nodes that bear Drydock's mark
	Lost     []string // workers whose daemon pod of the alert is not there any more
	// DaemonSet is that of the first alert, one of Unchanged, Changed and Absent.
	DaemonSet string
	// Recreated says that it is another object than at the alert.
	Recreated bool
	// Moved is how many of the customers' pods of the alert are not there any more.
	Moved int
}

// RunOf is what a ledger keeps of a run, without its incidents as PagerDuty has them.
func RunOf(r playbook.Run, ticks []playbook.Tick) Run {
	out := Run{Outcome: r.Outcome, Planned: planned(r, ticks)}
	for _, t := range ticks {
		out.States = append(out.States, t.To)
		// What is seen while the run unwinds decides nothing any more; how many looks fall into that time is chance.
		// So is whether the last look before it, at a person's act, found the carrier repaired already.
		byChance := t.From == playbook.Unwinding || (t.To == playbook.Unwinding && t.From != playbook.Verifying && t.Finding == playbook.FindingHealthy)
		if t.Confirmed && !byChance {
			out.Findings = append(out.Findings, t.Finding)
		}
	}
	out.States = slices.Compact(out.States)
	for _, i := range r.Intents {
		out.Intents = append(out.Intents, Intent{Lane: i.Lane, Kind: i.Action.Kind(), Target: i.Action.Target().String(), Result: i.Result,
			PromisedAt: i.PromisedAt, SettledAt: i.SettledAt})
	}
	return out
}

// planned is the plan at the first tick that confirmed a finding which Drydock repairs, in words; nil when none did. It is made
// afresh from what that tick saw and the run as it was before it, as "drydock plan" and the dashboard make theirs.
func planned(r playbook.Run, ticks []playbook.Tick) []string {
	for _, t := range ticks {
		if !t.Confirmed || !playbook.IsRepairable(t.Finding) {
			continue
		}
		return PlanWords(playbook.Plan(t.Policy, t.RunBefore(r), t.Observation))
	}
	return nil
}

// Confirmed are the findings that were confirmed, in order and without repeats. Rolling_out counts only when it is wanted:
// it also says that a pod is just starting, and whether a look falls into that second is chance.
func (r Run) Confirmed(want []playbook.Finding) []playbook.Finding {
	found := slices.Clone(r.Findings)
	if !slices.Contains(want, playbook.FindingRollingOut) {
		found = slices.DeleteFunc(found, func(f playbook.Finding) bool { return f == playbook.FindingRollingOut })
	}
	return slices.Compact(found)
}

// Did is what the carrier and the CI were made to do by all runs together, in order. Which of two runs that want the same
// change makes it is chance.
func (s Seen) Did() []playbook.Kind {
	var all []Intent
	for _, r := range s.Runs {
		for _, i := range r.Intents {
			if i.Result == playbook.Happened && i.Lane.Remote() != "pagerduty" {
				all = append(all, i)
			}
		}
	}
	slices.SortStableFunc(all, func(a, b Intent) int { return a.PromisedAt.Compare(b.PromisedAt) })
	var did []playbook.Kind
	for _, i := range all {
		did = append(did, i.Kind)
	}
	return did
}

// Check compares what was seen with what the scenario expects, and says what is wrong.
func (s *Scenario) Check(seen Seen) []string {
	problems := slices.Clone(seen.Broken)
	problem := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	for _, name := range s.Names() {
		r, ok := seen.Runs[name]
		if !ok {
			problem("there is no run of %s", name)
			continue
		}
		for _, p := range s.Expected(name).compare(r) {
			problem("%s: %s", name, p)
		}
	}
	did := seen.Did()
	same(problem, "did", did, s.Did)
	same(problem, "cordoned nodes", sorted(seen.Left.Cordoned), sorted(s.Leaves.Cordoned))
	same(problem, "nodes with Drydock's mark", seen.Left.Marked, nil)
	for _, w := range seen.Left.Lost {
		if !slices.Contains(s.Leaves.Replaced, w) && s.Leaves.DaemonSet != Absent {
			problem("the daemon pod of %s did not live", w)
		}
	}
	if seen.Left.DaemonSet != s.Leaves.DaemonSet {
		problem("the DaemonSet is %s at the end, want %s", seen.Left.DaemonSet, s.Leaves.DaemonSet)
	}
	recreated := s.Leaves.Recreated || slices.Contains(did, playbook.KindCreate)
	if seen.Left.DaemonSet != Absent && seen.Left.Recreated != recreated {
		problem("the DaemonSet is another object than at the alert: %t, want %t", seen.Left.Recreated, recreated)
	}
	if want := s.Leaves.Moved + count(did, playbook.KindEvict); seen.Left.Moved != want {
		problem("%d of the customers' pods of the alert are gone, want %d", seen.Left.Moved, want)
	}
	return append(problems, s.checkPlan(seen)...)
}

func count(did []playbook.Kind, kind playbook.Kind) int {
	n := 0
	for _, k := range did {
		if k == kind {
			n++
		}
	}
	return n
}

// checkPlan compares what each run did with the plan that it showed.
func (s *Scenario) checkPlan(seen Seen) (problems []string) {
	if s.PlanDiffers != "" {
		return nil
	}
	for _, name := range s.Names() {
		r := seen.Runs[name]
		if r.Planned == nil {
			continue
		}
		if acted := r.Acted(); !slices.Equal(r.Planned, acted) {
			problems = append(problems, fmt.Sprintf("%s: the plan was %q, and done was %q", name, r.Planned, acted))
		}
	}
	return problems
}

// Acted is what the run did to the carrier and the CI, in order, in the words of Planned.
func (r Run) Acted() []string {
	var acted []string
	for _, i := range r.Intents {
		if i.Result == playbook.Happened && i.Lane.Remote() != "pagerduty" {
			acted = append(acted, string(i.Kind)+" "+i.Target)
		}
	}
	return acted
}

// PlanWords writes a plan's actions in the words of Run.Planned. Never nil.
func PlanWords(plan []playbook.Action) []string {
	words := []string{}
	for _, a := range plan {
		words = append(words, string(a.Kind())+" "+a.Target().String())
	}
	return words
}

// same is slices.Equal with nil like empty, and words.
func same[T comparable](problem func(string, ...any), what string, got, want []T) {
	if !slices.Equal(got, want) {
		problem("%s: got %v, want %v", what, got, want)
	}
}

func sorted(names []string) []string { return slices.Sorted(slices.Values(names)) }

func (e Expect) compare(r Run) (problems []string) {
	problem := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	if r.Outcome != e.Outcome {
		problem("outcome: got %q, want %q", r.Outcome, e.Outcome)
	}
	same(problem, "findings", r.Confirmed(e.Findings), e.Findings)
	if missing := notThrough(r.States, e.Through); missing != "" {
		problem("states: %v do not go through %s of %v", r.States, missing, e.Through)
	}
	for _, i := range r.Intents {
		if i.Result == "" {
			problem("%s %s was never settled", i.Kind, i.Target)
		}
	}
	for n, in := range r.Incidents {
		want := e
		if n > 0 && e.Joined != nil {
			want = *e.Joined
		}
		for _, p := range want.compareIncident(in) {
			problem("incident %s: %s", in.ID, p)
		}
		problems = append(problems, r.order(in.ID)...)
	}
	return problems
}

// mostNotes is how many notes an incident gets: one that is edited, or three where it can not be.
const mostNotes = 3

// endings begin the last note of an incident, whatever has become of it.
var endings = []string{"resolves this incident", "was resolved by others", "leaves resolving to", "hands this over", "stood down", "observed"}

func (e Expect) compareIncident(in Incident) (problems []string) {
	problem := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	if in.Status != e.Status {
		problem("is %s, want %s", in.Status, e.Status)
	}
	if in.End != e.End {
		problem("ended as %q in the history, want %q", in.End, e.End)
	}
	var to []string
	if e.EscalatedTo != "" {
		to = []string{e.EscalatedTo}
	}
	same(problem, "escalated to", in.Escalated, to)
	for _, words := range e.Notes {
		if !strings.Contains(in.Notes, words) {
			problem("its notes do not say %q but:\n%s", words, in.Notes)
		}
	}
	if !slices.ContainsFunc(endings, func(words string) bool { return strings.Contains(in.Notes, words) }) {
		problem("no note says how it ended:\n%s", in.Notes)
	}
	if in.Count > mostNotes {
		problem("has %d notes", in.Count)
	}
	return problems
}

// notThrough finds the first state that does not come in its turn.
func notThrough(states, through []playbook.State) playbook.State {
	for _, st := range through {
		i := slices.Index(states, st)
		if i < 0 {
			return st
		}
		states = states[i+1:]
	}
	return ""
}

// order checks that a note was written before the incident's state was changed, and that the state was changed at most once.
func (r Run) order(incident string) (problems []string) {
	noted := time.Time{}
	changes := 0
	for _, i := range r.Intents {
		if i.Lane != playbook.PagerDutyLane(incident) || i.Result != playbook.Happened {
			continue
		}
		switch i.Kind { //nolint:exhaustive // the others are not in this lane
		case playbook.KindAnnotate:
			if noted.IsZero() {
				noted = i.SettledAt
			}
		case playbook.KindResolve, playbook.KindEscalate:
			changes++
			if noted.IsZero() || i.PromisedAt.Before(noted) && i.SettledAt.Before(noted) {
				problems = append(problems, fmt.Sprintf("incident %s: %s came before the note", incident, i.Kind))
			}
		}
	}
	if changes > 1 {
		problems = append(problems, fmt.Sprintf("incident %s: its state was changed %d times", incident, changes))
	}
	return problems
}
