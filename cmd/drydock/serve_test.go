package main

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/drydock/drydock/migrations"
	"github.com/drydock/drydock/store/privatepg/pgtest"
)

// TestMain also is drydock, and the kubectl plugin, when a transcript starts it under that name.
func TestMain(m *testing.M) {
	testscript.Main(withDatabases{m}, map[string]func(){"drydock": main, "kubectl-drydock": main})
}

type withDatabases struct{ m *testing.M }

func (w withDatabases) Run() int { pgtest.Main(w.m); return 0 }

// buffer is a bytes.Buffer that may be read while it is written.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// eventually polls a condition for at most 20 s.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not in 20 s", what)
		}
		<-tick.C
	}
}

// served is a server that runs, as a user starts it.
type served struct {
	t      *testing.T
	dir    string
	base   string
	code   string // one-time
	token  string
	stderr *buffer
	stop   func() int
}

var readyLine = regexp.MustCompile(`drydock is ready: dashboard (http://[^/\s]+)/login\?code=(\S+)`)

func startServer(t *testing.T, config string, env map[string]string) *served {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "drydock.yaml")
	if err := os.WriteFile(file, []byte("listen: 127.0.0.1:0\ndata_dir: data\n"+config), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	s := &served{t: t, dir: dir, stderr: &buffer{}}
	done := make(chan int, 1)
	var once sync.Once
	code := 0
	s.stop = func() int {
		once.Do(func() { cancel(); code = <-done })
		return code
	}
	go func() {
		done <- run(ctx, []string{"serve", "--config", file}, func(name string) string { return env[name] }, io.Discard, s.stderr)
	}()
	t.Cleanup(func() {
		s.stop()
		if t.Failed() {
			t.Log(s.stderr)
		}
	})
	eventually(t, "the server is ready", func() bool {
		m := readyLine.FindStringSubmatch(s.stderr.String())
		if m != nil {
			s.base, s.code = m[1], m[2]
		}
		return m != nil
	})
	token, err := os.ReadFile(filepath.Join(dir, "data", "token"))
	if err != nil {
		t.Fatal(err)
	}
	s.token = strings.TrimSpace(string(token))
	return s
}

func (s *served) do(method, path, body string, header map[string]string) (int, map[string]any) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.base+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+s.token)
	for k, v := range header {
		if v == "" {
			req.Header.Del(k)
		} else {
			req.Header.Set(k, v)
		}
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	var answer map[string]any
	_ = json.Unmarshal(raw, &answer)
	return resp.StatusCode, answer
}

const hookSecret = "hook"

func (s *served) webhook(id, body string) (int, map[string]any) {
	s.t.Helper()
	mac := hmac.New(sha256.New, []byte(hookSecret))
	mac.Write([]byte(body))
	return s.do("POST", "/webhooks/pagerduty", body, map[string]string{
		"X-PagerDuty-Signature": "v1=" + hex.EncodeToString(mac.Sum(nil)), "X-Webhook-Id": id, "Authorization": "",
	})
}

func triggered(event, incident, title string) string {
	return fmt.Sprintf(`{"event":{"id":%q,"event_type":"incident.triggered","resource_type":"incident","occurred_at":%q,
		"data":{"id":%q,"type":"incident","number":7,"status":"triggered","title":%q}}}`, event, time.Now().UTC().Format(time.RFC3339), incident, title)
}

// TestWaitingForTheDatabaseIsSaid: while the database does not answer a line each few seconds says so, and then the exit code is 3.
func TestWaitingForTheDatabaseIsSaid(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var said bytes.Buffer
		began := time.Now()
		err := awaitDatabase(t.Context(), "postgres://drydock:hunter2@127.0.0.1:1/drydock", slog.New(slog.NewTextHandler(&said, nil)))
		if exit, is := errors.AsType[*exitError](err); !is || exit.code != exitRemote || time.Since(began) != databaseTime {
			t.Errorf("after %s: %v", time.Since(began), err)
		}
		text := said.String()
		if lines := strings.Count(text, "waiting for it"); lines < 5 || lines > 7 || !strings.Contains(text, "waited=25s for=30s") || strings.Contains(text, "hunter2") {
			t.Errorf("it says %d times:\n%s", lines, text)
		}
	})
}

