package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/drydock/drydock/playbook"
)

// inTx runs fn in one transaction, once. The error is a *brokenError when the connection failed.
func (s *Store) inTx(ctx context.Context, fn func(pgx.Tx) error) error {
	return s.onConn(ctx, func(conn *pgx.Conn) (committing bool, err error) {
		tx, err := conn.Begin(ctx)
		if err != nil {
			return false, err
		}
		t := &lastTx{Tx: tx}
		if err := fn(t); err != nil {
			return false, err
		}
		return true, commitWith(ctx, conn, &t.last)
	})
}

// lastTx is a transaction whose last statements go with its COMMIT: what they lock, all others wait for, and need not wait
// for a round trip besides.
type lastTx struct {
	pgx.Tx
	last pgx.Batch
}

// inTwoTrips is inTx for a transaction that first reads and then writes what follows: BEGIN is sent with the reading, COMMIT
// with the writing. Each round trip wakes two processes, which costs more than a statement does.
func (s *Store) inTwoTrips(ctx context.Context, read *pgx.Batch, write func(*pgx.Batch)) error {
	return s.onConn(ctx, func(conn *pgx.Conn) (committing bool, err error) {
		if err := conn.SendBatch(ctx, read).Close(); err != nil {
			return false, err
		}
		var writes pgx.Batch
		write(&writes)
		return true, commitWith(ctx, conn, &writes)
	})
}

// commitWith sends the last statements of a transaction and its COMMIT. Postgres answers the COMMIT of a transaction in which a
// statement has failed with ROLLBACK, and calls that no error.
func commitWith(ctx context.Context, conn *pgx.Conn, last *pgx.Batch) error {
	last.Queue("COMMIT").Exec(func(tag pgconn.CommandTag) error {
		if tag.String() != "COMMIT" {
			return pgx.ErrTxCommitRollback
		}
		return nil
	})
	return conn.SendBatch(ctx, last).Close()
}

// onConn lends fn a connection for one transaction, which is rolled back when fn fails. fn tells whether it had asked for the
// COMMIT by then: when the connection breaks, nobody knows how that ended.
func (s *Store) onConn(ctx context.Context, fn func(*pgx.Conn) (committing bool, err error)) error {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return &brokenError{err: err}
	}
	defer conn.Release()
	committing, err := fn(conn.Conn())
	switch {
	case err == nil:
		return nil
	case conn.Conn().IsClosed():
		if ctx.Err() == nil {
			s.pool.Reset() // the others are most likely dead too: find that out once, not with a failed try each
		}
		return &brokenError{err: err, committing: committing}
	case conn.Conn().PgConn().TxStatus() != 'I':
		_, _ = conn.Exec(ctx, "ROLLBACK") // where it fails, the pool closes the connection, which rolls back as well
	}
	return err
}

// Pauses between two tries of a transaction.
const (
	firstPause = 20 * time.Millisecond
	maxPause   = 500 * time.Millisecond
)

// retry runs fn in a transaction until it is known to have succeeded or been refused, or ctx has ended. So an outage of the
// database that is shorter than the lease loses nothing. fn must recognise what an earlier try of the same write, whose
// COMMIT was not answered, has done.
func (s *Store) retry(ctx context.Context, fn func(pgx.Tx) error) error {
	unknown := false // the end of an earlier try's COMMIT is not known
	for pause := firstPause; ; pause = min(2*pause, maxPause) {
		err := s.inTx(ctx, fn)
		if err == nil {
			return nil
		}
		var broken *brokenError
		if errors.As(err, &broken) {
			unknown = unknown || broken.committing
		} else {
			unknown = false // fn has looked and did not find it
		}
		if !transient(err) {
			return err
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			if unknown {
				return fmt.Errorf("whether the write was committed is not known: %w: %w", err, context.Cause(ctx))
			}
			return fmt.Errorf("%w (%w)", context.Cause(ctx), err)
		}
	}
}

// write is retry under a hold: it ends with the caller's context or the hold's, whichever is first.
func (s *Store) write(ctx context.Context, h playbook.Hold, fn func(context.Context, pgx.Tx) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(h.Context(), func() { cancel(context.Cause(h.Context())) })()
	err := s.retry(ctx, func(tx pgx.Tx) error { return fn(ctx, tx) })
	if h.Context().Err() != nil && errors.Is(err, context.Canceled) && !errors.Is(err, playbook.ErrLeaseLost) {
		// pgx tells that the context has ended, and not why.
		return fmt.Errorf("%w (%w)", context.Cause(h.Context()), err)
	}
	return err
}

// fence is what a write finds after it has locked the lease and the run.
type fence struct {
	now        time.Time // the database's clock
	held       bool      // the lease is alive and of the writer's generation
	acquiredAt time.Time
	version    int64
	writeID    string
	carrier    string
	target     string
	tickSeq    int64
	wokenAt    *time.Time
}

// lockFence is the first statement of every write of a tick. It locks the lease, so that nobody can take the target over
// before this transaction ends, then the run.
func lockFence(ctx context.Context, tx pgx.Tx, h playbook.Hold) (fence, error) {
	var f fence
	batch := &pgx.Batch{}
	batch.Queue(`SELECT generation = $2 AND run = $1 AND expires_at > clock_timestamp(), acquired_at, clock_timestamp()
		FROM leases WHERE target = (SELECT target FROM runs WHERE id = $1) FOR UPDATE`, h.RunID(), h.Generation())
	batch.Queue(`SELECT version, write_id, carrier, target, tick_seq, woken_at FROM runs WHERE id = $1 FOR NO KEY UPDATE`, h.RunID())
	results := tx.SendBatch(ctx, batch)
	defer func() { _ = results.Close() }()
	err := results.QueryRow().Scan(&f.held, &f.acquiredAt, &f.now)
	if errors.Is(err, pgx.ErrNoRows) {
		return f, playbook.ErrLeaseLost
	}
	if err != nil {
		return f, fmt.Errorf("check the lease: %w", err)
	}
	err = results.QueryRow().Scan(&f.version, &f.writeID, &f.carrier, &f.target, &f.tickSeq, &f.wokenAt)
	if errors.Is(err, pgx.ErrNoRows) {
		return f, playbook.ErrNoRun
	}
	if err != nil {
		return f, fmt.Errorf("lock the run: %w", err)
	}
	f.now = f.now.UTC()
	return f, nil
}
