package playbook

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// Lane is an ordered queue of intents towards one remote: order holds within a lane, and one remote's outage blocks no
// other lane. It is "carrier/<carrier>", "jenkins/<carrier>" or "pagerduty/<incident>".
type Lane string

// CarrierLane is the lane of a carrier's API server.
func CarrierLane(carrier string) Lane { return Lane("carrier/" + carrier) }

// JenkinsLane is the lane of a carrier's promotions.
func JenkinsLane(carrier string) Lane { return Lane("jenkins/" + carrier) }

// PagerDutyLane is the lane of an incident.
func PagerDutyLane(incident string) Lane { return Lane("pagerduty/" + incident) }

// Remote is the part before the slash: "carrier", "jenkins" or "pagerduty".
func (l Lane) Remote() string {
	remote, _, _ := strings.Cut(string(l), "/")
	return remote
}

// LaneOf is the lane that an action goes through.
func LaneOf(carrier string, a Action) Lane {
	switch a := a.(type) {
	case Annotate:
		return PagerDutyLane(a.Incident)
	case Acknowledge:
		return PagerDutyLane(a.Incident)
	case Escalate:
		return PagerDutyLane(a.Incident)
	case Resolve:
		return PagerDutyLane(a.Incident)
	case Promote:
		return JenkinsLane(carrier)
	case Cordon, Uncordon, Evict, OrphanDelete, Create, Nudge, RestartControllerManager:
	}
	return CarrierLane(carrier)
}

// Result is what the remote took.
type Result string

// The four results. NotHappened is proven not to have happened; Superseded means that the world had moved on (the
// object is gone, was changed, or was already as wanted); Refused means that the remote said no.
const (
	Happened    Result = "happened"
	NotHappened Result = "not_happened"
	Superseded  Result = "superseded"
	Refused     Result = "refused"
)

// Intent is an action that was promised in the ledger before its call. It is open until it is settled.
type Intent struct {
	Seq        int // within the run, from 1
	Lane       Lane
	Action     Action
	Generation int64 // of the lease under which it was promised
	PromisedAt time.Time
	// SentAt is when a call was first begun; zero: never. CallDeadline is when the last begun call gives up by itself.
	SentAt       time.Time
	CallDeadline time.Time
	SettledAt    time.Time
	Undoes       int    // Seq of the intent that this one takes back, 0 for none
	Result       Result // empty while open
	Detail       string // what the remote said, for people
	Receipt      string // what the remote returned and a later action needs: a note's id, a promotion attempt's URL
}

// Open reports whether the intent is promised and not settled.
func (i Intent) Open() bool { return i.SettledAt.IsZero() }

// IsChange reports whether the intent changes a carrier (or asks Jenkins to) and is not an undo. Kill switch, budgets,
// breaker, unknown readings and the deadline stop changes only.
func (i Intent) IsChange() bool { return i.Undoes == 0 && IsChange(i.Action) }

// IsChange reports whether an action that undoes nothing would be a change.
func IsChange(a Action) bool {
	switch a.(type) {
	case Cordon, Evict, OrphanDelete, Nudge, RestartControllerManager, Promote, Create, Uncordon:
		return true
	case Annotate, Acknowledge, Escalate, Resolve:
	}
	return false
}

type intentJSON struct {
	Seq          int             `json:"seq"`
	Lane         Lane            `json:"lane"`
	Action       json.RawMessage `json:"action"`
	Generation   int64           `json:"generation"`
	PromisedAt   time.Time       `json:"promised_at"`
	SentAt       time.Time       `json:"sent_at,omitzero"`
	CallDeadline time.Time       `json:"call_deadline,omitzero"`
	SettledAt    time.Time       `json:"settled_at,omitzero"`
	Undoes       int             `json:"undoes,omitempty"`
	Result       Result          `json:"result,omitempty"`
	Detail       string          `json:"detail,omitempty"`
	Receipt      string          `json:"receipt,omitempty"`
}

// MarshalJSON writes the intent with its action in EncodeAction's form.
func (i Intent) MarshalJSON() ([]byte, error) {
	a, err := EncodeAction(i.Action)
	if err != nil {
		return nil, err
	}
	return json.Marshal(intentJSON{i.Seq, i.Lane, a, i.Generation, i.PromisedAt, i.SentAt, i.CallDeadline, i.SettledAt,
		i.Undoes, i.Result, i.Detail, i.Receipt})
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (i *Intent) UnmarshalJSON(b []byte) error {
	var j intentJSON
	if err := json.Unmarshal(b, &j); err != nil {
		return fmt.Errorf("decode intent: %w", err)
	}
	a, err := DecodeAction(j.Action)
	if err != nil {
		return err
	}
	*i = Intent{j.Seq, j.Lane, a, j.Generation, j.PromisedAt, j.SentAt, j.CallDeadline, j.SettledAt, j.Undoes, j.Result,
		j.Detail, j.Receipt}
	return nil
}

// Reservation goes with an intent. The ledger enforces all reservations of a commit in its one transaction, over all
// replicas, or answers which one refused.
type Reservation struct {
	Scope  Scope         `json:"scope"`
	Key    string        `json:"key"`
	Amount int           `json:"amount"`
	Limit  int           `json:"limit"`
	Window time.Duration `json:"window"` // 0: held until the run releases it (claim, cordoned nodes) or for the run's life
}

// Scope names what is being limited.
type Scope string

// The scopes. The carrier claim and the cordoned nodes are held and given back; the others are spent within a window.
const (
	ScopeClaim             Scope = "claim"              // key carrier: one mutating run per carrier
	ScopeCordonedNodes     Scope = "cordoned_nodes"     // key carrier: nodes cordoned by us at one time
	ScopeEvictionsRun      Scope = "evictions_run"      // key run
	ScopeEvictionsHour     Scope = "evictions_hour"     // key carrier, window 1 h
	ScopeEvictionsHourAll  Scope = "evictions_hour_all" // key "*", window 1 h
	ScopeReapply           Scope = "reapply"            // key target, window 6 h
	ScopePromotion         Scope = "promotion"          // key carrier/component, window 6 h
	ScopeNudge             Scope = "nudge"              // key run
	ScopeControllerRestart Scope = "controller_restart" // key carrier, window 24 h
)

// Budget is the reservation's name in LedgerFacts.Left: "scope key".
func (r Reservation) Budget() string { return string(r.Scope) + " " + r.Key }

// words names the budget for people.
func (r Reservation) words() string {
	switch r.Scope {
	case ScopeClaim:
		return "one run that changes carrier " + r.Key + " at a time"
	case ScopeCordonedNodes:
		return "nodes of carrier " + r.Key + " that are cordoned at one time"
	case ScopeEvictionsRun:
		return "evictions of this run"
	case ScopeEvictionsHour:
		return "evictions on carrier " + r.Key + " within an hour"
	case ScopeEvictionsHourAll:
		return "evictions on all carriers within an hour"
	case ScopeReapply:
		return "reapplies of " + r.Key + " within " + short(r.Window)
	case ScopePromotion:
		return "promotions of " + r.Key + " within " + short(r.Window)
	case ScopeNudge:
		return "nudges of this run"
	case ScopeControllerRestart:
		return "controller-manager restarts on carrier " + r.Key + " within " + short(r.Window)
	}
	return r.Budget()
}

// Held reports whether the reservation is given back (when the cordon is undone, when the claim is released) instead of
// being spent.
func (r Reservation) Held() bool { return r.Scope == ScopeClaim || r.Scope == ScopeCordonedNodes }