// deadCarrier is a kubeconfig of an API server that does not answer.
const deadCarrier = `apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "http://127.0.0.1:1"}}]
contexts: [{name: c, context: {cluster: c, user: u}}]
users: [{name: u, user: {}}]
current-context: c
`

func testServer(t *testing.T) (*served, string) {
	dsn := pgtest.New(t, migrations.Up)
	kubeconfig := writeFile(t, "carrier.yaml", deadCarrier)
	s := startServer(t, `database_url: {env: DATABASE_URL}
backup_key: {env: BACKUP_KEY}
carriers: [{name: prod-dal10-carrier3, kubeconfig: `+kubeconfig+`}, {name: prod-dal10-carrier4, kubeconfig: `+kubeconfig+`x}]
pagerduty: {webhook_secrets: [{env: HOOK}]}
timing: {tick: 1s}
`, map[string]string{"DATABASE_URL": dsn, "HOOK": hookSecret, "BACKUP_KEY": "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="})
	return s, dsn
}

// A webhook is durable before it is answered, the same delivery twice is one run, and the run is in the history.
func TestServe(t *testing.T) {
	t.Parallel()
	s, dsn := testServer(t)
	first, a := s.webhook("w1", triggered("e1", "QTEST0000001", nodeExporterTitle))
	again, b := s.webhook("w1", triggered("e1", "QTEST0000001", nodeExporterTitle))
	if first != 202 || again != 202 || a["outcome"] != "started" || a["id"] != b["id"] || a["run"] != b["run"] {
		t.Fatalf("%d %v, again %d %v", first, a, again, b)
	}
	if code, other := s.webhook("w2", triggered("e2", "QTEST0000002", nodeExporterTitle)); code != 202 || other["outcome"] != "joined" || other["run"] != a["run"] {
		t.Errorf("another incident of the target: %d %v", code, other)
	}
	if code, other := s.webhook("w3", triggered("e3", "QTEST0000003", "coffee")); code != 202 || other["outcome"] != "ignored" {
		t.Errorf("unmatched: %d %v", code, other)
	}
	_, events := s.do("GET", "/api/v1/events?limit=2", "", nil)
	if items, _ := events["items"].([]any); len(items) != 2 || events["next_cursor"] == nil {
		t.Errorf("events %v", events)
	}
	if _, next := s.do("GET", "/api/v1/events?limit=2&cursor="+url.QueryEscape(fmt.Sprint(events["next_cursor"])), "", nil); len(next["items"].([]any)) != 1 {
		t.Errorf("second page %v", next)
	}
	run := fmt.Sprint(a["run"])
	var detail map[string]any
	eventually(t, "the run has a tick", func() bool {
		_, detail = s.do("GET", "/api/v1/runs/"+run, "", nil)
		ticks, _ := detail["ticks"].([]any)
		return len(ticks) > 0
	})
	// A carrier that does not answer is unknown, and nothing follows from it.
	if detail["finding"] != "unknown" || detail["mode"] != "observe" || len(detail["incidents"].([]any)) != 2 || len(detail["intents"].([]any)) != 0 {
		t.Errorf("run %v", detail)
	}
	if _, list := s.do("GET", "/api/v1/runs?carrier=prod-dal10-carrier3&trigger=webhook", "", nil); len(list["items"].([]any)) != 1 {
		t.Errorf("list %v", list)
	}
	if code, problem := s.do("GET", "/api/v1/runs?cursor=x", "", nil); code != 400 || problem["type"] != "/problems/bad-parameters" {
		t.Errorf("bad cursor: %d %v", code, problem)
	}
	if code, d := s.do("GET", "/api/v1/carriers/prod-dal10-carrier3/daemonsets/monitoring/node-exporter/diagnosis", "", nil); code != 200 || d["finding"] != "unknown" {
		t.Errorf("diagnosis: %d %v", code, d)
	}
	_, reach := s.do("GET", "/api/v1/carriers", "", nil)
	if item := reach["items"].([]any)[0].(map[string]any); item["reachable"] != false || item["why"] == "" {
		t.Errorf("carriers %v", reach)
	}
	_, unread := s.do("GET", "/api/v1/carriers/prod-dal10-carrier4/daemonsets/monitoring/node-exporter/diagnosis", "", nil)
	for _, shown := range []any{reach, unread} {
		if text := fmt.Sprint(shown); !strings.Contains(text, "its kubeconfig can not be used") || strings.Contains(text, "carrier.yaml") {
			t.Errorf("a kubeconfig that is not there: %v", shown)
		}
	}
	// Without a PagerDuty token no incident can be read, so no order can be taken.
	if code, p := s.do("POST", "/api/v1/incidents/QTEST0000001/retrigger", `{"reason":"x"}`, nil); code != 502 {
		t.Errorf("retrigger: %d %v", code, p)
	}
	if code, p := s.do("POST", "/api/v1/runs/"+run+"/retrigger", `{"reason":"x"}`, nil); code != 409 || p["type"] != "/problems/run-active" {
		t.Errorf("retrigger of an active run: %d %v", code, p)
	}
	key := map[string]string{"Idempotency-Key": "k"}
	for range 2 {
		if code, _ := s.do("POST", "/api/v1/runs/"+run+"/cancel", `{"reason":"x"}`, key); code != 202 {
			t.Errorf("cancel: %d", code)
		}
	}
	for _, other := range []string{"cancel", "retrigger", "approve"} {
		if code, p := s.do("POST", "/api/v1/runs/"+run+"/"+other, `{"reason":"y"}`, key); code != 422 || p["type"] != "/problems/idempotency-key-reused" {
			t.Errorf("%s under a used key: %d %v", other, code, p)
		}
	}
	// Without a token its note can not be written, so it does not end by itself.
	db, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close(context.Background())
	if _, err := db.Exec(t.Context(), `UPDATE runs SET state = 'stood_down', outcome = 'stood_down', finished_at = now(), version = version + 1 WHERE id = $1`, run); err != nil {
		t.Fatal(err)
	}
	if code, p := s.do("POST", "/api/v1/runs/"+run+"/approve", `{"plan_hash":"x"}`, nil); code != 409 || p["type"] != "/problems/not-awaiting-approval" {
		t.Errorf("approve an ended run: %d %v", code, p)
	}
	if code, _ := s.do("POST", "/api/v1/runs/"+run+"/cancel", `{"reason":"x"}`, key); code != 202 {
		t.Errorf("cancel, repeated after the end: %d", code)
	}
	if code, k := s.do("PUT", "/api/v1/kill-switch", `{"engaged":true,"reason":"x"}`, nil); code != 200 || k["engaged"] != true {
		t.Errorf("kill switch: %d %v", code, k)
	}
	if _, k := s.do("GET", "/api/v1/kill-switch?carrier=prod-dal10-carrier3", "", nil); k["engaged"] != true {
		t.Errorf("kill switch of a carrier while all are stopped: %v", k)
	}
	if code := s.stop(); code != exitDone {
		t.Errorf("stopped with exit %d", code)
	}
}

