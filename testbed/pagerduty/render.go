package pagerduty

import (
	"slices"
	"time"
)

type object = map[string]any

func ref(kind, id, summary, self, html string) object {
	return object{"id": id, "type": kind, "summary": orNil(summary), "self": orNil(self), "html_url": orNil(html)}
}

func orNil(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// stamp has second precision, as the times in incidents do; zero is null.
func stamp(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UTC().Format("2006-01-02T15:04:05Z")
}

func (a *account) url(path string) string { return a.behaviour.baseURL + path }

func (a *account) html(id string) string { return a.url("/#" + id) }

func (a *account) incidentRef(i *incident) object {
	return ref("incident_reference", i.ID, i.Title, a.url("/incidents/"+i.ID), a.html(i.ID))
}

func (a *account) userRef(id string) object {
	return ref("user_reference", id, a.userName(id), a.url("/users/"+id), a.url("/#user-"+id))
}

func (a *account) serviceRef(id string) object {
	name := ""
	if s := a.service(id); s != nil {
		name = s.Name
	}
	return ref("service_reference", id, name, a.url("/services/"+id), a.url("/#service-"+id))
}

func (a *account) policyRef(id string) object {
	name := ""
	if p := a.policy(id); p != nil {
		name = p.Name
	}
	return ref("escalation_policy_reference", id, name, a.url("/escalation_policies/"+id), a.url("/#policy-"+id))
}

func (a *account) priorityRef(name string) any {
	if name == "" {
		return nil
	}
	return ref("priority_reference", priorityID(name), name, a.url("/priorities/"+priorityID(name)), "")
}

func (a *account) agentRef(g Agent) any {
	switch g.Type {
	case "":
		return nil
	case "user_reference":
		return a.userRef(g.ID)
	default:
		return ref(g.Type, g.ID, g.Summary, a.url("/integrations/"+g.ID), "")
	}
}

func (a *account) teamRefs(i *incident) []object {
	s := a.service(i.ServiceID)
	if s == nil || s.TeamID == "" {
		return []object{}
	}
	return []object{ref("team_reference", s.TeamID, s.TeamID, a.url("/teams/"+s.TeamID), "")}
}

func (a *account) resolveReason(i *incident) any {
	if i.MergedInto == "" {
		return nil
	}
	target, err := a.incident(i.MergedInto)
	if err != nil {
		return nil
	}
	return object{"type": "merge_resolve_reason", "incident": a.incidentRef(target)}
}

// incidentJSON is an incident as REST shows it.
func (a *account) incidentJSON(i *incident, include []string) object {
	with := func(name string) bool { return slices.Contains(include, name) }
	assignments := []object{}
	for _, as := range i.Assignees {
		assignments = append(assignments, object{"at": stamp(as.At), "assignee": a.userJSON(as.UserID, with("assignees") || with("users"))})
	}
	acks := []object{}
	for _, k := range i.Acknowledgements {
		acks = append(acks, object{"at": stamp(k.At), "acknowledger": a.userJSON(k.UserID, with("acknowledgers") || with("users"))})
	}
	open := i.openAlerts()
	o := object{
		"id": i.ID, "type": "incident", "summary": "[#" + itoa(i.Number) + "] " + i.Title,
		"self": a.url("/incidents/" + i.ID), "html_url": a.html(i.ID),
		"incident_number": i.Number, "title": i.Title, "description": i.Title,
		"status": i.Status, "urgency": i.Urgency, "incident_key": orNil(i.IncidentKey),
		"created_at": stamp(i.CreatedAt), "updated_at": stamp(later(i.UpdatedAt, i.StatusChangedAt)), "resolved_at": stamp(i.ResolvedAt),
		"service":           a.serviceJSON(i.ServiceID, with("services")),
		"escalation_policy": a.policyJSON(i.PolicyID, with("escalation_policies")),
		"teams":             a.teamRefs(i), "priority": a.priorityRef(i.Priority),
		"assignments": assignments, "assigned_via": i.AssignedVia, "acknowledgements": acks,
		"last_status_change_at": stamp(i.StatusChangedAt), "last_status_change_by": a.restAgent(i, i.StatusChangedBy),
		"resolve_reason":          a.resolveReason(i),
		"alert_counts":            object{"all": len(i.Alerts), "triggered": open, "resolved": len(i.Alerts) - open},
		"pending_actions":         pendingActions(i),
		"is_mergeable":            i.Status != Resolved,
		"first_trigger_log_entry": nil,
		"incident_type":           object{"name": "incident_default"},
		"conference_bridge":       nil,
	}
	if !i.ReopenedAt.IsZero() {
		o["reopened_at"] = stamp(i.ReopenedAt)
	}
	if len(i.Log) > 0 {
		if with("first_trigger_log_entries") {
			o["first_trigger_log_entry"] = a.logJSON(i, i.Log[0], []string{"channels"})
		} else {
			e := i.Log[0]
			o["first_trigger_log_entry"] = ref(e.Type+"_reference", e.ID, summaryOf(e), a.url("/log_entries/"+e.ID), a.html(i.ID))
		}
	}
	if with("custom_fields") {
		o["custom_fields"] = customFields(i)
	}
	return o
}

// restAgent: what PagerDuty's own timers and policies did shows in REST as done
// by the service, where webhooks have null. This is assumed; it makes "somebody
// is named" a bad test for "a person did it".
func (a *account) restAgent(i *incident, g Agent) any {
	if g == (Agent{}) {
		return a.serviceRef(i.ServiceID)
	}
	return a.agentRef(g)
}

func pendingActions(i *incident) []object {
	list := []object{}
	add := func(kind string, at time.Time) {
		if !at.IsZero() {
			list = append(list, object{"type": kind, "at": stamp(at)})
		}
	}
	add("escalate", i.escalate.at)
	add("unacknowledge", i.unacknowledge.at)
	add("unacknowledge", i.snooze.at)
	add("resolve", i.autoResolve.at)
	return list
}

func customFields(i *incident) []object {
	list := []object{}
	for _, f := range i.CustomFields {
		list = append(list, object{"id": f.ID, "name": f.Name, "namespace": "incidents", "data_type": "string", "field_type": "single_value", "type": "field_value", "value": f.Value})
	}
	return list
}

// webhookIncident is an incident as webhooks show it: no alerts, no details, no
// notes, and "number" for what REST calls "incident_number".
func (a *account) webhookIncident(i *incident) object {
	assignees := []object{}
	for _, as := range i.Assignees {
		assignees = append(assignees, a.userRef(as.UserID))
	}
	o := object{
		"id": i.ID, "type": "incident", "self": a.url("/incidents/" + i.ID), "html_url": a.html(i.ID),
		"number": i.Number, "status": i.Status, "incident_key": orNil(i.IncidentKey),
		"created_at": stamp(i.CreatedAt), "title": i.Title, "service": a.serviceRef(i.ServiceID),
		"assignees": assignees, "escalation_policy": a.policyRef(i.PolicyID), "teams": a.teamRefs(i),
		"priority": a.priorityRef(i.Priority), "urgency": i.Urgency, "conference_bridge": nil,
		"resolve_reason": a.resolveReason(i), "incident_type": object{"name": "incident_default"},
	}
	if !i.ReopenedAt.IsZero() {
		o["reopened_at"] = stamp(i.ReopenedAt)
	}
	return o
}

func (a *account) userJSON(id string, full bool) object {
	u := a.user(id)
	if !full || u == nil {
		return a.userRef(id)
	}
	o := a.userRef(id)
	o["type"], o["name"], o["email"], o["time_zone"], o["role"] = "user", u.Name, u.Email, "Etc/UTC", "user"
	return o
}

func seconds(d time.Duration) any {
	if d == 0 {
		return nil
	}
	return int(d / time.Second)
}

func (a *account) serviceJSON(id string, full bool) object {
	s := a.service(id)
	if !full || s == nil {
		return a.serviceRef(id)
	}
	o := a.serviceRef(id)
	o["type"], o["name"], o["status"] = "service", s.Name, s.Status
	o["acknowledgement_timeout"], o["auto_resolve_timeout"] = seconds(s.AcknowledgementTimeout), seconds(s.AutoResolveTimeout)
	o["escalation_policy"] = a.policyRef(s.PolicyID)
	o["alert_creation"] = "create_alerts_and_incidents"
	o["incident_urgency_rule"] = object{"type": "constant", "urgency": s.Urgency}
	return o
}

func (a *account) policyJSON(id string, full bool) object {
	p := a.policy(id)
	if !full || p == nil {
		return a.policyRef(id)
	}
	rules := []object{}
	for n, l := range p.Levels {
		targets := []object{}
		for _, u := range l.Users {
			targets = append(targets, a.userRef(u))
		}
		delay := l.Delay
		if delay == 0 {
			delay = defaultDelay
		}
		rules = append(rules, object{"id": p.ID + "L" + itoa(n+1), "escalation_delay_in_minutes": int(delay / time.Minute), "targets": targets})
	}
	o := a.policyRef(id)
	o["type"], o["name"], o["num_loops"], o["escalation_rules"] = "escalation_policy", p.Name, 0, rules
	return o
}

func (a *account) alertJSON(i *incident, al Alert) object {
	return object{
		"id": al.ID, "type": "alert", "summary": al.Summary, "self": a.url("/incidents/" + i.ID + "/alerts/" + al.ID), "html_url": a.html(i.ID),
		"created_at": stamp(al.CreatedAt), "updated_at": stamp(later(al.CreatedAt, al.ResolvedAt)), "resolved_at": stamp(al.ResolvedAt),
		"status": al.Status, "alert_key": al.Key, "severity": al.Severity, "suppressed": al.Suppressed,
		"service": a.serviceRef(i.ServiceID), "incident": a.incidentRef(i),
		"integration": ref("inbound_integration_reference", "PI"+i.ServiceID, "Events API V2", "", ""),
		"body": object{
			"type": "alert_body", "contexts": []any{}, "details": al.Details,
			"cef_details": object{"dedup_key": al.Key, "description": al.Summary, "severity": al.Severity, "details": al.Details},
		},
	}
}

func (a *account) noteJSON(n Note) object {
	return object{"id": n.ID, "user": a.userRef(n.UserID), "channel": object{"summary": "The PagerDuty website or APIs"}, "content": n.Content, "created_at": stamp(n.CreatedAt)}
}

// logJSON is a log entry; the channel's details come only when asked for.
func (a *account) logJSON(i *incident, e LogEntry, include []string) object {
	channel := object{"type": e.Channel}
	if e.Detail != "" {
		channel["summary"] = e.Detail
	}
	if slices.Contains(include, "channels") {
		for _, al := range i.Alerts {
			if al.ID == e.Alert {
				channel["details"], channel["dedup_key"] = al.Details, al.Key
			}
		}
	}
	o := object{
		"id": e.ID, "type": e.Type, "summary": summaryOf(e), "self": a.url("/log_entries/" + e.ID), "html_url": a.html(i.ID),
		"created_at": stamp(e.At), "agent": a.restAgent(i, e.By), "channel": channel,
		"incident": a.incidentRef(i), "service": a.serviceRef(i.ServiceID), "teams": a.teamRefs(i), "contexts": []any{},
	}
	switch kindOf(e) {
	case "notify":
		o["user"] = a.userRef(e.Users[0])
	case "assign":
		assignees := []object{}
		for _, id := range e.Users {
			assignees = append(assignees, a.userRef(id))
		}
		o["assignees"] = assignees
	}
	return o
}
