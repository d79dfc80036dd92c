package incident

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// v3 wraps data into an envelope of our own making, with invented ids.
func v3(eventType, data string) string {
	return fmt.Sprintf(`{"event":{"id":"01TESTEVENT0001","event_type":%q,"resource_type":"incident",
		"occurred_at":"2026-03-04T05:06:07.890Z","agent":{"id":"PHUMAN1","type":"user_reference","summary":"Ada","html_url":null},
		"client":{"name":"Prober"},"data":%s}}`, eventType, data)
}

const (
	fullIncident = `{"id":"QTEST0000001","type":"incident","html_url":"https://pd.test/incidents/QTEST0000001","number":41,
		"status":"triggered","incident_key":null,"created_at":"2026-03-04T05:06:07Z","title":"a title","urgency":"high",
		"service":{"id":"PSVC001","type":"service_reference","summary":"Carriers"},
		"assignees":[{"id":"PHUMAN1","type":"user_reference","summary":"Ada"}],
		"escalation_policy":{"id":"PPOL001","type":"escalation_policy_reference","summary":"Ops"},
		"priority":null,"conference_bridge":null,"resolve_reason":null}`
	incidentRef = `{"id":"QTEST0000001","type":"incident_reference","summary":"a title","html_url":null}`
)

func TestParseEventFullIncident(t *testing.T) {
	t.Parallel()
	got, err := ParseEvent([]byte(v3(TypeTriggered, fullIncident)))
	if err != nil {
		t.Fatal(err)
	}
	service := Ref{ID: "PSVC001", Type: "service_reference", Summary: "Carriers"}
	ada := Ref{ID: "PHUMAN1", Type: "user_reference", Summary: "Ada"}
	want := Event{
		Kind: KindV3, ID: "01TESTEVENT0001", Type: TypeTriggered, ResourceType: "incident",
		OccurredAt: time.Date(2026, 3, 4, 5, 6, 7, 890e6, time.UTC),
		Agent:      &ada, Client: "Prober", IncidentID: "QTEST0000001", Service: &service,
		Incident: &WebhookIncident{
			ID: "QTEST0000001", Number: 41, Title: "a title", Status: "triggered", Urgency: "high",
			URL: "https://pd.test/incidents/QTEST0000001", Service: service, Assignees: []Ref{ada},
			EscalationPolicy: Ref{ID: "PPOL001", Type: "escalation_policy_reference", Summary: "Ops"},
			CreatedAt:        time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC),
		},
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(Event{}, "Raw")); diff != "" {
		t.Errorf("ParseEvent() (-want +got):\n%s", diff)
	}
}

