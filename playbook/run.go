package playbook

import (
	"time"
)

// TableVersion is the version of the state table that new runs are given. A replica that does not know a run's version
// or state leaves that run alone.
const TableVersion = 1

// State is where a run stands.
type State string

// The states of the machine, and its three ends.
const (
	Queued               State = "queued"
	Triage               State = "triage"
	WaitingForDisk       State = "waiting_for_disk"
	Redeploying          State = "redeploying"
	RestartingController State = "restarting_controller"
	Draining             State = "draining"
	Reapplying           State = "reapplying"
	Verifying            State = "verifying"
	AwaitingApproval     State = "awaiting_approval"
	Unwinding            State = "unwinding"
	StateResolved        State = "resolved"
	StateEscalated       State = "escalated"
	StateStoodDown       State = "stood_down"
)

// States lists every state in the order of the design.
func States() []State {
	return []State{Queued, Triage, WaitingForDisk, Redeploying, RestartingController, Draining, Reapplying, Verifying,
		AwaitingApproval, Unwinding, StateResolved, StateEscalated, StateStoodDown}
}

// Ended reports whether s is one of the three ends.
func (s State) Ended() bool { return s == StateResolved || s == StateEscalated || s == StateStoodDown }

// Outcome is how a run, or one incident of it, ended.
type Outcome string

// The outcomes of the contract; empty while the run goes on.
const (
	OutcomeResolved  Outcome = "resolved"
	OutcomeEscalated Outcome = "escalated"
	OutcomeStoodDown Outcome = "stood_down"
)

// State is the end state of an outcome.
func (o Outcome) State() State { return State(o) }

// Trigger is what started a run.
type Trigger string

// The triggers of the contract.
const (
	TriggerWebhook   Trigger = "webhook"
	TriggerReconcile Trigger = "reconcile"
	TriggerRetrigger Trigger = "retrigger"
)

// Run is everything that Drydock knows about one attempt to repair one target.
type Run struct {
	ID              string
	Target          Target
	Incidents       []RunIncident
	Trigger         Trigger
	RetriggeredFrom string
	RequestedBy     string // who retriggered it
	Reason          string // why, in their words
	Mode            Mode
	TableVersion    int

	State     State
	Finding   Finding
	Confirmed bool
	Why       string
	Outcome   Outcome

	StartedAt  time.Time
	FinishedAt time.Time
	Deadline   time.Time
	PlanHash   string

	// Version is the compare-and-swap counter of the row; every commit and settle raises it.
	Version int64
	// WokenAt is when something last asked for a tick at once, a webhook about one of its incidents for example: what was read
	// before is not taken for the present.
	WokenAt time.Time
	// Ticks is how many ticks were stored.
	Ticks int
	// Panics is how many ticks of the run panicked.
	Panics int

	Memory  Memory
	Intents []Intent
}

// RunIncident is an incident of a run, with its own end.
type RunIncident struct {
	ID       string    `json:"id"`
	Number   int       `json:"number"`
	Title    string    `json:"title"`
	URL      string    `json:"url"`
	JoinedAt time.Time `json:"joined_at"`
	// OpenedAt is a moment of PagerDuty's clock at which the incident had been triggered or reopened, and not been resolved again:
	// a resolve that its log shows after this means another life of the incident. Zero: not known.
	OpenedAt time.Time `json:"opened_at,omitzero"`
	End      Outcome   `json:"end,omitempty"`
}

// Memory is what the core remembers between ticks. It is stored with the run, and only Decide writes it.
type Memory struct {
	Sightings Sightings `json:"sightings,omitempty"`
	EnteredAt time.Time `json:"entered_at,omitzero"` // when the present state was entered
	LookedAt  time.Time `json:"looked_at,omitzero"`  // the previous tick's clock
	// Paused is how long the run has waited for disks, approvals and the claim: the deadline does not count it.
	Paused  time.Duration     `json:"paused,omitempty"`
	Waiting string            `json:"waiting,omitempty"` // what a waiting run waits for, in words
	Drain   *DrainMemory      `json:"drain,omitempty"`
	Reapply *ReapplyMemory    `json:"reapply,omitempty"`
	Skipped map[string]string `json:"skipped,omitempty"` // nodes that are not touched again in this run, and why
	Ending  *Ending           `json:"ending,omitempty"`  // set on entering unwinding
	// Said is what the newest note on the incidents reports, so that the same thing is said once.
	Said string `json:"said,omitempty"`
	// Adopted says what the last reapply did to the pods: the proof of adoption.
	Adopted string `json:"adopted,omitempty"`
	// Found lists the findings that were confirmed, in order, for the notes: one entry for each finding and node.
	Found []Found `json:"found,omitempty"`
	// Causes lie behind what was confirmed, by their rank. The other runs of the carrier read them (CarrierRun).
	Causes []Cause `json:"causes,omitempty"`
	// UnreadSince is since when the carrier could not be read; zero when it could.
	UnreadSince time.Time `json:"unread_since,omitzero"`
	// Approved lists the actions of the plan that a person approved (see planLine): nothing else is done in mode approve.
	Approved []string `json:"approved,omitempty"`
}

