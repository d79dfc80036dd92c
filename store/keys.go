package store

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// keyLife is how long a request is known by its Idempotency-Key. Whoever repeats one does so within minutes.
const keyLife = 7 * 24 * time.Hour

// ClaimKey binds a client's Idempotency-Key to a request, given by its hash, and reports whether that request was carried out
// before. The error is ErrKeyReused when the key is bound to another request.
func (s *Store) ClaimKey(ctx context.Context, client, key string, request []byte) (done bool, err error) {
	err = s.inTx(ctx, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `DELETE FROM idempotency_keys WHERE client = $1 AND key = $2 AND at < clock_timestamp() - $3::interval`,
			storable(client), storable(key), keyLife); err != nil {
			return err
		}
		var bound []byte
		// The update changes nothing; it is there for RETURNING, which shows no row that was only in the way.
		err := tx.QueryRow(ctx, `INSERT INTO idempotency_keys (client, key, request, at) VALUES ($1, $2, $3, clock_timestamp())
			ON CONFLICT (client, key) DO UPDATE SET at = idempotency_keys.at RETURNING request, done`,
			storable(client), storable(key), request).Scan(&bound, &done)
		if err == nil && !bytes.Equal(bound, request) {
			return ErrKeyReused
		}
		return err
	})
	if err != nil {
		return false, fmt.Errorf("claim Idempotency-Key: %w", err)
	}
	return done, nil
}

// KeepKey notes that the request which a key is bound to was carried out.
func (s *Store) KeepKey(ctx context.Context, client, key string) error {
	_, err := s.pool.Exec(ctx, `UPDATE idempotency_keys SET done = true WHERE client = $1 AND key = $2`, storable(client), storable(key))
	if err != nil {
		return fmt.Errorf("keep Idempotency-Key: %w", err)
	}
	return nil
}

// FreeKey takes a key from a request that asked for nothing, so that it can be sent again with its mistake mended.
func (s *Store) FreeKey(ctx context.Context, client, key string) error {
	_, err := s.pool.Exec(ctx, `DELETE FROM idempotency_keys WHERE client = $1 AND key = $2 AND NOT done`, storable(client), storable(key))
	if err != nil {
		return fmt.Errorf("free Idempotency-Key: %w", err)
	}
	return nil
}
