package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/drydock/drydock/incident"
	"github.com/drydock/drydock/playbook"
	"github.com/drydock/drydock/store"
)

var (
	began      = time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC)
	testTarget = playbook.Target{Carrier: "prod-dal10-carrier3", Namespace: "monitoring", DaemonSet: "node-exporter"}
	person     = incident.Ref{ID: "PHUMAN1", Type: "user_reference", Summary: "Ann"}
	bot        = incident.Ref{ID: "PBOT001", Type: "user_reference", Summary: "Drydock"}
)

const (
	nodeExporterTitle = "blumemix.containers-kubernetes.prod-dal10-carrier3.not_running_all_node-exporter_demonsets.us-south"
	fluentdTitle      = "blumemix.containers-kubernetes.prod-dal10-carrier3.not_running_all_ibm-kube-fluentd_demonsets.us-south"
)

// account is a PagerDuty with one incident. An error that is set for a call is returned by it; writes are noted.
type account struct {
	in      incident.Incident
	alerts  []incident.Alert
	entries []incident.LogEntry
	notes   []incident.Note
	open    []incident.Incident
	user    incident.User
	fail    map[string]error
	writes  []string
}

func (a *account) Subscriptions(context.Context) ([]incident.Subscription, error) { return nil, nil }
func (a *account) EnableSubscription(context.Context, string) error               { return nil }

func (a *account) err(call string) error { return a.fail[call] }

func (a *account) write(call, detail string) error {
	a.writes = append(a.writes, strings.TrimSpace(call+" "+detail))
	return a.fail[call]
}

func (a *account) GetIncident(context.Context, string) (incident.Incident, error) {
	return a.in, a.err("get")
}
func (a *account) ListAlerts(context.Context, string) ([]incident.Alert, error) {
	return a.alerts, a.err("alerts")
}
func (a *account) LogEntries(context.Context, string, time.Time) ([]incident.LogEntry, error) {
	return a.entries, a.err("log")
}
func (a *account) ListNotes(context.Context, string) ([]incident.Note, error) {
	return a.notes, a.err("notes")
}
func (a *account) OpenIncidents(context.Context, []string) ([]incident.Incident, error) {
	return a.open, a.err("open")
}
func (a *account) BotUser(context.Context) (incident.User, error) { return a.user, a.err("bot") }
func (a *account) CreateNote(_ context.Context, _, content string) (incident.Note, error) {
	return incident.Note{ID: "PNEW001"}, a.write("create", content)
}
func (a *account) UpdateNote(_ context.Context, _, note, content string) (incident.Note, error) {
	return incident.Note{ID: note}, a.write("update", note+" "+content)
}
func (a *account) Acknowledge(context.Context, string) error { return a.write("acknowledge", "") }
func (a *account) Resolve(context.Context, string) error     { return a.write("resolve", "") }
func (a *account) EscalateToLevel(_ context.Context, _ string, level int) error {
	return a.write("level", fmt.Sprint(level))
}
func (a *account) EscalateToPolicy(_ context.Context, _, policy string) error {
	return a.write("policy "+policy, "")
}

func newAccount() *account {
	return &account{
		user: incident.User{ID: bot.ID}, fail: map[string]error{},
		in: incident.Incident{
			ID: "QTEST0000001", Number: 7, Title: "#7: " + nodeExporterTitle, Status: incident.StatusTriggered, URL: "https://pd/7", Urgency: "high",
			CreatedAt: began, AssignedVia: "escalation_policy", Assignments: []incident.Assignment{{Assignee: person, At: began}},
			EscalationPolicy: incident.EscalationPolicy{Ref: incident.Ref{ID: "POWN001"}, Levels: [][]incident.Ref{{person}, {{ID: "PBOSS01", Type: "user_reference"}}}},
			Service:          incident.Service{AcknowledgementTimeout: time.Hour},
		},
		alerts: []incident.Alert{{ID: "A1", Summary: nodeExporterTitle, Status: "triggered"}},
	}
}

type paged struct{ keys []string }

