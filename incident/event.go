package incident

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

const (
	// MaxEventBytes is the largest body that ParseEvent reads. PagerDuty itself drops deliveries over 256 KB.
	MaxEventBytes = 1 << 20

	// maxEventDepth is far above PagerDuty's own bodies (about 6) and leaves room for a customer's parameters in an Event
	// Orchestration body.
	maxEventDepth = 64

	// maxEventID is what an event id may take as a key. Ids seen are ULIDs, UUIDs and 38 digits.
	maxEventID = 200
)

// Errors of ParseEvent: the body is not an event of any kind. ErrNotJSON is the sender's fault (400).
var (
	ErrNotJSON  = errors.New("body is not JSON")
	ErrTooLarge = fmt.Errorf("body is larger than %d bytes", MaxEventBytes)
	ErrTooDeep  = fmt.Errorf("body is nested deeper than %d levels", maxEventDepth)
)

// EventKind tells the bodies apart that arrive at the webhook's address.
type EventKind string

// The kinds of bodies.
const (
	KindV3            EventKind = "v3"            // a webhook V3 event; the only kind that PagerDuty signs
	KindV2            EventKind = "v2"            // the deprecated `messages` body: unsigned, to be recorded and not acted on
	KindOrchestration EventKind = "orchestration" // an Event Orchestration action: unsigned, needs a bearer token instead
	KindUnknown       EventKind = "unknown"       // JSON, and none of the above; Event.Reason says why
)

// Types of V3 events that Drydock looks at by name. Any other type is kept as it came: PagerDuty may add types at any time.
const (
	TypeTriggered      = "incident.triggered"
	TypeAcknowledged   = "incident.acknowledged"
	TypeUnacknowledged = "incident.unacknowledged"
	TypeResolved       = "incident.resolved"
	TypeReopened       = "incident.reopened"
	TypeEscalated      = "incident.escalated"
	TypeDelegated      = "incident.delegated" // moved to another escalation policy
	TypeReassigned     = "incident.reassigned"
	TypeAnnotated      = "incident.annotated"
	TypePing           = "pagey.ping"
)

// mergeResolveReason is the type of resolve_reason of an incident that was merged away.
const mergeResolveReason = "merge_resolve_reason"

// Event is one delivery, read as far as its shape allowed. What is missing or of an unexpected shape is empty: an event only
// wakes us, and every decision reads the incident itself.
type Event struct {
	Kind   EventKind
	Reason string // why nothing should follow from this body (of an unknown kind, V2, an unusable incident id); else empty

	ID           string // opaque; only V3 events have one
	Type         string // event_type, for example "incident.triggered"
	ResourceType string
	OccurredAt   time.Time // zero when absent or unreadable
	Agent        *Ref      // who did it; nil when the event names nobody, which means automation
	Client       string    // the Events API's client name

	IncidentID string           // valid by ValidID, or empty: the event is not about one incident
	Incident   *WebhookIncident // what the event says of the incident; often only a reference (ID, Summary, URL)
	Service    *Ref             // the incident's service, or the service that the event is about
	Note       *EventNote       // only for incident.annotated

	Raw json.RawMessage // the body as it came
}

// EventNote is the note of an incident.annotated event.
type EventNote struct {
	ID      string
	Content string
	Trimmed bool // PagerDuty cut the content
}

// WebhookIncident is the incident as an event shows it. It never has alerts, details or notes: those are read by Client.
type WebhookIncident struct {
	ID               string
	Number           int // 0 when absent
	Title            string
	Summary          string // of a reference, where there is no title
	Status           string
	Urgency          string
	URL              string
	Key              string // incident_key; empty for Events API incidents
	Service          Ref
	EscalationPolicy Ref
	Assignees        []Ref
	CreatedAt        time.Time
	ReopenedAt       time.Time
	ResolveReason    string // "merge_resolve_reason" when it was merged away; who merged it is Event.Agent
	MergedInto       string // id of the incident that it was merged into
}

// Ref is PagerDuty's resource reference. Summary and URL may be empty even where there is an id.
type Ref struct {
	ID      string `json:"id,omitempty"`
	Type    string `json:"type,omitempty"`
	Summary string `json:"summary,omitempty"`
	URL     string `json:"html_url,omitempty"`
}

// IsUser reports whether the reference is to a user: a person, or an API key acting as one. A null agent, a service or an
// integration is monitoring or PagerDuty itself.
func (r Ref) IsUser() bool { return r.Type == "user_reference" || r.Type == "user" }

