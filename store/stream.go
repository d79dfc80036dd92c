package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/drydock/drydock/playbook"
)

// LastChange is the number of the newest change of a run, and whether the run has ended: what those who follow it ask again and
// again. The error is playbook.ErrNoRun when there is no such run.
func (s *Store) LastChange(ctx context.Context, run string) (last int64, ended bool, err error) {
	var state playbook.State
	err = s.pool.QueryRow(ctx, `SELECT changes, state FROM runs WHERE id = $1`, storable(run)).Scan(&last, &state)
	if errors.Is(err, pgx.ErrNoRows) {
		err = playbook.ErrNoRun
	}
	if err != nil {
		return 0, false, fmt.Errorf("read the newest change of run %s: %w", run, err)
	}
	return last, state.Ended(), nil
}

// Changes reads what happened in a run after a change, or after -1 all that did, as of one moment. The error is playbook.ErrNoRun when there is no such
// run, or ErrTooSlow.
func (s *Store) Changes(ctx context.Context, run string, after int64) (playbook.RunChanges, error) {
	var c playbook.RunChanges
	id := storable(run)
	reads := &pgx.Batch{}
	queueRun(reads, id, &c.Run)
	reads.Queue(`SELECT changes FROM runs WHERE id = $1`, id).QueryRow(func(row pgx.Row) error { return row.Scan(&c.Last) })
	reads.Queue(`SELECT change, seq, at, from_state, to_state, finding, confirmed, why FROM ticks WHERE run = $1 AND change > $2`, id, after).
		Query(func(rows pgx.Rows) (err error) {
			c.Changes, err = pgx.CollectRows(rows, scanTickChange)
			return err
		})
	reads.Queue(`SELECT promised_change, settled_change, `+intentColumns+` FROM intents
		WHERE run = $1 AND (promised_change > $2 OR settled_change > $2)`, id, after).
		Query(func(rows pgx.Rows) error {
			intents, err := pgx.CollectRows(rows, scanIntentChanges)
			for _, i := range intents {
				c.Changes = append(c.Changes, i.after(after)...)
			}
			return err
		})
	if err := s.history(ctx, reads); err != nil {
		return playbook.RunChanges{}, fmt.Errorf("read the changes of run %s: %w", run, err)
	}
	c.Run.Intents = nil
	// What was there before changes were numbered has the number 0, and goes by its time.
	slices.SortStableFunc(c.Changes, func(a, b playbook.RunChange) int {
		return cmp.Or(cmp.Compare(a.Seq, b.Seq), timeOfChange(a).Compare(timeOfChange(b)))
	})
	return c, nil
}

func timeOfChange(c playbook.RunChange) time.Time {
	switch {
	case c.Tick != nil:
		return c.Tick.At
	case c.Intent.Open():
		return c.Intent.PromisedAt
	}
	return c.Intent.SettledAt
}

func scanTickChange(row pgx.CollectableRow) (playbook.RunChange, error) {
	c := playbook.RunChange{Tick: &playbook.StoredTick{}}
	t := c.Tick
	err := row.Scan(&c.Seq, &t.Seq, &t.At, &t.From, &t.To, &t.Finding, &t.Confirmed, &t.Why)
	t.At = t.At.UTC()
	return c, err
}

// intentChanges is an intent with the numbers of its two changes; settled is 0 while it is open.
type intentChanges struct {
	playbook.Intent
	promised, settled int64
}

func scanIntentChanges(row pgx.CollectableRow) (i intentChanges, err error) {
	i.Intent, err = scanIntent(numbered{row, []any{&i.promised, &i.settled}})
	return i, err
}

// numbered scans a row's first columns on the way.
type numbered struct {
	pgx.CollectableRow
	first []any
}

func (n numbered) Scan(into ...any) error {
	return n.CollectableRow.Scan(append(slices.Clone(n.first), into...)...)
}

// after are the changes with a higher number, each as the intent stood then.
func (i intentChanges) after(seq int64) []playbook.RunChange {
	var changes []playbook.RunChange
	if i.promised > seq {
		promise := playbook.Intent{Seq: i.Seq, Lane: i.Lane, Action: i.Action, Generation: i.Generation, PromisedAt: i.PromisedAt, Undoes: i.Undoes}
		changes = append(changes, playbook.RunChange{Seq: i.promised, Intent: &promise})
	}
	if i.settled > seq && !i.Open() {
		changes = append(changes, playbook.RunChange{Seq: i.settled, Intent: &i.Intent})
	}
	return changes
}
