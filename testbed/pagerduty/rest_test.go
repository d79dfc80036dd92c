package pagerduty

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/drydock/drydock/testbed/standin"
)

func TestKeysAndAuthors(t *testing.T) {
	t.Parallel()
	w := newTown(t, nil)
	i := w.incident()
	readOnly := w.AddKey(Key{Kind: ReadOnlyKey})
	users := w.AddKey(Key{Kind: UserKey, UserID: w.ada.ID})
	note := map[string]any{"note": map[string]any{"content": "hello"}}
	path := "/incidents/" + i.ID + "/notes"
	tests := map[string]struct {
		headers []string
		status  int
		code    float64
	}{
		"no key":                     {[]string{"Authorization", ""}, 401, 2006},
		"unknown key":                {[]string{"Authorization", "Token token=nope"}, 401, 2006},
		"read-only key":              {[]string{"Authorization", "Token token=" + readOnly}, 403, 2010},
		"account key":                {nil, 201, 0},
		"account key as bearer":      {[]string{"Authorization", "Bearer " + w.key}, 201, 0},
		"account key, no From":       {[]string{"From", ""}, 400, 2016},
		"account key, unknown From":  {[]string{"From", "nobody@example.com"}, 400, 1008},
		"user key, no From":          {[]string{"Authorization", "Token token=" + users, "From", ""}, 201, 0},
		"read-only key, also no key": {[]string{"Authorization", "Bearer " + readOnly, "From", ""}, 403, 2010},
	}
	for name, test := range tests {
		r := w.do(http.MethodPost, path, note, test.headers...)
		if r.status != test.status {
			t.Errorf("%s: status %d, want %d: %s", name, r.status, test.status, r.raw)
		}
		if code, _ := r.at("error", "code").(float64); code != test.code {
			t.Errorf("%s: code %v, want %v", name, code, test.code)
		}
	}
	missing := w.do(http.MethodPut, "/incidents", map[string]any{"incidents": []any{}}, "From", "")
	if m, _ := missing.at("error", "message").(string); !strings.Contains(m, `email address in the "From" header`) {
		t.Errorf("without From: %s", missing.raw)
	}
	if r := w.do(http.MethodGet, "/users/me", nil); r.status != 400 {
		t.Errorf("/users/me with an account key: %d", r.status)
	}
	me := w.expect(w.do(http.MethodGet, "/users/me", nil, "Authorization", "Token token="+users), 200)
	if me.at("user", "email") != w.ada.Email {
		t.Errorf("/users/me: %s", me.raw)
	}
	last := w.Requests()[0]
	if last.Header.Get("Content-Type") != "application/json" || last.Path != path {
		t.Errorf("the first request on record: %+v", last)
	}
}

func TestGetIncident(t *testing.T) {
	t.Parallel()
	w := newTown(t, nil)
	i := w.incident()
	w.check(w.SetCustomField(i.ID, "carrier", "prod-dal10-carrier3"))
	plain := w.expect(w.do(http.MethodGet, "/incidents/"+i.ID, nil), 200)
	byNumber := w.expect(w.do(http.MethodGet, fmt.Sprintf("/incidents/%d", i.Number), nil), 200)
	if !bytes.Equal(plain.raw, byNumber.raw) {
		t.Errorf("by number: %s", byNumber.raw)
	}
	if plain.at("incident", "incident_key") != nil || plain.at("incident", "custom_fields") != nil || plain.at("incident", "service", "type") != "service_reference" {
		t.Errorf("without include: %s", plain.raw)
	}
	if plain.at("incident", "pending_actions", 0, "type") != "escalate" || plain.at("incident", "pending_actions", 0, "at") != "2026-11-22T03:10:00Z" {
		t.Errorf("pending actions: %s", plain.raw)
	}
	full := w.expect(w.do(http.MethodGet, "/incidents/"+i.ID+"?include[]=services&include[]=first_trigger_log_entries&include[]=custom_fields", nil), 200)
	for want, got := range map[any]any{
		"active":              full.at("incident", "service", "status"),
		"10.0.0.7":            full.at("incident", "first_trigger_log_entry", "channel", "details", "node"),
		"prod-dal10-carrier3": full.at("incident", "custom_fields", 0, "value"),
		1800.0:                full.at("incident", "service", "acknowledgement_timeout"),
	} {
		if got != want {
			t.Errorf("included %v, want %v in %s", got, want, full.raw)
		}
	}
	missing := w.expect(w.do(http.MethodGet, "/incidents/QNOSUCHINCIDENT", nil), 404)
	if string(missing.raw) != `{"error":{"code":2100,"message":"Not Found"}}` {
		t.Errorf("unknown incident: %s", missing.raw)
	}
}

