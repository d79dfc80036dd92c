package main

import (
	"bufio"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/drydock/drydock/incident"
	"github.com/drydock/drydock/migrations"
	"github.com/drydock/drydock/store/privatepg/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func TestBodiesAreAlike(t *testing.T) {
	t.Parallel()
	first, last := body(0), body(carriers*daemonSets-1)
	if len(first) != len(last) || len(first) < 1900 || len(first) > 2200 {
		t.Errorf("bodies of %d and %d bytes, want one length of about 2 kB", len(first), len(last))
	}
	// pgbench hands its payload over in the text form of bytea, in which a backslash is an escape.
	if strings.Contains(first, `\`) {
		t.Error("a body has a backslash")
	}
	for _, text := range []string{first, last} {
		ev, err := incident.ParseEvent([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if ev.Reason != "" || ev.Type != incident.TypeTriggered || ev.Incident.Number == 0 {
			t.Errorf("parsed as %+v", ev)
		}
	}
}

func TestReadAnswer(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		text, status, body string
		bad                bool
	}{
		"accepted":   {text: "HTTP/1.1 202 Accepted\r\nX: y\r\ncontent-length: 2\r\n\r\n{}next", status: "202", body: "{}"},
		"empty":      {text: "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", status: "204"},
		"no length":  {text: "HTTP/1.1 200 OK\r\n\r\n", bad: true},
		"bad length": {text: "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", bad: true},
		"cut off":    {text: "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab", bad: true},
		"not HTTP":   {text: "\n", bad: true},
		"silence":    {text: "", bad: true},
	} {
		status, body, err := readAnswer(bufio.NewReader(strings.NewReader(c.text)))
		if (err != nil) != c.bad {
			t.Errorf("%s: error %v", name, err)
		}
		if err == nil && (status != c.status || string(body) != c.body) {
			t.Errorf("%s: got %s %q", name, status, body)
		}
	}
}

func TestRefusedWebhookFailsTheBench(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(w, "not now")
	}))
	t.Cleanup(server.Close)
	g := generator{address: server.Listener.Addr().String(), secret: []byte(webhookSecret)}
	_, err := g.run(t.Context(), 2, time.Minute)
	if err == nil || !strings.Contains(err.Error(), "503: not now") {
		t.Errorf("error %v, want the answer", err)
	}
}

func TestPgbenchLog(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "log.1")
	if err := os.WriteFile(path, []byte("0 1 2000 0 100 500000\n1 1 700000 0 100 400000\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var got pgbenchLog
	if err := got.read(path); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]time.Duration{2 * time.Millisecond, 700 * time.Millisecond}, got.latencies); diff != "" {
		t.Error(diff)
	}
	if took := got.last.Sub(got.first); took != 800*time.Millisecond {
		t.Errorf("took %s", took)
	}
	for _, line := range []string{"0 1 failed 0 100 500000", "0 1 2"} {
		if err := got.add(line); err == nil {
			t.Errorf("line %q was taken", line)
		}
	}
}

func TestParseCPU(t *testing.T) {
	t.Parallel()
	got, ok := parseCPU([]byte("4242 (post gres) (1)) S 77 1 1 0 -1 4194560 9 9 9 9 10 20 30 40 20 0 1 0 5172 393"))
	if want := (processCPU{77, 300 * time.Millisecond, 700 * time.Millisecond}); !ok || got != want {
		t.Errorf("got %+v, %v, want %+v", got, ok, want)
	}
	for _, text := range []string{"", "1 (x) S 1", "1 (x) S a 1 1 0 -1 1 9 9 9 9 10 20 30 40 20"} {
		if got, ok := parseCPU([]byte(text)); ok {
			t.Errorf("%q was read as %+v", text, got)
		}
	}
}

func TestQuantile(t *testing.T) {
	t.Parallel()
	values := []int64{5, 1, 4, 2, 3}
	for q, want := range map[float64]int64{0: 1, 0.5: 3, 0.99: 4, 1: 5} {
		if got := quantile(values, q); got != want {
			t.Errorf("quantile %v: got %d, want %d", q, got, want)
		}
	}
	if got := median([]int64{2, 1}); got != 1 {
		t.Errorf("median of two: got %d", got)
	}
}

func TestMissingPgbenchNamesThePackage(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"initdb", "postgres"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\necho 'postgres (PostgreSQL) 16.4'\n"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PG_BIN", dir)
	err := run(t.Context(), []string{"-only", "intake"}, io.Discard, io.Discard)
	var missing *missingError
	if !errors.As(err, &missing) || !strings.Contains(err.Error(), "apt-get install postgresql-16") {
		t.Errorf("error %v", err)
	}
}

func TestLostRowsFailTheBench(t *testing.T) {
	t.Parallel()
	dsn := pgtest.New(t, migrations.Up)
	if err := (&both{}).count(t.Context(), dsn); err != nil {
		t.Errorf("nothing written, nothing there: %v", err)
	}
	for _, b := range []*both{{fromDrydock: 1}, {fromPgbench: 1}} {
		if err := b.count(t.Context(), dsn); err == nil {
			t.Error("lost rows were not noticed")
		}
	}
}

// The whole intake, as short as pgbench allows: rows of both sides are counted in the end.
func TestIntake(t *testing.T) {
	t.Parallel()
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	var out strings.Builder
	b := &bench{options{seconds: 1, rounds: 1, dir: t.TempDir(), conns: []int{2}}, log}
	rows, _, err := measureIntake(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	if err := (results{rows: rows}).writeTable(&out); err != nil || !strings.Contains(out.String(), "connections: 2") {
		t.Errorf("printed %q, %v", out.String(), err)
	}
}
