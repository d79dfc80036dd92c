package pagerduty

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Windows of GET /incidents: the last month unless asked, six months at most.
const (
	defaultWindow = 30 * 24 * time.Hour
	maxWindow     = 184 * 24 * time.Hour // Six months at their longest.
)

func (s *Server) listIncidents(c *call) (int, any, *Error) {
	since, until, err := s.window(c)
	if err != nil {
		return 0, nil, err
	}
	var found []*incident
	for _, i := range s.acct.incidents {
		outside := i.CreatedAt.Before(since) || !until.IsZero() && i.CreatedAt.After(until)
		if !outside && s.matches(c, i) {
			found = append(found, i)
		}
	}
	if err := sortIncidents(found, c.query.Get("sort_by")); err != nil {
		return 0, nil, err
	}
	answer, rows, err := page(c, "incidents", found)
	if err != nil {
		return 0, nil, err
	}
	list := []object{}
	for _, i := range rows {
		list = append(list, s.acct.incidentJSON(i, c.include()))
	}
	answer["incidents"] = list
	return http.StatusOK, answer, nil
}

// window reads since, until and date_range. A zero until is now.
func (s *Server) window(c *call) (since, until time.Time, _ *Error) {
	if c.query.Get("date_range") == "all" {
		return time.Time{}, time.Time{}, nil
	}
	now := s.acct.now()
	for name, t := range map[string]*time.Time{"since": &since, "until": &until} {
		v := c.query.Get(name)
		if v == "" {
			continue
		}
		parsed, err := time.Parse(time.RFC3339, v)
		if err != nil {
			parsed, err = time.ParseInLocation("2006-01-02", v, time.UTC)
		}
		if err != nil {
			return since, until, invalid("%s is not a time", name)
		}
		*t = parsed
	}
	end := until
	if end.IsZero() {
		end = now
	}
	if since.IsZero() {
		since = end.Add(-defaultWindow)
	}
	if end.Sub(since) > maxWindow {
		return since, until, &Error{http.StatusBadRequest, codeBadRange, "Invalid Date Range", []string{"since and until may be at most 6 months apart"}}
	}
	return since, until, nil
}

func (s *Server) matches(c *call, i *incident) bool {
	among := func(name, value string) bool {
		asked := c.list(name)
		return len(asked) == 0 || slices.Contains(asked, value)
	}
	team := ""
	if svc := s.acct.service(i.ServiceID); svc != nil {
		team = svc.TeamID
	}
	if !among("statuses", i.Status) || !among("service_ids", i.ServiceID) || !among("urgencies", i.Urgency) || !among("team_ids", team) {
		return false
	}
	if users := c.list("user_ids"); len(users) > 0 && !slices.ContainsFunc(users, i.AssignedTo) {
		return false
	}
	key := c.query.Get("incident_key")
	return key == "" || i.IncidentKey == key || slices.ContainsFunc(i.Alerts, func(a Alert) bool { return a.Key == key })
}

// sortIncidents orders by at most two of the documented fields; without any, by
// number.
func sortIncidents(list []*incident, sortBy string) *Error {
	if sortBy == "" {
		return nil
	}
	fields := strings.Split(sortBy, ",")
	if len(fields) > 2 {
		return invalid("sort_by takes at most two fields")
	}
	compare := map[string]func(a, b *incident) int{
		"incident_number": func(a, b *incident) int { return a.Number - b.Number },
		"created_at":      func(a, b *incident) int { return a.CreatedAt.Compare(b.CreatedAt) },
		"resolved_at":     func(a, b *incident) int { return a.ResolvedAt.Compare(b.ResolvedAt) },
		"urgency":         func(a, b *incident) int { return strings.Compare(a.Urgency, b.Urgency) },
	}
	slices.Reverse(fields) // A stable sort by the last field first.
	for _, f := range fields {
		name, order, _ := strings.Cut(f, ":")
		by, ok := compare[name]
		if !ok || order != "" && order != "asc" && order != "desc" {
			return invalid("sort_by %q is not known", f)
		}
		slices.SortStableFunc(list, func(a, b *incident) int {
			if order == "desc" {
				return by(b, a)
			}
			return by(a, b)
		})
	}
	return nil
}

func (s *Server) getIncident(c *call) (int, any, *Error) {
	i, err := s.acct.incident(c.PathValue("id"))
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, object{"incident": s.acct.incidentJSON(i, c.include())}, nil
}

// reference is how a request names another thing.
type reference struct {
	ID   string `json:"id"`
	Type string `json:"type"`
}

// incidentWish is one incident in a PUT.
type incidentWish struct {
	ID               string     `json:"id"`
	Status           *string    `json:"status"`
	Title            *string    `json:"title"`
	Urgency          *string    `json:"urgency"`
	Resolution       string     `json:"resolution"`
	EscalationLevel  *int       `json:"escalation_level"`
	EscalationPolicy *reference `json:"escalation_policy"`
	Service          *reference `json:"service"`
	Assignments      []struct {
		Assignee reference `json:"assignee"`
	} `json:"assignments"`
	// Priority is a reference or, as PagerDuty also takes it, a name.
	Priority json.RawMessage `json:"priority"`
}