// Every type that PagerDuty lists, with the shape of its data: where the incident's id is found differs.
func TestParseEventTypes(t *testing.T) {
	t.Parallel()
	nested := func(kind, more string) string {
		return fmt.Sprintf(`{"type":%q,"incident":%s%s}`, kind, incidentRef, more)
	}
	types := map[string]string{
		"incident.conference_bridge.updated":    nested("incident_conference_bridge", `,"conference_numbers":[{"label":"x","number":5}],"conference_url":null`),
		"incident.custom_field_values.updated":  nested("incident_field_values", `,"custom_fields":[{"id":"P1","value":["a"]}],"changed_custom_fields":[]`),
		"incident.status_update_published":      nested("incident_status_update", `,"id":"PSTAT01","message":"m","trimmed":false`),
		"incident.responder.added":              nested("incident_responder", `,"user":{"id":"PHUMAN1"},"state":"pending"`),
		"incident.responder.replied":            nested("incident_responder", `,"message":null,"state":"joined"`),
		"incident.annotated":                    nested("incident_note", `,"id":"PNOTE01","content":"hello","trimmed":true`),
		"incident.role.assigned":                `{"type":"incident_role_assignment","incident_role_assignments":[{"id":"P1","old_assignee":null,"incident":` + incidentRef + `}]}`,
		"incident.task.created":                 nested("incident_task", `,"assignees":[]`),
		"incident.task.updated":                 nested("incident_task", ``),
		"incident.task.completed":               nested("incident_task", ``),
		"incident.action_invocation.created":    nested("incident_action_invocation", `,"state":"queued"`),
		"incident.action_invocation.updated":    nested("incident_action_invocation", ``),
		"incident.action_invocation.terminated": nested("incident_action_invocation", ``),
		"incident.workflow.started":             nested("incident_workflow_instance", `,"id":12345678901234567890123456789012345678,"summary":"","service":{"id":"PSVC001"}`),
		"incident.workflow.completed":           nested("incident_workflow_instance", ``),
		"incident.something.new":                nested("incident_something", ``),
	}
	for _, plain := range []string{
		"triggered", "acknowledged", "unacknowledged", "resolved", "reopened", "escalated", "delegated", "reassigned",
		"priority_updated", "service_updated", "incident_type.changed",
	} {
		types["incident."+plain] = fullIncident
	}
	for eventType, data := range types {
		t.Run(eventType, func(t *testing.T) {
			t.Parallel()
			got, err := ParseEvent([]byte(v3(eventType, data)))
			if err != nil {
				t.Fatal(err)
			}
			if got.Kind != KindV3 || got.Type != eventType || got.IncidentID != "QTEST0000001" || got.Incident == nil {
				t.Errorf("ParseEvent() = kind %q type %q incident %q (%+v)", got.Kind, got.Type, got.IncidentID, got.Incident)
			}
			if eventType == TypeAnnotated {
				if diff := cmp.Diff(&EventNote{ID: "PNOTE01", Content: "hello", Trimmed: true}, got.Note); diff != "" {
					t.Errorf("note (-want +got):\n%s", diff)
				}
			} else if got.Note != nil {
				t.Errorf("note = %+v, want none", got.Note)
			}
		})
	}
}

func TestParseEventWithoutIncident(t *testing.T) {
	t.Parallel()
	ping := `{"event":{"id":"01PING","event_type":"pagey.ping","resource_type":"pagey","occurred_at":"2026-03-04T05:06:07Z",
		"agent":{"id":"PHUMAN1","type":"user_reference"},"client":null,"data":{"message":"hello","type":"ping"}}}`
	tests := []struct {
		name, body string
		service    *Ref
	}{
		{"ping", ping, nil},
		{"service.created", v3("service.created", `{"id":"PSVC001","type":"service","summary":"Carriers"}`), &Ref{ID: "PSVC001", Type: "service", Summary: "Carriers"}},
		{"service.updated", v3("service.updated", `{"id":"PSVC001","type":"service"}`), &Ref{ID: "PSVC001", Type: "service"}},
		{"service.deleted", v3("service.deleted", `{"id":"PSVC001","type":"service"}`), &Ref{ID: "PSVC001", Type: "service"}},
		{"service.custom_field_values.updated", v3("service.custom_field_values.updated", `{"type":"service_field_values","service":{"id":"PSVC001"},"custom_fields":[]}`), &Ref{ID: "PSVC001"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := ParseEvent([]byte(tt.body))
			if err != nil {
				t.Fatal(err)
			}
			if got.Kind != KindV3 || got.IncidentID != "" || got.Incident != nil || got.Reason != "" {
				t.Errorf("ParseEvent() = %+v, want a V3 event without an incident", got)
			}
			if diff := cmp.Diff(tt.service, got.Service); diff != "" {
				t.Errorf("service (-want +got):\n%s", diff)
			}
		})
	}
}

