package api

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/drydock/drydock/incident"
	"github.com/drydock/drydock/playbook"
)

// webhook takes one delivery of PagerDuty: stored durably, then answered with 202. PagerDuty drops what is answered with
// any other 4xx and, after three in a row, switches the subscription off; so only the sender's own faults get one.
// Our own are 503, which it repeats for up to 48 hours.
func (s *Server) webhook(c *gin.Context) error {
	// Answered in time even where the database is stuck; what is stored after that comes again and is found as a duplicate.
	ctx, cancel := context.WithTimeout(c.Request.Context(), webhookTime)
	defer cancel()
	release, err := s.enter(c)
	if err != nil {
		return err
	}
	defer release()
	body, err := io.ReadAll(http.MaxBytesReader(c.Writer, c.Request.Body, maxWebhookBody))
	if err != nil {
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			return errTooLarge
		}
		return fmt.Errorf("%w: read webhook: %w", errNotJSON, err)
	}
	unsigned, err := s.authenticate(c.Request, body)
	if err != nil {
		return err
	}
	event, err := incident.ParseEvent(body)
	switch {
	case errors.Is(err, incident.ErrTooLarge):
		return errTooLarge
	case err != nil:
		return withDetail(errNotJSON, err.Error())
	case unsigned && event.Kind != incident.KindOrchestration:
		// A bearer token stands in for the signature that Event Orchestration does not make, and for nothing else.
		return errBadSignature
	}
	arrival := s.arrival(event, body)
	arrival.WebhookID = webhookID(c.GetHeader("X-Webhook-Id"))
	record, err := s.Intake.Accept(ctx, arrival)
	if err != nil {
		// Whatever it was, it was ours: PagerDuty must send it again.
		return fmt.Errorf("%w: store webhook: %w", ErrDatabase, err)
	}
	s.metrics.events.WithLabelValues(eventLabel(event), string(record.Outcome)).Inc()
	s.log.InfoContext(c.Request.Context(), "webhook stored", "event", record.ID, "type", record.Type, "incident", record.Incident,
		"outcome", record.Outcome, "reason", record.Reason, "run", record.Run, "duplicate", record.Duplicate)
	c.JSON(http.StatusAccepted, newEventJSON(record))
	return nil
}

// maxWebhookID is far above PagerDuty's own, which are UUIDs, and far below what an index of Postgres takes (2,704 bytes).
const maxWebhookID = 200

// webhookID is the delivery's id as it is stored: a header of the sender's making, so what is too long or no text is kept as
// its hash, which tells deliveries apart as well.
func webhookID(header string) string {
	if len(header) <= maxWebhookID && validText(header) {
		return header
	}
	return fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(header)))
}

// enter waits for room in memory for a webhook's body.
func (s *Server) enter(c *gin.Context) (func(), error) {
	size := c.Request.ContentLength
	if size < 0 || size > maxWebhookBody { // not told, or too large, which shows when it is read
		size = maxWebhookBody
	}
	ctx, cancel := context.WithTimeout(c.Request.Context(), webhookQueueTime)
	defer cancel()
	if err := s.bodies.Acquire(ctx, size); err != nil {
		return nil, errBusy
	}
	return func() { s.bodies.Release(size) }, nil
}

// authenticate reports whether the body came without a signature but with an operator's token.
func (s *Server) authenticate(r *http.Request, body []byte) (unsigned bool, err error) {
	if token := bearer(r); token != "" && r.Header.Get("X-PagerDuty-Signature") == "" {
		return true, s.mayOrchestrate(r, token)
	}
	if err := s.Signatures.Verify(r.Header, body); err != nil {
		s.metrics.badSignatures.Inc()
		s.log.WarnContext(r.Context(), "webhook refused", "error", err, "subscription", r.Header.Get("X-Webhook-Subscription"))
		return false, withDetail(errBadSignature, err.Error())
	}
	return false, nil
}

// mayOrchestrate lets an operator's token stand in for a signature. It must be for all carriers: which one the incident is about is
// only known later. It is held to no rate: what is refused is lost.
func (s *Server) mayOrchestrate(r *http.Request, secret string) error {
	token, err := s.identify(r, secret)
	switch {
	case errors.Is(err, ErrIssuer):
		return err
	case err != nil:
		s.recordRefusal(r)
		return err
	case token.Role < Operator:
		return errRole
	case len(token.Carriers) > 0:
		return errOutOfScope
	}
	return nil
}

