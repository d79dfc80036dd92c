package playbook

import (
	"context"
	"time"
)

// Look says what a tick wants to read from a carrier.
type Look struct {
	Target Target
	Policy Policy
	Wants  []Want
}

// Carrier is a Kubernetes cluster, as the engine needs it. Each call has the context's deadline; adapters make no hidden
// retries of mutating calls (client-go's are switched off: kubernetes.md 1.6).
type Carrier interface {
	// Observe fills the carrier's part of the observation. It never fails: what could not be read is an unknown reading.
	// Readings that are already known in o are kept, so that a second round adds only what was newly wanted.
	Observe(ctx context.Context, look Look, o *Observation)
	// Do makes the one call of the action. An error means that the outcome is not known: the engine will Look before
	// anything else is done. A call that is known not to have happened is a Result, not an error.
	Do(ctx context.Context, call Call) (Settlement, error)
	// Touch bumps our annotation on the Node, DaemonSet or Deployment, so that a resourceVersion which a paused worker
	// still holds is stale (kubernetes.md fact 10). A controller-manager's ref is its Lease. It reports false when the object is gone or of a kind that can not be touched.
	Touch(ctx context.Context, ref Ref, run string, generation int64) (bool, error)
	// Lease reads the carrier's Lease, consistently. That there is none yet, and that a right on it is missing, are values.
	Lease(ctx context.Context) Reading[CarrierLease]
	// Hold makes the carrier's Lease name the installation with this count, by compare-and-swap, unless the Lease refuses it
	// (CarrierLease.Refusal): then nothing is written. It returns the Lease as it is then. An error means that whether it was
	// written is not known, which harms nothing: the same may be written again.
	Hold(ctx context.Context, installation string, c Count) (CarrierLease, error)
	// State reads one object afresh, to find out whether a promised call happened.
	State(ctx context.Context, ref Ref) (ObjectState, error)
}

// Call is an action on its way to a remote.
type Call struct {
	Run        string
	Seq        int
	Generation int64
	Target     Target
	Action     Action
	Manifest   Manifest // for Create
}

// ObjectState is what a fresh read of a Node, Pod, DaemonSet or controller-manager says; Classify compares it with an intent.
type ObjectState struct {
	Exists          bool
	UID             string
	ResourceVersion string
	Deleting        bool
	Unschedulable   bool
	Mark            *Mark
	NudgedByRun     string
	RestartedByRun  string // of a controller-manager that DriverDeployment restarts
	BackupSHA256    string // of the annotation-free sanitized manifest: what a Create from that backup shows
}

// Pager is PagerDuty, as the engine needs it.
type Pager interface {
	// Incident reads one incident with its alerts, log and notes. Acts before since are left out; with a zero since, those from
	// before it was triggered, or reopened last.
	Incident(ctx context.Context, id string, target Target, since time.Time) Reading[Incident]
	// DiskIncidents lists the open disk-space incidents of a carrier.
	DiskIncidents(ctx context.Context, carrier string) Reading[[]IncidentRef]
	// Do makes the one call of the action, after it has read the incident again. An incident that is already resolved, or
	// that a person took over, settles as superseded. An error means that the outcome is not known.
	Do(ctx context.Context, call Call) (Settlement, error)
	// Recover finds out whether a call whose outcome is not known happened, by its marker or by the incident's log.
	Recover(ctx context.Context, i Intent, run string) (Settlement, error)
}

// Promoter is the version source and the CI, as the engine needs them.
type Promoter interface {
	// Promotion reads the deployed version, its build and the attempts so far.
	Promotion(ctx context.Context, carrier, component string) Reading[Promotion]
	// Do asks for the promotion once. An error means that the outcome is not known; it is never sent again.
	Do(ctx context.Context, call Call) (Settlement, error)
	// Recover looks for an attempt newer than the one known before the call.
	Recover(ctx context.Context, i Intent) (Settlement, error)
}
