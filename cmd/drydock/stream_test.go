package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/drydock/drydock/api"
	"github.com/drydock/drydock/incident"
	"github.com/drydock/drydock/migrations"
	"github.com/drydock/drydock/playbook"
	"github.com/drydock/drydock/store"
	"github.com/drydock/drydock/store/privatepg/pgtest"
)

// replica is a store on a database, and an API on it.
func replica(t *testing.T, dsn, node string) (*store.Store, string) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	st, err := store.Open(t.Context(), store.Options{DatabaseURL: dsn, Node: node, BackupKey: bytes.Repeat([]byte("k"), 32), MaxConns: 6, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	rules, err := incident.NewRules(incident.RuleConfig{})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(api.New(api.Options{
		History: history{st}, Keys: keys{st}, Rules: rules, Metrics: prometheus.NewRegistry(), Log: log, Now: time.Now,
		Tokens: api.Tokens{{Name: "ada", Role: api.Viewer, SHA256: sha256.Sum256([]byte("secret"))}},
	}))
	t.Cleanup(func() { server.Close(); st.Close() })
	return st, server.URL
}

// TestStreamOverReplicas: a run is worked by one replica and followed on the other. The stream breaks off again and again, each
// time on the other side, and still every change is seen once, in its order, to the end.
func TestStreamOverReplicas(t *testing.T) {
	t.Parallel()
	dsn := pgtest.New(t, migrations.Up)
	worker, first := replica(t, dsn, "one/1")
	_, second := replica(t, dsn, "two/1")
	run, err := worker.StartRun(t.Context(), playbook.Start{Target: playbook.Target{Carrier: "c1", Namespace: "ns", DaemonSet: "agent"},
		Incident: playbook.RunIncident{ID: "P1"}, Trigger: playbook.TriggerRetrigger, Mode: playbook.ModeAct, Deadline: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	const ticks = 40
	worked := make(chan error, 1)
	go func() { worked <- workRun(t, worker, run.ID, ticks) }()

	var seen []string
	for n := 0; len(seen) == 0 || !strings.HasSuffix(seen[len(seen)-1], " end"); n++ {
		if n > 3*ticks {
			t.Fatalf("there is no end: %v", seen)
		}
		last := ""
		if len(seen) > 0 {
			last, _, _ = strings.Cut(seen[len(seen)-1], " ")
		}
		seen = append(seen, someEvents(t, []string{first, second}[n%2]+"/api/v1/runs/"+run.ID+"/stream", last, 3)...)
	}
	if err := <-worked; err != nil {
		t.Fatal(err)
	}
	for i, event := range seen {
		want := fmt.Sprintf("%d tick", i+1)
		if i == ticks {
			want = fmt.Sprintf("%d end", i+1)
		}
		if event != want {
			t.Fatalf("event %q, want %q; all: %v", event, want, seen)
		}
	}
}

// workRun commits so many ticks of a run, the last of which ends it.
func workRun(t *testing.T, st *store.Store, run string, ticks int) error {
	h, err := st.Acquire(t.Context(), run)
	if err != nil {
		return err
	}
	defer h.Release()
	for n := range ticks {
		r, now, err := st.Load(t.Context(), h)
		if err != nil {
			return err
		}
		c := playbook.Commit{Run: r, Store: true, NextTick: now.Add(time.Minute), Tick: playbook.Tick{At: now, From: r.State, To: playbook.Triage}}
		c.Run.State = playbook.Triage
		if n == ticks-1 {
			c.Run.State, c.Run.Outcome, c.Tick.To, c.NextTick = playbook.StateStoodDown, playbook.OutcomeStoodDown, playbook.StateStoodDown, time.Time{}
		}
		if _, err := st.Commit(t.Context(), h, c); err != nil {
			return err
		}
	}
	return nil
}

// someEvents reads at most n events after an id, as "id name", and breaks off.
func someEvents(t *testing.T, url, last string, n int) (events []string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer secret")
	if last != "" {
		req.Header.Set("Last-Event-ID", last)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s", url, resp.Status)
	}
	id, name := "", ""
	for lines := bufio.NewScanner(resp.Body); len(events) < n && lines.Scan(); {
		switch key, value, _ := strings.Cut(lines.Text(), ": "); {
		case key == "id":
			id = value
		case key == "event":
			name = value
		case key == "" && name != "":
			events = append(events, id+" "+name)
			name = ""
		}
	}
	return events
}
