// Package filespace is the worked example of docs/adding-a-playbook.md: a second playbook on Drydock's core, invented for that page.
//
// An alert says that filesystems of a carrier run full. The playbook looks which nodes are under disk pressure, keeps one note on the
// incident up to date, and ends when the pressure has been gone for a while, when the incident is over, or at the run's deadline. It
// changes nothing and resolves nothing: it is read-only, as a first version of any playbook should be.
//
// It is no part of the product. It uses of the core what is general (ledger, leases, intents, readings, ports), and has of its own what
// is not: Decide and the order of a tick.
package filespace

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/drydock/drydock/playbook"
)

const (
	// every is how soon a run looks again; soak is how long every node must be well before the run ends.
	every = 30 * time.Second
	soak  = 2 * time.Minute
	// callTime bounds one call to PagerDuty.
	callTime = 10 * time.Second
)

// Look is all that a tick reads. A reading that failed is unknown, and never "no pressure".
type Look struct {
	Nodes    playbook.Reading[[]playbook.Node]
	Incident playbook.Reading[playbook.Incident]
}

// Decision is what follows from a look.
type Decision struct {
	State playbook.State
	Why   string
	// Note is what is to be said and has not been said yet; empty: nothing.
	Note string
	// End is set when the run is over: never before its last note was taken.
	End playbook.Outcome
}

// Decide is total and pure: the same run and look at the same time give the same decision.
func Decide(run playbook.Run, look Look, now time.Time) Decision {
	if in, ok := look.Incident.Get(); ok && (in.Gone || in.Status == playbook.Resolved) {
		return Decision{State: playbook.StateStoodDown, Why: "the incident is over", End: playbook.OutcomeStoodDown}
	}
	nodes, known := look.Nodes.Get()
	full := pressed(nodes)
	switch {
	case now.After(run.Deadline):
		return finally(run, "the deadline has passed: a person must look at the disks of this carrier")
	case !known:
		return Decision{State: playbook.Triage, Why: "the nodes could not be read: " + look.Nodes.Why()}
	case len(full) > 0:
		d := Decision{State: playbook.WaitingForDisk, Why: "disk pressure on " + strings.Join(full, ", ")}
		return saying(run, d)
	case run.State != playbook.Verifying:
		return Decision{State: playbook.Verifying, Why: "no node is under disk pressure any more"}
	case now.Sub(run.Memory.EnteredAt) < soak:
		return Decision{State: playbook.Verifying, Why: run.Why}
	}
	return finally(run, "no node has been under disk pressure for "+soak.String())
}

func pressed(nodes []playbook.Node) []string {
	var names []string
	for _, n := range nodes {
		if n.DiskPressure && !n.Leaving {
			names = append(names, n.Name)
		}
	}
	slices.Sort(names)
	return names
}

// saying adds the note, unless the newest one says the same already, or one is still on its way.
func saying(run playbook.Run, d Decision) Decision {
	if run.Memory.Said != d.Why && len(run.OpenIntents()) == 0 {
		d.Note = d.Why
	}
	return d
}

// finally says something, and ends the run when that has been taken.
func finally(run playbook.Run, why string) Decision {
	d := saying(run, Decision{State: run.State, Why: why})
	if run.Memory.Said == why && len(run.OpenIntents()) == 0 {
		d.State, d.End = playbook.StateStoodDown, playbook.OutcomeStoodDown
	}
	return d
}

// Engine makes ticks. It has no state: any replica may make the next one.
type Engine struct {
	Ledger  playbook.Ledger
	Carrier func(name string) (playbook.Carrier, error)
	Pager   playbook.Pager
}

// Advance makes one tick: recover, look, decide, promise, act. It fails as playbook.Engine.Advance does.
func (e Engine) Advance(ctx context.Context, runID string) error {
	h, err := e.Ledger.Acquire(ctx, runID)
	if err != nil {
		return err
	}
	defer h.Release()
	run, now, err := e.Ledger.Load(h.Context(), h)
	if err != nil || run.State.Ended() {
		return err
	}
	if run, err = e.recover(h, run, now); err != nil {
		return err
	}
	look := e.look(h.Context(), run)
	d := Decide(run, look, now)
	if run, err = e.Ledger.Commit(h.Context(), h, commit(run, look, d, now)); err != nil {
		return err
	}
	for _, i := range run.OpenIntents() {
		if i.SentAt.IsZero() {
			if err := e.send(h, run, i, now); err != nil {
				return err
			}
		}
	}
	return nil
}

