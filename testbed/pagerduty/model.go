package pagerduty

import (
	"slices"
	"time"
)

// The states of an incident. An alert is only ever triggered or resolved.
const (
	Triggered    = "triggered"
	Acknowledged = "acknowledged"
	Resolved     = "resolved"
)

// How the assignees of an incident came to it. Only an incident that was
// assigned by its policy escalates further.
const (
	ByPolicy = "escalation_policy"
	Directly = "direct_assignment"
)

// User is a person, or a bot that has a user of its own.
type User struct {
	ID, Name, Email string
	Bot             bool // Only the timeline shows the difference.
}

// Level is one step of an escalation policy.
type Level struct {
	Users []string // Ids.
	// Delay is how long an incident waits here before it goes to the next
	// level; 0 means 30 minutes.
	Delay time.Duration
}

// EscalationPolicy says who is called, in which order.
type EscalationPolicy struct {
	ID, Name string
	Levels   []Level
}

// Service is what incidents belong to.
type Service struct {
	ID, Name string
	// PolicyID names the escalation policy of new incidents.
	PolicyID string
	// Urgency of new incidents: "high" (also when empty) or "low".
	Urgency string
	// Status is "active" (also when empty), "maintenance" or "disabled"; in the
	// last two nothing opens an incident.
	Status string
	TeamID string
	// RoutingKey lets the Events API reach the service; made when empty.
	RoutingKey string
	// AcknowledgementTimeout and AutoResolveTimeout are off when 0.
	AcknowledgementTimeout, AutoResolveTimeout time.Duration
}

// Agent is who did something. The zero Agent is PagerDuty itself and appears as
// null.
type Agent struct {
	Type    string // "user_reference" or "inbound_integration_reference".
	ID      string
	Summary string
}

// Assignment is a user on an incident, as assignee or as acknowledger.
type Assignment struct {
	At     time.Time
	UserID string
}

// Alert is one signal of monitoring. Details is what the sender put into
// custom_details: any JSON value, usually an object or a string.
type Alert struct {
	ID, Key, Summary string
	Severity         string
	Status           string
	Suppressed       bool
	CreatedAt        time.Time
	ResolvedAt       time.Time
	Details          any
}

// Note is a comment on an incident.
type Note struct {
	ID, Content string
	UserID      string
	CreatedAt   time.Time
}

// StatusUpdate is a message to an incident's subscribers.
type StatusUpdate struct {
	ID, Message string
	UserID      string
	CreatedAt   time.Time
}

// LogEntry is one line of an incident's history.
type LogEntry struct {
	ID   string
	Type string // "acknowledge_log_entry" and so on.
	At   time.Time
	By   Agent
	// Channel is the way it came: "api", "website", "events_api_v2", "timeout",
	// "auto" or "note".
	Channel string
	// Detail is the note's text, the new level, the assignees, in words.
	Detail string
	Users  []string // Who was assigned or notified.
	Alert  string   // The alert's id, of the entry that triggered.
}

// CustomField is one value of an incident's custom fields.
type CustomField struct {
	ID, Name string
	Value    any
}

// Client is the monitoring tool that an event named.
type Client struct{ Name, URL string }

// Incident is a snapshot: changing it changes nothing in the account.
type Incident struct {
	ID          string
	Number      int
	Title       string
	Status      string
	Urgency     string
	IncidentKey string // Empty means null, as on every incident that has alerts.
	ServiceID   string
	PolicyID    string
	Level       int // From 1.
	AssignedVia string
	Priority    string // "P1" to "P5" or empty.
	// Assignees is empty once resolved, Acknowledgements unless acknowledged.
	Assignees        []Assignment
	Acknowledgements []Assignment
	CreatedAt        time.Time
	UpdatedAt        time.Time
	ReopenedAt       time.Time
	ResolvedAt       time.Time
	StatusChangedAt  time.Time
	StatusChangedBy  Agent
	MergedInto       string
	Client           Client
	Alerts           []Alert
	Notes            []Note
	StatusUpdates    []StatusUpdate
	CustomFields     []CustomField
	Log              []LogEntry
	// When the timers will act; zero when they are off.
	EscalatesAt, UnacknowledgesAt, ResolvesAt time.Time
}

func (i *Incident) clone() Incident {
	c := *i
	c.Assignees = slices.Clone(i.Assignees)
	c.Acknowledgements = slices.Clone(i.Acknowledgements)
	c.Alerts = slices.Clone(i.Alerts)
	c.Notes = slices.Clone(i.Notes)
	c.StatusUpdates = slices.Clone(i.StatusUpdates)
	c.CustomFields = slices.Clone(i.CustomFields)
	c.Log = slices.Clone(i.Log)
	for n := range c.Log {
		c.Log[n].Users = slices.Clone(c.Log[n].Users)
	}
	return c
}

// AssignedTo reports whether the user is among the assignees.
func (i *Incident) AssignedTo(userID string) bool {
	return slices.ContainsFunc(i.Assignees, func(a Assignment) bool { return a.UserID == userID })
}

func (i *Incident) openAlerts() int {
	n := 0
	for _, a := range i.Alerts {
		if a.Status != Resolved {
			n++
		}
	}
	return n
}

func (i *Incident) log(e LogEntry) {
	e.ID = newID("R", 25)
	i.Log = append(i.Log, e)
}
