package api

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/drydock/drydock/incident"
	"github.com/drydock/drydock/playbook"
)

const (
	maxReason = 1000
	maxKey    = 255
)

// retriggerRun starts a new run of a run's target, for the first of its incidents that is still open.
func (s *Server) retriggerRun(c *gin.Context) error {
	reason, key, err := s.order(c)
	if err != nil {
		return err
	}
	old, err := s.History.Run(c.Request.Context(), c.Param("id"))
	if err != nil {
		return err
	}
	if !old.State.Ended() {
		return RunActive(old.ID)
	}
	now, err := s.openIncident(c, old.Run)
	if err != nil {
		return err
	}
	start := s.start(old.Target, playbook.TriggerRetrigger)
	start.Incident, start.RetriggeredFrom = now.Incident, old.ID
	return s.retrigger(c, start, reason, key)
}

// openIncident reads the run's incidents from PagerDuty again and returns the first that is open.
func (s *Server) openIncident(c *gin.Context, r playbook.Run) (IncidentNow, error) {
	for _, i := range r.Incidents {
		now, err := s.readIncident(c, i.ID)
		if errors.Is(err, ErrNoIncident) {
			continue // deleted: it is not open
		}
		if err != nil {
			return IncidentNow{}, err
		}
		if now.Open {
			return now, nil
		}
	}
	return IncidentNow{}, withDetail(ErrIncidentNotOpen, "no incident of run "+r.ID+" is open")
}

func (s *Server) readIncident(c *gin.Context, id string) (IncidentNow, error) {
	now, err := s.Incidents.Read(c.Request.Context(), id)
	if err != nil && !errors.Is(err, ErrNoIncident) {
		return now, fmt.Errorf("%w: read incident %s: %w", ErrPagerDuty, id, err)
	}
	return now, err
}

// retriggerIncident starts a run from PagerDuty's incident id alone.
func (s *Server) retriggerIncident(c *gin.Context) error {
	reason, key, err := s.order(c)
	if err != nil {
		return err
	}
	id := c.Param("id")
	if !incident.ValidID(id) {
		return withDetail(ErrNoIncident, "an incident's id has capital letters and digits only")
	}
	now, err := s.readIncident(c, id)
	if err != nil {
		return err
	}
	switch {
	case !now.Open:
		return withDetail(ErrIncidentNotOpen, "incident "+id+" is resolved")
	case now.Reason != "":
		return withDetail(ErrNoTarget, now.Reason)
	case !s.knows(now.Target.Carrier):
		return withDetail(ErrNoTarget, "carrier "+now.Target.Carrier+" is not configured")
	}
	start := s.start(now.Target, playbook.TriggerRetrigger)
	start.Incident = now.Incident
	return s.retrigger(c, start, reason, key)
}

func (s *Server) retrigger(c *gin.Context, start playbook.Start, reason string, key IdempotencyKey) error {
	start.Reason, start.RequestedBy = reason, caller(c)
	r, err := s.Orders.Retrigger(c.Request.Context(), start, key)
	if err != nil {
		return err
	}
	s.log.InfoContext(c.Request.Context(), "run retriggered", "run", r.ID, "target", r.Target.String(), "by", caller(c), "reason", reason)
	c.Header("Location", "/api/v1/runs/"+r.ID)
	c.JSON(http.StatusCreated, newRunJSON(r))
	return nil
}

// cancel asks a run to stop at its next safe point.
func (s *Server) cancel(c *gin.Context) error {
	var body struct {
		Reason string `json:"reason"`
	}
	raw, err := s.body(c, &body, true)
	if err != nil {
		return err
	}
	if _, err := idempotencyKey(c, raw); err != nil {
		return err // repeating a cancel changes nothing, so the key need not be kept
	}
	id := c.Param("id")
	if err := s.Orders.Cancel(c.Request.Context(), id, caller(c), strings.TrimSpace(body.Reason)); err != nil {
		return err
	}
	s.log.InfoContext(c.Request.Context(), "run cancelled", "run", id, "by", caller(c), "reason", body.Reason)
	c.Header("Location", "/api/v1/runs/"+id)
	c.JSON(http.StatusAccepted, gin.H{"id": id})
	return nil
}

// approve approves a run's plan by its hash, so that nobody approves another plan than the one they saw.
func (s *Server) approve(c *gin.Context) error {
	var body struct {
		PlanHash string `json:"plan_hash"`
	}
	if _, err := s.body(c, &body, false); err != nil {
		return err
	}
	if body.PlanHash == "" {
		return fieldErrors{{"plan_hash", "is missing: it is the run's plan_hash"}}
	}
	id := c.Param("id")
	if err := s.Orders.Approve(c.Request.Context(), id, body.PlanHash, caller(c)); err != nil {
		return err
	}
	s.log.InfoContext(c.Request.Context(), "plan approved", "run", id, "by", caller(c), "plan_hash", body.PlanHash)
	c.JSON(http.StatusOK, gin.H{"id": id, "plan_hash": body.PlanHash})
	return nil
}