func TestListIncidents(t *testing.T) {
	t.Parallel()
	w := newTown(t, nil)
	old := w.incident()
	w.clock.Advance(40 * 24 * time.Hour)
	var ids []string
	for range 30 {
		ids = append(ids, w.incident().ID)
	}
	w.check(w.Resolve(ids[0], w.ada.ID, ""))
	key := w.now(ids[3]).Alerts[0].Key
	tests := map[string]struct {
		query string
		rows  int
		more  bool
	}{
		"default":             {"", 25, true},
		"the rest":            {"?offset=25", 5, false},
		"the limit is 100":    {"?limit=500", 30, false},
		"open":                {"?statuses[]=triggered&statuses[]=acknowledged&limit=100", 29, false},
		"all time":            {"?date_range=all&limit=100", 31, false},
		"old ones":            {"?since=2026-11-20&until=2026-11-30", 1, false},
		"by alert key":        {"?incident_key=" + key, 1, false},
		"of another service":  {"?service_ids[]=PNONE", 0, false},
		"of the team":         {"?team_ids[]=PTEAM1&limit=100", 30, false},
		"of the level-2 user": {"?user_ids[]=" + w.ada.ID + "&date_range=all", 1, false},
		"low urgency":         {"?urgencies[]=low", 0, false},
	}
	for name, test := range tests {
		r := w.expect(w.do(http.MethodGet, "/incidents"+test.query, nil), 200)
		rows, _ := r.at("incidents").([]any)
		if len(rows) != test.rows || r.at("more") != test.more || r.at("total") != nil {
			t.Errorf("%s: %d rows, more %v, total %v; want %d, %v, nil", name, len(rows), r.at("more"), r.at("total"), test.rows, test.more)
		}
	}
	first := w.do(http.MethodGet, "/incidents?date_range=all&sort_by=created_at:desc&limit=100&total=true", nil)
	if first.at("incidents", 30, "id") != old.ID || first.at("total") != 31.0 {
		t.Errorf("sorted: the last is %v of %v", first.at("incidents", 30, "id"), first.at("total"))
	}
	for name, query := range map[string]string{
		"beyond 10000": "?offset=9990&limit=11", "seven months": "?since=2026-06-01", "no such sort": "?sort_by=title", "offset": "?offset=x",
	} {
		if r := w.do(http.MethodGet, "/incidents"+query, nil); r.status != 400 {
			t.Errorf("%s: status %d, want 400", name, r.status)
		}
	}
}

func TestAlertsOfAnIncident(t *testing.T) {
	t.Parallel()
	w := newTown(t, nil)
	i, err := w.TriggerIncident(title, w.svc.ID, map[string]any{"daemonset": "node-exporter"}, "plain text")
	w.check(err)
	r := w.expect(w.do(http.MethodGet, "/incidents/"+i.ID+"/alerts", nil), 200)
	if r.at("alerts", 0, "body", "details", "daemonset") != "node-exporter" || r.at("alerts", 1, "body", "details") != "plain text" {
		t.Errorf("details: %s", r.raw)
	}
	al := i.Alerts[1]
	one := w.expect(w.do(http.MethodGet, "/incidents/"+i.ID+"/alerts?alert_key="+al.Key, nil), 200)
	if rows, _ := one.at("alerts").([]any); len(rows) != 1 || one.at("alerts", 0, "id") != al.ID {
		t.Errorf("by key: %s", one.raw)
	}
	wish := func(status string) map[string]any {
		return map[string]any{"alerts": []any{
			map[string]any{"id": i.Alerts[0].ID, "status": status}, map[string]any{"id": i.Alerts[1].ID, "status": status},
		}}
	}
	w.expect(w.do(http.MethodPut, "/incidents/"+i.ID+"/alerts", wish("acknowledged")), 400)
	w.expect(w.do(http.MethodPut, "/incidents/"+i.ID+"/alerts", wish("resolved")), 200)
	if now := w.now(i.ID); now.Status != Resolved {
		t.Errorf("all alerts are resolved and the incident is %s", now.Status)
	}
}

