package playbook

import "time"

// Start asks for a run of a target.
type Start struct {
	RunID           string // UUIDv7 made by the caller, so that an ambiguous commit can be re-read
	Target          Target
	Incident        RunIncident
	Also            []RunIncident // more incidents that the run is about from its beginning
	Trigger         Trigger
	Mode            Mode
	RequestedBy     string // a person or token, for a retrigger
	Reason          string
	RetriggeredFrom string
	Deadline        time.Duration // from the start
}

// Arrival is one webhook delivery after its signature was checked and its title read. It is stored before it is answered.
type Arrival struct {
	WebhookID  string // X-Webhook-Id: the same on every attempt of one delivery
	EventID    string
	Type       string
	IncidentID string // empty for events without one
	OccurredAt time.Time
	Payload    []byte // the raw body
	// Start is set when the event asks for a run (triggered or reopened, title matched, carrier known).
	Start *Start
	// LookUp says that the title alone does not name the target and the incident's alerts have to be read first.
	LookUp bool
	// Reason says why the event starts nothing, when Start is nil.
	Reason string
}

// EventOutcome is what became of an event.
type EventOutcome string

// The outcomes of an event, by the contract.
const (
	EventStarted  EventOutcome = "started"
	EventJoined   EventOutcome = "joined"
	EventFollowed EventOutcome = "followed"
	EventIgnored  EventOutcome = "ignored"
)

// EventRecord is one event in the history.
type EventRecord struct {
	ID         string
	Type       string
	Incident   string
	ReceivedAt time.Time
	Outcome    EventOutcome
	Reason     string
	Run        string
	// Duplicate is set in an intake's answer when this delivery or event was stored before.
	Duplicate bool
}

// RunFilter picks runs of the history. Empty fields do not filter.
type RunFilter struct {
	Carrier, DaemonSet, Namespace string
	State                         State
	Finding                       Finding
	Outcome                       Outcome
	Incident                      string
	Trigger                       Trigger
	Since, Until                  time.Time
	Carriers                      []string // of any of these
	Memory                        bool     // with what each run remembers
	Limit                         int      // 1..200
	Cursor                        string
}

// RunPage is one page of runs, newest first. Next is empty on the last page.
type RunPage struct {
	Runs []Run // without ticks; Intents are not loaded, and Memory is where the filter asks for it
	Next string
}

// StoredTick is a tick of the history.
type StoredTick struct {
	Seq int
	Tick
}

// StoredRun is a run with its ticks, oldest first.
type StoredRun struct {
	Run
	Ticks []StoredTick
}

// RunChange is one thing that happened in a run: a tick, or an intent that was promised or settled.
type RunChange struct {
	Seq    int64       // of the run's changes, in the order in which they were committed
	Tick   *StoredTick // with what the history's lists show: no observation, no policy
	Intent *Intent     // as it stood then
}

// RunChanges is what happened in a run after some change, oldest first, and the run as it stands. Last is the newest change of all.
type RunChanges struct {
	Run     Run // without intents
	Changes []RunChange
	Last    int64
}
