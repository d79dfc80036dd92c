package pagerduty

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/drydock/drydock/testbed/standin"
)

// account is the state behind the APIs. It has no lock of its own: Server's
// lock is held around every call.
type account struct {
	clock standin.Clock
	// locked runs f with the server's lock held and tells those who wait.
	locked func(f func())
	// publish hands an event to the webhook subscriptions.
	publish   func(*incident, happening)
	behaviour Behaviour

	users     []*User
	policies  []*EscalationPolicy
	services  []*Service
	incidents []*incident // By number.
	changes   []ChangeEvent
}

// incident is an Incident with its timers.
type incident struct {
	Incident
	escalate, unacknowledge, autoResolve, snooze alarm
}

// alarm is a timer that can be set again. The generation guards against a timer
// that had fired, but waited for the lock, when it was stopped.
type alarm struct {
	timer standin.Timer
	at    time.Time
	gen   int
}

func (al *alarm) stop() {
	if al.timer != nil {
		al.timer.Stop()
	}
	al.timer, al.at = nil, time.Time{}
	al.gen++
}

func (a *account) set(al *alarm, d time.Duration, f func()) {
	al.stop()
	gen := al.gen
	al.at = a.now().Add(d)
	al.timer = a.clock.AfterFunc(d, func() {
		a.locked(func() {
			if al.gen == gen {
				al.stop()
				f()
			}
		})
	})
}

func (a *account) now() time.Time { return a.clock.Now().UTC() }

func (a *account) user(id string) *User {
	for _, u := range a.users {
		if u.ID == id {
			return u
		}
	}
	return nil
}

func (a *account) userName(id string) string {
	if u := a.user(id); u != nil {
		return u.Name
	}
	return id
}

func (a *account) userByEmail(email string) *User {
	for _, u := range a.users {
		if strings.EqualFold(u.Email, email) {
			return u
		}
	}
	return nil
}

func (a *account) policy(id string) *EscalationPolicy {
	for _, p := range a.policies {
		if p.ID == id {
			return p
		}
	}
	return nil
}

func (a *account) service(id string) *Service {
	for _, s := range a.services {
		if s.ID == id {
			return s
		}
	}
	return nil
}

func (a *account) serviceByKey(routingKey string) *Service {
	for _, s := range a.services {
		if s.RoutingKey == routingKey {
			return s
		}
	}
	return nil
}

// incident finds by id or by number, as PagerDuty's paths do.
func (a *account) incident(id string) (*incident, *Error) {
	number, err := strconv.Atoi(id)
	for _, i := range a.incidents {
		if i.ID == id || err == nil && i.Number == number {
			return i, nil
		}
	}
	return nil, notFound()
}

func byUser(u *User) Agent {
	return Agent{Type: "user_reference", ID: u.ID, Summary: u.Name}
}

// byMonitoring is the agent of what came through the Events API. The
// integration's id is derived from the service's, so that it stays the same.
func byMonitoring(s *Service) Agent {
	return Agent{Type: "inbound_integration_reference", ID: "PI" + s.ID, Summary: "Events API V2"}
}

// actor returns the agent for a user's id.
func (a *account) actor(userID string) (*User, Agent, *Error) {
	u := a.user(userID)
	if u == nil {
		return nil, Agent{}, &Error{http.StatusBadRequest, codeRequesterUnknown, "Requester User Not Found", []string{userID}}
	}
	return u, byUser(u), nil
}

func (a *account) addUser(u User) User {
	if u.ID == "" {
		u.ID = newID("P", 7)
	}
	a.users = append(a.users, &u)
	return u
}

func (a *account) addPolicy(p EscalationPolicy) (EscalationPolicy, error) {
	if p.ID == "" {
		p.ID = newID("P", 7)
	}
	if len(p.Levels) == 0 {
		return p, fmt.Errorf("escalation policy %q: no levels", p.Name)
	}
	for n, l := range p.Levels {
		for _, id := range l.Users {
			if a.user(id) == nil {
				return p, fmt.Errorf("escalation policy %q: level %d: no user %q", p.Name, n+1, id)
			}
		}
	}
	a.policies = append(a.policies, &p)
	return p, nil
}

func (a *account) addService(s Service) (Service, error) {
	if s.ID == "" {
		s.ID = newID("P", 7)
	}
	if s.RoutingKey == "" {
		s.RoutingKey = newHex(16)
	}
	if s.Urgency == "" {
		s.Urgency = "high"
	}
	if s.Status == "" {
		s.Status = "active"
	}
	if a.policy(s.PolicyID) == nil {
		return s, fmt.Errorf("service %q: no escalation policy %q", s.Name, s.PolicyID)
	}
	a.services = append(a.services, &s)
	return s, nil
}