func TestNotes(t *testing.T) {
	t.Parallel()
	w := newTown(t, nil)
	i := w.incident()
	path := "/incidents/" + i.ID + "/notes"
	body := func(s string) map[string]any { return map[string]any{"note": map[string]any{"content": s}} }
	made := w.expect(w.do(http.MethodPost, path, body("first")), 201)
	id, _ := made.at("note", "id").(string)
	w.expect(w.do(http.MethodPut, path+"/"+id, body("second")), 200)
	listed := w.expect(w.do(http.MethodGet, path, nil), 200)
	if listed.at("notes", 0, "content") != "second" || listed.at("notes", 0, "user", "id") != w.bot.ID {
		t.Errorf("notes: %s", listed.raw)
	}
	w.expect(w.do(http.MethodPut, path+"/"+id, body("third"), "From", ""), 400)
	w.expect(w.do(http.MethodPost, path, body("")), 400)
	w.expect(w.do(http.MethodPost, path, body(strings.Repeat("x", maxNoteBytes))), 201)
	w.expect(w.do(http.MethodPost, path, body(strings.Repeat("x", maxNoteBytes+1))), 400)
	echo := w.Events()[1]
	if echo.Type != "incident.annotated" || echo.By.ID != w.bot.ID {
		t.Errorf("the echo of a note: %+v", echo)
	}
	w.Behave(Behaviour{NotesImmutable: true})
	w.expect(w.do(http.MethodPut, path+"/"+id, body("fourth")), 404)
	w.Behave(Behaviour{})
	w.expect(w.do(http.MethodDelete, path+"/"+id, nil), 204)
	for len(w.Notes(i.ID)) < maxNotes {
		if _, err := w.AddNote(i.ID, w.ada.ID, "again"); err != nil {
			t.Fatal(err)
		}
	}
	w.expect(w.do(http.MethodPost, path, body("one too many")), 400)
}

func TestUpdateIncidentsTogether(t *testing.T) {
	t.Parallel()
	w := newTown(t, nil)
	a, b := w.incident(), w.incident()
	put := func(wishes ...map[string]any) reply {
		t.Helper()
		return w.do(http.MethodPut, "/incidents", map[string]any{"incidents": wishes})
	}
	w.expect(put(map[string]any{"id": a.ID, "status": "resolved"}, map[string]any{"id": b.ID, "escalation_level": 9}), 400)
	if w.now(a.ID).Status != Triggered {
		t.Fatal("one of a refused batch was changed")
	}
	done := w.expect(put(map[string]any{"id": a.ID, "type": "incident_reference", "status": "resolved", "resolution": "ok"},
		map[string]any{"id": b.ID, "escalation_policy": map[string]any{"id": w.single.ID, "type": "escalation_policy_reference"}, "priority": "P2"}), 200)
	if done.at("incidents", 0, "status") != "resolved" || done.at("incidents", 1, "escalation_policy", "id") != w.single.ID || done.at("incidents", 1, "priority", "summary") != "P2" {
		t.Errorf("the answer: %s", done.raw)
	}
	if now := w.now(b.ID); !now.AssignedTo(w.grace.ID) || now.Priority != "P2" {
		t.Errorf("after the change: %+v", now)
	}
	again := w.expect(put(map[string]any{"id": a.ID, "status": "resolved"}), 400)
	if again.at("error", "errors", 0) != "Incident Already Resolved" || again.at("error", "code") != 2001.0 {
		t.Errorf("resolving twice: %s", again.raw)
	}
	w.expect(put(map[string]any{"id": a.ID, "escalation_level": 2}), 400)
	w.expect(put(map[string]any{"id": "QNONE", "status": "resolved"}), 404)
	many := make([]map[string]any, 251)
	for n := range many {
		many[n] = map[string]any{"id": b.ID}
	}
	w.expect(put(many...), 413)
}

