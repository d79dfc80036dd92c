package pagerduty

import (
	"net/http"
	"slices"
	"time"
)

// The parts of an incident: alerts, log entries and notes.

func (s *Server) listAlerts(c *call) (int, any, *Error) {
	i, err := s.acct.incident(c.PathValue("id"))
	if err != nil {
		return 0, nil, err
	}
	var found []Alert
	statuses, key := c.list("statuses"), c.query.Get("alert_key")
	for _, al := range i.Alerts {
		if (len(statuses) == 0 || slices.Contains(statuses, al.Status)) && (key == "" || al.Key == key) {
			found = append(found, al)
		}
	}
	answer, rows, err := page(c, "alerts", found)
	if err != nil {
		return 0, nil, err
	}
	list := []object{}
	for _, al := range rows {
		list = append(list, s.acct.alertJSON(i, al))
	}
	answer["alerts"] = list
	return http.StatusOK, answer, nil
}

func (s *Server) getAlert(c *call) (int, any, *Error) {
	i, err := s.acct.incident(c.PathValue("id"))
	if err != nil {
		return 0, nil, err
	}
	for _, al := range i.Alerts {
		if al.ID == c.PathValue("alert") {
			return http.StatusOK, object{"alert": s.acct.alertJSON(i, al)}, nil
		}
	}
	return 0, nil, notFound()
}

// updateAlerts resolves or triggers alerts; with the last one the incident ends.
// Alerts can not be acknowledged.
func (s *Server) updateAlerts(c *call) (int, any, *Error) {
	i, err := s.acct.incident(c.PathValue("id"))
	if err != nil {
		return 0, nil, err
	}
	wishes, err := decode[[]struct {
		ID     string `json:"id"`
		Status string `json:"status"`
	}](c, "alerts")
	if err != nil {
		return 0, nil, err
	}
	if len(wishes) > maxBatch {
		return 0, nil, tooLarge("at most %d alerts in one request", maxBatch)
	}
	at := make([]int, len(wishes))
	for n, w := range wishes {
		at[n] = slices.IndexFunc(i.Alerts, func(al Alert) bool { return al.ID == w.ID })
		if at[n] < 0 {
			return 0, nil, notFound()
		}
		if w.Status != Resolved && w.Status != Triggered {
			return 0, nil, invalid("Status of an alert must be triggered or resolved")
		}
	}
	list := []object{}
	for n, w := range wishes {
		al := &i.Alerts[at[n]]
		al.Status, al.ResolvedAt = w.Status, s.acct.now()
		if w.Status == Triggered {
			al.ResolvedAt = time.Time{}
		}
		list = append(list, s.acct.alertJSON(i, *al))
	}
	if i.openAlerts() == 0 && i.Status != Resolved {
		s.acct.resolve(i, c.by, "")
	}
	return http.StatusOK, object{"alerts": list}, nil
}

func (s *Server) listLogEntries(c *call) (int, any, *Error) {
	i, err := s.acct.incident(c.PathValue("id"))
	if err != nil {
		return 0, nil, err
	}
	var found []LogEntry
	since, until := c.query.Get("since"), c.query.Get("until")
	for _, e := range i.Log {
		at := e.At.UTC().Format("2006-01-02T15:04:05Z")
		if (since == "" || at >= since) && (until == "" || at <= until) {
			found = append(found, e)
		}
	}
	slices.Reverse(found) // The order is not documented; newest first is what clients must not rely on.
	answer, rows, err := page(c, "log_entries", found)
	if err != nil {
		return 0, nil, err
	}
	list := []object{}
	for _, e := range rows {
		list = append(list, s.acct.logJSON(i, e, c.include()))
	}
	answer["log_entries"] = list
	return http.StatusOK, answer, nil
}

// listNotes is not paginated.
func (s *Server) listNotes(c *call) (int, any, *Error) {
	i, err := s.acct.incident(c.PathValue("id"))
	if err != nil {
		return 0, nil, err
	}
	list := []object{}
	for _, n := range i.Notes {
		list = append(list, s.acct.noteJSON(n))
	}
	return http.StatusOK, object{"notes": list}, nil
}

type noteWish struct {
	Content string `json:"content"`
}

func (s *Server) createNote(c *call) (int, any, *Error) {
	i, err := s.acct.incident(c.PathValue("id"))
	if err != nil {
		return 0, nil, err
	}
	w, err := decode[noteWish](c, "note")
	if err != nil {
		return 0, nil, err
	}
	if err := checkNote(i, w.Content, true); err != nil {
		return 0, nil, err
	}
	n := s.acct.addNote(i, w.Content, c.by)
	return http.StatusCreated, object{"note": s.acct.noteJSON(n)}, nil
}

func (s *Server) updateNote(c *call) (int, any, *Error) {
	i, err := s.acct.incident(c.PathValue("id"))
	if err != nil {
		return 0, nil, err
	}
	if s.acct.behaviour.NotesImmutable {
		return 0, nil, notFound()
	}
	w, err := decode[noteWish](c, "note")
	if err != nil {
		return 0, nil, err
	}
	if err := checkNote(i, w.Content, false); err != nil {
		return 0, nil, err
	}
	n, err := s.acct.editNote(i, c.PathValue("note"), w.Content, c.by)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, object{"note": s.acct.noteJSON(n)}, nil
}

func (s *Server) deleteNote(c *call) (int, any, *Error) {
	i, err := s.acct.incident(c.PathValue("id"))
	if err != nil {
		return 0, nil, err
	}
	if s.acct.behaviour.NotesImmutable {
		return 0, nil, notFound()
	}
	if err := s.acct.deleteNote(i, c.PathValue("note")); err != nil {
		return 0, nil, err
	}
	return http.StatusNoContent, nil, nil
}
