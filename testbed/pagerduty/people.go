package pagerduty

import (
	"time"
)

// TriggerIncident is monitoring that opens an incident with one alert for each
// of details, a JSON value such as an object or a string; none means one alert
// without details. It returns the incident as it began.
func (s *Server) TriggerIncident(title, serviceID string, details ...any) (Incident, error) {
	if len(details) == 0 {
		details = []any{map[string]any{}}
	}
	i, err := s.Trigger(serviceID, Alert{Summary: title, Details: details[0]})
	if err != nil {
		return Incident{}, err
	}
	for _, d := range details[1:] {
		if _, err := s.AddAlert(i.ID, Alert{Summary: title, Details: d}); err != nil {
			return Incident{}, err
		}
	}
	return s.Incident(i.ID)
}

// Trigger is what monitoring sends through the Events API: an open alert with
// the same key absorbs it, else a new incident opens. Where the service is in
// maintenance the incident is the zero one.
func (s *Server) Trigger(serviceID string, alert Alert) (Incident, error) {
	var opened Incident
	err := s.change(func() *Error {
		svc := s.acct.service(serviceID)
		if svc == nil {
			return notFound()
		}
		if i, _ := s.acct.fire(svc, signal{Alert: alert}); i != nil {
			opened = i.snapshot()
		}
		return nil
	})
	return opened, err
}

// ClearAlert is monitoring that takes an alert back by its key.
func (s *Server) ClearAlert(serviceID, key string) error {
	return s.change(func() *Error {
		svc := s.acct.service(serviceID)
		if svc == nil {
			return notFound()
		}
		s.acct.clearAlert(svc, key)
		return nil
	})
}

// AddAlert lets a late alert join an open incident. No webhook tells of it.
func (s *Server) AddAlert(id string, alert Alert) (Alert, error) {
	err := s.onIncident(id, func(i *incident) *Error {
		if i.Status == Resolved {
			return alreadyResolved()
		}
		alert = s.acct.join(i, alert)
		return nil
	})
	return alert, err
}

// The methods below are people, in the web interface. Each takes the incident's
// id first and then the id of the user who acts; errors are *Error.

// Acknowledge takes the incident; on a resolved one it reopens.
func (s *Server) Acknowledge(id, userID string) error {
	status := Acknowledged
	return s.update(id, userID, change{Status: &status})
}

// Resolve ends the incident; a resolution text becomes a note.
func (s *Server) Resolve(id, userID, resolution string) error {
	status := Resolved
	return s.update(id, userID, change{Status: &status, Resolution: resolution})
}

// Reopen sets the incident back to triggered.
func (s *Server) Reopen(id, userID string) error {
	status := Triggered
	return s.update(id, userID, change{Status: &status})
}

// Reassign gives the incident to users.
func (s *Server) Reassign(id, userID string, to ...string) error {
	return s.update(id, userID, change{Assignees: append([]string{}, to...)})
}

// Escalate moves the incident to a level of its policy, counted from 1.
func (s *Server) Escalate(id, userID string, level int) error {
	return s.update(id, userID, change{Level: &level})
}

// Delegate moves the incident to another escalation policy.
func (s *Server) Delegate(id, userID, policyID string) error {
	return s.update(id, userID, change{PolicyID: &policyID})
}

// SetUrgency sets "high" or "low".
func (s *Server) SetUrgency(id, userID, urgency string) error {
	return s.update(id, userID, change{Urgency: &urgency})
}

// SetPriority sets "P1" to "P5" or, empty, none.
func (s *Server) SetPriority(id, userID, priority string) error {
	return s.update(id, userID, change{Priority: &priority})
}

// Retitle changes the title; no webhook tells of it.
func (s *Server) Retitle(id, userID, title string) error {
	return s.update(id, userID, change{Title: &title})
}

// Snooze keeps an acknowledged incident quiet for d.
func (s *Server) Snooze(id, userID string, d time.Duration) error {
	return s.byPerson(id, userID, func(i *incident, by act) *Error { return s.acct.snoozeFor(i, d, by) })
}

// Merge merges sources into the incident.
func (s *Server) Merge(id, userID string, sources ...string) error {
	return s.byPerson(id, userID, func(i *incident, by act) *Error {
		var list []*incident
		for _, source := range sources {
			o, err := s.acct.incident(source)
			if err != nil {
				return err
			}
			list = append(list, o)
		}
		return s.acct.merge(i, list, by)
	})
}

// AddNote writes a note.
func (s *Server) AddNote(id, userID, content string) (Note, error) {
	var n Note
	err := s.byPerson(id, userID, func(i *incident, by act) *Error {
		if err := checkNote(i, content, true); err != nil {
			return err
		}
		n = s.acct.addNote(i, content, by)
		return nil
	})
	return n, err
}

// PublishStatusUpdate writes to the incident's subscribers.
func (s *Server) PublishStatusUpdate(id, userID, message string) error {
	return s.byPerson(id, userID, func(i *incident, by act) *Error {
		s.acct.publishStatusUpdate(i, message, by)
		return nil
	})
}

// SetCustomField sets one value of the incident's custom fields.
func (s *Server) SetCustomField(id, name string, value any) error {
	return s.onIncident(id, func(i *incident) *Error {
		for n := range i.CustomFields {
			if i.CustomFields[n].Name == name {
				i.CustomFields[n].Value = value
				return nil
			}
		}
		i.CustomFields = append(i.CustomFields, CustomField{ID: newID("P", 7), Name: name, Value: value})
		return nil
	})
}

// SendEvent sends an event of any type, also one that does not exist yet, about
// an incident or, with an empty id, about none. data is its JSON object; nil is
// the incident itself. A user's id makes that user the agent; empty is null.
func (s *Server) SendEvent(id, userID, eventType string, data map[string]any) error {
	return s.change(func() *Error {
		var i *incident
		var by Agent
		var err *Error
		if id != "" {
			if i, err = s.acct.incident(id); err != nil {
				return err
			}
		}
		if userID != "" {
			if _, by, err = s.acct.actor(userID); err != nil {
				return err
			}
		}
		if i != nil && data == nil {
			data = s.acct.webhookIncident(i)
		}
		s.publish(i, happening{kind: eventType, by: by, data: data})
		return nil
	})
}

func (s *Server) update(id, userID string, c change) error {
	return s.byPerson(id, userID, func(i *incident, by act) *Error {
		if err := s.acct.check(i, c); err != nil {
			return err
		}
		s.acct.apply(i, c, by)
		return nil
	})
}

func (s *Server) byPerson(id, userID string, f func(*incident, act) *Error) error {
	return s.onIncident(id, func(i *incident) *Error {
		_, by, err := s.acct.actor(userID)
		if err != nil {
			return err
		}
		return f(i, act{by, viaWebsite})
	})
}

func (s *Server) onIncident(id string, f func(*incident) *Error) error {
	return s.change(func() *Error {
		i, err := s.acct.incident(id)
		if err != nil {
			return err
		}
		return f(i)
	})
}

// change runs f with the lock held and keeps a nil *Error from becoming a
// non-nil error.
func (s *Server) change(f func() *Error) (err error) {
	s.write(func() {
		if e := f(); e != nil {
			err = e
		}
	})
	return err
}