func TestSnoozeMergeAndStatusUpdate(t *testing.T) {
	t.Parallel()
	w := newTown(t, nil)
	a, b := w.incident(), w.incident()
	snooze := map[string]any{"duration": 600}
	w.expect(w.do(http.MethodPost, "/incidents/"+a.ID+"/snooze", snooze), 400)
	w.check(w.Acknowledge(a.ID, w.ada.ID))
	w.expect(w.do(http.MethodPost, "/incidents/"+a.ID+"/snooze", snooze, "From", ""), 400)
	w.expect(w.do(http.MethodPost, "/incidents/"+a.ID+"/snooze", map[string]any{"duration": 604801}), 400)
	w.expect(w.do(http.MethodPost, "/incidents/"+a.ID+"/snooze", snooze), 201)
	w.expect(w.do(http.MethodPost, "/incidents/"+a.ID+"/status_updates", map[string]any{"message": "looking"}), 201)
	merge := map[string]any{"source_incidents": []any{map[string]any{"id": b.ID, "type": "incident_reference"}}}
	w.expect(w.do(http.MethodPut, "/incidents/"+a.ID+"/merge", merge), 200)
	gone := w.expect(w.do(http.MethodGet, "/incidents/"+b.ID, nil), 200)
	if gone.at("incident", "resolve_reason", "incident", "id") != a.ID {
		t.Errorf("resolve_reason: %s", gone.raw)
	}
	log := w.expect(w.do(http.MethodGet, "/incidents/"+a.ID+"/log_entries?limit=100", nil), 200)
	var kinds []any
	rows, _ := log.at("log_entries").([]any)
	for n := range rows {
		kinds = append(kinds, log.at("log_entries", len(rows)-1-n, "type"))
	}
	want := []any{"trigger_log_entry", "assign_log_entry", "notify_log_entry", "acknowledge_log_entry", "snooze_log_entry", "status_update_log_entry", "merge_log_entry"}
	if diff := cmp.Diff(want, kinds); diff != "" {
		t.Errorf("log (-want +got):\n%s", diff)
	}
}

func TestRateLimits(t *testing.T) {
	t.Parallel()
	w := newTown(t, func(o *Options) { o.RateLimit, o.UpdateRateLimit = 5, 2 })
	none := map[string]any{"incidents": []any{}}
	if r := w.do(http.MethodGet, "/users", nil); r.header.Get("ratelimit-limit") != "5" || r.header.Get("ratelimit-remaining") != "4" || r.header.Get("ratelimit-reset") != "60" {
		t.Errorf("headers: %v", r.header)
	}
	w.expect(w.do(http.MethodPut, "/incidents", none), 200)
	w.expect(w.do(http.MethodPut, "/incidents", none), 200)
	w.clock.Advance(20 * time.Second)
	r := w.expect(w.do(http.MethodPut, "/incidents", none), 429)
	if r.at("error", "code") != 2020.0 || r.header.Get("ratelimit-reset") != "40" || r.header.Get("ratelimit-limit") != "2" {
		t.Errorf("the limit of PUT /incidents: %v %s", r.header, r.raw)
	}
	w.expect(w.do(http.MethodGet, "/users", nil), 200)
	w.expect(w.do(http.MethodGet, "/users", nil), 429)
	other := w.AddKey(Key{Kind: AccountKey})
	w.expect(w.do(http.MethodGet, "/users", nil, "Authorization", "Token token="+other), 200)
	w.clock.Advance(40 * time.Second)
	w.expect(w.do(http.MethodGet, "/users", nil), 200)
}

