package playbook

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// ErrNoCordon says that a run's ledger knows of no cordon of a node, though the node bears the run's mark.
var ErrNoCordon = errors.New("run has no intent to cordon the node")

// PutBack takes a run's cordon off a node that was found to bear its mark, when the run has ended: a call that landed after
// the ledger had given it up, for example. A run that goes on is left alone. It answers ErrNoRun or ErrNoCordon when the
// ledger does not know what the mark stands for.
func (e *Engine) PutBack(ctx context.Context, runID string, found Uncordon) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = e.panicked(ctx, runID, p)
		}
	}()
	h, err := e.Ledger.Acquire(ctx, runID)
	if err != nil {
		return fmt.Errorf("acquire run %s: %w", runID, err)
	}
	defer h.Release()
	t, err := e.begin(h)
	if err != nil {
		return err
	}
	if !t.run.State.Ended() {
		return nil
	}
	seq := 0
	for _, i := range t.run.intentsOn(KindCordon, found.Node, found.UID) {
		seq = i.Seq
	}
	if seq == 0 {
		return ErrNoCordon
	}
	return t.tidy(Obligation{Seq: seq, Action: found})
}

// intentsOn lists the intents of one kind on one object, oldest first.
func (r Run) intentsOn(k Kind, name, uid string) []Intent {
	return slices.DeleteFunc(slices.Clone(r.Intents), func(i Intent) bool {
		ref := i.Action.Target()
		return i.Action.Kind() != k || ref.Name != name || ref.UID != uid
	})
}

// tidy puts right what an ended run still owes or left unsaid, and what else was found. The machine does not end a run that
// owes something; a quarantine, a restored database or a person's hand in it can.
func (t *tick) tidy(found ...Obligation) error {
	if err := t.recover(); err != nil {
		return err
	}
	owed := t.run.Owed()
	for _, o := range found {
		if !slices.ContainsFunc(owed, func(have Obligation) bool { return have.Seq == o.Seq }) {
			owed = append(owed, o)
		}
	}
	if err := t.promiseOwed(owed); err != nil {
		return err
	}
	if err := t.act(); err != nil {
		return err
	}
	return t.endQuarantined()
}

// promiseOwed promises the undo whose turn it is, a create before an uncordon, once nothing on the carrier is unsettled.
func (t *tick) promiseOwed(owed []Obligation) error {
	owed = slices.DeleteFunc(owed, func(o Obligation) bool { return !undoDue(t.run.Intents, o, t.now) })
	unsettled := slices.ContainsFunc(t.run.OpenIntents(), func(i Intent) bool { return i.Lane.Remote() != "pagerduty" })
	if len(owed) == 0 || unsettled || t.stale(t.h.Context()) {
		return nil
	}
	next := owed[0]
	for _, o := range owed {
		if _, isCreate := o.Action.(Create); isCreate {
			next = o
		}
	}
	if t.run.Forsaken(next, t.now) {
		return t.forsake(owed)
	}
	return t.promiseUndo(next)
}

func (t *tick) promiseUndo(o Obligation) error {
	run, err := t.e.Ledger.Commit(t.h.Context(), t.h, Commit{Run: t.run, Promises: []Promise{{Action: o.Action, Undoes: o.Seq}}})
	if err != nil {
		return fmt.Errorf("promise undo of ended run %s: %w", t.run.ID, err)
	}
	t.run = run
	return nil
}

// forsake leaves an old create to people, who were paged, and goes on with the uncordons. When the DaemonSet exists again,
// whoever made it, the create is superseded.
func (t *tick) forsake(owed []Obligation) error {
	for _, o := range owed {
		create, isCreate := o.Action.(Create)
		if !isCreate {
			return t.promiseUndo(o)
		}
		ctx, cancel := context.WithTimeout(t.h.Context(), callTimeout)
		st, err := t.carrier.State(ctx, create.Target())
		cancel()
		if err != nil {
			t.log.Warn("DaemonSet of a forsaken create not read", "object", create.Target().String(), "error", err)
			continue // a node may still bear the mark
		}
		if !st.Exists || st.Deleting {
			continue
		}
		if err := t.promiseUndo(o); err != nil {
			return err
		}
		open := t.run.OpenIntents()
		return t.settle(open[len(open)-1], Settlement{Result: Superseded, Detail: "the DaemonSet exists again"})
	}
	return nil
}

// carrierLease reads the carrier's Lease once per tick.
func (t *tick) carrierLease(ctx context.Context) Reading[CarrierLease] {
	if t.run.Mode != ModeObserve && !t.lease.Asked() {
		t.lease = t.carrier.Lease(ctx)
	}
	return t.lease
}

// stale reports whether the ledger is known to be behind the carrier (CarrierLease.Refusal). Then this tick neither touches,
// nor recovers, nor puts back anything there: the open intents and obligations are those of another ledger's past. A Lease
// that can not be read stops changes, not undos.
func (t *tick) stale(ctx context.Context) bool {
	l, ok := t.carrierLease(ctx).Get()
	if !ok {
		return t.run.foundStale()
	}
	kept, err := t.e.Ledger.Count(ctx, t.run.Target.Carrier)
	if err != nil {
		return true // nothing can be written now either
	}
	return l.Refusal(t.run.Target.Carrier, t.policy.Installation, kept).Name == RefusedByStale
}

// hold writes the ledger's count on the carrier's Lease, before a change is begun; it says why the change may not be made.
func (t *tick) hold() string {
	ctx, cancel := context.WithTimeout(t.h.Context(), callTimeout)
	defer cancel()
	carrier := t.run.Target.Carrier
	kept, err := t.e.Ledger.Count(ctx, carrier)
	if err != nil {
		return "not sent: " + err.Error()
	}
	l, err := t.carrier.Hold(ctx, t.policy.Installation, kept)
	if err != nil {
		return "not sent: the carrier's Lease could not be written: " + err.Error()
	}
	if no := l.Refusal(carrier, t.policy.Installation, kept); no.Refuses() {
		return "not sent: " + no.Why
	}
	return ""
}
