package api

import (
	"cmp"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/drydock/drydock/playbook"
)

// Errors that the ports may return, besides playbook's.
var (
	ErrRunActive       = errors.New("a run of this target is active")
	ErrRunEnded        = errors.New("the run has ended")
	ErrIncidentNotOpen = errors.New("the incident is not open")

	ErrNotAwaitingApproval = errors.New("the run does not wait for an approval")
	ErrPlanChanged         = errors.New("the plan has changed")

	ErrOwnRun = errors.New("who asked for a run can not approve its plan")

	ErrNoIncident  = errors.New("PagerDuty knows no such incident")
	ErrNoTarget    = errors.New("the incident names no DaemonSet of a known carrier")
	ErrNoCarrier   = errors.New("no such carrier")
	ErrCarrier     = errors.New("the carrier does not answer")
	ErrBadCursor   = errors.New("cursor is not one of this list")
	ErrKeyReused   = errors.New("Idempotency-Key was used for another request")
	ErrHistorySlow = errors.New("the history did not answer in time")
	ErrPagerDuty   = errors.New("PagerDuty did not answer")
	ErrDatabase    = errors.New("the database did not answer")
)

// Errors of the handlers themselves.
var (
	errBadSignature  = errors.New("the webhook's signature is missing or wrong")
	errNoToken       = errors.New("no valid bearer token")
	errRole          = errors.New("the token's role does not allow this")
	errOutOfScope    = errors.New("the token is not for this carrier")
	errTooLarge      = errors.New("the body is too large")
	errNotJSON       = errors.New("the body is not JSON")
	errNoRoute       = errors.New("there is nothing at this address")
	errMethod        = errors.New("this address does not take the method")
	errBadParameters = errors.New("a parameter or a field of the body is wrong")
	errBusy          = errors.New("too many webhooks at one time")
	errNotReady      = errors.New("a part of the server does not work")

	errTooManyRequests = errors.New("too many requests")
	errTooManyStreams  = errors.New("too many streams are open")
)

// problems is the one table that turns an error into a status. The first entry whose err matches (errors.Is) counts; an
// error without an entry is our own fault and becomes "internal".
var problems = []struct {
	err    error
	status int
	name   string // stable: the end of the type
	mend   string // what the caller can do, for the type's page
}{
	{errBadSignature, 401, "bad-signature", "Configure the webhook's secret as pagerduty.webhook_secrets; PagerDuty shows it once, when the subscription is made."},
	{errNoToken, 401, "unauthenticated", "Send Authorization: Bearer with a token whose SHA-256 is in api_tokens. \"drydock token new\" makes one."},
	{errRole, 403, "forbidden", "Use a token with a higher role: viewer < operator < approver < admin."},
	{errOutOfScope, 403, "out-of-scope", "Use a token for this carrier: carriers of api_tokens, or of the group in oidc."},
	{ErrOwnRun, 403, "own-run", "Ask another approver to look at the plan."},
	{errNoRoute, 404, "no-such-address", "GET /openapi.json lists the addresses."},
	{playbook.ErrNoRun, 404, "no-such-run", "GET /api/v1/runs lists the runs; old ones are removed after retention.runs."},
	{ErrNoIncident, 404, "no-such-incident", "Use the incident's id, which stands at the end of its address in PagerDuty."},
	{ErrNoCarrier, 404, "no-such-carrier", "GET /api/v1/carriers lists the carriers; the configuration adds them."},
	{errMethod, 405, "method-not-allowed", "See the Allow header, or GET /openapi.json."},
	{ErrRunActive, 409, "run-active", "Wait until it has ended, or cancel it."},
	{ErrRunEnded, 409, "run-ended", "A run that has ended can not be changed; retrigger it for a new one."},
	{ErrIncidentNotOpen, 409, "incident-not-open", "Drydock never reopens an incident. Wait for a new one."},
	{ErrNotAwaitingApproval, 409, "not-awaiting-approval", "GET the run: its state says what it waits for."},
	{ErrPlanChanged, 409, "plan-changed", "GET the run, look at its plan again, and approve its present plan_hash."},
	{ErrNoTarget, 409, "no-target", "The incident's title or alerts must name a DaemonSet of a configured carrier: see \"drydock parse\"."},
	{errTooLarge, 413, "too-large", "A webhook may have 1 MiB, a body under /api 64 KiB."},
	{errNotJSON, 400, "not-json", "Send a JSON object."},
	{errBadParameters, 400, "bad-parameters", "The member errors names each field and what is wrong with it."},
	{ErrKeyReused, 422, "idempotency-key-reused", "Use a new Idempotency-Key for another request."},
	{errTooManyRequests, 429, "too-many-requests", "Ask less often: 50 times a second. Retry-After says when to go on. To follow a run, use its stream."},
	{errTooManyStreams, 429, "too-many-streams", "Close streams that are not read, or use another replica."},
	{ErrPagerDuty, 502, "pagerduty-unavailable", "Try again; the server's log has the reason."},
	{ErrCarrier, 502, "carrier-unavailable", "GET /api/v1/carriers says why; the server's log has more."},
	{ErrHistorySlow, 503, "history-slow", "Ask for less: a shorter time, or a filter."},
	{ErrIssuer, 503, "issuer-unavailable", "Try again: the login server that made the token, or its keys, can not be read. A token of api_tokens needs none."},
	{ErrDatabase, 503, "database-unavailable", "Try again; the server's log has the reason."},
	{errBusy, 503, "busy", "Try again."},
	{errNotReady, 503, "not-ready", "The member parts names what does not work."},
}