func newTestPager(t *testing.T, a *account) (*pager, *paged) {
	t.Helper()
	rules, err := incident.NewRules(incident.RuleConfig{})
	if err != nil {
		t.Fatal(err)
	}
	var pages paged
	return &pager{
		client: a, listing: make(chan struct{}, 1), rules: rules, approvers: []string{person.ID}, now: func() time.Time { return began.Add(time.Hour) },
		log: slog.New(slog.DiscardHandler), page: func(_ context.Context, key, _ string) { pages.keys = append(pages.keys, key) },
	}, &pages
}

func TestPagerReadsAnIncident(t *testing.T) {
	t.Parallel()
	a := newAccount()
	a.in.Status = incident.StatusAcknowledged
	a.in.Acknowledgements = []incident.Acknowledgement{{Acknowledger: person, At: began.Add(time.Minute)}}
	a.entries = []incident.LogEntry{
		{Type: "acknowledge_log_entry", Agent: person, CreatedAt: began.Add(time.Minute)},
		{Type: "escalate_log_entry", Agent: person, CreatedAt: began.Add(2 * time.Minute)},
		{Type: "escalate_log_entry", Agent: incident.Ref{ID: "PSVC001", Type: "service_reference"}, CreatedAt: began.Add(2 * time.Minute)},
		{Type: "resolve_log_entry", Agent: bot, CreatedAt: began.Add(3 * time.Minute)},
	}
	a.notes = []incident.Note{{ID: "N1", Content: "drydock hands off please", User: person, CreatedAt: began.Add(4 * time.Minute)}}
	a.alerts = append(a.alerts,
		incident.Alert{ID: "A2", Summary: fluentdTitle, Status: "triggered"},
		incident.Alert{ID: "A3", Summary: "the coffee machine is empty", Status: "triggered"},
		incident.Alert{ID: "A4", Summary: fluentdTitle, Status: "resolved"},
		incident.Alert{ID: "A5", Summary: nodeExporterTitle, Status: "triggered", Details: map[string]any{"node": "worker-07"}},
	)
	p, _ := newTestPager(t, a)
	got, known := p.Incident(t.Context(), "QTEST0000001", testTarget, began).Get()
	if !known {
		t.Fatal("the incident is unknown")
	}
	want := playbook.Incident{
		ID: "QTEST0000001", Number: 7, Title: "#7: " + nodeExporterTitle, URL: "https://pd/7", Status: playbook.Acknowledged, Owner: "Ann", TriggeredAt: began,
		Acts: []playbook.Act{
			{Kind: playbook.ActAcknowledged, Who: "Ann", At: began.Add(time.Minute)},
			{Kind: playbook.ActReassigned, Who: "Ann", At: began.Add(2 * time.Minute)},
			{Kind: playbook.ActHandsOff, Who: "Ann", At: began.Add(4 * time.Minute)},
		},
		Unexplained: []string{fluentdTitle, "the coffee machine is empty"}, Alerts: 5, NodesInDetails: []string{"worker-07"},
		Policy: "POWN001", Level: 1, Levels: 2,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// The first alert gave the incident its title: it needs no title of its own that fits, but one of another target speaks.
func TestPagerExplainsTheFirstAlertByTheTitle(t *testing.T) {
	t.Parallel()
	for summary, unexplained := range map[string]int{"something odd": 0, "": 0, nodeExporterTitle: 0, fluentdTitle: 1} {
		a := newAccount()
		a.alerts[0].Summary = summary
		p, _ := newTestPager(t, a)
		got, _ := p.Incident(t.Context(), "QTEST0000001", testTarget, began).Get()
		if len(got.Unexplained) != unexplained {
			t.Errorf("%q: unexplained %q", summary, got.Unexplained)
		}
	}
}

func TestPagerNeverReadsAnErrorAsAnAnswer(t *testing.T) {
	t.Parallel()
	down := &incident.APIError{Op: "x"}
	for _, call := range []string{"get", "alerts", "log", "notes"} {
		a := newAccount()
		a.fail[call] = down
		p, _ := newTestPager(t, a)
		if r := p.Incident(t.Context(), "QTEST0000001", testTarget, began); !r.IsUnknown() {
			t.Errorf("%s failed and the incident is known", call)
		}
	}
	a := newAccount()
	a.fail["open"] = down
	p, _ := newTestPager(t, a)
	if r := p.DiskIncidents(t.Context(), testTarget.Carrier); !r.IsUnknown() {
		t.Error("the list failed and the disk incidents are known")
	}
	a = newAccount()
	a.fail["bot"] = fmt.Errorf("x: %w", incident.ErrUnavailable)
	p, _ = newTestPager(t, a)
	if r := p.Incident(t.Context(), "QTEST0000001", testTarget, began); !r.IsUnknown() {
		t.Error("who we are is not known, and the incident is")
	}
	// That there is no such user is an answer.
	a.fail["bot"] = fmt.Errorf("x: %w", incident.ErrNotFound)
	if r := p.Incident(t.Context(), "QTEST0000001", testTarget, began); !r.IsKnown() {
		t.Error(r.Why())
	}
}

func TestPagerFindsDiskIncidents(t *testing.T) {
	t.Parallel()
	a := newAccount()
	a.open = []incident.Incident{
		{ID: "Q1", Number: 1, Title: "prod-dal10-carrier3-worker-07 disk is 95 % full"}, {ID: "Q2", Title: "prod-dal10-carrier33 disk"}, {ID: "Q3", Title: nodeExporterTitle},
	}
	p, _ := newTestPager(t, a)
	got, _ := p.DiskIncidents(t.Context(), "prod-dal10-carrier3").Get()
	if len(got) != 1 || got[0].ID != "Q1" {
		t.Errorf("got %+v", got)
	}
	// One list serves every carrier for a few seconds; then it is read anew.
	a.open = nil
	if got, known := p.DiskIncidents(t.Context(), "prod-dal10-carrier33").Get(); !known || len(got) != 1 || got[0].ID != "Q2" {
		t.Errorf("another carrier at the same moment: %v %v", got, known)
	}
	p.now = func() time.Time { return began.Add(time.Hour + listAge) }
	if got, known := p.DiskIncidents(t.Context(), "prod-dal10-carrier3").Get(); !known || len(got) != 0 {
		t.Errorf("none: %v %v", got, known)
	}
	// A list that failed serves nobody.
	p.now = func() time.Time { return began.Add(2 * time.Hour) }
	a.fail["open"] = incident.ErrUnavailable
	if r := p.DiskIncidents(t.Context(), "prod-dal10-carrier3"); !r.IsUnknown() {
		t.Errorf("PagerDuty is away: %v", r)
	}
	delete(a.fail, "open")
	if r := p.DiskIncidents(t.Context(), "prod-dal10-carrier3"); !r.IsKnown() {
		t.Errorf("PagerDuty is back: %s", r.Why())
	}
}

// TestPagerCountsActsFromTheTrigger: without a moment given, what people did since the incident was triggered or reopened
// counts, and nothing from before.
func TestPagerCountsActsFromTheTrigger(t *testing.T) {
	t.Parallel()
	a := newAccount()
	a.entries = []incident.LogEntry{
		{Type: "acknowledge_log_entry", Agent: person, CreatedAt: began.Add(time.Minute)},
		{Type: "resolve_log_entry", Agent: person, CreatedAt: began.Add(2 * time.Minute)},
		{Type: "reopen_log_entry", CreatedAt: began.Add(time.Hour)},
		{Type: "acknowledge_log_entry", Agent: person, CreatedAt: began.Add(61 * time.Minute)},
	}
	p, _ := newTestPager(t, a)
	got, _ := p.Incident(t.Context(), "QTEST0000001", testTarget, time.Time{}).Get()
	want := []playbook.Act{{Kind: playbook.ActAcknowledged, Who: "Ann", At: began.Add(61 * time.Minute)}}
	if d := cmp.Diff(want, got.Acts); d != "" || !got.TriggeredAt.Equal(began.Add(time.Hour)) {
		t.Errorf("triggered at %s, acts (-want +got):\n%s", got.TriggeredAt, d)
	}
	a.entries = a.entries[:1]
	if got, _ = p.Incident(t.Context(), "QTEST0000001", testTarget, time.Time{}).Get(); len(got.Acts) != 1 || !got.TriggeredAt.Equal(began) {
		t.Errorf("never reopened: triggered at %s, acts %v", got.TriggeredAt, got.Acts)
	}
	a.in.ReopenedAt = began.Add(time.Hour)
	if got, _ = p.Incident(t.Context(), "QTEST0000001", testTarget, time.Time{}).Get(); len(got.Acts) != 0 || !got.TriggeredAt.Equal(a.in.ReopenedAt) {
		t.Errorf("reopened, by its own word: triggered at %s, acts %v", got.TriggeredAt, got.Acts)
	}
}

func TestPagerWrites(t *testing.T) {
	t.Parallel()
	invalid := fmt.Errorf("x: %w", incident.ErrInvalid)
	ambiguous := fmt.Errorf("x: %w", incident.ErrAmbiguous)
	resolve, acknowledge := playbook.Resolve{Incident: "QTEST0000001"}, playbook.Acknowledge{Incident: "QTEST0000001"}
	escalate := playbook.Escalate{Incident: "QTEST0000001", Policy: "PARMOPS"}
	upwards := playbook.Escalate{Incident: "QTEST0000001"}
	note := playbook.Annotate{Incident: "QTEST0000001", Text: "hello"}
	rewrite := playbook.Annotate{Incident: "QTEST0000001", Note: "PNOTE01", Text: "hello"}
	byPerson := func(a *account) {
		a.in.Status, a.in.LastStatusChangeBy = incident.StatusResolved, person
	}
	owned := func(a *account) {
		a.in.Status, a.in.Acknowledgements = incident.StatusAcknowledged, []incident.Acknowledgement{{Acknowledger: person}}
	}
	failing := func(call string, err error) func(*account) { return func(a *account) { a.fail[call] = err } }
	tests := map[string]struct {
		action  playbook.Action
		account func(*account)
		result  playbook.Result // empty: an error, so that the engine looks again
		writes  []string
		receipt string
		pages   int
	}{
		"resolve":                        {action: resolve, result: playbook.Happened, writes: []string{"resolve"}},
		"resolve, resolved by a person":  {action: resolve, account: byPerson, result: playbook.Superseded},
		"resolve, owned by a person":     {action: resolve, account: owned, result: playbook.Superseded},
		"resolve, gone":                  {action: resolve, account: failing("get", fmt.Errorf("x: %w", incident.ErrNotFound)), result: playbook.Superseded},
		"resolve, unreadable":            {action: resolve, account: failing("get", errors.New("x"))},
		"resolve, ambiguous":             {action: resolve, account: failing("resolve", ambiguous), writes: []string{"resolve"}},
		"resolve, refused":               {action: resolve, account: failing("resolve", invalid), result: playbook.Refused, writes: []string{"resolve"}},
		"resolve, token refused":         {action: resolve, account: failing("resolve", fmt.Errorf("x: %w", incident.ErrUnauthorized)), writes: []string{"resolve"}},
		"escalate to the policy":         {action: escalate, result: playbook.Happened, writes: []string{"policy PARMOPS"}},
		"escalate, resolved":             {action: escalate, account: byPerson, result: playbook.Superseded},
		"escalate, owned":                {action: escalate, account: owned, result: playbook.Superseded},
		"escalate, ambiguous":            {action: escalate, account: failing("policy PARMOPS", ambiguous), writes: []string{"policy PARMOPS"}},
		"escalate, no such policy":       {action: escalate, account: failing("policy PARMOPS", invalid), result: playbook.Happened, writes: []string{"policy PARMOPS", "level 2"}},
		"escalate without a policy":      {action: upwards, result: playbook.Happened, writes: []string{"level 2"}},
		"escalate from the top":          {action: upwards, account: func(a *account) { a.in.EscalationPolicy.Levels = a.in.EscalationPolicy.Levels[:1] }, result: playbook.Happened, writes: []string{"policy POWN001"}},
		"escalate at low urgency":        {action: upwards, account: func(a *account) { a.in.Urgency = "low" }, result: playbook.Happened, writes: []string{"policy POWN001"}},
		"escalate, level not to be told": {action: upwards, account: func(a *account) { a.in.Assignments = nil }, result: playbook.Happened, writes: []string{"level 2"}},
		"escalate, every way is refused": {action: escalate, account: func(a *account) {
			a.fail["policy PARMOPS"], a.fail["level"], a.fail["policy POWN001"] = invalid, invalid, invalid
		}, result: playbook.Refused, writes: []string{"policy PARMOPS", "level 2", "policy POWN001"}, pages: 1},
		"note":                            {action: note, result: playbook.Happened, writes: []string{"create hello"}, receipt: "PNEW001"},
		"note on a resolved incident":     {action: note, account: byPerson, result: playbook.Happened, writes: []string{"create hello"}, receipt: "PNEW001"},
		"note, ambiguous":                 {action: note, account: failing("create", ambiguous), writes: []string{"create hello"}},
		"rewrite":                         {action: rewrite, result: playbook.Happened, writes: []string{"update PNOTE01 hello"}, receipt: "PNOTE01"},
		"rewrite, can not be edited":      {action: rewrite, account: failing("update", fmt.Errorf("x: %w", incident.ErrNotEditable)), result: playbook.Happened, writes: []string{"update PNOTE01 hello", "create hello"}, receipt: "PNEW001"},
		"rewrite, ambiguous":              {action: rewrite, account: failing("update", ambiguous), writes: []string{"update PNOTE01 hello"}},
		"acknowledge":                     {action: acknowledge, result: playbook.Happened, writes: []string{"acknowledge"}},
		"acknowledge without a timeout":   {action: acknowledge, account: func(a *account) { a.in.Service.AcknowledgementTimeout = 0 }, result: playbook.Refused},
		"acknowledge twice":               {action: acknowledge, account: func(a *account) { a.in.Status = incident.StatusAcknowledged }, result: playbook.Superseded},
		"something else than PagerDuty's": {action: playbook.Cordon{Node: "QTEST0000001"}, result: playbook.Refused},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAccount()
			if tt.account != nil {
				tt.account(a)
			}
			p, pages := newTestPager(t, a)
			s, err := p.Do(t.Context(), playbook.Call{Run: "r1", Action: tt.action})
			if (err != nil) != (tt.result == "") || s.Result != tt.result {
				t.Errorf("settled %q (%s), error %v; want %q", s.Result, s.Detail, err, tt.result)
			}
			if diff := cmp.Diff(tt.writes, a.writes); diff != "" {
				t.Error(diff)
			}
			if tt.result != "" && s.Receipt != tt.receipt {
				t.Errorf("receipt %q, want %q", s.Receipt, tt.receipt)
			}
			if len(pages.keys) != tt.pages {
				t.Errorf("paged %v", pages.keys)
			}
		})
	}
}

