package pagerduty

import "slices"

// addNote writes a note, on open and on resolved incidents alike, and announces
// it in the name of its author: a bot hears its own notes come back.
func (a *account) addNote(i *incident, content string, c act) Note {
	n := Note{ID: newID("P", 13), Content: content, UserID: c.by.ID, CreatedAt: a.now()}
	i.Notes = append(i.Notes, n)
	i.UpdatedAt = n.CreatedAt
	e := c.entry(a, "annotate", content)
	e.Channel = "note"
	i.log(e)
	a.emitNote(i, n, c)
	return n
}

// editNote changes a note in place. Whether PagerDuty announces that is not
// documented; by default the stand-in does, because the echo is what a client
// must survive.
func (a *account) editNote(i *incident, id, content string, c act) (Note, *Error) {
	n := i.noteIndex(id)
	if n < 0 {
		return Note{}, notFound()
	}
	i.Notes[n].Content = content
	i.UpdatedAt = a.now()
	e := c.entry(a, "annotate", content)
	e.Channel = "note"
	i.log(e)
	if !a.behaviour.SilentNoteEdits {
		a.emitNote(i, i.Notes[n], c)
	}
	return i.Notes[n], nil
}

func (a *account) deleteNote(i *incident, id string) *Error {
	n := i.noteIndex(id)
	if n < 0 {
		return notFound()
	}
	i.Notes = slices.Delete(i.Notes, n, n+1)
	i.UpdatedAt = a.now()
	return nil
}

func (i *Incident) noteIndex(id string) int {
	return slices.IndexFunc(i.Notes, func(n Note) bool { return n.ID == id })
}

func checkNote(i *incident, content string, isNew bool) *Error {
	switch {
	case content == "":
		return invalid("Content can't be blank")
	case len(content) > maxNoteBytes:
		return invalid("Content is too long (maximum is %d characters)", maxNoteBytes)
	case isNew && len(i.Notes) >= maxNotes:
		return invalid("An incident cannot have more than %d notes", maxNotes)
	}
	return nil
}

func (a *account) publishStatusUpdate(i *incident, message string, c act) StatusUpdate {
	u := StatusUpdate{ID: newID("P", 13), Message: message, UserID: c.by.ID, CreatedAt: a.now()}
	i.StatusUpdates = append(i.StatusUpdates, u)
	i.log(c.entry(a, "status_update", message))
	text, trimmed := trim(message)
	a.emit(i, "incident.status_update_published", c.by, map[string]any{
		"type": "incident_status_update", "id": u.ID, "message": text, "trimmed": trimmed, "incident": a.incidentRef(i),
	})
	return u
}

func (a *account) emitNote(i *incident, n Note, c act) {
	text, trimmed := trim(n.Content)
	a.emit(i, "incident.annotated", c.by, map[string]any{
		"type": "incident_note", "id": n.ID, "content": text, "trimmed": trimmed, "incident": a.incidentRef(i),
	})
}

// trimAt is where a text in a webhook is cut, in bytes. PagerDuty has the flag
// "trimmed" and does not say the length; the whole payload is guaranteed only
// up to 55 KB.
const trimAt = 20_000

func trim(s string) (string, bool) {
	if len(s) <= trimAt {
		return s, false
	}
	cut := trimAt
	for cut > 0 && s[cut]&0xC0 == 0x80 { // Never inside a UTF-8 sequence.
		cut--
	}
	return s[:cut], true
}
