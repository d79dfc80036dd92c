package incident

import "time"

// An incident's states.
const (
	StatusTriggered    = "triggered"
	StatusAcknowledged = "acknowledged"
	StatusResolved     = "resolved"
)

// assignedDirectly is assigned_via of an incident that somebody gave to a user by hand: no further escalation happens.
const assignedDirectly = "direct_assignment"

// Incident is an incident as the REST API shows it. Times are UTC, and zero where PagerDuty gives none.
type Incident struct {
	ID      string
	Number  int
	Title   string
	Status  string // one of the Status constants
	Urgency string // "high" or "low"; low urgency can not be escalated to a level
	URL     string
	Key     string // incident_key; empty for Events API incidents, whose key is in the alert

	Service          Service
	EscalationPolicy EscalationPolicy

	CreatedAt          time.Time
	ReopenedAt         time.Time // zero unless it was reopened, and where the answer does not say
	LastStatusChangeAt time.Time
	LastStatusChangeBy Ref

	AssignedVia      string // "escalation_policy" or "direct_assignment"
	Assignments      []Assignment
	Acknowledgements []Acknowledgement // empty unless acknowledged
	PendingActions   []PendingAction

	ResolveReason string // "merge_resolve_reason" when merged away, else empty
	MergedInto    string // the incident that it was merged into
	AlertCount    int    // open and resolved alerts
}

// Open reports whether the incident is not resolved.
func (in Incident) Open() bool { return in.Status != StatusResolved }

// Service is the service an incident belongs to.
type Service struct {
	Ref
	Status string // "active", "warning", "critical", "maintenance", "disabled"; empty when not read

	// AcknowledgementTimeout is when an acknowledge runs out. 0: never (or not read), so that an acknowledge which nobody
	// follows up silences the page for ever.
	AcknowledgementTimeout time.Duration
}

// EscalationPolicy is a policy with its levels, lowest first.
type EscalationPolicy struct {
	Ref
	Levels [][]Ref // users and schedules by level; nil when not read
}

// Assignment is who an incident is assigned to, since when.
type Assignment struct {
	Assignee Ref
	At       time.Time
}

// Acknowledgement is who acknowledged an incident, when.
type Acknowledgement struct {
	Acknowledger Ref
	At           time.Time
}

// PendingAction is what PagerDuty will do by itself: "escalate", "unacknowledge", "resolve", "urgency_change".
type PendingAction struct {
	Type string
	At   time.Time
}

// Alert is one alert of an incident. Details are what the monitoring sent: a decoded JSON object, a text, or nil.
type Alert struct {
	ID         string
	Key        string // the dedup key
	Summary    string
	Status     string // "triggered" or "resolved"
	Severity   string
	Suppressed bool
	CreatedAt  time.Time
	Details    any
}

// LogResolved is the type of the log entry of a resolve.
const LogResolved = "resolve_log_entry"

// LogEntry is one line of an incident's history.
type LogEntry struct {
	ID        string
	Type      string // for example "acknowledge_log_entry"
	Summary   string
	Agent     Ref // who did it; zero when nobody is named
	CreatedAt time.Time
	Assignees []Ref
}

// User is a PagerDuty user.
type User struct {
	ID    string
	Name  string
	Email string
}

// EscalationLevel derives the level an incident stands at, which PagerDuty does not say: the only level of its policy that
// lists every assignee. ok is false when that can not be told, for example for schedules, whose people are not listed.
func EscalationLevel(in Incident) (level int, ok bool) {
	if in.AssignedVia == assignedDirectly || len(in.Assignments) == 0 {
		return 0, false
	}
	for i, targets := range in.EscalationPolicy.Levels {
		if !listsAll(targets, in.Assignments) {
			continue
		}
		if level != 0 {
			return 0, false
		}
		level = i + 1
	}
	return level, level != 0
}

func listsAll(targets []Ref, assigned []Assignment) bool {
	ids := map[string]bool{}
	for _, t := range targets {
		ids[t.ID] = true
	}
	for _, a := range assigned {
		if !ids[a.Assignee.ID] {
			return false
		}
	}
	return true
}