// ParseEvent reads a webhook body of any kind. The error is ErrNotJSON, ErrTooLarge or ErrTooDeep; every other body gives an
// Event, whose Kind says what it is.
func ParseEvent(body []byte) (Event, error) {
	if len(body) > MaxEventBytes {
		return Event{}, ErrTooLarge
	}
	if tooDeep(body) {
		return Event{}, ErrTooDeep
	}
	value, err := decode(body)
	if err != nil {
		return Event{}, err
	}
	ev := Event{Kind: KindUnknown, Raw: json.RawMessage(body)}
	top := asObject(value)
	switch {
	case top == nil:
		ev.Reason = "body is not a JSON object"
	case top["__pd_metadata"] != nil:
		// Looked for first: a customer's own parameters stand beside it and may be called anything, "event" too.
		ev.Kind, ev.Type = KindOrchestration, string(KindOrchestration)
		ev.setIncident(top.object("__pd_metadata").object("incident"))
	case top["event"] != nil:
		ev.readV3(top)
	case top["messages"] != nil:
		ev.readV2(top)
	default:
		ev.Reason = "body has no event"
	}
	return ev, nil
}

func (e *Event) readV3(top fields) {
	in := top.object("event")
	e.ID, e.Type, e.ResourceType = in.text("id"), in.text("event_type"), in.text("resource_type")
	switch {
	case in == nil:
		e.Reason = "event is not an object"
		return
	case e.Type == "":
		e.Reason = "event has no event_type"
		return
	case len(e.ID) > maxEventID:
		e.ID, e.Reason = "", fmt.Sprintf("event id is longer than %d bytes", maxEventID)
		return
	}
	e.Kind = KindV3
	e.OccurredAt = in.time("occurred_at")
	e.Agent = in.ref("agent")
	e.Client = in.object("client").text("name")

	data := in.object("data")
	switch {
	case data.text("type") == "incident":
		e.setIncident(data)
	case data["incident"] != nil:
		e.setIncident(data.object("incident"))
	case data["incident_role_assignments"] != nil:
		// The one type without an incident of its own; all assignments of one event are about the same incident.
		if roles := data.list("incident_role_assignments"); len(roles) > 0 {
			e.setIncident(roles[0].object("incident"))
		}
	case strings.HasPrefix(e.Type, "service."):
		e.Service = serviceRef(data)
	}
	if e.Service == nil {
		e.Service = data.ref("service")
	}
	if data.text("type") == "incident_note" {
		e.Note = &EventNote{ID: data.text("id"), Content: data.text("content"), Trimmed: data.flag("trimmed")}
	}
}

// serviceRef reads the service of a service.* event: the data itself, or beside the fields that changed.
func serviceRef(data fields) *Ref {
	if r := data.ref("service"); r != nil {
		return r
	}
	r := data.asRef()
	return &r
}

func (e *Event) readV2(top fields) {
	e.Kind = KindV2
	if messages := top.list("messages"); len(messages) > 0 {
		e.Type = messages[0].text("event")
		e.setIncident(messages[0].object("incident"))
	}
	e.Reason = "webhook V2 is deprecated and unsigned: use a V3 subscription"
}

func (e *Event) setIncident(in fields) {
	if in == nil {
		return
	}
	id := in.text("id")
	if id != "" && !ValidID(id) {
		e.Reason = "incident id " + quoteShort(id) + " does not have the form of a PagerDuty id" // kept as text only
		return
	}
	w := &WebhookIncident{
		ID:               id,
		Number:           in.number("number"),
		Title:            in.text("title"),
		Summary:          in.text("summary"),
		Status:           in.text("status"),
		Urgency:          in.text("urgency"),
		URL:              in.text("html_url"),
		Key:              in.text("incident_key"),
		Service:          in.object("service").asRef(),
		EscalationPolicy: in.object("escalation_policy").asRef(),
		CreatedAt:        in.time("created_at"),
		ReopenedAt:       in.time("reopened_at"),
	}
	if w.Number == 0 {
		w.Number = in.number("incident_number") // its name in V2 and in REST
	}
	for _, a := range in.list("assignees") {
		w.Assignees = append(w.Assignees, a.asRef())
	}
	if reason := in.object("resolve_reason"); reason != nil {
		w.ResolveReason, w.MergedInto = reason.text("type"), reason.object("incident").text("id")
	}
	e.IncidentID, e.Incident = id, w
	if w.Service.ID != "" {
		e.Service = &w.Service
	}
}

// Merged reports whether the incident ended by being merged into another.
func (w *WebhookIncident) Merged() bool { return w != nil && w.ResolveReason == mergeResolveReason }
