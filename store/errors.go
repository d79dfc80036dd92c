package store

import (
	"errors"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5/pgconn"
)

// Errors of the store, beside those of playbook.Ledger. They are matched with errors.Is.
var (
	// ErrNoBackup: the run has no backup with that checksum.
	ErrNoBackup = errors.New("backup does not exist")
	// ErrNotAwaitingApproval: the run does not wait for an approval.
	ErrNotAwaitingApproval = errors.New("run does not await an approval")
	// ErrPlanChanged: the run's plan is not the one that was approved.
	ErrPlanChanged = errors.New("plan has changed")
	// ErrOwnRun: who asked for the run can not approve its plan.
	ErrOwnRun = errors.New("the run was asked for by the same person")
	// ErrKeyReused: the Idempotency-Key is bound to another request.
	ErrKeyReused = errors.New("Idempotency-Key was used for another request")
	// ErrNoEvent: there is no such event.
	ErrNoEvent = errors.New("event does not exist")
	// ErrClosed: the store was closed; nothing was written.
	ErrClosed = errors.New("store is closed")
	// ErrTooSlow: a query of the history took longer than HistoryTimeout.
	ErrTooSlow = errors.New("query took too long")
)

// RunActiveError says that the target has a run already, so that no other is started.
type RunActiveError struct{ Run string }

func (e *RunActiveError) Error() string { return "target has an active run: " + e.Run }

// RunEndedError says that a run has ended, so that nothing can be asked of it any more.
type RunEndedError struct{ Run string }

func (e *RunEndedError) Error() string { return "run has ended: " + e.Run }

// BadCursorError says why a page's cursor can not be used.
type BadCursorError struct{ Why string }

func (e *BadCursorError) Error() string { return "cursor " + e.Why }

// brokenError says that the connection could not be made, or broke under a transaction.
type brokenError struct {
	err error
	// committing: it broke during the COMMIT, so nobody knows yet whether the transaction counted.
	committing bool
}

func (e *brokenError) Error() string { return "connection to the database broke: " + e.err.Error() }
func (e *brokenError) Unwrap() error { return e.err }

// sqlstate is the code of an error that Postgres reported, or empty.
func sqlstate(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code
	}
	return ""
}

// uniqueViolation reports whether a unique index refused a row, and which one.
func uniqueViolation(err error) (index string, ok bool) {
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Code == pgerrcode.UniqueViolation {
		return pg.ConstraintName, true
	}
	return "", false
}

// transient reports whether the same transaction may well succeed when it is tried again.
func transient(err error) bool {
	var broken *brokenError
	if errors.As(err, &broken) {
		return true
	}
	switch sqlstate(err) {
	case pgerrcode.SerializationFailure, pgerrcode.DeadlockDetected:
		return true
	case pgerrcode.ForeignKeyViolation: // the observation that a tick found stored was deleted with the last run that had seen it
		var pg *pgconn.PgError
		return errors.As(err, &pg) && pg.ConstraintName == "ticks_observation_fkey"
	}
	return false
}
