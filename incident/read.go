package incident

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// GetIncident reads one incident with its service and escalation policy. Read it right before every write:
// PagerDuty has no precondition that would refuse a stale one. An incident's number instead of its id is ErrNotFound.
func (c *Client) GetIncident(ctx context.Context, id string) (Incident, error) {
	op := "read incident " + id
	if err := checkID("read incident", "incident", id); err != nil {
		return Incident{}, err
	}
	var body struct {
		Incident wireIncident `json:"incident"`
	}
	include := url.Values{"include[]": {"services", "escalation_policies", "acknowledgers", "assignees"}}
	if err := c.get(ctx, op, "/incidents/"+id, include, &body); err != nil {
		return Incident{}, err
	}
	in, err := body.Incident.incident()
	if err == nil && in.ID != id && strconv.Itoa(in.Number) == id {
		// PagerDuty takes a number too, but what is asked for here is an id.
		return Incident{}, &APIError{Op: op, Message: "it is the number of incident " + in.ID, is: []error{ErrNotFound}}
	}
	if err == nil && in.ID != id {
		err = fmt.Errorf("it is incident %s", in.ID)
	}
	if err != nil {
		return Incident{}, unreadable(op, err)
	}
	return in, nil
}

// OpenIncidents reads all open incidents of the services, or of the whole account when there are none, oldest first, whatever
// their age (PagerDuty's default is the last month).
//
// An incident that ends between two pages shifts the rest by one, so a single answer may lack one: who needs all of them
// asks again, as the reconcile loop does.
func (c *Client) OpenIncidents(ctx context.Context, serviceIDs []string) ([]Incident, error) {
	const op = "list open incidents"
	query := url.Values{
		"statuses[]": {StatusTriggered, StatusAcknowledged},
		"date_range": {"all"},
		"sort_by":    {"created_at:asc"},
	}
	for _, id := range serviceIDs {
		if err := checkID(op, "service", id); err != nil {
			return nil, err
		}
		query.Add("service_ids[]", id)
	}
	var out []Incident
	seen := map[string]bool{}
	err := c.list(ctx, op, "/incidents", "incidents", query, func(raw json.RawMessage) error {
		var w wireIncident
		if err := json.Unmarshal(raw, &w); err != nil {
			return fmt.Errorf("read incident: %w", err)
		}
		in, err := w.incident()
		if err == nil && !seen[in.ID] {
			seen[in.ID] = true
			out = append(out, in)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// ListAlerts reads all alerts of an incident, oldest first. An alert that joins an open incident fires no webhook, so read
// them again before acting.
func (c *Client) ListAlerts(ctx context.Context, incidentID string) ([]Alert, error) {
	op := "list alerts of incident " + incidentID
	if err := checkID("list alerts", "incident", incidentID); err != nil {
		return nil, err
	}
	var out []Alert
	seen := map[string]bool{}
	query := url.Values{"sort_by": {"created_at:asc"}}
	err := c.list(ctx, op, "/incidents/"+incidentID+"/alerts", "alerts", query, func(raw json.RawMessage) error {
		var w wireAlert
		if err := json.Unmarshal(raw, &w); err != nil {
			return fmt.Errorf("read alert: %w", err)
		}
		a, err := w.alert()
		if err == nil && !seen[a.ID] {
			seen[a.ID] = true
			out = append(out, a)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// ListNotes reads all notes of an incident, oldest first.
func (c *Client) ListNotes(ctx context.Context, incidentID string) ([]Note, error) {
	op := "list notes of incident " + incidentID
	if err := checkID("list notes", "incident", incidentID); err != nil {
		return nil, err
	}
	var body map[string]json.RawMessage
	if err := c.get(ctx, op, "/incidents/"+incidentID+"/notes", nil, &body); err != nil {
		return nil, err
	}
	var rows []wireNote // the one list that PagerDuty does not page
	if err := json.Unmarshal(body["notes"], &rows); err != nil {
		return nil, unreadable(op, fmt.Errorf("read \"notes\": %w", err))
	}
	var out []Note
	for _, w := range rows {
		out = append(out, w.note())
	}
	slices.SortStableFunc(out, func(a, b Note) int { return a.CreatedAt.Compare(b.CreatedAt) })
	return out, nil
}

// LogEntries reads what happened to an incident since the given time, oldest first; a zero time means everything.
func (c *Client) LogEntries(ctx context.Context, incidentID string, since time.Time) ([]LogEntry, error) {
	op := "list log entries of incident " + incidentID
	if err := checkID("list log entries", "incident", incidentID); err != nil {
		return nil, err
	}
	query := url.Values{}
	if !since.IsZero() {
		query.Set("since", formatTime(since.Truncate(time.Second)))
	}
	var out []LogEntry
	err := c.list(ctx, op, "/incidents/"+incidentID+"/log_entries", "log_entries", query, func(raw json.RawMessage) error {
		var w wireLogEntry
		if err := json.Unmarshal(raw, &w); err != nil {
			return fmt.Errorf("read log entry: %w", err)
		}
		e, err := w.entry()
		out = append(out, e)
		return err
	})
	if err != nil {
		return nil, err
	}
	// PagerDuty documents no order.
	slices.SortStableFunc(out, func(a, b LogEntry) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), strings.Compare(a.ID, b.ID))
	})
	return slices.CompactFunc(out, func(a, b LogEntry) bool { return a.ID != "" && a.ID == b.ID }), nil
}

// EscalationPolicy reads a policy with its levels.
func (c *Client) EscalationPolicy(ctx context.Context, id string) (EscalationPolicy, error) {
	op := "read escalation policy " + id
	if err := checkID("read escalation policy", "escalation policy", id); err != nil {
		return EscalationPolicy{}, err
	}
	var body struct {
		Policy wirePolicy `json:"escalation_policy"`
	}
	if err := c.get(ctx, op, "/escalation_policies/"+id, nil, &body); err != nil {
		return EscalationPolicy{}, err
	}
	if body.Policy.ID != id || len(body.Policy.Rules) == 0 {
		return EscalationPolicy{}, unreadable(op, errors.New("it has no levels"))
	}
	return body.Policy.policy(), nil
}

// BotUser returns the user that our writes appear under: the token's own user, or, for an account key, which has none, the user
// whose e-mail is Config.From. ErrNotFound when there is no such user.
func (c *Client) BotUser(ctx context.Context) (User, error) {
	const op = "find the bot's user"
	type wireUser struct {
		ID    string `json:"id"`
		Name  string `json:"name"`
		Email string `json:"email"`
	}
	var me struct {
		User wireUser `json:"user"`
	}
	err := c.get(ctx, op, "/users/me", nil, &me)
	switch {
	case err == nil && me.User.ID != "":
		return User(me.User), nil
	case err == nil:
		return User{}, unreadable(op, errors.New("it has no user"))
	case errors.Is(err, ErrUnauthorized) && statusOf(err) == 401, errors.Is(err, ErrUnavailable), errors.Is(err, ErrRateLimited), ctx.Err() != nil:
		return User{}, err
	}
	// Any other refusal is how an account key is told that it is nobody.
	var found []User
	err = c.list(ctx, op, "/users", "users", url.Values{"query": {c.from}}, func(raw json.RawMessage) error {
		var w wireUser
		if err := json.Unmarshal(raw, &w); err != nil {
			return fmt.Errorf("read user: %w", err)
		}
		if w.ID != "" && strings.EqualFold(w.Email, c.from) {
			found = append(found, User(w))
		}
		return nil
	})
	if err != nil {
		return User{}, err
	}
	if len(found) == 0 {
		return User{}, &APIError{Op: op, Message: fmt.Sprintf("no user has the e-mail %q", c.from), is: []error{ErrNotFound}}
	}
	return found[0], nil
}

func statusOf(err error) int {
	var e *APIError
	if errors.As(err, &e) {
		return e.Status
	}
	return 0
}