func TestPagerRecovers(t *testing.T) {
	t.Parallel()
	sent := began.Add(10 * time.Minute)
	entry := func(kind string, who incident.Ref) func(*account) {
		return func(a *account) {
			a.entries = []incident.LogEntry{{Type: kind, Agent: who, CreatedAt: sent.Add(time.Second)}}
		}
	}
	tests := map[string]struct {
		action  playbook.Action
		account func(*account)
		result  playbook.Result
		receipt string
	}{
		"note found": {
			action:  playbook.Annotate{Incident: "Q", Marker: "[drydock run=r1 note=1]"},
			account: func(a *account) { a.notes = []incident.Note{{ID: "N9", Content: "x\n[drydock run=r1 note=1]"}} }, result: playbook.Happened, receipt: "N9",
		},
		"note not found":           {action: playbook.Annotate{Incident: "Q", Marker: "[drydock run=r1 note=1]"}, result: playbook.NotHappened},
		"resolve found":            {action: playbook.Resolve{Incident: "Q"}, account: entry("resolve_log_entry", bot), result: playbook.Happened},
		"resolved by a person":     {action: playbook.Resolve{Incident: "Q"}, account: func(a *account) { a.in.Status = incident.StatusResolved }, result: playbook.Superseded},
		"resolve not found":        {action: playbook.Resolve{Incident: "Q"}, account: entry("resolve_log_entry", person), result: playbook.NotHappened},
		"escalate found":           {action: playbook.Escalate{Incident: "Q"}, account: entry("escalate_log_entry", bot), result: playbook.Happened},
		"escalate by a timer":      {action: playbook.Escalate{Incident: "Q"}, account: entry("escalate_log_entry", incident.Ref{Type: "service_reference"}), result: playbook.NotHappened},
		"escalate, its own policy": {action: playbook.Escalate{Incident: "Q", Policy: "POWN001"}, result: playbook.NotHappened}, // it had that policy before the call
		"escalate not found":       {action: playbook.Escalate{Incident: "Q", Policy: "PARMOPS"}, result: playbook.NotHappened},
		"acknowledge found":        {action: playbook.Acknowledge{Incident: "Q"}, account: entry("acknowledge_log_entry", bot), result: playbook.Happened},
		"unreadable":               {action: playbook.Resolve{Incident: "Q"}, account: func(a *account) { a.fail["log"] = errors.New("x") }},
		"notes unreadable":         {action: playbook.Annotate{Incident: "Q", Marker: "m"}, account: func(a *account) { a.fail["notes"] = errors.New("x") }},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAccount()
			if tt.account != nil {
				tt.account(a)
			}
			p, _ := newTestPager(t, a)
			i := playbook.Intent{Action: tt.action, SentAt: sent, CallDeadline: sent.Add(10 * time.Second)}
			s, err := p.Recover(t.Context(), i, "r1")
			if (err != nil) != (tt.result == "") || s.Result != tt.result || s.Receipt != tt.receipt {
				t.Errorf("settled %+v, error %v; want %q", s, err, tt.result)
			}
			if len(a.writes) > 0 {
				t.Errorf("recovering wrote %v", a.writes)
			}
		})
	}
}

