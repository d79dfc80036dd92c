package pagerduty

import (
	"cmp"
	"slices"
)

// AddKey makes an API key valid; an empty token is made. It returns the token.
func (s *Server) AddKey(k Key) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	k.Token = cmp.Or(k.Token, newID("u+", 20))
	s.keys[k.Token] = &k
	return k.Token
}

// RevokeKey makes a key unknown again.
func (s *Server) RevokeKey(token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.keys, token)
}

// AddUser adds a user; an empty id is made.
func (s *Server) AddUser(u User) User {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.acct.addUser(u)
}

// AddPolicy adds an escalation policy; an empty id is made. It must have a level
// and its users must exist.
func (s *Server) AddPolicy(p EscalationPolicy) (EscalationPolicy, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.acct.addPolicy(p)
}

// AddService adds a service; an empty id and routing key are made. Its policy
// must exist.
func (s *Server) AddService(svc Service) (Service, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.acct.addService(svc)
}

// SetServiceStatus sets "active", "maintenance" or "disabled".
func (s *Server) SetServiceStatus(id, status string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	svc := s.acct.service(id)
	if svc == nil {
		return notFound()
	}
	svc.Status = status
	return nil
}

// Subscribe adds a webhook subscription without the API's detour, with the
// secret that the caller chose, and returns it complete.
func (s *Server) Subscribe(sub Subscription) (Subscription, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(sub.Events) == 0 {
		sub.Events = EventTypes()
	}
	added, err := s.subscribe(sub)
	if err != nil {
		return Subscription{}, err
	}
	return added.Subscription, nil
}

// Subscription returns a subscription as it is now.
func (s *Server) Subscription(id string) (Subscription, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sub, err := s.subscription(id)
	if err != nil {
		return Subscription{}, err
	}
	return sub.Subscription, nil
}

// SetSecondSecret makes a subscription sign with a second secret too; empty ends
// that.
func (s *Server) SetSecondSecret(id, secret string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	sub, err := s.subscription(id)
	if err != nil {
		return err
	}
	sub.SecondSecret = secret
	return nil
}

// Requests returns every request that reached the APIs, in order, those that a
// fault then hit included.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

// Events returns every event of the account in order, whether or not it was
// sent to anybody.
func (s *Server) Events() []Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.events)
}

// ChangeEvents returns what /v2/change/enqueue took.
func (s *Server) ChangeEvents() []ChangeEvent {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.acct.changes)
}

// Incident returns a snapshot by id or number.
func (s *Server) Incident(id string) (Incident, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, err := s.acct.incident(id)
	if err != nil {
		return Incident{}, err
	}
	return i.snapshot(), nil
}

// Incidents returns snapshots of all incidents by number.
func (s *Server) Incidents() []Incident {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []Incident
	for _, i := range s.acct.incidents {
		list = append(list, i.snapshot())
	}
	return list
}

func (i *incident) snapshot() Incident {
	c := i.clone()
	c.EscalatesAt, c.UnacknowledgesAt, c.ResolvesAt = i.escalate.at, i.unacknowledge.at, i.autoResolve.at
	if !i.snooze.at.IsZero() {
		c.UnacknowledgesAt = i.snooze.at
	}
	return c
}

// Notes returns an incident's notes, oldest first; none for an unknown incident.
func (s *Server) Notes(id string) []Note {
	i, err := s.Incident(id)
	if err != nil {
		return nil
	}
	return i.Notes
}

// Timeline returns an incident's log, oldest first; none for an unknown
// incident.
func (s *Server) Timeline(id string) []LogEntry {
	i, err := s.Incident(id)
	if err != nil {
		return nil
	}
	return i.Log
}
