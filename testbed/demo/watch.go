package demo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/drydock/drydock/testbed/await"
	"github.com/drydock/drydock/testbed/controlplane"
)

const (
	// watchPause lies between two looks at Drydock and the carriers.
	watchPause = 300 * time.Millisecond
	// repairPatience bounds all four repairs together. They take about a minute.
	repairPatience = 5 * time.Minute
)

// watch follows the repairs, and prints each thing once.
type watch struct {
	view     *view
	api      api
	clusters map[string]*controlplane.Cluster
	watched  []*watched

	mu     sync.Mutex
	states map[string]string // The states of the runs, by incident.
}

// watched is one alert's repair as far as it was printed.
type watched struct {
	alert    alert
	incident string
	run      run
	ticks    int
	intents  map[int]string // The results that were printed, by seq.
	shown    string         // What the newest tick's line was about.
	ready    string         // The DaemonSet's numbers as last printed.
	noted    bool           // The note was printed.
}

// finished waits until every alert's run has ended, or Drydock itself has.
func (w *watch) finished(ctx context.Context, drydock <-chan struct{}) error {
	ctx, cancel := context.WithTimeoutCause(ctx, repairPatience, fmt.Errorf("not done %v after the alerts", repairPatience))
	defer cancel()
	ticker := time.NewTicker(watchPause)
	defer ticker.Stop()
	var trouble error
	for {
		if err := w.look(ctx); err != nil {
			trouble = err // It may pass; if not, it is told at the end.
		} else {
			trouble = nil
		}
		if !slices.ContainsFunc(w.watched, func(a *watched) bool { return !a.run.ended() }) {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), trouble)
		case <-drydock:
			return errors.New("drydock serve has ended by itself")
		case <-ticker.C:
		}
	}
}

// state waits until the run of an incident is in a state.
func (w *watch) state(ctx context.Context, incident, state string) error {
	return await.Until(ctx, "state "+state, func(context.Context) error {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.states[incident] != state {
			return fmt.Errorf("the run is in state %q", w.states[incident])
		}
		return nil
	})
}

// look looks once, and prints what is new about all alerts in the order of the times.
func (w *watch) look(ctx context.Context) error {
	runs, err := w.api.runs(ctx)
	if err != nil {
		return err
	}
	var errs []error
	var lines []newsLine
	for _, a := range w.watched {
		i := slices.IndexFunc(runs, func(r run) bool { return r.about(a.incident) })
		if i < 0 || a.run.ended() {
			continue
		}
		r, err := w.api.run(ctx, runs[i].ID)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		a.run = r
		lines = append(lines, a.news(r, w.runNames())...)
		ready, err := w.readyNews(ctx, a)
		lines = append(lines, ready...)
		errs = append(errs, err)
		w.mu.Lock()
		w.states[a.incident] = r.State
		w.mu.Unlock()
	}
	slices.SortStableFunc(lines, func(a, b newsLine) int { return a.at.Compare(b.at) })
	for _, l := range lines {
		w.view.event(l.at, l.alert.carrier, l.alert.daemonset, l.state, l.text)
	}
	return errors.Join(errs...)
}

// runNames are the DaemonSets of the runs that are known, by id.
func (w *watch) runNames() map[string]string {
	names := map[string]string{}
	for _, a := range w.watched {
		if a.run.ID != "" {
			names[a.run.ID] = a.alert.daemonset
		}
	}
	return names
}

type newsLine struct {
	alert       alert
	at          time.Time
	state, text string
}

// news are the lines about a run that were not printed yet: its moves, and what
// the remotes took. names are the DaemonSets of runs by their ids.
func (a *watched) news(r run, names map[string]string) []newsLine {
	var lines []newsLine
	for ; a.ticks < len(r.Ticks); a.ticks++ {
		t := r.Ticks[a.ticks]
		// Who waits for another run's claim stays in its state and says so.
		text := t.Finding + ": " + t.Why
		_, waiting, waits := strings.Cut(t.Why, "; waiting: ")
		if waits {
			waiting, _, _ = strings.Cut(waiting, "; ") // what the runs of this carrier share is in their notes
			text = "waiting: " + waiting
		}
		seen := fmt.Sprint(t.To, t.Finding, waits)
		if seen == a.shown {
			continue
		}
		a.shown = seen
		for id, name := range names {
			text = strings.ReplaceAll(text, "run "+id, "the run of "+name)
		}
		lines = append(lines, newsLine{a.alert, t.At, t.To, text})
	}
	for _, i := range r.Intents {
		if i.Result == "" || a.intents[i.Seq] == i.Result {
			continue
		}
		a.intents[i.Seq] = i.Result
		// A run keeps one note, and writes it anew as it goes on.
		if i.Kind == "annotate" && i.Result == "happened" {
			if a.noted {
				continue
			}
			a.noted = true
		}
		lines = append(lines, newsLine{a.alert, i.SettledAt, stateAt(r, i.SettledAt), i.words()})
	}
	return lines
}

// stateAt is the state in which a run was at a time.
func stateAt(r run, at time.Time) string {
	state := r.State
	for _, t := range r.Ticks {
		if t.At.After(at) {
			break
		}
		state = t.To
	}
	return state
}

// words say what was done, for people.
func (i intent) words() string {
	object := i.Target.Name
	if i.Target.Namespace != "" && i.Target.Kind != "Promotion" {
		object = i.Target.Namespace + "/" + i.Target.Name
	}
	text := i.Kind + " " + object
	switch i.Kind {
	case "cordon":
		text = "cordoned node " + object
	case "uncordon":
		text = "uncordoned node " + object
	case "evict":
		text = "evicted pod " + object
	case "orphan_delete":
		text = "deleted DaemonSet " + object + ", its pods stay"
	case "create":
		text = "created DaemonSet " + object + " again"
	case "promote":
		text = "promoted the deployed build of " + object + " again"
	case "annotate":
		text = "began a note on incident " + object
	case "resolve":
		text = "resolved incident " + object
	case "escalate":
		text = "escalated incident " + object
	}
	if i.Result != "happened" {
		text += ": " + i.Result
	}
	return "→ " + text
}

// readyNews is a line when the DaemonSet's own numbers have changed.
func (w *watch) readyNews(ctx context.Context, a *watched) ([]newsLine, error) {
	ctx, cancel := context.WithTimeout(ctx, apiPatience)
	defer cancel()
	sets, err := w.clusters[a.alert.carrier].Client().AppsV1().DaemonSets(a.alert.namespace).
		List(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + a.alert.daemonset})
	if err != nil {
		return nil, fmt.Errorf("read DaemonSet %s: %w", a.alert.key(), err)
	}
	ready := "carrier: there is no such DaemonSet"
	for i := range sets.Items {
		f := factsOfDaemonSet(&sets.Items[i])
		ready = fmt.Sprintf("carrier: %d of %d ready", f.ready, f.desired)
	}
	if ready == a.ready {
		return nil, nil
	}
	a.ready = ready
	return []newsLine{{a.alert, time.Now(), a.run.State, ready}}, nil
}