func TestLookup(t *testing.T) {
	t.Parallel()
	details := map[string]any{"alertname": "KubeDaemonSetRolloutStuck", "cluster": "prod-dal10-carrier3", "namespace": "tools", "daemonset": "my-agent"}
	tests := map[string]struct {
		account func(*account)
		target  playbook.Target
		reason  string
		fails   bool
	}{
		"title says it": {target: testTarget},
		"details say it": {
			account: func(a *account) {
				a.in.Title, a.alerts[0].Summary, a.alerts[0].Details = "KubeDaemonSetRolloutStuck", "", details
			},
			target: playbook.Target{Carrier: "prod-dal10-carrier3", Namespace: "tools", DaemonSet: "my-agent"},
		},
		"nothing says it":    {account: func(a *account) { a.in.Title = "coffee" }, reason: "no rule matches the title"},
		"namespace missing":  {account: func(a *account) { a.in.Title = strings.Replace(nodeExporterTitle, "node-exporter", "unlisted", 1) }, reason: "namespace of DaemonSet unlisted"},
		"carrier unknown":    {account: func(a *account) { a.in.Title = strings.Replace(nodeExporterTitle, "carrier3", "carrier9", 1) }, reason: "prod-dal10-carrier9 is not configured"},
		"resolved":           {account: func(a *account) { a.in.Status = incident.StatusResolved }, reason: "resolved already"},
		"no such incident":   {account: func(a *account) { a.fail["get"] = fmt.Errorf("x: %w", incident.ErrNotFound) }, reason: "no such incident"},
		"unreadable":         {account: func(a *account) { a.fail["get"] = errors.New("x") }, fails: true},
		"alerts, unreadable": {account: func(a *account) { a.in.Title = "KubeDaemonSetRolloutStuck"; a.fail["alerts"] = errors.New("x") }, fails: true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAccount()
			if tt.account != nil {
				tt.account(a)
			}
			p, _ := newTestPager(t, a)
			l := &lookup{client: a, rules: p.rules, carriers: func() []string { return []string{"prod-dal10-carrier3"} }, policy: func(playbook.Target) playbook.Policy {
				return playbook.Policy{Mode: playbook.ModeAct, Timing: playbook.DefaultTiming()}
			}}
			start, reason, err := l.start(t.Context(), store.Waiting{Arrival: playbook.Arrival{IncidentID: "QTEST0000001"}})
			if (err != nil) != tt.fails {
				t.Fatalf("error %v", err)
			}
			if tt.target != (playbook.Target{}) {
				if start == nil || start.Target != tt.target || start.Incident.Number != 7 || start.Mode != playbook.ModeAct || start.Deadline != 45*time.Minute {
					t.Errorf("start %+v, reason %q", start, reason)
				}
				return
			}
			if start != nil || !strings.Contains(reason, tt.reason) {
				t.Errorf("start %+v, reason %q, want %q", start, reason, tt.reason)
			}
		})
	}
}
