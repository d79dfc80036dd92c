package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// A server's own history decides again as it did; a tick that was decided by other rules is found and shown.
func TestReplay(t *testing.T) {
	t.Parallel()
	s, dsn := testServer(t)
	_, a := s.webhook("w1", triggered("e1", "QTEST0000001", nodeExporterTitle))
	run := a["run"].(string)
	eventually(t, "the run has ticks", func() bool {
		_, r := s.do("GET", "/api/v1/runs/"+run, "", nil)
		ticks, _ := r["ticks"].([]any)
		return len(ticks) > 0
	})
	file := writeFile(t, "drydock.yaml", "database_url: {env: DATABASE_URL}\n")
	env := map[string]string{"DATABASE_URL": dsn}
	replay := func(args ...string) (result, replayed) {
		got := drydock(t.Context(), env, append([]string{"replay", "--config", file, "-o", "json"}, args...)...)
		var answer replayed
		if got.stdout != "" {
			if err := json.Unmarshal([]byte(got.stdout), &answer); err != nil {
				t.Fatalf("%v: %s", err, got.stdout)
			}
		}
		return got, answer
	}
	for _, args := range [][]string{{"--all"}, {run}} {
		if got, answer := replay(args...); got.code != 0 || !answer.Identical || answer.Ticks == 0 || answer.Runs != 1 || got.stderr != "" {
			t.Errorf("%v: exit %d: %s%s", args, got.code, got.stdout, got.stderr)
		}
	}
	if got, _ := replay("nothing"); got.code != 1 || !strings.Contains(got.stderr, "drydock runs list") {
		t.Errorf("no such run: exit %d: %s", got.code, got.stderr)
	}
	if got, answer := replay("--all", "--since", "2099-01-01T00:00:00Z"); got.code != 0 || answer.Runs != 0 {
		t.Errorf("of no time: exit %d: %s", got.code, got.stdout)
	}

	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), `UPDATE ticks SET finding = 'healthy' WHERE run = $1 AND seq = 1`, run); err != nil {
		t.Fatal(err)
	}
	got, answer := replay("--all")
	if got.code != 1 || answer.Identical || len(answer.Differing) != 1 || answer.Differing[0].Differences[0].What != "finding" {
		t.Errorf("a changed rule: exit %d: %s%s", got.code, got.stdout, got.stderr)
	}
	if table := drydock(t.Context(), env, "replay", "--config", file, "--all"); table.code != 1 || !strings.Contains(table.stdout, "finding: was healthy, is unknown") {
		t.Errorf("exit %d: %s", table.code, table.stdout)
	}
}

// The private Postgres is read beside the server that runs it, and started where none does.
func TestReplayOfThePrivatePostgres(t *testing.T) {
	t.Parallel()
	s := startServer(t, "", nil)
	for _, running := range []bool{true, false} {
		got := drydock(t.Context(), nil, "replay", "--all", "--config", filepath.Join(s.dir, "drydock.yaml"))
		if got.code != 0 || !strings.Contains(got.stdout, "0 ticks of 0 runs") {
			t.Errorf("server runs: %t: exit %d: %s%s", running, got.code, got.stdout, got.stderr)
		}
		s.stop()
	}
}

// The chain of a server's own deeds is whole; one that was changed behind its back is found.
func TestAuditVerify(t *testing.T) {
	t.Parallel()
	s, dsn := testServer(t)
	if code, _ := s.do("PUT", "/api/v1/kill-switch", `{"engaged":true,"reason":"test"}`, nil); code != 200 {
		t.Fatalf("kill switch: %d", code)
	}
	file := writeFile(t, "drydock.yaml", "database_url: {env: DATABASE_URL}\n")
	env := map[string]string{"DATABASE_URL": dsn}
	if got := drydock(t.Context(), env, "audit", "verify", "--config", file); got.code != 0 || !strings.Contains(got.stdout, "the chain is whole") {
		t.Errorf("exit %d: %s%s", got.code, got.stdout, got.stderr)
	}
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), `ALTER TABLE audit DISABLE TRIGGER USER; UPDATE audit SET entry = '{"who":"nobody"}' WHERE seq = 1`); err != nil {
		t.Fatal(err)
	}
	if got := drydock(t.Context(), env, "audit", "verify", "--config", file); got.code != 1 || !strings.Contains(got.stdout, "broken at entry 1") {
		t.Errorf("exit %d: %s%s", got.code, got.stdout, got.stderr)
	}
}

