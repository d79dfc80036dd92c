package incident

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"github.com/PagerDuty/go-pagerduty"
)

// CreateNote adds a note and returns it. After ErrAmbiguous look for its marker with FindNoteByMarker before sending it again.
// The text is sanitised; an empty one is ErrInvalid.
func (c *Client) CreateNote(ctx context.Context, incidentID, content string) (Note, error) {
	op := "write note on incident " + incidentID
	return c.putNote(ctx, request{op: op, method: http.MethodPost, once: true}, incidentID, "", content)
}

// UpdateNote replaces a note's text. ErrNotEditable: it can not be changed in place (the note is gone, or PagerDuty does
// not know the call); write another one.
func (c *Client) UpdateNote(ctx context.Context, incidentID, noteID, content string) (Note, error) {
	op := "edit note " + noteID + " on incident " + incidentID
	if err := checkID("edit note", "note", noteID); err != nil {
		return Note{}, err
	}
	n, err := c.putNote(ctx, request{op: op, method: http.MethodPut}, incidentID, "/"+noteID, content)
	var e *APIError
	if errors.As(err, &e) && (e.Status == http.StatusNotFound || e.Status == http.StatusMethodNotAllowed) {
		e.is = append(e.is, ErrNotEditable)
	}
	return n, err
}

func (c *Client) putNote(ctx context.Context, r request, incidentID, suffix, content string) (Note, error) {
	if err := checkID("write note", "incident", incidentID); err != nil {
		return Note{}, err
	}
	content = SanitizeNote(content)
	if strings.TrimSpace(content) == "" {
		return Note{}, invalid(r.op, "the note is empty")
	}
	payload := map[string]any{"note": map[string]string{"content": content}}
	body, err := c.write(ctx, r, "/incidents/"+incidentID+"/notes"+suffix, payload)
	if err != nil {
		return Note{}, err
	}
	var got struct {
		Note wireNote `json:"note"`
	}
	err = json.Unmarshal(body, &got)
	if err == nil && got.Note.ID == "" {
		err = errors.New("it has no note id")
	}
	if err != nil {
		e := unreadable(r.op, err)
		e.is = append(e.is, ErrAmbiguous)
		return Note{}, e
	}
	return got.Note.note(), nil
}

// Acknowledge takes the incident over. It reads the incident first and returns ErrAlreadyResolved when it is resolved: since
// September 2025 an acknowledge reopens such an incident, which would undo what a person did.
func (c *Client) Acknowledge(ctx context.Context, incidentID string) error {
	in, err := c.GetIncident(ctx, incidentID)
	if err != nil {
		return err
	}
	op := "acknowledge incident " + incidentID
	if !in.Open() {
		return &APIError{Op: op, Message: ErrAlreadyResolved.Error(), is: []error{ErrAlreadyResolved}}
	}
	err = c.manage(ctx, request{op: op, once: true}, pagerduty.ManageIncidentsOptions{ID: incidentID, Status: StatusAcknowledged})
	if errors.Is(err, errAlreadyAcknowledged) {
		return nil
	}
	return err
}

// Resolve resolves the incident and all its alerts. That it is resolved already is a success.
func (c *Client) Resolve(ctx context.Context, incidentID string) error {
	err := c.manage(ctx, request{op: "resolve incident " + incidentID}, pagerduty.ManageIncidentsOptions{ID: incidentID, Status: StatusResolved})
	if errors.Is(err, ErrAlreadyResolved) {
		return nil
	}
	return err
}

// EscalateToLevel pages the given level (1 is the lowest) of the incident's own policy. The level is absolute. PagerDuty refuses it
// (ErrInvalid) for a policy without that level and for low urgency, and with ErrAlreadyResolved for a resolved incident.
func (c *Client) EscalateToLevel(ctx context.Context, incidentID string, level int) error {
	op := "escalate incident " + incidentID
	if level < 1 {
		return invalid(op, "level %d: levels begin at 1", level)
	}
	return c.manage(ctx, request{op: op, once: true}, pagerduty.ManageIncidentsOptions{ID: incidentID, EscalationLevel: uint(level)})
}

// EscalateToPolicy hands the incident to another policy, at its first level. Never to a named user: that ends all further
// escalation.
func (c *Client) EscalateToPolicy(ctx context.Context, incidentID, policyID string) error {
	op := "escalate incident " + incidentID + " to policy " + policyID
	if err := checkID("escalate incident", "escalation policy", policyID); err != nil {
		return err
	}
	return c.manage(ctx, request{op: op, once: true}, pagerduty.ManageIncidentsOptions{
		ID:               incidentID,
		EscalationPolicy: &pagerduty.APIReference{ID: policyID, Type: "escalation_policy_reference"},
	})
}

func (c *Client) manage(ctx context.Context, r request, change pagerduty.ManageIncidentsOptions) error {
	if err := checkID("change incident", "incident", change.ID); err != nil {
		return err
	}
	change.Type = "incident_reference" //nolint:staticcheck // deprecated because only go-pagerduty's own call fills it in; PagerDuty wants it
	r.method, r.blind, r.update = http.MethodPut, true, true
	_, err := c.write(ctx, r, "/incidents", map[string]any{"incidents": []pagerduty.ManageIncidentsOptions{change}})
	return err
}
