package main

import (
	"encoding/json"
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