// The CLI against a server that runs: the list, the run, its stream to the end, the statistics.
func TestCLIOnAServer(t *testing.T) {
	t.Parallel()
	s, _ := testServer(t)
	env := map[string]string{"DRYDOCK_URL": s.base, "DRYDOCK_TOKEN": s.token}
	_, a := s.webhook("w1", triggered("e1", "QTEST0000001", nodeExporterTitle))
	run := a["run"].(string)
	for _, tt := range []struct {
		args string
		want string
	}{
		{"runs list --carrier prod-dal10-carrier3", run}, {"runs get " + run, "prod-dal10-carrier3"}, {"stats", "FINDING"},
		{"kill-switch on --reason test", "true"}, {"kill-switch off --reason test", "false"}, {"runs cancel " + run + " --reason test", run},
	} {
		if got := drydock(t.Context(), env, strings.Fields(tt.args)...); got.code != 0 || !strings.Contains(got.stdout, tt.want) {
			t.Errorf("%s: exit %d: %s%s", tt.args, got.code, got.stdout, got.stderr)
		}
	}
	// Without PagerDuty the run can not say its last words, so it goes on: the watch shows what happened and is interrupted.
	ctx, interrupt := context.WithCancel(t.Context())
	var stdout, stderr buffer
	done := make(chan int, 1)
	go func() {
		done <- watchRun(ctx, run, env, &stdout, &stderr)
	}()
	eventually(t, "the stream shows a tick", func() bool { return strings.Contains(stdout.String(), " unknown ") }) // the carrier does not answer
	interrupt()
	if code := <-done; code != 3 || !strings.Contains(stderr.String(), "the run goes on") {
		t.Errorf("watch: exit %d: %s%s", code, stdout.String(), stderr.String())
	}
	if got := drydock(t.Context(), env, "runs", "watch", "nothing"); got.code != 1 {
		t.Errorf("watch nothing: exit %d: %s", got.code, got.stderr)
	}
}

func watchRun(ctx context.Context, id string, env map[string]string, stdout, stderr io.Writer) int {
	return run(ctx, []string{"runs", "watch", id}, func(name string) string { return env[name] }, stdout, stderr)
}

// Logins, refusals and files that stop changes stand in the audit log, and its chain is whole with them.
func TestAuditOfSessionsAndFiles(t *testing.T) {
	t.Parallel()
	s, dsn := testServer(t)
	recorded := func() map[string]string {
		_, answer := s.do("GET", "/api/v1/audit?limit=200", "", nil)
		items, _ := answer["items"].([]any)
		deeds := map[string]string{}
		for _, item := range items {
			entry := item.(map[string]any)
			what := fmt.Sprint(entry["what"])
			deeds[what] = fmt.Sprint(entry["who"], " ", entry["carrier"], " ", entry["after"], "; ") + deeds[what]
		}
		return deeds
	}
	form := map[string]string{"Content-Type": "application/x-www-form-urlencoded"}
	s.do("POST", "/login", url.Values{"token": {s.token}}.Encode(), form)
	s.do("POST", "/login", "token=wrong", form)
	s.do("POST", "/logout", "", map[string]string{"Cookie": "drydock_session=" + s.token})
	file := filepath.Join(s.dir, "data", "kill-switch.prod-dal10-carrier3")
	if err := os.WriteFile(file, []byte("the room is on fire\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the file is recorded", func() bool { return strings.Contains(recorded()["kill_switch.file"], "the room is on fire") })
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	var deeds map[string]string // of the look that saw it: one more could be one too many for the rate limit
	eventually(t, "its end is recorded", func() bool {
		deeds = recorded()
		return strings.Contains(deeds["kill_switch.file"], "engaged:false")
	})
	for what, want := range map[string]string{"session.begin": "address:127.0.0.1 role:admin", "session.end": "address:127.0.0.1", "token.refused": "unknown <nil>",
		"kill_switch.file": "drydock prod-dal10-carrier3 map[engaged:true", "serve.start": "drydock"} {
		if !strings.Contains(deeds[what], want) {
			t.Errorf("%s: %q, want %q in it", what, deeds[what], want)
		}
	}
	config := writeFile(t, "drydock.yaml", "database_url: {env: DATABASE_URL}\n")
	if got := drydock(t.Context(), map[string]string{"DATABASE_URL": dsn}, "audit", "verify", "--config", config); got.code != 0 ||
		!strings.Contains(got.stdout, "the chain is whole") {
		t.Errorf("exit %d: %s%s", got.code, got.stdout, got.stderr)
	}
}