// order reads the body and the key of a retrigger.
func (s *Server) order(c *gin.Context) (reason string, key IdempotencyKey, err error) {
	var body struct {
		Reason string `json:"reason"`
	}
	raw, err := s.body(c, &body, false)
	if err != nil {
		return "", key, err
	}
	reason = strings.TrimSpace(body.Reason)
	switch {
	case reason == "":
		return "", key, fieldErrors{{"reason", "is missing: say why, it is kept with the run"}}
	case len(reason) > maxReason:
		return "", key, fieldErrors{{"reason", fmt.Sprintf("is longer than %d bytes", maxReason)}}
	}
	key, err = idempotencyKey(c, raw)
	return reason, key, err
}

func idempotencyKey(c *gin.Context, body []byte) (IdempotencyKey, error) {
	key := c.GetHeader("Idempotency-Key")
	if key == "" {
		return IdempotencyKey{}, nil
	}
	if len(key) > maxKey || !validText(key) {
		return IdempotencyKey{}, fieldErrors{{"Idempotency-Key", fmt.Sprintf("is longer than %d bytes, or not text", maxKey)}}
	}
	sum := sha256.New()
	fmt.Fprintf(sum, "%s %s\n", c.Request.Method, c.Request.URL.Path)
	// White space between JSON's parts is no other request.
	var compact bytes.Buffer
	if json.Compact(&compact, body) == nil {
		body = compact.Bytes()
	}
	sum.Write(body)
	return IdempotencyKey{Key: caller(c) + "/" + key, Body: hex.EncodeToString(sum.Sum(nil))}, nil
}

// body reads a JSON object strictly: on what changes things a key with a typo must not pass in silence.
func (s *Server) body(c *gin.Context, into any, mayBeEmpty bool) ([]byte, error) {
	if err := newQuery(c).err(); err != nil {
		return nil, err
	}
	raw, err := io.ReadAll(c.Request.Body)
	if err != nil {
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			return nil, errTooLarge
		}
		return nil, fmt.Errorf("%w: read body: %w", errNotJSON, err)
	}
	if len(bytes.TrimSpace(raw)) == 0 && mayBeEmpty {
		return raw, nil
	}
	if !json.Valid(raw) {
		return nil, errNotJSON
	}
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(raw, &keys); err != nil || keys == nil {
		return nil, withDetail(errNotJSON, "the body is JSON, but not an object")
	}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return nil, bodyErrors(err, keys, into)
	}
	return raw, nil
}

// bodyErrors names the fields of a body that did not fit.
func bodyErrors(err error, keys map[string]json.RawMessage, into any) error {
	var wrongType *json.UnmarshalTypeError
	if errors.As(err, &wrongType) {
		return fieldErrors{{wrongType.Field, "must be a " + wrongType.Type.String()}}
	}
	// encoding/json has no type for an unknown field; the keys that its own encoding lacks are the unknown ones.
	known := map[string]json.RawMessage{}
	if b, err := json.Marshal(into); err == nil {
		_ = json.Unmarshal(b, &known)
	}
	var wrong fieldErrors
	for _, key := range sorted(keys) {
		if _, ok := known[key]; !ok {
			wrong = append(wrong, fieldError{key, "is not known: the fields are " + strings.Join(sorted(known), ", ")})
		}
	}
	if wrong == nil {
		return errNotJSON
	}
	return wrong
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
	if carrier != "" && !s.knows(carrier) {
		return ErrNoCarrier
	}
	k, err := s.Orders.KillSwitch(c.Request.Context(), carrier)
	if err != nil {
		return err
	}
	c.JSON(http.StatusOK, killSwitchJSON{Engaged: k.Engaged, Carrier: orNull(carrier), Reason: orNull(k.Reason)})
	return nil
}

// setKillSwitch turns it on or off. Turning it on again only changes the reason.
func (s *Server) setKillSwitch(c *gin.Context) error {
	var body struct {
		Engaged *bool  `json:"engaged"`
		Carrier string `json:"carrier"`
		Reason  string `json:"reason"`
	}
	if _, err := s.body(c, &body, false); err != nil {
		return err
	}
	var wrong fieldErrors
	if body.Engaged == nil {
		wrong = append(wrong, fieldError{"engaged", "is missing: write true or false"})
	}
	reason := strings.TrimSpace(body.Reason)
	if reason == "" || len(reason) > maxReason {
		wrong = append(wrong, fieldError{"reason", fmt.Sprintf("must have 1 to %d bytes: say why", maxReason)})
	}
	if wrong != nil {
		return wrong
	}
	if body.Carrier != "" && !slices.Contains(s.Carriers.Names(), body.Carrier) {
		return ErrNoCarrier
	}
	k := KillSwitch{Engaged: *body.Engaged, Carrier: body.Carrier, Reason: reason}
	if err := s.Orders.SetKillSwitch(c.Request.Context(), k, caller(c)); err != nil {
		return err
	}
	s.log.WarnContext(c.Request.Context(), "kill switch set", "engaged", k.Engaged, "carrier", k.Carrier, "by", caller(c), "reason", reason)
	c.JSON(http.StatusOK, killSwitchJSON{Engaged: k.Engaged, Carrier: orNull(k.Carrier), Reason: orNull(k.Reason)})
	return nil
}