func TestFaults(t *testing.T) {
	t.Parallel()
	w := newTown(t, nil)
	i := w.incident()
	path := "/incidents/" + i.ID + "/notes"
	note := map[string]any{"note": map[string]any{"content": "hello"}}
	for _, f := range []standin.Fault{
		RateLimited("", "/incidents/*/notes", 1, 1500*time.Millisecond), BareRateLimited("POST", "", 1),
		RequestTimeout("POST", "/incidents/*/notes", 1), BadGateway("POST", path, 1),
	} {
		w.Faults.Inject(f)
	}
	limited := w.expect(w.do(http.MethodPost, path, note), 429)
	if limited.header.Get("ratelimit-reset") != "2" {
		t.Errorf("headers of the 429: %v", limited.header)
	}
	if bare := w.expect(w.do(http.MethodPost, path, note), 429); bare.header.Get("ratelimit-reset") != "" {
		t.Errorf("headers of the bare 429: %v", bare.header)
	}
	w.expect(w.do(http.MethodPost, path, note), 408)
	if page := w.expect(w.do(http.MethodPost, path, note), 502); !strings.Contains(string(page.raw), "<html>") {
		t.Errorf("the 502: %s", page.raw)
	}
	if n := len(w.Notes(i.ID)); n != 0 {
		t.Fatalf("%d notes after four refusals", n)
	}
	w.Faults.Inject(ConnectionReset("POST", path, 1))
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.url+path, strings.NewReader(`{"note":{"content":"lost answer"}}`))
	w.check(err)
	r.Header.Set("Authorization", "Token token="+w.key)
	r.Header.Set("From", w.bot.Email)
	if resp, err := http.DefaultClient.Do(r); err == nil {
		t.Errorf("status %d, want a broken connection", resp.StatusCode)
	}
	if notes := w.Notes(i.ID); len(notes) != 1 || notes[0].Content != "lost answer" {
		t.Errorf("the write before the reset: %+v", notes)
	}
	if w.Faults.Hits() != 5 {
		t.Errorf("%d faults hit, want 5", w.Faults.Hits())
	}
}

func TestErrorShapes(t *testing.T) {
	t.Parallel()
	w := newTown(t, nil)
	i := w.incident()
	w.check(w.Resolve(i.ID, w.ada.ID, ""))
	for shape, want := range map[ErrorShape]string{
		ShapeObject:       `{"error":{"code":2001,"errors":["Incident Already Resolved"],"message":"Invalid Input Provided"}}`,
		ShapeErrorsString: `{"error":{"code":2001,"errors":"Incident Already Resolved","message":"Invalid Input Provided"}}`,
		ShapeArray:        `{"error":["Invalid Input Provided","Incident Already Resolved"]}`,
		ShapeFlat:         `{"code":2001,"errors":["Incident Already Resolved"],"message":"Invalid Input Provided"}`,
		ShapeText:         "Invalid Input Provided: Incident Already Resolved\n",
	} {
		w.Behave(Behaviour{ErrorShape: shape})
		r := w.expect(w.do(http.MethodPut, "/incidents/"+i.ID, map[string]any{"incident": map[string]any{"status": "resolved"}}), 400)
		if string(r.raw) != want {
			t.Errorf("shape %d: %s, want %s", shape, r.raw, want)
		}
	}
}