// refused is the entry for *playbook.RefusedError, which carries its own words.
const (
	refusedName  = "refused"
	internalName = "internal"
)

// fieldError is one wrong parameter or field.
type fieldError struct {
	Field   string `json:"field"`
	Message string `json:"message"`
}

// fieldErrors are all wrong parameters of a request.
type fieldErrors []fieldError

func (e fieldErrors) Error() string {
	var b strings.Builder
	for i, f := range e {
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString(f.Field + " " + f.Message)
	}
	return b.String()
}

func (e fieldErrors) Is(target error) bool { return target == errBadParameters }

// detailed adds words that the caller may see to one of the errors of the table.
type detailed struct {
	error
	detail string
	run    string // the run that stands in the way
	parts  map[string]string
}

func (d detailed) Unwrap() error { return d.error }

// withDetail wraps err with words for the caller.
func withDetail(err error, detail string) error { return detailed{error: err, detail: detail} }

// RunActive is ErrRunActive with the id of the active run, which the caller is told.
func RunActive(run string) error {
	return detailed{error: ErrRunActive, detail: "run " + run + " is active", run: run}
}

// problem is RFC 9457's body.
type problem struct {
	Type      string            `json:"type"`
	Title     string            `json:"title"`
	Status    int               `json:"status"`
	Detail    string            `json:"detail,omitempty"`
	Instance  string            `json:"instance"`
	RequestID string            `json:"request_id"`
	Errors    []fieldError      `json:"errors,omitempty"`
	Run       string            `json:"run,omitempty"`
	Parts     map[string]string `json:"parts,omitempty"`
}

// problemOf translates an error; ours is true when it is our own fault.
func problemOf(err error) (p problem, ours bool) {
	var refused *playbook.RefusedError
	if errors.As(err, &refused) {
		return problem{Type: problemType(refusedName), Title: "Drydock's limits refuse this", Status: http.StatusConflict,
			Detail: cmp.Or(refused.Why, refused.Error())}, false
	}
	for _, entry := range problems {
		if !errors.Is(err, entry.err) {
			continue
		}
		p := problem{Type: problemType(entry.name), Title: entry.err.Error(), Status: entry.status}
		var d detailed
		if errors.As(err, &d) {
			p.Detail, p.Run, p.Parts = d.detail, d.run, d.parts
		}
		var fields fieldErrors
		if errors.As(err, &fields) {
			p.Errors, p.Detail = fields, fields.Error()
		}
		return p, entry.status >= 500
	}
	return problem{Type: problemType(internalName), Title: "Something went wrong in Drydock", Status: http.StatusInternalServerError}, true
}

func problemType(name string) string { return "/problems/" + name }

// handler is a gin handler that returns its error.
type handler func(c *gin.Context) error

// problems answers a handler's error. It is the only place that does.
func (s *Server) do(h handler) gin.HandlerFunc {
	return func(c *gin.Context) {
		if err := h(c); err != nil {
			s.fail(c, err)
		}
	}
}

func (s *Server) fail(c *gin.Context, err error) {
	p, ours := problemOf(err)
	p.Instance, p.RequestID = c.Request.URL.Path, c.GetString(requestIDKey)
	if ours {
		s.log.LogAttrs(c.Request.Context(), slog.LevelError, "request failed", slog.String("path", p.Instance),
			slog.String("request_id", p.RequestID), slog.Int("status", p.Status), slog.Any("error", err))
	}
	if p.Status == http.StatusUnauthorized {
		c.Header("WWW-Authenticate", `Bearer realm="drydock"`)
	}
	switch p.Status {
	case http.StatusServiceUnavailable:
		c.Header("Retry-After", "5")
	case http.StatusTooManyRequests:
		c.Header("Retry-After", "1")
	}
	body, err := json.Marshal(p)
	if err != nil { // strings and numbers only
		body = []byte("{}")
	}
	c.Abort()
	c.Data(p.Status, "application/problem+json", body)
}
