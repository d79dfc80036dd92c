package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/drydock/drydock/incident"
	"github.com/drydock/drydock/playbook"
)

// cutting is PagerDuty's REST API with one incident, which spoils the answers to its next writes.
type cutting struct {
	mu      sync.Mutex
	status  string
	notes   []map[string]any
	log     []map[string]any
	effects []string
	cut     string // "before": the write does not happen; "after": it does, and its answer is lost
	how     string // "reset" the connection, or an answer: "502"
	times   int    // how many writes are spoilt
}

func (c *cutting) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	body, _ := io.ReadAll(r.Body)
	if r.Method == http.MethodGet {
		c.read(w, r)
		return
	}
	spoilt := c.times > 0
	if spoilt {
		c.times--
		if c.cut == "before" {
			c.spoil(w)
			return
		}
	}
	answer := c.write(r, body)
	if spoilt {
		c.spoil(w)
		return
	}
	answerJSON(w, answer)
}

func (c *cutting) spoil(w http.ResponseWriter) {
	if c.how == "502" {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
		_ = conn.Close()
	}
}

func (c *cutting) read(w http.ResponseWriter, r *http.Request) {
	policy := map[string]any{"id": "POWN001", "type": "escalation_policy", "escalation_rules": []any{
		map[string]any{"targets": []any{map[string]any{"id": person.ID, "type": "user_reference"}}}}}
	switch {
	case r.URL.Path == "/users/me":
		answerJSON(w, map[string]any{"user": map[string]any{"id": bot.ID, "name": "Drydock", "email": "bot@pd.test"}})
	case strings.HasSuffix(r.URL.Path, "/notes"):
		answerJSON(w, map[string]any{"notes": c.notes})
	case strings.HasSuffix(r.URL.Path, "/log_entries"):
		answerJSON(w, map[string]any{"log_entries": c.log, "more": false})
	default:
		answerJSON(w, map[string]any{"incident": map[string]any{"id": "QTEST0000001", "incident_number": 7, "title": nodeExporterTitle,
			"status": c.status, "urgency": "high", "created_at": began.Format(time.RFC3339), "last_status_change_at": began.Format(time.RFC3339),
			"service": map[string]any{"id": "PSVC001", "type": "service_reference", "acknowledgement_timeout": 600}, "escalation_policy": policy,
			"assigned_via": "escalation_policy"}})
	}
}

// write lets a write take effect.
func (c *cutting) write(r *http.Request, body []byte) any {
	if strings.HasSuffix(r.URL.Path, "/notes") {
		var asked struct{ Note struct{ Content string } }
		_ = json.Unmarshal(body, &asked)
		note := map[string]any{"id": fmt.Sprintf("PNOTE%02d", len(c.notes)+1), "content": asked.Note.Content, "created_at": began.Format(time.RFC3339),
			"user": map[string]any{"id": bot.ID, "type": "user_reference"}}
		c.notes, c.effects = append(c.notes, note), append(c.effects, "note")
		return map[string]any{"note": note}
	}
	kind := "delegate"
	switch text := string(body); {
	case strings.Contains(text, `"resolved"`):
		kind = "resolve"
	case strings.Contains(text, `"acknowledged"`):
		kind = "acknowledge"
	}
	if kind == "resolve" && c.status == incident.StatusResolved { // PagerDuty refuses it; our client takes that for done
		return map[string]any{"incidents": []any{}}
	}
	switch kind {
	case "resolve":
		c.status = incident.StatusResolved
	case "acknowledge":
		c.status = incident.StatusAcknowledged
	}
	c.effects = append(c.effects, kind)
	c.log = append(c.log, map[string]any{"id": fmt.Sprint("R", len(c.log)), "type": kind + "_log_entry", "created_at": began.Format(time.RFC3339),
		"agent": map[string]any{"id": bot.ID, "type": "user_reference"}})
	return map[string]any{"incidents": []any{}}
}

func answerJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

// TestCutConnections loses the answer to every kind of write, once and again, before and after it took effect. As the engine
// does, what is not known is looked up before it is sent again; in the end it has happened exactly once.
func TestCutConnections(t *testing.T) {
	t.Parallel()
	actions := map[string]playbook.Action{
		"note":        playbook.Annotate{Incident: "QTEST0000001", Marker: "[drydock r1.1]", Text: "hello [drydock r1.1]"},
		"resolve":     playbook.Resolve{Incident: "QTEST0000001"},
		"delegate":    playbook.Escalate{Incident: "QTEST0000001", Policy: "PARMOPS"},
		"acknowledge": playbook.Acknowledge{Incident: "QTEST0000001"},
	}
	for effect, action := range actions {
		for _, cut := range []string{"before", "after"} {
			for _, how := range []string{"reset", "502"} {
				for times := 1; times <= 2; times++ {
					t.Run(fmt.Sprintf("%s, %d %s %s", effect, times, how, cut), func(t *testing.T) {
						t.Parallel()
						remote := &cutting{status: incident.StatusTriggered, cut: cut, how: how, times: times}
						server := httptest.NewServer(remote)
						t.Cleanup(server.Close)
						client, err := incident.New(incident.Config{APIURL: server.URL, Token: "t", From: "bot@pd.test", Patience: incident.Patience{Attempts: 1}})
						if err != nil {
							t.Fatal(err)
						}
						p, _ := newTestPager(t, newAccount())
						p.client, p.log = client, slog.New(slog.DiscardHandler)
						intent := playbook.Intent{Seq: 1, Action: action, SentAt: began}
						lookUps := 0
						for sends := 1; ; sends++ {
							s, err := p.Do(t.Context(), playbook.Call{Run: "r1", Seq: 1, Action: action})
							if err != nil {
								lookUps++
								if s, err = p.Recover(t.Context(), intent, "r1"); err != nil {
									t.Fatalf("look it up: %v", err)
								}
							}
							if s.Result == playbook.Happened {
								break
							}
							if s.Result != playbook.NotHappened || sends == 4 {
								t.Fatalf("settled %q (%s) after %d sends", s.Result, s.Detail, sends)
							}
						}
						if len(remote.effects) != 1 || remote.effects[0] != effect {
							t.Errorf("PagerDuty has %v, want one %s", remote.effects, effect)
						}
						if lookUps == 0 {
							t.Error("nothing was lost, so nothing was tried")
						}
					})
				}
			}
		}
	}
}