func TestEventsAPI(t *testing.T) {
	t.Parallel()
	w := newTown(t, func(o *Options) { o.EventsRateLimit = 6 })
	send := func(action, key string, details any) reply {
		t.Helper()
		return w.do(http.MethodPost, "/v2/enqueue", map[string]any{
			"routing_key": w.svc.RoutingKey, "event_action": action, "dedup_key": key, "client": "Prometheus",
			"payload": map[string]any{"summary": title, "source": "dal10", "severity": "critical", "custom_details": details},
		}, "Authorization", "", "From", "")
	}
	first := w.expect(send("trigger", "", map[string]any{"a": 1.5}), 202)
	key, _ := first.at("dedup_key").(string)
	w.expect(send("trigger", key, nil), 202)
	w.expect(send("acknowledge", key, nil), 202)
	all := w.Incidents()
	if len(all) != 1 || all[0].Status != Acknowledged || all[0].Client.Name != "Prometheus" {
		t.Fatalf("after two triggers with one key: %+v", all)
	}
	w.expect(send("resolve", key, nil), 202)
	w.expect(send("trigger", key, nil), 202)
	if all = w.Incidents(); len(all) != 2 || all[0].Status != Resolved {
		t.Fatalf("after the resolve: %+v", all)
	}
	w.expect(send("resolve", key, nil), 202)
	w.expect(send("resolve", key, nil), 429)
	for name, body := range map[string]string{
		"not JSON":     "{",
		"long summary": `{"routing_key":"` + w.svc.RoutingKey + `","event_action":"trigger","payload":{"summary":"` + strings.Repeat("x", 1025) + `","source":"s","severity":"info"}}`,
		"unknown key":  `{"routing_key":"00","event_action":"resolve","dedup_key":"x"}`,
		"no key":       `{"event_action":"resolve"}`,
	} {
		r := w.expect(w.do(http.MethodPost, "/v2/enqueue", body), 400)
		if r.at("status") != "invalid event" || r.at("errors", 0) == nil {
			t.Errorf("%s: %s", name, r.raw)
		}
	}
	w.clock.Advance(time.Minute)
	w.expect(w.do(http.MethodPost, "/v2/change/enqueue", `{"routing_key":"`+w.svc.RoutingKey+`","payload":{"summary":"reapplied"}}`), 202)
	if c := w.ChangeEvents(); len(c) != 1 || c[0].Summary != "reapplied" || len(w.Incidents()) != 2 {
		t.Errorf("change events: %+v", c)
	}
}

func TestCreateIncident(t *testing.T) {
	t.Parallel()
	w := newTown(t, nil)
	wish := map[string]any{"incident": map[string]any{"type": "incident", "title": "by hand", "service": map[string]any{"id": w.svc.ID, "type": "service_reference"}, "incident_key": "k1"}}
	r := w.expect(w.do(http.MethodPost, "/incidents", wish), 201)
	if r.at("incident", "incident_key") != "k1" || r.at("incident", "alert_counts", "all") != 0.0 {
		t.Errorf("an incident made by hand: %s", r.raw)
	}
	w.expect(w.do(http.MethodPost, "/incidents", wish), 400)
}

func TestDirectory(t *testing.T) {
	t.Parallel()
	w := newTown(t, nil)
	for path, want := range map[string][]any{
		"/services/" + w.svc.ID:                {"service", "name", "carriers"},
		"/services":                            {"services", 0, "escalation_policy", "id", w.policy.ID},
		"/escalation_policies/" + w.policy.ID:  {"escalation_policy", "escalation_rules", 1, "targets", 0, "id", w.ada.ID},
		"/escalation_policies":                 {"escalation_policies", 0, "escalation_rules", 0, "escalation_delay_in_minutes", 10.0},
		"/users?query=drydock":                 {"users", 0, "id", w.bot.ID},
		"/users/" + w.grace.ID:                 {"user", "email", w.grace.Email},
		"/priorities":                          {"priorities", 0, "name", "P1"},
		"/webhook_subscriptions?filter_id=P00": {"more", false},
	} {
		r := w.expect(w.do(http.MethodGet, path, nil), 200)
		if got := r.at(want[:len(want)-1]...); got != want[len(want)-1] {
			t.Errorf("%s: %v, want %v in %s", path, got, want[len(want)-1], r.raw)
		}
	}
	for _, path := range []string{"/services/PX", "/users/PX", "/escalation_policies/PX", "/webhook_subscriptions/PX", "/teapots"} {
		w.expect(w.do(http.MethodGet, path, nil), 404)
	}
}