// While the database is down a webhook is answered with 503, so that PagerDuty sends it again, and the probes say so.
func TestServeWithoutItsDatabase(t *testing.T) {
	t.Parallel()
	s, dsn := testServer(t)
	name := strings.TrimPrefix(mustURL(t, dsn).Path, "/")
	admin := mustURL(t, dsn)
	admin.Path = "/postgres"
	db, err := pgx.Connect(t.Context(), admin.String())
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close(context.Background())
	down := func(down bool) {
		t.Helper()
		if _, err := db.Exec(t.Context(), fmt.Sprintf(`ALTER DATABASE %q ALLOW_CONNECTIONS %t`, name, !down)); err != nil {
			t.Fatal(err)
		}
		if _, err := db.Exec(t.Context(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1`, name); err != nil {
			t.Fatal(err)
		}
	}
	down(true)
	if code, p := s.webhook("w1", triggered("e1", "QTEST0000001", nodeExporterTitle)); code != 503 || p["type"] != "/problems/database-unavailable" {
		t.Errorf("webhook: %d %v", code, p)
	}
	if code, p := s.do("GET", "/api/v1/runs", "", nil); code != 503 {
		t.Errorf("runs: %d %v", code, p)
	}
	if code, p := s.do("GET", "/readyz", "", nil); code != 503 || !strings.Contains(fmt.Sprint(p["parts"]), "database:failing") {
		t.Errorf("readyz: %d %v", code, p)
	}
	if code, _ := s.do("GET", "/healthz", "", nil); code != 200 {
		t.Errorf("healthz: %d", code)
	}
	down(false)
	eventually(t, "the server is ready again", func() bool { code, _ := s.do("GET", "/readyz", "", nil); return code == 200 })
	if code, a := s.webhook("w1", triggered("e1", "QTEST0000001", nodeExporterTitle)); code != 202 || a["outcome"] != "started" {
		t.Errorf("webhook, sent again: %d %v", code, a)
	}
}

func mustURL(t *testing.T, s string) *url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// With nothing configured at all a server starts on a private Postgres, and a second one on the same data is refused.
func TestServeOnAPrivatePostgres(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "drydock.yaml")
	if err := os.WriteFile(file, []byte("listen: 127.0.0.1:0\ndata_dir: data\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second start finds the first one's data
		ctx, cancel := context.WithCancel(t.Context())
		stderr := &buffer{}
		done := make(chan int, 1)
		go func() {
			done <- run(ctx, []string{"serve", "--config", file}, func(string) string { return "" }, io.Discard, stderr)
		}()
		eventually(t, "the server is ready", func() bool { return readyLine.MatchString(stderr.String()) })
		if status := drydock(t.Context(), nil, "migrate", "status", "--config", file); status.code != exitDone {
			t.Errorf("a look beside the server: exit %d, %s", status.code, status.stderr)
		}
		second := drydock(t.Context(), nil, "migrate", "up", "--config", file)
		if second.code != exitUsage || !strings.Contains(second.stderr, "another Drydock runs in data_dir") {
			t.Errorf("second owner of the data: exit %d, %s", second.code, second.stderr)
		}
		cancel()
		if code := <-done; code != exitDone {
			t.Errorf("exit %d: %s", code, stderr)
		}
	}
	status := drydock(t.Context(), nil, "migrate", "status", "--config", file, "-o", "json")
	if status.code != exitDone || !strings.Contains(status.stdout, `"pending": []`) {
		t.Errorf("exit %d: %s%s", status.code, status.stdout, status.stderr)
	}
}

// A schema that is not up to date is the operator's to mend: no remote system failed.
func TestServeWithoutMigrating(t *testing.T) {
	t.Parallel()
	dsn := pgtest.New(t, nil)
	file := writeFile(t, "drydock.yaml", "listen: 127.0.0.1:0\ndatabase_url: {env: DATABASE_URL}\ndata_dir: "+t.TempDir()+"\n")
	got := drydock(t.Context(), map[string]string{"DATABASE_URL": dsn}, "serve", "--no-migrate", "--config", file)
	if got.code != exitUsage || !strings.Contains(got.stderr, "drydock migrate up") {
		t.Errorf("exit %d: %s", got.code, got.stderr)
	}
}

func TestMigrate(t *testing.T) {
	t.Parallel()
	dsn := pgtest.New(t, nil)
	file := writeFile(t, "drydock.yaml", "database_url: {env: DATABASE_URL}\n")
	env := map[string]string{"DATABASE_URL": dsn}
	for _, step := range []struct {
		verb string
		code int
	}{{"status", exitNo}, {"up", exitDone}, {"status", exitDone}, {"down", exitDone}, {"status", exitNo}, {"up", exitDone}} {
		got := drydock(t.Context(), env, "migrate", step.verb, "--config", file)
		if got.code != step.code {
			t.Errorf("migrate %s: exit %d, want %d: %s%s", step.verb, got.code, step.code, got.stdout, got.stderr)
		}
	}
}
