package playbook

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Errors of a Ledger. They are matched with errors.Is.
var (
	// ErrBusy: another replica holds the lease of the run's target.
	ErrBusy = errors.New("target is leased by another replica")
	// ErrNoRun: there is no such run.
	ErrNoRun = errors.New("run does not exist")
	// ErrLeaseLost: the lease ran out or was taken over; nothing was written.
	ErrLeaseLost = errors.New("lease was lost")
	// ErrConflict: the run was changed since it was loaded; nothing was written.
	ErrConflict = errors.New("run was changed meanwhile")
	// ErrForeignTable: the run was made by a version whose states this one does not know.
	ErrForeignTable = errors.New("run belongs to another table version")
)

// RefusedError says which reservation of a commit was refused. Nothing of the commit was written.
type RefusedError struct {
	Reservation Reservation
	Left        int    // what is left of the budget
	Holder      string // the run that holds the claim, for ScopeClaim
	Why         string // kill switch, breaker, ...: set when it was not a reservation that refused
}

func (e *RefusedError) Error() string {
	if e.Why != "" {
		return "commit refused: " + e.Why
	}
	if e.Holder != "" {
		return fmt.Sprintf("reservation %s refused: held by run %s", e.Reservation.Budget(), e.Holder)
	}
	return fmt.Sprintf("reservation %s refused: %d asked for, %d left of %d", e.Reservation.Budget(), e.Reservation.Amount,
		e.Left, e.Reservation.Limit)
}

// Hold is a lease on a run's target, with the generation that fences its writes. It is renewed in the background while it
// is held.
type Hold interface {
	// Context is derived from the one given to Acquire and ends when the lease is lost, by the database's word or by the
	// local monotonic deadline. Every remote call of the tick is made under it.
	Context() context.Context
	RunID() string
	Generation() int64
	// Release gives the lease back; it is safe to call twice.
	Release()
}

// Ledger is the durable truth: runs, ticks, intents, obligations, reservations.
//
// Every write is one transaction that checks the hold's lease and generation first, and compares and swaps the run's
// version. An ambiguous COMMIT is re-read by ids that the caller made.
type Ledger interface {
	// Acquire takes the lease of the run's target. ErrBusy when another holder is alive; ErrNoRun.
	Acquire(ctx context.Context, runID string) (Hold, error)
	// Load reads the run with all its intents, and the ledger's clock.
	Load(ctx context.Context, h Hold) (Run, time.Time, error)
	// Facts reads what Decide must respect beyond the run itself.
	Facts(ctx context.Context, h Hold, r Run) (LedgerFacts, error)
	// Commit writes a tick: the run as it becomes, its promises with their reservations, obligations and backups, and the
	// time of the next tick. It returns the run as stored, with the new intents numbered. It answers *RefusedError when
	// a reservation does not fit (or a change is promised while the kill switch is engaged), ErrConflict or ErrLeaseLost.
	Commit(ctx context.Context, h Hold, c Commit) (Run, error)
	// Begin notes that the call of an intent is about to be sent and when it gives up by itself. It is the last check
	// before a change: ErrLeaseLost, or *RefusedError when the kill switch was engaged since the promise.
	Begin(ctx context.Context, h Hold, seq int, callDeadline time.Time) error
	// Settle records what the remote took. The reservations of an intent that was settled as not happened, refused or
	// superseded are given back, but for the claim, and for a promotion that was sent and not seen: the CI may start it later. It discharges the obligation that the intent undoes, or its own when it did
	// not happen. Settling a settled intent again with the same result is a no-op.
	Settle(ctx context.Context, h Hold, seq int, s Settlement) (Run, error)
	// Count is what the ledger has promised on a carrier.
	Count(ctx context.Context, carrier string) (Count, error)
	// Panicked counts a tick that panicked, over all replicas and restarts, and returns how many have. It needs no hold: that
	// it happened is a fact, whoever holds the run by now.
	Panicked(ctx context.Context, runID string) (int, error)
	// Backup returns the manifest that was committed with an orphan delete of this run.
	Backup(ctx context.Context, runID, sha256 string) (Manifest, error)
}

// Settlement is the end of an intent.
type Settlement struct {
	Result  Result
	Detail  string
	Receipt string
}

// Commit is one tick's write.
type Commit struct {
	// Run as it becomes: State, Finding, Why, Memory, Deadline, Outcome, Incidents' ends are set; Intents are as loaded.
	Run      Run
	Promises []Promise
	Tick     Tick
	// Store says whether the tick is worth a history row (something changed); the next tick is scheduled either way.
	Store    bool
	NextTick time.Time // zero when the run has ended
	// LeaseCount is the number on the carrier's Lease as the tick saw it. A commit that promises a change raises the ledger's
	// own number, with a new token, when the two are equal: it is never more than one ahead, and never catches up by itself.
	LeaseCount int64
	Release    bool // give the claim (and held reservations that nothing owes any more) back
}

// Tick is one row of the history. It holds enough to decide again.
type Tick struct {
	At          time.Time
	From, To    State
	Finding     Finding
	Confirmed   bool
	Why         string
	Policy      Policy
	PolicyHash  string
	Before      Before // the run as it was before the tick
	Observation Observation
	Diagnosis   Diagnosis
	Plan        []Action
}