func (w incidentWish) change() (change, *Error) {
	c := change{Status: w.Status, Title: w.Title, Urgency: w.Urgency, Level: w.EscalationLevel, Resolution: w.Resolution}
	if w.EscalationPolicy != nil {
		c.PolicyID = &w.EscalationPolicy.ID
	}
	if w.Service != nil {
		c.ServiceID = &w.Service.ID
	}
	for _, a := range w.Assignments {
		c.Assignees = append(c.Assignees, a.Assignee.ID)
	}
	if len(w.Priority) > 0 {
		var name string
		var r *reference
		switch {
		case json.Unmarshal(w.Priority, &name) == nil:
		case json.Unmarshal(w.Priority, &r) == nil:
			if r != nil {
				name = strings.TrimPrefix(r.ID, priorityID(""))
			}
		default:
			return c, invalid("Priority is malformed")
		}
		c.Priority = &name
	}
	return c, nil
}

// updateIncidents makes all changes or none.
func (s *Server) updateIncidents(c *call) (int, any, *Error) {
	wishes, err := decode[[]incidentWish](c, "incidents")
	if err != nil {
		return 0, nil, err
	}
	if len(wishes) > maxBatch {
		return 0, nil, tooLarge("at most %d incidents in one request", maxBatch)
	}
	found := make([]*incident, len(wishes))
	changes := make([]change, len(wishes))
	for n, w := range wishes {
		if found[n], err = s.acct.incident(w.ID); err != nil {
			return 0, nil, err
		}
		if slices.Contains(found[:n], found[n]) {
			return 0, nil, invalid("Incident %s is there twice", w.ID)
		}
		if changes[n], err = w.change(); err != nil {
			return 0, nil, err
		}
		if err = s.acct.check(found[n], changes[n]); err != nil {
			return 0, nil, err
		}
	}
	list := []object{}
	for n, i := range found {
		s.acct.apply(i, changes[n], c.by)
		list = append(list, s.acct.incidentJSON(i, nil))
	}
	return http.StatusOK, object{"incidents": list}, nil
}

func (s *Server) updateIncident(c *call) (int, any, *Error) {
	w, err := decode[incidentWish](c, "incident")
	if err != nil {
		return 0, nil, err
	}
	i, err := s.acct.incident(c.PathValue("id"))
	if err != nil {
		return 0, nil, err
	}
	ch, err := w.change()
	if err != nil {
		return 0, nil, err
	}
	if err := s.acct.check(i, ch); err != nil {
		return 0, nil, err
	}
	s.acct.apply(i, ch, c.by)
	return http.StatusOK, object{"incident": s.acct.incidentJSON(i, nil)}, nil
}

// createIncident opens an incident without an alert; such a one has a key.
func (s *Server) createIncident(c *call) (int, any, *Error) {
	w, err := decode[struct {
		incidentWish
		IncidentKey string `json:"incident_key"`
	}](c, "incident")
	if err != nil {
		return 0, nil, err
	}
	if w.Service == nil || w.Title == nil {
		return 0, nil, invalid("Service and title can't be blank")
	}
	svc := s.acct.service(w.Service.ID)
	if svc == nil {
		return 0, nil, invalid("Service %q does not exist", w.Service.ID)
	}
	key := w.IncidentKey
	if key == "" {
		key = newHex(16)
	}
	for _, i := range s.acct.incidents {
		if i.ServiceID == svc.ID && i.IncidentKey == key && i.Status != Resolved {
			return 0, nil, invalid("An open incident of this service has this key already")
		}
	}
	i := s.acct.open(svc, *w.Title, nil, c.by, func(i *incident) {
		i.IncidentKey = key
		if w.Urgency != nil {
			i.Urgency = *w.Urgency
		}
	})
	return http.StatusCreated, object{"incident": s.acct.incidentJSON(i, nil)}, nil
}

func (s *Server) snoozeIncident(c *call) (int, any, *Error) {
	i, err := s.acct.incident(c.PathValue("id"))
	if err != nil {
		return 0, nil, err
	}
	duration, err := decode[int](c, "duration")
	if err != nil {
		return 0, nil, err
	}
	if duration < 1 || duration > 604800 {
		return 0, nil, invalid("Duration must be between 1 and 604800 seconds")
	}
	if err := s.acct.snoozeFor(i, time.Duration(duration)*time.Second, c.by); err != nil {
		return 0, nil, err
	}
	return http.StatusCreated, object{"incident": s.acct.incidentJSON(i, nil)}, nil
}

func (s *Server) createStatusUpdate(c *call) (int, any, *Error) {
	i, err := s.acct.incident(c.PathValue("id"))
	if err != nil {
		return 0, nil, err
	}
	message, err := decode[string](c, "message")
	if err != nil {
		return 0, nil, err
	}
	if message == "" {
		return 0, nil, invalid("Message can't be blank")
	}
	u := s.acct.publishStatusUpdate(i, message, c.by)
	return http.StatusCreated, object{"status_update": object{
		"id": u.ID, "message": u.Message, "created_at": stamp(u.CreatedAt), "sender": s.acct.userRef(u.UserID),
	}}, nil
}

func (s *Server) mergeIncidents(c *call) (int, any, *Error) {
	target, err := s.acct.incident(c.PathValue("id"))
	if err != nil {
		return 0, nil, err
	}
	refs, err := decode[[]reference](c, "source_incidents")
	if err != nil {
		return 0, nil, err
	}
	var sources []*incident
	for _, r := range refs {
		i, err := s.acct.incident(r.ID)
		if err != nil {
			return 0, nil, err
		}
		sources = append(sources, i)
	}
	if err := s.acct.merge(target, sources, c.by); err != nil {
		return 0, nil, err
	}
	return http.StatusOK, object{"incident": s.acct.incidentJSON(target, nil)}, nil
}