func TestParseEventOddShapes(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, body string
		check      func(Event) bool
	}{
		{
			"agent and client null", `{"event":{"id":"e","event_type":"incident.triggered","agent":null,"client":null,"data":` + fullIncident + `}}`,
			func(e Event) bool { return e.Agent == nil && e.Client == "" && e.IncidentID == "QTEST0000001" },
		},
		{
			"agent and client absent, no time", `{"event":{"id":"e","event_type":"incident.triggered","data":` + fullIncident + `}}`,
			func(e Event) bool { return e.Agent == nil && e.OccurredAt.IsZero() && e.IncidentID == "QTEST0000001" },
		},
		{
			"agent is a string", `{"event":{"id":"e","event_type":"incident.triggered","agent":"Ada","data":` + fullIncident + `}}`,
			func(e Event) bool { return e.Agent == nil && e.IncidentID == "QTEST0000001" },
		},
		{"number as string", v3(TypeTriggered, `{"id":"QTEST0000001","type":"incident","number":"41"}`), func(e Event) bool { return e.Incident.Number == 41 }},
		{"number as float", v3(TypeTriggered, `{"id":"QTEST0000001","type":"incident","number":1e3}`), func(e Event) bool { return e.Incident.Number == 0 }},
		{
			"event id as a long number", `{"event":{"id":12345678901234567890123456789012345678,"event_type":"incident.triggered","data":{}}}`,
			func(e Event) bool { return e.ID == "12345678901234567890123456789012345678" },
		},
		{"no event id", `{"event":{"event_type":"incident.triggered","data":` + fullIncident + `}}`, func(e Event) bool { return e.Kind == KindV3 && e.ID == "" }},
		{"huge event id", `{"event":{"id":"` + strings.Repeat("x", 300) + `","event_type":"incident.triggered"}}`, func(e Event) bool { return e.Kind == KindUnknown && e.Reason != "" }},
		{
			"merged", v3(TypeResolved, `{"id":"QTEST0000001","type":"incident","assignees":[],"resolve_reason":{"type":"merge_resolve_reason","incident":{"id":"QTEST0000002"}}}`),
			func(e Event) bool { return e.Incident.Merged() && e.Incident.MergedInto == "QTEST0000002" },
		},
		{"title with a NUL", v3(TypeTriggered, `{"id":"QTEST0000001","type":"incident","title":"a\u0000b"}`), func(e Event) bool { return e.Incident.Title == "ab" }},
		{"incident id that climbs", v3(TypeTriggered, `{"id":"Q1/../../users?x=","type":"incident"}`), func(e Event) bool { return e.IncidentID == "" && e.Reason != "" }},
		{"data null", v3(TypeTriggered, `null`), func(e Event) bool { return e.Kind == KindV3 && e.IncidentID == "" }},
		{"data is a list", v3(TypeTriggered, `[1]`), func(e Event) bool { return e.Kind == KindV3 && e.IncidentID == "" }},
		{"no roles", v3("incident.role.assigned", `{"type":"incident_role_assignment","incident_role_assignments":[]}`), func(e Event) bool { return e.Kind == KindV3 && e.IncidentID == "" }},
		{
			"assignees of mixed kinds", v3(TypeTriggered, `{"id":"QTEST0000001","type":"incident","assignees":[null,5,{"id":"PHUMAN1"}]}`),
			func(e Event) bool { return len(e.Incident.Assignees) == 1 },
		},
		{"unknown type", v3("galaxy.exploded", `{"type":"galaxy"}`), func(e Event) bool { return e.Kind == KindV3 && e.Type == "galaxy.exploded" && e.IncidentID == "" }},
		{
			"V2", `{"messages":[{"id":"m1","event":"incident.trigger","incident":{"id":"QTEST0000001","incident_number":41}}]}`,
			func(e Event) bool {
				return e.Kind == KindV2 && e.Type == "incident.trigger" && e.IncidentID == "QTEST0000001" && e.Incident.Number == 41 && e.Reason != ""
			},
		},
		{"V2 of odd shape", `{"messages":"none"}`, func(e Event) bool { return e.Kind == KindV2 }},
		{
			"orchestration", `{"text":"x","__pd_metadata":{"incident":{"id":"QTEST0000001"}}}`,
			func(e Event) bool { return e.Kind == KindOrchestration && e.IncidentID == "QTEST0000001" },
		},
		{
			"orchestration whose parameters look like an event", `{"event":{"id":"e","event_type":"incident.triggered"},"__pd_metadata":{"incident":{"id":"QTEST0000001"}}}`,
			func(e Event) bool { return e.Kind == KindOrchestration },
		},
		{"orchestration before there is an incident", `{"__pd_metadata":{}}`, func(e Event) bool { return e.Kind == KindOrchestration && e.IncidentID == "" }},
		{"event null", `{"event":null}`, func(e Event) bool { return e.Kind == KindUnknown && e.Reason != "" }},
		{"event is a string", `{"event":"x"}`, func(e Event) bool { return e.Kind == KindUnknown && e.Reason != "" }},
		{"no event type", `{"event":{"id":"e"}}`, func(e Event) bool { return e.Kind == KindUnknown && e.Reason != "" }},
		{"other JSON", `{"hello":"world"}`, func(e Event) bool { return e.Kind == KindUnknown && e.Reason != "" }},
		{"a list", `[]`, func(e Event) bool { return e.Kind == KindUnknown && e.Reason != "" }},
		{"null", `null`, func(e Event) bool { return e.Kind == KindUnknown && e.Reason != "" }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := ParseEvent([]byte(tt.body))
			if err != nil {
				t.Fatal(err)
			}
			if !tt.check(got) {
				t.Errorf("ParseEvent() = %+v (incident %+v)", got, got.Incident)
			}
			if string(got.Raw) != tt.body {
				t.Error("Raw is not the body as it came")
			}
		})
	}
}