// arrival reads out of an event what the inbox must know: whether it asks for a run, and if not, why.
func (s *Server) arrival(event incident.Event, body []byte) playbook.Arrival {
	a := playbook.Arrival{
		EventID: event.ID, Type: event.Type, IncidentID: event.IncidentID, OccurredAt: event.OccurredAt, Payload: body,
	}
	if a.OccurredAt.IsZero() {
		a.OccurredAt = s.Now()
	}
	if a.Type == "" {
		a.Type = string(event.Kind)
	}
	switch {
	case event.Reason != "":
		a.Reason = event.Reason
	case event.IncidentID == "":
		a.Reason = "event is not about an incident"
	case event.Kind == incident.KindOrchestration:
		// It names the incident and nothing else.
		a.LookUp = true
	case event.Type != incident.TypeTriggered && event.Type != incident.TypeReopened:
		a.Reason = "event type " + event.Type + " starts no run"
	default:
		s.subject(event, &a)
	}
	return a
}

// subject reads the title of a triggered or reopened incident.
func (s *Server) subject(event incident.Event, a *playbook.Arrival) {
	in := event.Incident
	m := s.Rules.Parse(in.Title)
	switch {
	case in.Title == "", m.NeedsDetails, m.Matched && m.Namespace == "":
		a.LookUp = true
		return
	case !m.Matched:
		a.Reason = m.Reason
		return
	}
	target := playbook.Target{Carrier: m.Carrier, Namespace: m.Namespace, DaemonSet: m.DaemonSet}
	if !s.knows(target.Carrier) {
		a.Reason = "carrier " + target.Carrier + " is not configured"
		return
	}
	start := s.start(target, playbook.TriggerWebhook)
	start.Incident = playbook.RunIncident{ID: in.ID, Number: in.Number, Title: in.Title, URL: in.URL}
	a.Start = &start
}

// knows reports whether a carrier is configured. Names are listed anew after a second at most, or when one is not among them:
// with a directory of kubeconfigs that reads all of it, which a storm of webhooks must not pay each time.
func (s *Server) knows(carrier string) bool {
	s.namesMu.Lock()
	defer s.namesMu.Unlock()
	if now := s.Now(); !s.names[carrier] || now.Sub(s.namesAt) > namesLife {
		s.names, s.namesAt = map[string]bool{}, now
		for _, name := range s.Carriers.Names() {
			s.names[name] = true
		}
	}
	return s.names[carrier]
}

// namesLife is how long a carrier whose kubeconfig was taken away is still taken for configured.
const namesLife = time.Second

// start is a start of a run by the target's policy.
func (s *Server) start(t playbook.Target, trigger playbook.Trigger) playbook.Start {
	p := s.Policy(t)
	return playbook.Start{RunID: s.NewID(), Target: t, Trigger: trigger, Mode: p.Mode, Deadline: p.Timing.Deadline}
}

// eventJSON is an event as the API shows it.
type eventJSON struct {
	ID         string    `json:"id"`
	Type       string    `json:"type"`
	Incident   *string   `json:"incident"`
	ReceivedAt time.Time `json:"received_at"`
	Outcome    string    `json:"outcome"`
	Reason     *string   `json:"reason"`
	Run        *string   `json:"run"`
}

func newEventJSON(e playbook.EventRecord) eventJSON {
	return eventJSON{
		ID: e.ID, Type: e.Type, Incident: orNull(e.Incident), ReceivedAt: stamp(e.ReceivedAt), Outcome: string(e.Outcome),
		Reason: orNull(e.Reason), Run: orNull(e.Run),
	}
}

// events lists what came in, newest first.
func (s *Server) events(c *gin.Context) error {
	q := newQuery(c, "limit", "cursor")
	limit, cursor := q.limit(), q.text("cursor")
	if err := q.err(); err != nil {
		return err
	}
	page, err := s.History.Events(c.Request.Context(), tokenOf(c).Carriers, limit, cursor)
	if err != nil {
		return cursorField(err)
	}
	items := make([]eventJSON, 0, len(page.Events))
	for _, e := range page.Events {
		items = append(items, newEventJSON(e))
	}
	c.JSON(http.StatusOK, gin.H{"items": items, "next_cursor": orNull(page.Next)})
	return nil
}
