package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/drydock/drydock/playbook"
)

// reservation is one that a commit asks for.
type reservation struct {
	playbook.Reservation
	run    string
	intent int
}

// liveSQL picks what still counts: not given back, and its window has not passed.
const liveSQL = `released_at IS NULL AND expires_at > $3`

// reserve writes all reservations of a commit or answers *playbook.RefusedError with the first that does not fit. Each
// budget is locked first, over all replicas, in one order for everybody, so that two commits can neither both take what is
// left nor wait for each other.
func reserve(ctx context.Context, tx pgx.Tx, now time.Time, asked []reservation) error {
	if len(asked) == 0 {
		return nil
	}
	var locks []int64
	for _, r := range asked {
		locks = append(locks, lockOf("reservation", r.Budget()))
	}
	if err := lockAll(ctx, tx, locks); err != nil {
		return fmt.Errorf("lock the budgets: %w", err)
	}
	for _, r := range asked {
		var err error
		if r.Scope == playbook.ScopeClaim {
			err = claim(ctx, tx, now, r)
		} else {
			err = spend(ctx, tx, now, r)
		}
		if err != nil {
			return fmt.Errorf("reserve %s: %w", r.Budget(), err)
		}
	}
	return nil
}

// claim takes the carrier's claim, or finds that the run has it already.
func claim(ctx context.Context, tx pgx.Tx, now time.Time, r reservation) error {
	var holder string
	err := tx.QueryRow(ctx, `SELECT run FROM reservations WHERE scope = $1 AND key = $2 AND `+liveSQL, r.Scope, r.Key, now).Scan(&holder)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return insertReservation(ctx, tx, now, r)
	case err != nil:
		return err
	case holder != r.run:
		return &playbook.RefusedError{Reservation: r.Reservation, Holder: holder}
	}
	return nil
}

func spend(ctx context.Context, tx pgx.Tx, now time.Time, r reservation) error {
	var used int
	err := tx.QueryRow(ctx, `SELECT coalesce(sum(amount), 0) FROM reservations WHERE scope = $1 AND key = $2 AND `+liveSQL,
		r.Scope, r.Key, now).Scan(&used)
	if err != nil {
		return err
	}
	if used+r.Amount > r.Limit {
		return &playbook.RefusedError{Reservation: r.Reservation, Left: max(0, r.Limit-used)}
	}
	return insertReservation(ctx, tx, now, r)
}

func insertReservation(ctx context.Context, tx pgx.Tx, now time.Time, r reservation) error {
	var expires time.Time
	if r.Window > 0 && !r.Held() {
		expires = now.Add(r.Window)
	}
	_, err := tx.Exec(ctx, `INSERT INTO reservations (scope, key, run, intent, amount, held, at, expires_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, coalesce($8, 'infinity'::timestamptz))`, r.Scope, r.Key, r.run, r.intent, r.Amount, r.Held(), now, orNull(expires))
	return err
}

// releaseHeld gives back what the run holds and nothing owes any more. The claim goes only when it is asked for, or the run
// has ended with nothing owed and nothing unsettled: a claim that nobody gives back would stop its carrier for ever.
func releaseHeld(ctx context.Context, tx pgx.Tx, now time.Time, run string, claimToo bool) error {
	_, err := tx.Exec(ctx, `UPDATE reservations r SET released_at = $2 WHERE run = $1 AND held AND released_at IS NULL AND CASE
		WHEN scope = $3 THEN $4 OR (
			NOT EXISTS (SELECT FROM obligations o WHERE o.run = r.run AND o.discharged_at IS NULL)
			AND NOT EXISTS (SELECT FROM intents i WHERE i.run = r.run AND i.settled_at IS NULL))
		ELSE NOT EXISTS (SELECT FROM obligations o WHERE o.run = r.run AND o.seq = r.intent AND o.discharged_at IS NULL) END`,
		run, now, playbook.ScopeClaim, claimToo)
	if err != nil {
		return fmt.Errorf("release the reservations: %w", err)
	}
	return nil
}

// releaseHeldOfEnded is releaseHeld for a run that has ended: its last undo may be settled later, by the janitor.
func releaseHeldOfEnded(ctx context.Context, tx pgx.Tx, now time.Time, run string) error {
	var state playbook.State
	if err := tx.QueryRow(ctx, `SELECT state FROM runs WHERE id = $1`, run).Scan(&state); err != nil {
		return err
	}
	if !state.Ended() {
		return nil
	}
	return releaseHeld(ctx, tx, now, run, false)
}

// lockOf is the number of an advisory lock. Two names that share one only wait for each other more than they must.
func lockOf(kind, name string) int64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(kind + "\x00" + name)) // never fails
	return int64(h.Sum64())
}

// lockAll takes advisory locks until the transaction's end, in ascending order, so that two transactions can not each wait
// for the other.
func lockAll(ctx context.Context, tx pgx.Tx, locks []int64) error {
	_, err := tx.Exec(ctx, lockAllSQL, sorted(locks))
	return err
}

const lockAllSQL = `SELECT pg_advisory_xact_lock(k) FROM unnest($1::bigint[]) AS k`

func sorted[T cmp.Ordered](list []T) []T {
	slices.Sort(list)
	return slices.Compact(list)
}
