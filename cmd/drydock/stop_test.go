package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/drydock/drydock/migrations"
	"github.com/drydock/drydock/store/privatepg/pgtest"
)

// startReplica starts one of several servers that a load balancer sends to, so that it listens to more than this machine.
func startReplica(t *testing.T, dsn string) (*served, context.CancelFunc, <-chan int) {
	t.Helper()
	const token = "opensesame"
	sum := sha256.Sum256([]byte(token))
	dir := t.TempDir()
	file := filepath.Join(dir, "drydock.yaml")
	config := `listen: 0.0.0.0:0
data_dir: data
database_url: {env: DATABASE_URL}
backup_key: {env: BACKUP_KEY}
api_tokens: [{name: ops, role: admin, sha256: {env: OPS}}]
carriers: [{name: prod-dal10-carrier3, kubeconfig: ` + writeFile(t, "carrier.yaml", deadCarrier) + `}]
pagerduty: {webhook_secrets: [{env: HOOK}]}
timing: {tick: 1s}
`
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"DATABASE_URL": dsn, "HOOK": hookSecret, "OPS": hex.EncodeToString(sum[:]),
		"BACKUP_KEY": "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="}
	ctx, stop := context.WithCancel(t.Context())
	s := &served{t: t, stderr: &buffer{}, token: token}
	done := make(chan int, 1)
	go func() {
		done <- run(ctx, []string{"serve", "--config", file}, func(name string) string { return env[name] }, io.Discard, s.stderr)
	}()
	ready := regexp.MustCompile(`drydock is ready: dashboard http://\S*:(\d+)`)
	eventually(t, "the server is ready", func() bool {
		m := ready.FindStringSubmatch(s.stderr.String())
		if m != nil {
			s.base = "http://127.0.0.1:" + m[1]
		}
		return m != nil
	})
	return s, stop, done
}

// TestStopsInOrder is a rolling restart: who balances sees it first, what still comes is stored, the lease is given back, and
// another replica goes on at once.
func TestStopsInOrder(t *testing.T) {
	t.Parallel()
	dsn := pgtest.New(t, migrations.Up)
	db, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close(context.WithoutCancel(t.Context()))
	count := func(sql string) (n int) {
		t.Helper()
		if err := db.QueryRow(t.Context(), sql).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	first, stopFirst, firstDone := startReplica(t, dsn)
	second, stopSecond, secondDone := startReplica(t, dsn)
	if code, a := first.webhook("w1", triggered("e1", "QTEST0000001", nodeExporterTitle)); code != 202 {
		t.Fatalf("webhook: %d %v", code, a)
	}
	eventually(t, "both replicas share the rate limit", func() bool { return count(`SELECT count(*) FROM replicas`) == 2 })
	eventually(t, "the run ticks", func() bool { return count(`SELECT max(tick_seq) FROM runs`) > 1 })

	stopFirst()
	eventually(t, "the first says that it stops", func() bool {
		code, answer := first.do("GET", "/readyz", "", nil)
		return code == 503 && strings.Contains(fmt.Sprint(answer), "stopping")
	})
	if code, a := first.webhook("w2", triggered("e2", "QTEST0000002", nodeExporterTitle)); code != 202 || a["outcome"] != "joined" {
		t.Errorf("a webhook that still comes: %d %v", code, a)
	}
	if code, _ := second.do("GET", "/readyz", "", nil); code != 200 {
		t.Errorf("the other replica is not ready: %d", code)
	}
	if code := <-firstDone; code != 0 {
		t.Errorf("it ended with %d", code)
	}
	if n := count(`SELECT count(*) FROM replicas`); n != 1 {
		t.Errorf("%d replicas share the rate limit, want the second alone", n)
	}
	before := count(`SELECT max(tick_seq) FROM runs`)
	eventually(t, "the second goes on", func() bool { return count(`SELECT max(tick_seq) FROM runs`) > before })
	stopSecond()
	if code := <-secondDone; code != 0 {
		t.Errorf("the second ended with %d", code)
	}
	if held, events := count(`SELECT count(*) FROM leases WHERE run <> ''`), count(`SELECT count(*) FROM events`); held != 0 || events != 2 {
		t.Errorf("%d leases are held and %d events stored, want 0 and 2", held, events)
	}
	if t.Failed() {
		t.Logf("%s\n%s", first.stderr, second.stderr)
	}
}
