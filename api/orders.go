package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/gin-gonic/gin"

	"github.com/drydock/drydock/incident"
	"github.com/drydock/drydock/playbook"
)

const maxReason = 1000 // characters

// retriggerRun starts a new run of a run's target, for those of its incidents that are still open.
func (s *Server) retriggerRun(c *gin.Context, r repeat) error {
	id := c.Param("id")
	reason, err := s.reason(c)
	if err != nil {
		return err
	}
	if answered, err := s.startedBefore(c, r); err != nil || answered {
		return err
	}
	old, err := s.readRun(c, id)
	if err != nil {
		return err
	}
	if !old.State.Ended() {
		return RunActive(old.ID)
	}
	open, err := s.openIncidents(c, old.Run)
	if err != nil {
		return err
	}
	start := s.start(old.Target, playbook.TriggerRetrigger)
	start.Incident, start.Also, start.RetriggeredFrom, start.Reason = open[0], open[1:], old.ID, reason
	return s.retrigger(c, start, r)
}

// openIncidents reads the run's incidents from PagerDuty again and returns all that are open: what is left out would have no run
// and no end.
func (s *Server) openIncidents(c *gin.Context, r playbook.Run) ([]playbook.RunIncident, error) {
	var open []playbook.RunIncident
	for _, i := range r.Incidents {
		now, err := s.readIncident(c, i.ID)
		if errors.Is(err, ErrNoIncident) {
			continue // deleted: it is not open
		}
		if err != nil {
			return nil, err
		}
		if now.Open {
			open = append(open, now.Incident)
		}
	}
	if len(open) == 0 {
		return nil, withDetail(ErrIncidentNotOpen, "no incident of run "+r.ID+" is open")
	}
	return open, nil
}

func (s *Server) readIncident(c *gin.Context, id string) (IncidentNow, error) {
	now, err := s.Incidents.Read(c.Request.Context(), id)
	if err != nil && !errors.Is(err, ErrNoIncident) {
		return now, fmt.Errorf("%w: read incident %s: %w", ErrPagerDuty, id, err)
	}
	return now, err
}

// retriggerIncident starts a run from PagerDuty's incident id alone.
func (s *Server) retriggerIncident(c *gin.Context, r repeat) error {
	id := c.Param("incident_id")
	reason, err := s.reason(c)
	if err != nil {
		return err
	}
	if answered, err := s.startedBefore(c, r); err != nil || answered {
		return err
	}
	if !incident.ValidID(id) {
		return withDetail(ErrNoIncident, "an incident's id has letters, digits, - and _ only")
	}
	now, err := s.readIncident(c, id)
	if err != nil {
		return err
	}
	switch {
	case now.Reason == "" && !tokenOf(c).isFor(now.Target.Carrier):
		return errOutOfScope
	case !now.Open:
		return withDetail(ErrIncidentNotOpen, "incident "+id+" is resolved")
	case now.Reason != "":
		return withDetail(ErrNoTarget, now.Reason)
	case !s.knows(now.Target.Carrier):
		return withDetail(ErrNoTarget, "carrier "+now.Target.Carrier+" is not configured")
	}
	earlier, err := s.History.Runs(c.Request.Context(), playbook.RunFilter{Incident: id, Limit: 1})
	if err != nil {
		return err
	}
	start := s.start(now.Target, playbook.TriggerRetrigger)
	start.Incident, start.Reason = now.Incident, reason
	if len(earlier.Runs) > 0 {
		start.RetriggeredFrom = earlier.Runs[0].ID
	}
	return s.retrigger(c, start, r)
}

func (s *Server) retrigger(c *gin.Context, start playbook.Start, r repeat) error {
	start.RequestedBy = caller(c)
	if r.runID != "" {
		start.RunID = r.runID
	}
	run, err := s.Orders.Retrigger(c.Request.Context(), start)
	if err != nil {
		return err
	}
	s.log.InfoContext(c.Request.Context(), "run retriggered", "run", run.ID, "target", run.Target.String(), "by", caller(c), "reason", start.Reason)
	started(c, run)
	return nil
}

// startedBefore answers with the run that the same request has started before. It looks for the run itself: an answer may have
// been lost before the key could be noted as done.
func (s *Server) startedBefore(c *gin.Context, r repeat) (bool, error) {
	if r.runID == "" {
		return false, nil
	}
	run, err := s.History.Run(c.Request.Context(), r.runID)
	switch {
	case errors.Is(err, playbook.ErrNoRun):
		return false, nil
	case err != nil:
		return false, err
	}
	started(c, run.Run)
	return true, nil
}

