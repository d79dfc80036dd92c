package pagerduty

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/drydock/drydock/testbed/standin"
)

// town is a started server with a small account.
type town struct {
	*testing.T
	*Server
	clock  *standin.Manual
	url    string
	bot    User
	ada    User
	grace  User
	svc    Service
	single EscalationPolicy // One level.
	policy EscalationPolicy // Two levels: the bot, then Ada.
	key    string
}

const title = "#3786454: blumemix.containers-kubernetes.prod-dal10-carrier3.not_running_all_node-exporter_demonsets.us-south"

func newTown(t *testing.T, change func(*Options)) *town {
	t.Helper()
	// The clock stands in the present, for the windows of lists.
	clock := standin.NewManual(time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC))
	o := Options{Clock: clock, RetryAfter: []time.Duration{5 * time.Second, 15 * time.Second}}
	if change != nil {
		change(&o)
	}
	w := &town{T: t, Server: New(o), clock: clock}
	url, err := w.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	w.url = url
	w.bot = w.AddUser(User{ID: "PDRYDOCK", Name: "Drydock", Email: "drydock@example.com", Bot: true})
	w.ada = w.AddUser(User{Name: "Ada", Email: "ada@example.com"})
	w.grace = w.AddUser(User{Name: "Grace", Email: "grace@example.com"})
	w.policy, err = w.AddPolicy(EscalationPolicy{ID: "PARMOPS", Name: "armada-ops", Levels: []Level{
		{Users: []string{w.bot.ID}, Delay: 10 * time.Minute}, {Users: []string{w.ada.ID}},
	}})
	w.check(err)
	w.single, err = w.AddPolicy(EscalationPolicy{ID: "PARMAPI", Name: "armada-api", Levels: []Level{{Users: []string{w.grace.ID}}}})
	w.check(err)
	w.svc, err = w.AddService(Service{ID: "PCARRIERS", Name: "carriers", PolicyID: w.policy.ID, TeamID: "PTEAM1", AcknowledgementTimeout: 30 * time.Minute})
	w.check(err)
	w.key = w.AddKey(Key{Kind: AccountKey})
	return w
}

func (w *town) check(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *town) incident() Incident {
	w.Helper()
	i, err := w.TriggerIncident(title, w.svc.ID, map[string]any{"node": "10.0.0.7"})
	w.check(err)
	return i
}

func (w *town) now(id string) Incident {
	w.Helper()
	i, err := w.Incident(id)
	w.check(err)
	return i
}

func (w *town) until(what string, cond func() bool) {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.Context(), 10*time.Second)
	defer cancel()
	if err := w.WaitFor(ctx, cond); err != nil {
		w.Fatalf("%s: %v", what, err)
	}
}

// types are the event types of an incident so far.
func (w *town) types(id string) []string {
	var list []string
	for _, e := range w.Events() {
		if e.IncidentID == id {
			list = append(list, e.Type)
		}
	}
	return list
}

type reply struct {
	status int
	header http.Header
	raw    []byte
	json   map[string]any
}

// at follows keys and indices into the reply.
func (r reply) at(path ...any) any {
	var v any = r.json
	for _, p := range path {
		switch p := p.(type) {
		case string:
			m, _ := v.(map[string]any)
			v = m[p]
		case int:
			l, _ := v.([]any)
			if p >= len(l) {
				return nil
			}
			v = l[p]
		}
	}
	return v
}

// do sends a request as the bot with the account key; headers are name, value,
// and an empty value removes one.
func (w *town) do(method, path string, body any, headers ...string) reply {
	w.Helper()
	var b []byte
	switch body := body.(type) {
	case nil:
	case string:
		b = []byte(body)
	default:
		var err error
		b, err = json.Marshal(body)
		w.check(err)
	}
	r, err := http.NewRequestWithContext(w.Context(), method, w.url+path, bytes.NewReader(b))
	w.check(err)
	r.Header.Set("Authorization", "Token token="+w.key)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("From", w.bot.Email)
	for n := 0; n+1 < len(headers); n += 2 {
		if headers[n+1] == "" {
			r.Header.Del(headers[n])
		} else {
			r.Header.Set(headers[n], headers[n+1])
		}
	}
	resp, err := http.DefaultClient.Do(r)
	w.check(err)
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	w.check(err)
	answer := reply{status: resp.StatusCode, header: resp.Header, raw: raw}
	_ = json.Unmarshal(raw, &answer.json)
	return answer
}

func (w *town) expect(r reply, status int) reply {
	w.Helper()
	if r.status != status {
		w.Fatalf("status %d, want %d: %s", r.status, status, r.raw)
	}
	return r
}
