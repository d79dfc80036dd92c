package pagerduty

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// The ways an act comes in, as the log's channel types.
const (
	viaAPI     = "api"
	viaWebsite = "website"
	viaEvents  = "events_api_v2"
	viaTimeout = "timeout"
	viaAuto    = "auto"
)

// defaultDelay is how long a level is tried when the policy does not say.
const defaultDelay = 30 * time.Minute

// act is one thing done to an incident: who and how.
type act struct {
	by  Agent
	via string
}

func (c act) entry(a *account, kind, detail string) LogEntry {
	return LogEntry{Type: kind + "_log_entry", At: a.now(), By: c.by, Channel: c.via, Detail: detail}
}

// open makes a new incident, assigns it by its policy and announces it.
func (a *account) open(s *Service, title string, alerts []Alert, c act, more func(*incident)) *incident {
	i := &incident{Incident: Incident{
		ID:        newID("Q", 14),
		Number:    a.nextNumber(),
		Title:     title,
		Status:    Triggered,
		Urgency:   s.Urgency,
		ServiceID: s.ID,
		PolicyID:  s.PolicyID,
		CreatedAt: a.now(),
	}}
	i.StatusChangedAt, i.StatusChangedBy = i.CreatedAt, c.by
	for _, alert := range alerts {
		a.join(i, alert)
	}
	if more != nil {
		more(i)
	}
	a.incidents = append(a.incidents, i)
	e := c.entry(a, "trigger", title)
	if len(i.Alerts) > 0 {
		e.Alert = i.Alerts[0].ID
	}
	i.log(e)
	if len(i.Assignees) == 0 {
		a.assignLevel(i, 1)
	} else {
		a.notify(i)
	}
	if s.AutoResolveTimeout > 0 {
		a.set(&i.autoResolve, s.AutoResolveTimeout, func() {
			if i.Status != Resolved {
				a.resolve(i, act{via: viaTimeout}, "")
			}
		})
	}
	a.emit(i, "incident.triggered", c.by, nil)
	return i
}

// nextNumber begins at seven digits, as the numbers of an old account are.
func (a *account) nextNumber() int {
	if n := len(a.incidents); n > 0 {
		return a.incidents[n-1].Number + 1
	}
	return a.behaviour.firstNumber()
}

// join adds an alert to an incident. No webhook tells of it.
func (a *account) join(i *incident, alert Alert) Alert {
	alert.ID = newID("Q", 14)
	alert.Status = Triggered
	alert.CreatedAt = a.now()
	if alert.Key == "" {
		alert.Key = newHex(16)
	}
	if alert.Severity == "" {
		alert.Severity = "critical"
	}
	if alert.Summary == "" {
		alert.Summary = i.Title
	}
	i.Alerts = append(i.Alerts, alert)
	i.IncidentKey = "" // An incident with alerts has no key of its own.
	return alert
}

// assignLevel gives the incident to a level of its policy and calls its users.
// The log calls this an assignment too, made by nobody.
func (a *account) assignLevel(i *incident, level int) {
	i.Level, i.AssignedVia = level, ByPolicy
	i.Assignees = nil
	if p := a.policy(i.PolicyID); p != nil && level <= len(p.Levels) {
		for _, id := range p.Levels[level-1].Users {
			i.Assignees = append(i.Assignees, Assignment{a.now(), id})
		}
	}
	a.logAssignment(i, act{via: viaAuto})
	a.notify(i)
	a.armEscalation(i)
}

func (a *account) logAssignment(i *incident, c act) {
	var ids, names []string
	for _, as := range i.Assignees {
		ids, names = append(ids, as.UserID), append(names, a.userName(as.UserID))
	}
	e := c.entry(a, "assign", "to "+strings.Join(names, ", "))
	e.Users = ids
	i.log(e)
}

func (a *account) notify(i *incident) {
	for _, as := range i.Assignees {
		e := act{via: viaAuto}.entry(a, "notify", a.userName(as.UserID))
		e.Users = []string{as.UserID}
		i.log(e)
	}
}

// armEscalation sets the timer to the next level. Only a triggered,
// high-urgency incident that its policy assigned climbs; the last level is the
// last.
func (a *account) armEscalation(i *incident) {
	i.escalate.stop()
	p := a.policy(i.PolicyID)
	if p == nil || i.Status != Triggered || i.AssignedVia != ByPolicy || i.Urgency == "low" || i.Level >= len(p.Levels) {
		return
	}
	delay := p.Levels[i.Level-1].Delay
	if delay == 0 {
		delay = defaultDelay
	}
	a.set(&i.escalate, delay, func() { a.escalateTo(i, i.Level+1, act{via: viaTimeout}) })
}

func (a *account) setStatus(i *incident, status string, c act) {
	i.Status = status
	i.StatusChangedAt, i.StatusChangedBy = a.now(), c.by
	if status != Acknowledged {
		i.Acknowledgements = nil
		i.unacknowledge.stop()
		i.snooze.stop()
	}
	if status != Triggered {
		i.escalate.stop()
	}
}

func (a *account) escalateTo(i *incident, level int, c act) {
	if i.Status == Acknowledged {
		a.setStatus(i, Triggered, c)
	}
	i.log(c.entry(a, "escalate", fmt.Sprintf("to level %d", level)))
	a.assignLevel(i, level)
	a.emit(i, "incident.escalated", c.by, nil)
}

// delegate moves the incident to another escalation policy.
func (a *account) delegate(i *incident, policyID string, level int, c act) {
	if i.Status == Acknowledged {
		a.setStatus(i, Triggered, c)
	}
	i.PolicyID = policyID
	name := policyID
	if p := a.policy(policyID); p != nil {
		name = p.Name
	}
	i.log(c.entry(a, "delegate", "to "+name))
	a.assignLevel(i, level)
	a.emit(i, "incident.delegated", c.by, nil)
}

