package playbooktest

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/drydock/drydock/playbook"
)

// Commit writes a tick, or nothing at all.
func (l *Ledger) Commit(_ context.Context, h playbook.Hold, c playbook.Commit) (playbook.Run, error) {
	r, err := l.valid(h)
	if err != nil {
		return playbook.Run{}, err
	}
	if c.Run.Version != r.run.Version {
		return playbook.Run{}, playbook.ErrConflict
	}
	intents, granted, err := l.promise(r, h.Generation(), c.Promises)
	if err != nil {
		return playbook.Run{}, err
	}

	// From here on everything is written.
	now := l.clock.Now()
	next := stored(c.Run)
	next.Intents = append(slices.Clone(r.run.Intents), intents...)
	next.Version = r.run.Version + 1
	next.Panics = r.run.Panics
	if c.Store {
		next.Ticks = r.run.Ticks + 1
		r.ticks = append(r.ticks, c.Tick)
	}
	if next.State.Ended() && next.FinishedAt.IsZero() {
		next.FinishedAt = now
	}
	for _, p := range c.Promises {
		if p.Backup != nil {
			r.backups[p.Backup.SHA256] = slices.Clone(p.Backup.Manifest)
		}
	}
	for _, s := range granted {
		if s.Scope == playbook.ScopeClaim {
			l.claims[s.Key] = next.ID
			continue
		}
		l.spent = append(l.spent, s)
	}
	if slices.ContainsFunc(intents, playbook.Intent.IsChange) {
		if at := next.Target.Carrier; l.counts[at].Number == c.LeaseCount {
			l.counts[at] = l.draw(c.LeaseCount + 1)
		}
	}
	r.run, r.next = next, c.NextTick
	if c.Release {
		if l.claims[next.Target.Carrier] == next.ID {
			delete(l.claims, next.Target.Carrier)
		}
		l.giveBack(r)
	}
	return share(r.run), nil
}

// promise numbers the intents and grants their reservations, without writing anything.
func (l *Ledger) promise(r *ledgerRun, generation int64, promises []playbook.Promise) ([]playbook.Intent, []spending, error) {
	now := l.clock.Now()
	var intents []playbook.Intent
	var granted []spending
	asked := map[string]int{}
	for _, p := range promises {
		i := playbook.Intent{Seq: len(r.run.Intents) + len(intents) + 1, Lane: playbook.LaneOf(r.run.Target.Carrier, p.Action),
			Action: p.Action, Generation: generation, PromisedAt: now, Undoes: p.Undoes}
		if i.IsChange() {
			if why := l.killed(r.run.Target.Carrier); why != "" {
				return nil, nil, &playbook.RefusedError{Why: "kill switch: " + why}
			}
		}
		intents = append(intents, i)
		for _, want := range p.Reservations {
			if want.Scope == playbook.ScopeClaim {
				if holder := l.claims[want.Key]; holder != "" && holder != r.run.ID {
					return nil, nil, &playbook.RefusedError{Reservation: want, Holder: holder}
				}
			} else if left := want.Limit - l.used(want.Budget()) - asked[want.Budget()]; want.Amount > left {
				return nil, nil, &playbook.RefusedError{Reservation: want, Left: max(0, left)}
			}
			asked[want.Budget()] += want.Amount
			granted = append(granted, spending{Reservation: want, run: r.run.ID, seq: i.Seq, at: now})
		}
	}
	return intents, granted, nil
}

// giveBack returns what was reserved for intents that came to nothing, and what is held for those that owe nothing any
// more.
func (l *Ledger) giveBack(r *ledgerRun) {
	owing := map[int]bool{}
	for _, o := range r.run.Owed() {
		owing[o.Seq] = true
	}
	l.spent = slices.DeleteFunc(l.spent, func(s spending) bool {
		if s.run != r.run.ID {
			return false
		}
		i := r.run.Intents[s.seq-1]
		if s.Scope == playbook.ScopePromotion && !i.SentAt.IsZero() && i.Result == playbook.NotHappened {
			return false // Jenkins may start it later
		}
		return (!i.Open() && i.Result != playbook.Happened) || (s.Held() && !owing[s.seq])
	})
}

func (r *ledgerRun) intent(seq int) (*playbook.Intent, error) {
	if seq < 1 || seq > len(r.run.Intents) {
		return nil, fmt.Errorf("run %s has no intent %d", r.run.ID, seq)
	}
	return &r.run.Intents[seq-1], nil
}

// Begin notes that a call is about to be sent.
func (l *Ledger) Begin(_ context.Context, h playbook.Hold, seq int, callDeadline time.Time) error {
	r, err := l.valid(h)
	if err != nil {
		return err
	}
	i, err := r.intent(seq)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	if !i.Open() {
		return fmt.Errorf("begin intent %d of run %s: it is settled already", seq, r.run.ID)
	}
	if why := l.killed(r.run.Target.Carrier); why != "" && i.IsChange() {
		return &playbook.RefusedError{Why: "kill switch: " + why}
	}
	i.SentAt, i.CallDeadline = l.clock.Now(), callDeadline
	return nil
}

// Settle records what the remote took.
func (l *Ledger) Settle(_ context.Context, h playbook.Hold, seq int, s playbook.Settlement) (playbook.Run, error) {
	r, err := l.valid(h)
	if err != nil {
		return playbook.Run{}, err
	}
	i, err := r.intent(seq)
	if err != nil {
		return playbook.Run{}, fmt.Errorf("settle: %w", err)
	}
	if !i.Open() {
		if i.Result == s.Result {
			return share(r.run), nil
		}
		return playbook.Run{}, fmt.Errorf("settle intent %d of run %s as %s: it is settled as %s", seq, r.run.ID, s.Result, i.Result)
	}
	i.SettledAt, i.Result, i.Detail, i.Receipt = l.clock.Now(), s.Result, s.Detail, s.Receipt
	r.run.Version++
	l.giveBack(r)
	if at := r.run.Target.Carrier; r.run.State.Ended() && len(r.run.Owed()) == 0 && len(r.run.OpenIntents()) == 0 && l.claims[at] == r.run.ID {
		delete(l.claims, at)
	}
	return share(r.run), nil
}
