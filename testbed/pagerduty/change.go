package pagerduty

import (
	"slices"
	"strings"
)

// Limits of PagerDuty.
const (
	maxBatch     = 250
	maxAlerts    = 1000
	maxNotes     = 2000
	maxNoteBytes = 65535
)

var priorities = []string{"P1", "P2", "P3", "P4", "P5"}

func priorityID(name string) string { return "PPRIOR" + name }

// change is what one PUT asks of one incident. A nil field is left alone.
type change struct {
	Status, Title, Urgency, Priority, PolicyID, ServiceID *string

	Level      *int
	Assignees  []string
	Resolution string
}

func (c change) moves() bool { return c.Level != nil || c.Assignees != nil || c.PolicyID != nil }

// check says why the change can not be made, or nil. It changes nothing, so that
// a batch is made as a whole or not at all.
func (a *account) check(i *incident, c change) *Error {
	status := i.Status
	if c.Status != nil {
		status = *c.Status
		switch status {
		case Triggered, Acknowledged:
		case Resolved:
			if i.Status == Resolved {
				return alreadyResolved()
			}
		default:
			return invalid("Status must be one of triggered, acknowledged, resolved")
		}
	}
	if c.Title != nil && strings.TrimSpace(*c.Title) == "" {
		return invalid("Title can't be blank")
	}
	urgency := i.Urgency
	if c.Urgency != nil {
		urgency = *c.Urgency
		if urgency != "high" && urgency != "low" {
			return invalid("Urgency must be high or low")
		}
	}
	if c.Priority != nil && *c.Priority != "" && !slices.Contains(priorities, *c.Priority) {
		return invalid("Priority %q does not exist", *c.Priority)
	}
	if c.ServiceID != nil && a.service(*c.ServiceID) == nil {
		return invalid("Service %q does not exist", *c.ServiceID)
	}
	if c.moves() && i.Status == Resolved && status == Resolved {
		return alreadyResolved()
	}
	if c.Assignees != nil && (c.Level != nil || c.PolicyID != nil) {
		return invalid("Assignments cannot be combined with an escalation policy or level")
	}
	for _, id := range c.Assignees {
		if a.user(id) == nil {
			return invalid("Assignee %q does not exist", id)
		}
	}
	if c.Assignees != nil && len(c.Assignees) == 0 {
		return invalid("Assignments can't be empty")
	}
	return a.checkLevel(i, c, urgency)
}

func (a *account) checkLevel(i *incident, c change, urgency string) *Error {
	policyID := i.PolicyID
	if c.PolicyID != nil {
		policyID = *c.PolicyID
	}
	p := a.policy(policyID)
	if p == nil {
		return invalid("Escalation policy %q does not exist", policyID)
	}
	if c.Level == nil {
		return nil
	}
	if urgency == "low" {
		return invalid("Low urgency incidents cannot be escalated, only reassigned")
	}
	if *c.Level < 1 || *c.Level > len(p.Levels) {
		return invalid("Escalation level must be between 1 and %d", len(p.Levels))
	}
	return nil
}

// apply makes a change that check has passed.
func (a *account) apply(i *incident, c change, by act) {
	i.UpdatedAt = a.now()
	if c.Title != nil {
		i.Title = *c.Title
	}
	if c.ServiceID != nil && *c.ServiceID != i.ServiceID {
		i.ServiceID = *c.ServiceID
		i.log(by.entry(a, "service_change", "to "+*c.ServiceID))
		a.emit(i, "incident.service_updated", by.by, nil)
	}
	if c.Priority != nil && *c.Priority != i.Priority {
		i.Priority = *c.Priority
		i.log(by.entry(a, "priority_change", "to "+*c.Priority))
		a.emit(i, "incident.priority_updated", by.by, nil)
	}
	if c.Urgency != nil && *c.Urgency != i.Urgency {
		a.setUrgency(i, *c.Urgency, by)
	}
	if i.Status == Resolved {
		// The status reopens it; only then can it move.
		a.applyStatus(i, c, by)
		a.applyMove(i, c, by)
		return
	}
	a.applyMove(i, c, by)
	a.applyStatus(i, c, by)
}

func (a *account) applyStatus(i *incident, c change, by act) {
	if c.Status == nil {
		return
	}
	switch *c.Status {
	case Acknowledged:
		a.acknowledge(i, by)
	case Triggered:
		a.trigger(i, by)
	case Resolved:
		a.resolve(i, by, c.Resolution)
	}
}

func (a *account) applyMove(i *incident, c change, by act) {
	level := 1
	if c.Level != nil {
		level = *c.Level
	}
	switch {
	case c.Assignees != nil:
		a.reassign(i, c.Assignees, by)
	case c.PolicyID != nil && *c.PolicyID != i.PolicyID:
		a.delegate(i, *c.PolicyID, level, by)
	case c.PolicyID != nil || c.Level != nil:
		a.escalateTo(i, level, by)
	}
}

// setUrgency: raising the urgency takes an acknowledgement back and starts the
// escalation; lowering it stops the escalation.
func (a *account) setUrgency(i *incident, urgency string, by act) {
	i.Urgency = urgency
	i.log(by.entry(a, "urgency_change", "to "+urgency))
	if urgency == "high" && i.Status == Acknowledged {
		a.untake(i, by, "the urgency was raised")
		return
	}
	a.armEscalation(i)
}
