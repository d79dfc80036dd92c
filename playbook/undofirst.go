package playbook

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// What a run owes comes before what it wants to know. A tick's look at a whole carrier takes seconds, and on a busy machine many:
// when the replicas that took a run over were killed one after the other, each in its look, a deleted DaemonSet stayed away for
// 68 to 74 s. So a tick first puts back what it owes whatever the look would show, behind the same fences as ever: the lease, the
// carrier's Lease, the promise, and the call's own preconditions.

// firstUndo is the undo that a tick turns to before it looks, if there is one: a create whose time may have come, or the uncordon
// of a node that the run has decided to give back. Nothing is, while a call to the carrier is not settled.
func (r Run) firstUndo(now time.Time) (Obligation, bool) {
	for _, i := range r.Intents {
		if i.Open() && i.Lane.Remote() != "pagerduty" {
			return Obligation{}, false
		}
	}
	owed := r.Owed()
	for _, creates := range []bool{true, false} {
		for _, o := range owed {
			_, isCreate := o.Action.(Create)
			if isCreate == creates && r.undoNeedsNoLook(o, now) && undoDue(r.Intents, o, now) {
				return o, true
			}
		}
	}
	return Obligation{}, false
}

// undoNeedsNoLook reports whether no look could forbid an undo, or change what it waits for. That a create comes sooner than
// createBy, because the orphans are known to be such, is for the look to find out.
func (r Run) undoNeedsNoLook(o Obligation, now time.Time) bool {
	switch a := o.Action.(type) {
	case Create:
		re := r.Memory.Reapply
		waits := re != nil && !re.GoneAt.IsZero() && now.Sub(re.GoneAt) < createBy
		return (r.State == Reapplying || r.State == Unwinding) && !waits && !r.Forsaken(o, now)
	case Uncordon:
		dr := r.Memory.Drain
		return r.State == Unwinding || (r.State == Draining && dr != nil && dr.Over && dr.Node == a.Node)
	case Cordon, Evict, OrphanDelete, Nudge, RestartControllerManager, Promote, Annotate, Acknowledge, Escalate, Resolve:
	}
	return false
}

// foundGone is the run's memory once its deleted DaemonSet was seen to be gone, and whether it is to be created again by now.
func (r Run) foundGone(o Obligation, at time.Time) (m Memory, due bool) {
	m = r.Memory.clone()
	re := m.Reapply
	if re == nil {
		return m, true
	}
	re.adopt(r, o)
	if re.GoneAt.IsZero() {
		re.GoneAt = at
	}
	return m, at.Sub(re.GoneAt) >= createBy
}

// undoFirst makes the one undo that needs no look. What it can not do now is left to the look and the decision.
func (t *tick) undoFirst() error {
	ctx, cancel := context.WithTimeout(t.h.Context(), undoLimit)
	defer cancel()
	o, ok := t.run.firstUndo(t.now)
	if !ok || t.stale(ctx) {
		return nil
	}
	c := Commit{Run: t.run, NextTick: t.now.Add(t.policy.Timing.Tick), Promises: []Promise{{Action: o.Action, Undoes: o.Seq}}}
	if _, isCreate := o.Action.(Create); isCreate {
		st, err := t.carrier.State(ctx, o.Action.Target())
		if err != nil {
			t.log.Warn("deleted DaemonSet not read", "object", o.Action.Target().String(), "error", err)
			return nil
		}
		if st.Exists {
			return nil // the old one is not gone yet, or somebody has made a new one
		}
		var due bool
		if c.Run.Memory, due = t.run.foundGone(o, t.clock()); !due {
			c.Promises = nil
		}
	}
	promising, done := t.watch(t.h.Context(), Step{Name: StepPromise})
	run, err := t.e.Ledger.Commit(promising, t.h, c)
	done(string(c.Run.State), err)
	if err != nil {
		return fmt.Errorf("promise undo of run %s: %w", t.run.ID, err)
	}
	t.run = run
	t.keepCached()
	if len(c.Promises) == 0 {
		return nil
	}
	t.log.Info("undo goes before the look", "object", o.Action.Target().String(), "kind", o.Action.Kind())
	// Whatever becomes of it, this tick does not send it again.
	t.known = len(run.Intents)
	_, err = t.trySend(run.Intents[t.known-1])
	return err
}

// trySend sends an intent and reports whether it settled. An error means that the tick is over: the run is somebody else's now.
func (t *tick) trySend(i Intent) (settled bool, err error) {
	err = t.send(i)
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, ErrLeaseLost), errors.Is(err, ErrConflict), t.h.Context().Err() != nil:
		return false, err
	}
	t.closeLane(i.Lane)
	t.log.Warn("call did not settle", "seq", i.Seq, "kind", i.Action.Kind(), "object", i.Action.Target().String(), "error", err)
	return false, nil
}