func (e Engine) look(ctx context.Context, run playbook.Run) Look {
	look := Look{Incident: e.Pager.Incident(ctx, run.Incidents[0].ID, run.Target, time.Time{})}
	carrier, err := e.Carrier(run.Target.Carrier)
	if err != nil {
		look.Nodes = playbook.Unknown[[]playbook.Node](err.Error())
		return look
	}
	var o playbook.Observation
	carrier.Observe(ctx, playbook.Look{Target: run.Target}, &o)
	look.Nodes = o.Nodes
	return look
}

// commit is the tick's one write: the run as it becomes, and the note that is promised.
func commit(run playbook.Run, look Look, d Decision, now time.Time) playbook.Commit {
	c := playbook.Commit{Run: run, NextTick: now.Add(every)}
	if d.State != run.State {
		c.Run.Memory.EnteredAt = now
	}
	c.Run.State, c.Run.Why, c.Run.Finding = d.State, d.Why, playbook.FindingDisk
	if d.Note != "" {
		c.Run.Memory.Said = d.Note
		in := run.Incidents[0]
		marker := fmt.Sprintf("[drydock %s #%d]", run.ID, len(run.Intents)+1)
		c.Promises = []playbook.Promise{{Action: playbook.Annotate{Incident: in.ID, Note: lastNote(run), Marker: marker, Text: d.Note + "\n" + marker}}}
	}
	if d.End != "" {
		c.Run.Outcome, c.Run.FinishedAt, c.NextTick = d.End, now, time.Time{}
		c.Run.Incidents = slices.Clone(run.Incidents)
		c.Run.Incidents[0].End = d.End
	}
	c.Store = run.Ticks == 0 || c.Run.State != run.State || c.Run.Why != run.Why || d.Note != ""
	c.Tick = playbook.Tick{At: now, From: run.State, To: d.State, Finding: playbook.FindingDisk, Why: d.Why,
		Observation: playbook.Observation{At: now, Target: run.Target, Nodes: look.Nodes}}
	return c
}

// lastNote is the note that is rewritten, so that there is one.
func lastNote(run playbook.Run) string {
	for _, i := range slices.Backward(run.Intents) {
		if i.Result == playbook.Happened {
			return i.Receipt
		}
	}
	return ""
}

// recover finds out what became of a note whose call an earlier tick began and did not settle. It is sent again only when it is
// proven not to be there.
func (e Engine) recover(h playbook.Hold, run playbook.Run, now time.Time) (playbook.Run, error) {
	for _, i := range run.OpenIntents() {
		if i.SentAt.IsZero() || now.Before(i.CallDeadline) {
			continue // never sent, which Advance does; or its call may still be on its way
		}
		ctx, cancel := context.WithTimeout(h.Context(), callTime)
		s, err := e.Pager.Recover(ctx, i, run.ID)
		cancel()
		switch {
		case err != nil:
			continue // not known yet
		case s.Result == playbook.NotHappened:
			if err := e.send(h, run, i, now); err != nil {
				return run, err
			}
		default:
			if _, err := e.Ledger.Settle(h.Context(), h, i.Seq, s); err != nil {
				return run, err
			}
		}
		var err2 error
		if run, _, err2 = e.Ledger.Load(h.Context(), h); err2 != nil {
			return run, err2
		}
	}
	return run, nil
}

// send makes an intent's one call. An error of PagerDuty leaves it open: the next tick recovers it.
func (e Engine) send(h playbook.Hold, run playbook.Run, i playbook.Intent, now time.Time) error {
	if err := e.Ledger.Begin(h.Context(), h, i.Seq, now.Add(callTime)); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(h.Context(), callTime)
	defer cancel()
	s, err := e.Pager.Do(ctx, playbook.Call{Run: run.ID, Seq: i.Seq, Generation: h.Generation(), Target: run.Target, Action: i.Action})
	if err != nil {
		return nil // what became of the call is not known, and is found out by recover
	}
	_, err = e.Ledger.Settle(h.Context(), h, i.Seq, s)
	return err
}
