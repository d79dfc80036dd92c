package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/drydock/drydock/api"
	"github.com/drydock/drydock/incident"
	"github.com/drydock/drydock/migrations"
	"github.com/drydock/drydock/playbook"
	"github.com/drydock/drydock/store"
	"github.com/drydock/drydock/store/privatepg/pgtest"
)

// replica is a store on a database, and an API on it.
func replica(t *testing.T, dsn, node string, change ...func(*store.Options)) (*store.Store, string) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	options := store.Options{DatabaseURL: dsn, Node: node, BackupKey: bytes.Repeat([]byte("k"), 32), MaxConns: 6, Log: log}
	for _, c := range change {
		c(&options)
	}
	st, err := store.Open(t.Context(), options)
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

// TestSlowHistory: what Postgres does not answer in the history's time is refused with the words for it, and holds nothing up: the
// mixes of filters that no index has are bounded by this.
func TestSlowHistory(t *testing.T) {
	t.Parallel()
	dsn := pgtest.New(t, migrations.Up)
	_, base := replica(t, dsn, "one/1", func(o *store.Options) { o.HistoryTimeout = 50 * time.Millisecond })
	db, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close(context.WithoutCancel(t.Context()))
	tx, err := db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `LOCK TABLE runs, events, audit IN ACCESS EXCLUSIVE MODE`); err != nil {
		t.Fatal(err)
	}
	paths := []string{"/runs?namespace=ns&finding=absent&trigger=webhook&carrier=c1", "/runs", "/runs/r1", "/runs/r1/explain", "/runs/r1/stream", "/stats", "/events", "/audit"}
	ask := func(path string) (int, string) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+"/api/v1"+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer secret")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(body)
	}
	for _, path := range paths {
		code, body := ask(path)
		if code != http.StatusServiceUnavailable || !strings.Contains(body, `"/problems/history-slow"`) || strings.Contains(body, "SQL") || strings.Contains(body, "50ms") {
			t.Errorf("GET %s: %d %s", path, code, body)
		}
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	// A busy machine may need longer than that even then.
	eventually(t, "an answer when nothing is in the way", func() bool { code, _ := ask(paths[0]); return code == http.StatusOK })
}
