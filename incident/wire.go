package incident

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// The shapes of the REST API's answers. They are strict: a value of an unexpected shape is an error, because an empty list of
// acknowledgements where there was an unreadable one would let us resolve over a person's head.

type wireTime struct{ time.Time }

func (t *wireTime) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil { // null leaves s empty
		return err
	}
	if s == "" {
		t.Time = time.Time{}
		return nil
	}
	at, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return err
	}
	t.Time = at.UTC()
	return nil
}

// wireNumber is a number that some senders write as a string.
type wireNumber int

func (n *wireNumber) UnmarshalJSON(b []byte) error {
	var num json.Number // takes a string too, if it holds a number
	if err := json.Unmarshal(b, &num); err != nil {
		return err
	}
	if num == "" {
		*n = 0
		return nil
	}
	i, err := strconv.Atoi(num.String())
	if err != nil {
		return fmt.Errorf("number %q: %w", num, err)
	}
	*n = wireNumber(i)
	return nil
}

type wireIncident struct {
	ID                 string     `json:"id"`
	Number             wireNumber `json:"incident_number"`
	Title              string     `json:"title"`
	Status             string     `json:"status"`
	Urgency            string     `json:"urgency"`
	URL                string     `json:"html_url"`
	Key                string     `json:"incident_key"`
	CreatedAt          wireTime   `json:"created_at"`
	ReopenedAt         wireTime   `json:"reopened_at"`
	LastStatusChangeAt wireTime   `json:"last_status_change_at"`
	LastStatusChangeBy Ref        `json:"last_status_change_by"`
	AssignedVia        string     `json:"assigned_via"`
	Service            struct {
		Ref
		Status                 string     `json:"status"`
		AcknowledgementTimeout wireNumber `json:"acknowledgement_timeout"`
	} `json:"service"`
	EscalationPolicy wirePolicy `json:"escalation_policy"`
	Assignments      []struct {
		At       wireTime `json:"at"`
		Assignee Ref      `json:"assignee"`
	} `json:"assignments"`
	Acknowledgements []struct {
		At           wireTime `json:"at"`
		Acknowledger Ref      `json:"acknowledger"`
	} `json:"acknowledgements"`
	PendingActions []struct {
		Type string   `json:"type"`
		At   wireTime `json:"at"`
	} `json:"pending_actions"`
	ResolveReason *struct {
		Type     string `json:"type"`
		Incident Ref    `json:"incident"`
	} `json:"resolve_reason"`
	AlertCounts struct {
		All wireNumber `json:"all"`
	} `json:"alert_counts"`
}

func (w wireIncident) incident() (Incident, error) {
	if !ValidID(w.ID) {
		return Incident{}, fmt.Errorf("incident id %s does not have the form of a PagerDuty id", quoteShort(w.ID))
	}
	switch w.Status {
	case StatusTriggered, StatusAcknowledged, StatusResolved:
	default:
		return Incident{}, fmt.Errorf("incident %s has the unknown status %s", w.ID, quoteShort(w.Status))
	}
	in := Incident{
		ID: w.ID, Number: int(w.Number), Title: w.Title, Status: w.Status, Urgency: w.Urgency, URL: w.URL, Key: w.Key,
		Service: Service{
			Ref: w.Service.Ref, Status: w.Service.Status,
			AcknowledgementTimeout: time.Duration(w.Service.AcknowledgementTimeout) * time.Second,
		},
		EscalationPolicy: w.EscalationPolicy.policy(),
		CreatedAt:        w.CreatedAt.Time, ReopenedAt: w.ReopenedAt.Time, LastStatusChangeAt: w.LastStatusChangeAt.Time, LastStatusChangeBy: w.LastStatusChangeBy,
		AssignedVia: w.AssignedVia, AlertCount: int(w.AlertCounts.All),
	}
	for _, a := range w.Assignments {
		in.Assignments = append(in.Assignments, Assignment{Assignee: a.Assignee, At: a.At.Time})
	}
	for _, a := range w.Acknowledgements {
		in.Acknowledgements = append(in.Acknowledgements, Acknowledgement{Acknowledger: a.Acknowledger, At: a.At.Time})
	}
	for _, p := range w.PendingActions {
		in.PendingActions = append(in.PendingActions, PendingAction{Type: p.Type, At: p.At.Time})
	}
	if w.ResolveReason != nil {
		in.ResolveReason, in.MergedInto = w.ResolveReason.Type, w.ResolveReason.Incident.ID
	}
	return in, nil
}

type wirePolicy struct {
	Ref
	Name  string `json:"name"`
	Rules []struct {
		Targets []Ref `json:"targets"`
	} `json:"escalation_rules"`
}

func (w wirePolicy) policy() EscalationPolicy {
	p := EscalationPolicy{Ref: w.Ref}
	if p.Summary == "" {
		p.Summary = w.Name
	}
	for _, rule := range w.Rules {
		p.Levels = append(p.Levels, append([]Ref{}, rule.Targets...))
	}
	return p
}

type wireAlert struct {
	ID         string   `json:"id"`
	Key        string   `json:"alert_key"`
	Summary    string   `json:"summary"`
	Status     string   `json:"status"`
	Severity   string   `json:"severity"`
	Suppressed bool     `json:"suppressed"`
	CreatedAt  wireTime `json:"created_at"`
	Body       *struct {
		Details any `json:"details"`
		CEF     *struct {
			Details any `json:"details"`
		} `json:"cef_details"`
	} `json:"body"`
}

func (w wireAlert) alert() (Alert, error) {
	if w.ID == "" {
		return Alert{}, errors.New("an alert has no id")
	}
	a := Alert{
		ID: w.ID, Key: w.Key, Summary: w.Summary, Status: w.Status, Severity: w.Severity, Suppressed: w.Suppressed,
		CreatedAt: w.CreatedAt.Time,
	}
	if w.Body != nil {
		a.Details = w.Body.Details
		if a.Details == nil && w.Body.CEF != nil {
			a.Details = w.Body.CEF.Details
		}
	}
	return a, nil
}

type wireNote struct {
	ID        string   `json:"id"`
	Content   string   `json:"content"`
	User      Ref      `json:"user"`
	CreatedAt wireTime `json:"created_at"`
}

func (w wireNote) note() Note {
	return Note{ID: w.ID, Content: w.Content, User: w.User, CreatedAt: w.CreatedAt.Time}
}

type wireLogEntry struct {
	ID        string   `json:"id"`
	Type      string   `json:"type"`
	Summary   string   `json:"summary"`
	Agent     Ref      `json:"agent"`
	CreatedAt wireTime `json:"created_at"`
	Assignees []Ref    `json:"assignees"`
}

func (w wireLogEntry) entry() (LogEntry, error) {
	if w.Type == "" {
		return LogEntry{}, fmt.Errorf("log entry %s has no type", quoteShort(w.ID))
	}
	return LogEntry{ID: w.ID, Type: w.Type, Summary: w.Summary, Agent: w.Agent, CreatedAt: w.CreatedAt.Time, Assignees: w.Assignees}, nil
}