func started(c *gin.Context, r playbook.Run) {
	c.Header("Location", "/api/v1/runs/"+r.ID)
	c.JSON(http.StatusCreated, newRunJSON(r))
}

// cancel asks a run to stop at its next safe point.
func (s *Server) cancel(c *gin.Context, r repeat) error {
	var body struct {
		Reason string `json:"reason"`
	}
	if err := s.body(c, &body, true); err != nil {
		return err
	}
	if wrong := tooLong(body.Reason); wrong != nil {
		return wrong
	}
	id, reason := c.Param("id"), strings.TrimSpace(body.Reason)
	if err := s.ownRun(c, id); err != nil {
		return err
	}
	if !r.done {
		if err := s.Orders.Cancel(c.Request.Context(), id, caller(c), reason); err != nil {
			return err
		}
		s.log.InfoContext(c.Request.Context(), "run cancelled", "run", id, "by", caller(c), "reason", reason)
	}
	c.Header("Location", "/api/v1/runs/"+id)
	c.JSON(http.StatusAccepted, gin.H{"id": id})
	return nil
}

// approve approves a run's plan by its hash, so that nobody approves another plan than the one they saw.
func (s *Server) approve(c *gin.Context, r repeat) error {
	var body struct {
		PlanHash string `json:"plan_hash"`
	}
	if err := s.body(c, &body, false); err != nil {
		return err
	}
	if body.PlanHash == "" {
		return fieldErrors{{"plan_hash", "is missing: it is the run's plan_hash"}}
	}
	id := c.Param("id")
	if err := s.ownRun(c, id); err != nil {
		return err
	}
	if !r.done {
		if err := s.Orders.Approve(c.Request.Context(), id, body.PlanHash, caller(c)); err != nil {
			return err
		}
		s.log.InfoContext(c.Request.Context(), "plan approved", "run", id, "by", caller(c), "plan_hash", body.PlanHash)
	}
	c.JSON(http.StatusOK, gin.H{"id": id, "plan_hash": body.PlanHash})
	return nil
}

// reason reads the body of a retrigger.
func (s *Server) reason(c *gin.Context) (string, error) {
	var body struct {
		Reason string `json:"reason"`
	}
	if err := s.body(c, &body, false); err != nil {
		return "", err
	}
	wrong := wrongReason(body.Reason)
	if wrong != nil {
		return "", wrong
	}
	return strings.TrimSpace(body.Reason), nil
}

// wrongReason finds what is wrong with a reason that must be given; nil: nothing.
func wrongReason(reason string) fieldErrors {
	if strings.TrimSpace(reason) == "" {
		return fieldErrors{{"reason", "is missing: say why, it is kept"}}
	}
	return tooLong(reason)
}

func tooLong(reason string) fieldErrors {
	if utf8.RuneCountInString(reason) > maxReason {
		return fieldErrors{{"reason", fmt.Sprintf("is longer than %d characters", maxReason)}}
	}
	return nil
}

// body reads a JSON object strictly: on what changes things a key with a typo must not pass in silence.
func (s *Server) body(c *gin.Context, into any, mayBeEmpty bool) error {
	if err := newQuery(c).err(); err != nil {
		return err
	}
	raw, err := readBody(c)
	if err != nil {
		return err
	}
	if len(bytes.TrimSpace(raw)) == 0 && mayBeEmpty {
		return nil
	}
	if !json.Valid(raw) {
		return errNotJSON
	}
	if raw = bytes.TrimSpace(raw); raw[0] != '{' {
		return withDetail(errNotJSON, "the body is JSON, but not an object")
	}
	if err := checkKeys(raw, into); err != nil {
		return err
	}
	var wrongType *json.UnmarshalTypeError
	if err := json.Unmarshal(raw, into); errors.As(err, &wrongType) {
		return fieldErrors{{wrongType.Field, "must be a " + wrongType.Type.String()}}
	} else if err != nil {
		return errNotJSON
	}
	return nil
}