// Found is one confirmed finding.
type Found struct {
	Finding Finding `json:"finding"`
	Node    string  `json:"node,omitempty"`
	Why     string  `json:"why"`
}

// DrainMemory is the drain under way. What was evicted is not repeated here: the intents say it.
type DrainMemory struct {
	Node string `json:"node"`
	UID  string `json:"uid"`
	// Need is how many evictions were reserved with the cordon.
	Need    int       `json:"need"`
	Started time.Time `json:"started"`
	// FreeSince is when the node was first seen with room for the daemon pod.
	FreeSince time.Time `json:"free_since,omitzero"`
	Reapplied bool      `json:"reapplied,omitempty"` // a reapply was done, or found impossible
	Over      bool      `json:"over,omitempty"`      // only the uncordon is left
	Failed    string    `json:"failed,omitempty"`    // why the drain is being taken back
}

// ReapplyMemory is the reapply under way.
type ReapplyMemory struct {
	Since        time.Time `json:"since"`
	OldUID       string    `json:"old_uid,omitempty"`
	BackupSHA256 string    `json:"backup_sha256,omitempty"`
	PodUIDs      []string  `json:"pod_uids,omitempty"`
	DeleteSeq    int       `json:"delete_seq,omitempty"` // the intent that deleted; 0 until promised
	GoneAt       time.Time `json:"gone_at,omitzero"`     // when the old object was first seen gone
	Over         bool      `json:"over,omitempty"`
	Failed       string    `json:"failed,omitempty"` // why it was not done
}

// Ending is what unwinding leads to.
type Ending struct {
	Outcome Outcome `json:"outcome"`
	Why     string  `json:"why"`
	// Finding is the one that led to the ending: the next step is about it, not about a later look.
	Finding Finding `json:"finding,omitempty"`
	// Refusal names the protection that led here, when one did.
	Refusal string `json:"refusal,omitempty"`
	// Acted is the incident on which a person acted, when that is what stopped the run; the others are handed over.
	Acted string `json:"acted,omitempty"`
}

// Cause is what was the matter: the first finding that the run confirmed, or without one the finding as it stands.
func (r Run) Cause() Finding {
	if len(r.Memory.Found) > 0 {
		return r.Memory.Found[0].Finding
	}
	return r.Finding
}

// Obligation is an undo that is owed: its intent may have happened and nothing has taken it back yet.
type Obligation struct {
	Seq    int // of the intent that owes it
	Action Action
	Since  time.Time
}

// Owed lists the run's obligations, oldest first. It is derived from the intents, so it can not disagree with them:
// an intent with an undo owes it from its promise until a later intent that undoes it has happened or was superseded,
// or until it is settled as not happened, refused or superseded.
func (r Run) Owed() []Obligation {
	var owed []Obligation
	for _, i := range r.Intents {
		undo := i.Action.Undo()
		if undo == nil || i.Result == NotHappened || i.Result == Refused || i.Result == Superseded {
			continue
		}
		if !r.undone(i.Seq) {
			owed = append(owed, Obligation{Seq: i.Seq, Action: undo, Since: i.PromisedAt})
		}
	}
	return owed
}

func (r Run) undone(seq int) bool {
	for _, i := range r.Intents {
		if i.Undoes == seq && (i.Result == Happened || i.Result == Superseded) {
			return true
		}
	}
	return false
}

// OpenIntents lists what is promised and not settled, in order.
func (r Run) OpenIntents() []Intent {
	var open []Intent
	for _, i := range r.Intents {
		if i.Open() {
			open = append(open, i)
		}
	}
	return open
}
