package api

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/drydock/drydock/playbook"
)

// Intake stores what arrives, and starts or joins a run in the same transaction.
type Intake interface {
	// Accept stores an arrival durably before it returns. A delivery or event that was stored before comes back as it was
	// recorded then, with Duplicate set.
	Accept(ctx context.Context, a playbook.Arrival) (playbook.EventRecord, error)
}

// History reads what happened. A read that took longer than the statement timeout fails with ErrHistorySlow, an
// unusable cursor with ErrBadCursor.
type History interface {
	// Events lists what came in; with carriers, only what became part of their runs.
	Events(ctx context.Context, carriers []string, limit int, cursor string) (EventPage, error)
	Runs(ctx context.Context, f playbook.RunFilter) (playbook.RunPage, error)
	// Run fails with playbook.ErrNoRun.
	Run(ctx context.Context, id string) (playbook.StoredRun, error)
	// Changes are what happened in a run after a change, as of one moment. It fails with playbook.ErrNoRun.
	Changes(ctx context.Context, run string, after int64) (playbook.RunChanges, error)
	// LastChange is the number of a run's newest change: cheap, and asked often. It fails with playbook.ErrNoRun.
	LastChange(ctx context.Context, run string) (last int64, ended bool, err error)
	RunStats(ctx context.Context, f playbook.StatsFilter) (playbook.RunStats, error)
	Audit(ctx context.Context, f AuditFilter) (AuditPage, error)
	// Spent is what is spent and held of a carrier's budgets now, and who holds its claim.
	Spent(ctx context.Context, carrier string) (Spent, error)
	// Breaker is until when a target's breaker is open, zero while it is closed, and the runs that opened it, in words.
	Breaker(ctx context.Context, t playbook.Target) (until time.Time, tries []string, err error)
}

// Spent is what is spent and held of a carrier's budgets, by playbook.Reservation.Budget, the budgets of all carriers among them.
type Spent struct {
	Used        map[string]int
	ClaimHolder string // the run; empty for none
}

// AuditFilter picks entries of the audit log. Empty fields do not filter.
type AuditFilter struct {
	Run, Carrier string
	Carriers     []string // of any of these
	Limit        int      // 1..200
	Cursor       string
}

// AuditPage is one page of the audit log, newest first. Next is empty on the last page.
type AuditPage struct {
	Entries []AuditRecord
	Next    string
}

// AuditRecord is one entry of the audit log. Before and After are nil where there was nothing; the hashes are in hex.
type AuditRecord struct {
	Seq                                    int64
	At                                     time.Time
	Who, What, Why, Run, Carrier, PlanHash string
	Before, After                          json.RawMessage
	PrevHash, Hash                         string
}

// EventPage is one page of events, newest first. Next is empty on the last page.
type EventPage struct {
	Events []playbook.EventRecord
	Next   string
}

// Orders takes people's orders about runs.
type Orders interface {
	// Retrigger starts a run; with the same Start.RunID again it returns the run that was started then. It fails with
	// ErrRunActive while a run of the target is active, and with *playbook.RefusedError when a breaker or a budget refuses.
	Retrigger(ctx context.Context, s playbook.Start) (playbook.Run, error)
	// Cancel asks a run to stop at its next safe point. It fails with playbook.ErrNoRun and ErrRunEnded.
	Cancel(ctx context.Context, runID, by, reason string) error
	// Approve approves the plan that a run waits for. It fails with playbook.ErrNoRun, ErrNotAwaitingApproval (also when the
	// run has ended), ErrPlanChanged, and ErrOwnRun when by is who asked for the run.
	Approve(ctx context.Context, runID, planHash, by string) error
	KillSwitch(ctx context.Context, carrier string) (KillSwitch, error)
	SetKillSwitch(ctx context.Context, s KillSwitch, by string) error
	// ConfirmCarrier makes this installation, with this database, the one that acts on the carrier, whichever the carrier's Lease
	// names now. It fails with ErrCarrier when the Lease can not be written, and *playbook.RefusedError in mode observe.
	ConfirmCarrier(ctx context.Context, carrier, by, reason string) error
}

// Keys remembers requests by their Idempotency-Key.
type Keys interface {
	// ClaimKey binds a client's key to a request, given by its hash, and reports whether that request was carried out before.
	// It fails with ErrKeyReused when the key is bound to another request.
	ClaimKey(ctx context.Context, client, key string, request []byte) (done bool, err error)
	// KeepKey notes that the key's request was carried out.
	KeepKey(ctx context.Context, client, key string) error
	// FreeKey takes the key from a request that asked for nothing.
	FreeKey(ctx context.Context, client, key string) error
}

// KillSwitch is the switch that stops changes, for one carrier or, with an empty Carrier, for all.
type KillSwitch struct {
	Engaged bool
	Carrier string
	Reason  string
}

// Incidents reads incidents from PagerDuty afresh.
type Incidents interface {
	// Read fails with ErrNoIncident when PagerDuty knows no such incident, and with any other error when it could not be read.
	Read(ctx context.Context, id string) (IncidentNow, error)
}

// IncidentNow is an incident as it stands, and what it is about.
type IncidentNow struct {
	Incident playbook.RunIncident
	Open     bool
	Target   playbook.Target
	// Reason says why the incident names no target that Drydock looks after; Target is empty then.
	Reason string
}

// Carriers is the registry of carriers.
type Carriers interface {
	// Names lists all carriers, sorted.
	Names() []string
	// Reach asks each carrier for its version, all at once.
	Reach(ctx context.Context) []CarrierStatus
	// Diagnose looks at a DaemonSet once, and changes nothing. A carrier that can not be read is a Diagnosis with the
	// finding unknown. It fails with ErrNoCarrier.
	Diagnose(ctx context.Context, t playbook.Target) (Diagnosis, error)
}

// CarrierStatus says whether a carrier answers.
type CarrierStatus struct {
	Name      string `json:"name"`
	Mode      string `json:"mode"`
	Reachable bool   `json:"reachable"`
	Version   string `json:"version"` // Kubernetes'; empty when it does not answer
	Why       string `json:"why"`     // why it does not answer
}

// Signatures checks a webhook's signature.
type Signatures interface {
	Verify(header http.Header, body []byte) error
}

// Part is a part of the server whose health /readyz tells.
type Part struct {
	Name  string
	Check func(ctx context.Context) error
}

// Clock tells the time; tests set it.
type Clock func() time.Time