func TestParseEventErrors(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, body string
		want       error
	}{
		{"empty", "", ErrNotJSON},
		{"words", "hello", ErrNotJSON},
		{"cut off", `{"event":{"id":"e"`, ErrNotJSON},
		{"two documents", `{}{}`, ErrNotJSON},
		{"form", "payload=%7B%7D", ErrNotJSON},
		{"too large", `"` + strings.Repeat("x", MaxEventBytes) + `"`, ErrTooLarge},
		{"too deep", strings.Repeat("[", maxEventDepth+1) + strings.Repeat("]", maxEventDepth+1), ErrTooDeep},
		{"too deep and cut off", strings.Repeat(`{"a":`, 100_000), ErrTooDeep},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if _, err := ParseEvent([]byte(tt.body)); !errors.Is(err, tt.want) {
				t.Errorf("ParseEvent() error = %v, want %v", err, tt.want)
			}
		})
	}
	brackets := `{"event":{"id":"e","event_type":"t","data":{"title":"` + strings.Repeat(`[{\"`, 100) + `"}}}`
	if _, err := ParseEvent([]byte(brackets)); err != nil {
		t.Errorf("brackets inside a string: %v", err)
	}
}

func FuzzParseEvent(f *testing.F) {
	f.Add([]byte(v3(TypeTriggered, fullIncident)))
	f.Add([]byte(v3(TypeAnnotated, `{"type":"incident_note","incident":`+incidentRef+`,"content":"drydock hands off"}`)))
	f.Add([]byte(v3("incident.role.assigned", `{"incident_role_assignments":[{"incident":`+incidentRef+`}]}`)))
	f.Add([]byte(`{"messages":[{"incident":{"id":"QTEST0000001"}}]}`))
	f.Add([]byte(`{"__pd_metadata":{"incident":{"id":"QTEST0000001"}}}`))
	f.Add([]byte(`{"event":[]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		ev, err := ParseEvent(body)
		if err != nil {
			if json.Valid(body) && errors.Is(err, ErrNotJSON) {
				t.Errorf("valid JSON was called not JSON: %q", body)
			}
			return
		}
		if ev.Kind == KindUnknown && ev.Reason == "" {
			t.Errorf("unknown kind without a reason: %q", body)
		}
		if ev.IncidentID != "" && !ValidID(ev.IncidentID) {
			t.Errorf("incident id %q got through", ev.IncidentID)
		}
		if strings.ContainsRune(ev.ID+ev.Type, 0) {
			t.Errorf("NUL got through: %q", body)
		}
		IsEcho(ev, "PBOT001")
	})
}
