package playbook

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Before is what a run was when a tick decided, where it may have changed since: with the run's own row, the stored
// observation and the policy it is all that Decide was given. It is stored with the tick.
type Before struct {
	Memory
	// Incidents of the run, with their ends as they stood.
	Incidents []RunIncident `json:"incidents,omitempty"`
	// Generation is that of the tick's lease: of what was promised after it, only what bears it is the tick's own. 0 in old ones.
	Generation int64 `json:"generation,omitempty"`
	// Intents is how many there were; Open lists those of them that were not settled.
	Intents int          `json:"intents,omitempty"`
	Open    []OpenIntent `json:"open,omitempty"`
}

// OpenIntent is an intent that was not settled when a tick decided.
type OpenIntent struct {
	Seq  int  `json:"seq"`
	Sent bool `json:"sent,omitempty"`
}

// before notes what a run is now, for a tick under the lease of that generation.
func (r Run) before(generation int64) Before {
	b := Before{Memory: r.Memory, Incidents: slices.Clone(r.Incidents), Generation: generation, Intents: len(r.Intents)}
	for _, i := range r.OpenIntents() {
		b.Open = append(b.Open, OpenIntent{Seq: i.Seq, Sent: !i.SentAt.IsZero()})
	}
	return b
}

// RunBefore is the run as it was when the tick decided; r is the run as it is, with all its intents.
func (t Tick) RunBefore(r Run) Run {
	r.State, r.Memory, r.Incidents = t.From, t.Before.Memory, t.Before.Incidents
	intents := r.Intents
	r.Outcome, r.Intents = "", nil
	for _, i := range intents {
		if i.Seq > t.Before.Intents {
			continue // promised by this tick or a later one
		}
		for _, open := range t.Before.Open {
			if open.Seq == i.Seq {
				i = i.reopened(open.Sent)
			}
		}
		r.Intents = append(r.Intents, i)
	}
	return r
}

// reopened is the intent as it was before it was settled.
func (i Intent) reopened(sent bool) Intent {
	i.SettledAt, i.Result, i.Detail, i.Receipt = time.Time{}, "", "", ""
	if !sent {
		i.SentAt, i.CallDeadline = time.Time{}, time.Time{}
	}
	return i
}

// Difference is something that a tick decides otherwise than when it was stored.
type Difference struct {
	// What differs: "state", "finding", "confirmed", "verdict of <node>", "plan", "promises", or "reading" for one that the
	// decision now wants and that was not stored.
	What   string `json:"what"`
	Stored string `json:"stored"`
	Now    string `json:"now"`
}

// Replay decides the stored tick n of a run again, by the policy that is given, and lists what differs from what was decided
// then. It is pure: the same history gives the same answer. Sentences are not compared: to word one better is no other
// decision.
func Replay(p Policy, r StoredRun, n int) (Decision, []Difference) {
	t := r.Ticks[n]
	o := t.Observation
	if check, ok := o.Reapply.Get(); ok && check.SHA256 != "" && len(check.Manifest) == 0 {
		check.Manifest = Manifest("{}") // there was one: manifests may hold secrets and are not stored with observations
		o.Reapply = Known(check)
	}
	d := Decide(p, t.RunBefore(r.Run), o)

	var diff []Difference
	compare := func(what, stored, now string) {
		if stored != now {
			diff = append(diff, Difference{What: what, Stored: stored, Now: now})
		}
	}
	compare("state", string(t.To), string(d.To))
	compare("finding", string(t.Finding), string(d.Diagnosis.Finding))
	compare("confirmed", fmt.Sprint(t.Confirmed), fmt.Sprint(d.Diagnosis.Confirmed))
	diff = append(diff, compareVerdicts(t.Diagnosis.Verdicts, d.Diagnosis.Verdicts)...)
	compare("plan", strings.Join(planLines(t.Plan), "; "), strings.Join(planLines(d.Plan), "; "))
	var promises []Action
	for _, promise := range d.Promises {
		promises = append(promises, promise.Action)
	}
	compare("promises", strings.Join(planLines(r.promised(n)), "; "), strings.Join(planLines(promises), "; "))
	for _, w := range d.Wants {
		if !o.asked(w) {
			diff = append(diff, Difference{What: "reading", Stored: "not read", Now: strings.TrimSpace(string(w.Kind) + " " + w.Node)})
		}
	}
	return d, diff
}

// promised are the actions that the stored tick n promised. A tick that promises is always stored, so they are the intents up
// to those that the next stored one found. An undo that went before a later tick's look (undoFirst) and what the janitor promised
// after the end belong to no stored tick.
func (r StoredRun) promised(n int) []Action {
	t := r.Ticks[n]
	var actions []Action
	for _, i := range r.Intents {
		switch {
		case i.Seq <= t.Before.Intents:
		case n+1 < len(r.Ticks) && i.Seq > r.Ticks[n+1].Before.Intents:
		case t.Before.Generation != 0 && i.Generation != t.Before.Generation:
		case t.To.Ended(), r.Panics >= MaxPanics && !i.PromisedAt.Before(r.FinishedAt): // a quarantine stores no tick
		default:
			actions = append(actions, i.Action)
		}
	}
	return actions
}

func compareVerdicts(stored, now []Verdict) []Difference {
	was := make(map[string]NodeVerdict, len(stored))
	for _, v := range stored {
		was[v.Node] = v.Verdict
	}
	var diff []Difference
	for _, v := range now {
		if was[v.Node] != v.Verdict {
			diff = append(diff, Difference{What: "verdict of " + v.Node, Stored: string(was[v.Node]), Now: string(v.Verdict)})
		}
		delete(was, v.Node)
	}
	for node, verdict := range was {
		diff = append(diff, Difference{What: "verdict of " + node, Stored: string(verdict)})
	}
	slices.SortFunc(diff, func(a, b Difference) int { return cmp.Compare(a.What, b.What) })
	return diff
}