func (a *account) reassign(i *incident, users []string, c act) {
	if i.Status == Acknowledged {
		a.setStatus(i, Triggered, c)
	}
	i.AssignedVia = Directly
	i.escalate.stop()
	i.Assignees = nil
	for _, id := range users {
		i.Assignees = append(i.Assignees, Assignment{a.now(), id})
	}
	a.logAssignment(i, c)
	a.notify(i)
	a.emit(i, "incident.reassigned", c.by, nil)
}

// acknowledge is accepted again and again: each time starts the timeout anew and
// adds the user to the owners. On a resolved incident it reopens.
func (a *account) acknowledge(i *incident, c act) {
	reopened := i.Status == Resolved
	if reopened {
		a.reopenFields(i)
	}
	a.setStatus(i, Acknowledged, c)
	if c.by.Type == "user_reference" {
		i.Acknowledgements = slices.DeleteFunc(i.Acknowledgements, func(k Assignment) bool { return k.UserID == c.by.ID })
		i.Acknowledgements = append(i.Acknowledgements, Assignment{a.now(), c.by.ID})
		if reopened {
			i.Assignees, i.AssignedVia = nil, Directly
		}
		if !i.AssignedTo(c.by.ID) {
			i.Assignees = append(i.Assignees, Assignment{a.now(), c.by.ID})
		}
	}
	a.armUnacknowledge(i)
	if reopened {
		i.log(c.entry(a, "reopen", "by an acknowledge"))
		a.emit(i, "incident.reopened", c.by, nil)
		return
	}
	i.log(c.entry(a, "acknowledge", ""))
	a.emit(i, "incident.acknowledged", c.by, nil)
}

func (a *account) armUnacknowledge(i *incident) {
	i.unacknowledge.stop()
	if s := a.service(i.ServiceID); s != nil && s.AcknowledgementTimeout > 0 {
		a.set(&i.unacknowledge, s.AcknowledgementTimeout, func() { a.untake(i, act{via: viaTimeout}, "the acknowledgement timed out") })
	}
}

// untake returns an acknowledged incident to triggered, at the level it was.
func (a *account) untake(i *incident, c act, why string) {
	a.setStatus(i, Triggered, c)
	i.log(c.entry(a, "unacknowledge", why))
	a.notify(i)
	a.armEscalation(i)
	a.emit(i, "incident.unacknowledged", c.by, nil)
}

// trigger is status "triggered" in a PUT: on a resolved incident it reopens. Its
// effect on an acknowledged one is not documented; here it takes the
// acknowledgement back.
func (a *account) trigger(i *incident, c act) {
	switch i.Status {
	case Resolved:
		a.reopenFields(i)
		a.setStatus(i, Triggered, c)
		i.log(c.entry(a, "reopen", ""))
		a.assignLevel(i, 1)
		a.emit(i, "incident.reopened", c.by, nil)
	case Acknowledged:
		a.untake(i, c, "")
	}
}

// reopenFields undoes what a resolve wrote. The alerts stay resolved: only their
// sender can trigger them again.
func (a *account) reopenFields(i *incident) {
	i.ReopenedAt, i.ResolvedAt, i.MergedInto = a.now(), time.Time{}, ""
}

// resolve ends the incident and its alerts. A resolution text becomes a note of
// its own, whose event may come before or after the resolve's.
func (a *account) resolve(i *incident, c act, resolution string) {
	note := func() {
		if resolution != "" {
			a.addNote(i, "Resolution Note: "+resolution, c)
		}
	}
	if a.behaviour.ResolutionNoteFirst {
		note()
	}
	a.setStatus(i, Resolved, c)
	i.autoResolve.stop()
	i.ResolvedAt, i.Assignees = a.now(), nil
	for n := range i.Alerts {
		if i.Alerts[n].Status != Resolved {
			i.Alerts[n].Status, i.Alerts[n].ResolvedAt = Resolved, i.ResolvedAt
		}
	}
	i.log(c.entry(a, "resolve", resolution))
	a.emit(i, "incident.resolved", c.by, nil)
	if !a.behaviour.ResolutionNoteFirst {
		note()
	}
}

func (a *account) snoozeFor(i *incident, d time.Duration, c act) *Error {
	if i.Status == Resolved {
		return alreadyResolved()
	}
	if i.Status != Acknowledged {
		return invalid("Only acknowledged incidents can be snoozed")
	}
	i.unacknowledge.stop()
	a.set(&i.snooze, d, func() { a.untake(i, act{via: viaTimeout}, "the snooze ended") })
	i.log(c.entry(a, "snooze", "for "+d.String()))
	return nil
}

// merge moves the alerts of the sources to the target and resolves the sources
// in the name of who merged.
func (a *account) merge(target *incident, sources []*incident, c act) *Error {
	if target.Status == Resolved {
		return alreadyResolved()
	}
	total := len(target.Alerts)
	for _, s := range sources {
		if s == target {
			return invalid("An incident cannot be merged into itself")
		}
		total += len(s.Alerts)
	}
	if total > maxAlerts {
		return invalid("An incident cannot have more than %d alerts", maxAlerts)
	}
	for _, s := range sources {
		moved := s.Alerts
		s.Alerts = nil
		target.Alerts = append(target.Alerts, moved...)
		s.MergedInto = target.ID
		s.log(c.entry(a, "merge", "into "+target.ID))
		if s.Status != Resolved {
			a.resolve(s, c, "")
		}
		target.log(c.entry(a, "merge", "took in "+s.ID))
	}
	return nil
}