// checkKeys finds the keys of a valid JSON object that are not fields of into, to the letter, and those that stand there twice: of
// these encoding/json would take whichever comes last, and it takes REASON for reason.
func checkKeys(raw []byte, into any) error {
	empty, err := json.Marshal(into)
	if err != nil {
		return fmt.Errorf("list the fields of a body: %w", err)
	}
	var known map[string]json.RawMessage
	if err := json.Unmarshal(empty, &known); err != nil {
		return fmt.Errorf("list the fields of a body: %w", err)
	}
	var wrong fieldErrors
	seen := map[string]bool{}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	_, _ = decoder.Token() // the brace: the object is valid
	for decoder.More() {
		token, _ := decoder.Token()
		key, _ := token.(string)
		if _, ok := known[key]; !ok && !seen[key] {
			wrong = append(wrong, fieldError{key, "is not known: the fields are " + strings.Join(sorted(known), ", ")})
		} else if seen[key] {
			wrong = append(wrong, fieldError{key, "stands there twice: write it once"})
		}
		seen[key] = true
		var value json.RawMessage
		_ = decoder.Decode(&value)
	}
	if wrong == nil {
		return nil
	}
	return wrong
}

func readBody(c *gin.Context) ([]byte, error) {
	raw, err := io.ReadAll(c.Request.Body)
	if err != nil {
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			return nil, errTooLarge
		}
		return nil, fmt.Errorf("%w: read body: %w", errNotJSON, err)
	}
	return raw, nil
}

type killSwitchJSON struct {
	Engaged bool    `json:"engaged"`
	Carrier *string `json:"carrier"`
	Reason  *string `json:"reason"`
}

// killSwitch shows the switch of all carriers, or with ?carrier= that of one.
func (s *Server) killSwitch(c *gin.Context) error {
	q := newQuery(c, "carrier")
	carrier := q.text("carrier")
	if err := q.err(); err != nil {
		return err
	}
	if carrier != "" {
		if err := inScope(c, carrier); err != nil {
			return err
		}
		if !s.knows(carrier) {
			return ErrNoCarrier
		}
	}
	return s.answerKillSwitch(c, carrier)
}

// setKillSwitch turns it on or off. Turning it on again only changes the reason.
func (s *Server) setKillSwitch(c *gin.Context) error {
	var body struct {
		Engaged *bool  `json:"engaged"`
		Carrier string `json:"carrier"`
		Reason  string `json:"reason"`
	}
	if err := s.body(c, &body, false); err != nil {
		return err
	}
	var wrong fieldErrors
	if body.Engaged == nil {
		wrong = append(wrong, fieldError{"engaged", "is missing: write true or false"})
	}
	if wrong = append(wrong, wrongReason(body.Reason)...); wrong != nil {
		return wrong
	}
	reason := strings.TrimSpace(body.Reason)
	// The switch of all carriers is nobody's who is for some.
	if err := inScope(c, body.Carrier); err != nil {
		return err
	}
	if body.Carrier != "" && !s.knows(body.Carrier) {
		return ErrNoCarrier
	}
	k := KillSwitch{Engaged: *body.Engaged, Carrier: body.Carrier, Reason: reason}
	if err := s.Orders.SetKillSwitch(c.Request.Context(), k, caller(c)); err != nil {
		return err
	}
	s.log.WarnContext(c.Request.Context(), "kill switch set", "engaged", k.Engaged, "carrier", k.Carrier, "by", caller(c), "reason", reason)
	// What holds now, which may be more: a file, or the switch of all carriers, is not turned off here.
	return s.answerKillSwitch(c, body.Carrier)
}

func (s *Server) answerKillSwitch(c *gin.Context, carrier string) error {
	k, err := s.Orders.KillSwitch(c.Request.Context(), carrier)
	if err != nil {
		return err
	}
	c.JSON(http.StatusOK, killSwitchJSON{Engaged: k.Engaged, Carrier: orNull(carrier), Reason: orNull(k.Reason)})
	return nil
}

// confirmCarrier hands a carrier to this installation and its database: after a restore, or when another installation is gone.
func (s *Server) confirmCarrier(c *gin.Context, r repeat) error {
	carrier := c.Param("carrier")
	reason, err := s.reason(c)
	if err != nil {
		return err
	}
	if err := inScope(c, carrier); err != nil {
		return err
	}
	if !s.knows(carrier) {
		return ErrNoCarrier
	}
	if !r.done {
		if err := s.Orders.ConfirmCarrier(c.Request.Context(), carrier, caller(c), reason); err != nil {
			return err
		}
		s.log.WarnContext(c.Request.Context(), "carrier confirmed", "carrier", carrier, "by", caller(c), "reason", reason)
	}
	c.JSON(http.StatusOK, gin.H{"carrier": carrier, "reason": reason})
	return nil
}
