package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/drydock/drydock/playbook"
)

const countSQL = `SELECT number, token FROM carrier_counts WHERE carrier = $1`

// Count implements playbook.Ledger.
func (s *Store) Count(ctx context.Context, carrier string) (playbook.Count, error) {
	var c playbook.Count
	if err := scanCount(&c)(s.pool.QueryRow(ctx, countSQL, carrier)); err != nil {
		return playbook.Count{}, fmt.Errorf("read the count of changes of carrier %s: %w", carrier, err)
	}
	return c, nil
}

func scanCount(into *playbook.Count) func(pgx.Row) error {
	return func(row pgx.Row) error {
		if err := row.Scan(&into.Number, &into.Token); !errors.Is(err, pgx.ErrNoRows) {
			return err
		}
		return nil
	}
}

// raiseCount counts a commit that promises a change, when the carrier's Lease had caught up with the last one. A database that
// is behind the Lease stays behind it.
func raiseCount(ctx context.Context, tx pgx.Tx, carrier string, seen int64, token string) error {
	_, err := tx.Exec(ctx, `INSERT INTO carrier_counts AS c (carrier, number, token) VALUES ($1, 1, $3)
		ON CONFLICT (carrier) DO UPDATE SET number = c.number + 1, token = excluded.token WHERE c.number = $2`, carrier, seen, token)
	if err != nil {
		return fmt.Errorf("count the change: %w", err)
	}
	return nil
}

// ConfirmCarrier puts the database ahead of the carrier's Lease, on which that number was seen, at an admin's word, and
// returns the count that is to be written there. Open intents of the carrier are looked at again, whether or not this
// database knows that they were sent: the one that it is a copy of may have sent them.
func (s *Store) ConfirmCarrier(ctx context.Context, carrier string, seen int64) (playbook.Count, error) {
	token, err := newID()
	if err != nil {
		return playbook.Count{}, err
	}
	var c playbook.Count
	err = s.inTx(ctx, func(tx pgx.Tx) error {
		err := tx.QueryRow(ctx, `INSERT INTO carrier_counts AS c (carrier, number, token) VALUES ($1, $2 + 1, $3)
			ON CONFLICT (carrier) DO UPDATE SET number = greatest(c.number, $2) + 1, token = excluded.token
			RETURNING number, token`, carrier, seen, token).Scan(&c.Number, &c.Token)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `WITH unsent AS (
				UPDATE intents SET sent_at = clock_timestamp(), call_deadline = clock_timestamp()
				WHERE lane = $1 AND settled_at IS NULL AND sent_at IS NULL RETURNING run)
			UPDATE runs SET version = version + 1 WHERE id IN (SELECT run FROM unsent)`, playbook.CarrierLane(carrier))
		return err
	})
	if err != nil {
		return playbook.Count{}, fmt.Errorf("confirm carrier %s: %w", carrier, err)
	}
	return c, nil
}

// Panicked implements playbook.Ledger.
func (s *Store) Panicked(ctx context.Context, runID string) (int, error) {
	var n int
	err := s.pool.QueryRow(ctx, `UPDATE runs SET panics = panics + 1 WHERE id = $1 RETURNING panics`, runID).Scan(&n)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, playbook.ErrNoRun
	}
	if err != nil {
		return 0, fmt.Errorf("count the panic of run %s: %w", runID, err)
	}
	return n, nil
}
