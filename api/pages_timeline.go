package api

import (
	"fmt"
	"slices"
	"time"

	"github.com/drydock/drydock/playbook"
)

// timelineEntry is one thing that happened in a run: a tick, or an intent.
type timelineEntry struct {
	At     time.Time
	After  string // the run's start
	Tick   *tickView
	Intent *intentView
}

type tickView struct {
	Seq          int
	To           stateView
	Finding, Why string
	Moved        bool
	Missing      int
	Expected     int
	Shown        bool // the page shows this look's nodes and questions
}

type intentView struct {
	Seq, Undoes, UndoneBy int
	Kind, What, Lane      string
	Result                stateView
	Detail                string
	Promised, Settled     time.Time
	Took                  string
	Open                  bool
	Owed                  bool // it has to be taken back, and is not yet
}

func newIntentViews(r playbook.Run) []intentView {
	owed := map[int]bool{}
	for _, o := range r.Owed() {
		owed[o.Seq] = true
	}
	views := make([]intentView, 0, len(r.Intents))
	for _, i := range r.Intents {
		v := intentView{Seq: i.Seq, Undoes: i.Undoes, Kind: plainWords(string(i.Action.Kind())), What: actionWords(i.Action), Lane: i.Lane.Remote(),
			Result: resultView(i), Detail: i.Detail, Promised: i.PromisedAt, Settled: i.SettledAt, Open: i.Open(), Owed: owed[i.Seq]}
		if !i.Open() {
			v.Took = brief(i.SettledAt.Sub(i.PromisedAt))
		}
		for _, later := range r.Intents {
			if later.Undoes == i.Seq && later.Result == playbook.Happened {
				v.UndoneBy = later.Seq
			}
		}
		views = append(views, v)
	}
	return views
}

// brief writes how long a call took.
func brief(d time.Duration) string {
	switch {
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	return span(d)
}

// newTimeline puts ticks and intents in the order in which they happened, the newest first.
func newTimeline(r playbook.StoredRun, intents []intentView, shown int) []timelineEntry {
	var all []timelineEntry
	after := func(at time.Time) string { return "+" + clockSpan(at.Sub(r.StartedAt)) }
	for i, t := range r.Ticks {
		all = append(all, timelineEntry{At: t.At, After: after(t.At), Tick: &tickView{Seq: t.Seq, To: newStateView(t.To), Finding: plainWords(string(findingOf(t.Finding))),
			Why: t.Why, Moved: t.From != t.To, Missing: t.Diagnosis.Missing, Expected: t.Diagnosis.Expected, Shown: i == shown}})
	}
	for i := range intents {
		all = append(all, timelineEntry{At: intents[i].Promised, After: after(intents[i].Promised), Intent: &intents[i]})
	}
	slices.SortStableFunc(all, func(a, b timelineEntry) int { return b.At.Compare(a.At) })
	return all
}

// clockSpan writes a duration as minutes and seconds, for columns.
func clockSpan(d time.Duration) string {
	d = max(d, 0).Round(time.Second)
	if d < time.Hour {
		return fmt.Sprintf("%d:%02d", d/time.Minute, d%time.Minute/time.Second)
	}
	return fmt.Sprintf("%d:%02d:%02d", d/time.Hour, d%time.Hour/time.Minute, d%time.Minute/time.Second)
}

// chartWidth is the width of the chart of a run's time, in its own units.
const chartWidth = 1000

type chartBar struct {
	X, W  int
	Class string
	Title string
}

type chartLane struct {
	Name string
	Bars []chartBar
}

// newChart draws where the run's time went: its states, and below them what was done on each remote.
func newChart(r playbook.StoredRun, intents []intentView, now time.Time) []chartLane {
	end := endOf(r.Run, now)
	whole := end.Sub(r.StartedAt)
	if whole <= 0 {
		return nil
	}
	at := func(t time.Time) int {
		return int(min(chartWidth, max(0, chartWidth*t.Sub(r.StartedAt)/whole)))
	}
	bar := func(from, to time.Time, class, title string) chartBar {
		x := min(at(from), chartWidth-4)
		return chartBar{X: x, W: max(4, at(to)-x), Class: class, Title: title}
	}
	w := newWalk(r, now)
	states := chartLane{Name: "state"}
	since := r.StartedAt
	for i, st := range w.steps {
		if !st.Ended() {
			states.Bars = append(states.Bars, bar(since, since.Add(w.spent[i]), "s-"+string(st), plainWords(string(st))+", "+span(w.spent[i])))
		}
		since = since.Add(w.spent[i])
	}
	lanes := []chartLane{states}
	for _, remote := range []string{"carrier", "jenkins", "pagerduty"} {
		lane := chartLane{Name: remote}
		for _, i := range intents {
			if i.Lane != remote {
				continue
			}
			to := i.Settled
			if i.Open {
				to = end
			}
			lane.Bars = append(lane.Bars, bar(i.Promised, to, "i-"+i.Result.Class, i.What+": "+i.Result.Text))
		}
		if len(lane.Bars) > 0 {
			lanes = append(lanes, lane)
		}
	}
	return lanes
}
