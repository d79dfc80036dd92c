package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
)

const title = "#3475713: blumemix.containers-kubernetes.Prod-dal10-carrier3.not_running_all_ibm-kube-fluentd_demonsets.us-south"

type result struct {
	code           int
	stdout, stderr string
}

// drydock runs the program as a user does.
func drydock(ctx context.Context, env map[string]string, args ...string) result {
	var stdout, stderr bytes.Buffer
	code := run(ctx, args, func(name string) string { return env[name] }, &stdout, &stderr)
	return result{code, stdout.String(), stderr.String()}
}

func writeFile(t *testing.T, name, content string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestCommands(t *testing.T) {
	t.Parallel()
	good := writeFile(t, "drydock.yaml", "mode: observe\ncarriers: [{name: c1, kubeconfig: none.yaml}]\n")
	bad := writeFile(t, "drydock.yaml", "modus: observe\n")
	secret := writeFile(t, "drydock.yaml", "database_url: {env: DATABASE_URL}\npagerduty: {from: a@b.c, token: {file: absent}, webhook_secrets: [{env: HOOK}]}\n")
	missing := writeFile(t, "drydock.yaml", "carriers: [{name: c1, kubeconfig: none.yaml, actor_kubeconfig: no.yaml}]\ncarrier_dir: nowhere\n")
	act := writeFile(t, "drydock.yaml", "mode: act\ndata_dir: "+t.TempDir()+"\n")
	hash := writeFile(t, "drydock.yaml", "data_dir: "+t.TempDir()+"\napi_tokens: [{name: a, role: viewer, sha256: {env: HASH}}]\n")
	tests := map[string]struct {
		args           []string
		env            map[string]string
		code           int
		stdout, stderr []string // must appear
	}{
		"nothing":             {args: nil, code: 2, stderr: []string{"Usage:", "serve", "diagnose"}},
		"help":                {args: []string{"--help"}, code: 0, stdout: []string{"drydock parse"}},
		"unknown command":     {args: []string{"serv"}, code: 2, stderr: []string{`unknown command "serv"`, "serve"}},
		"unknown flag":        {args: []string{"parse", "--no", "x"}, code: 2, stderr: []string{"unknown flag: --no"}},
		"unknown output":      {args: []string{"parse", "-o", "xml", "x"}, code: 2, stderr: []string{"table, json, yaml"}},
		"parse, no title":     {args: []string{"parse"}, code: 2, stderr: []string{"usage is drydock parse TITLE"}},
		"parse, no match":     {args: []string{"parse", "-o", "json", "coffee"}, code: 1, stdout: []string{`"matched": false`, `"reason": "no rule matches the title"`}},
		"parse, table":        {args: []string{"parse", title}, code: 0, stdout: []string{"carrier     prod-dal10-carrier3\n", "namespace   ibm-system\n"}},
		"parse, no such file": {args: []string{"parse", "--config", "/nowhere.yaml", title}, code: 2, stderr: []string{"/nowhere.yaml does not exist", "--config or DRYDOCK_CONFIG"}},
		"parse, file by environment": {
			args: []string{"parse", title}, env: map[string]string{"DRYDOCK_CONFIG": "/nowhere.yaml"}, code: 2, stderr: []string{"/nowhere.yaml does not exist"},
		},
		"parse, bad file":       {args: []string{"parse", "--config", bad, title}, code: 2, stderr: []string{`drydock.yaml:1: modus: unknown key "modus"`, "1 | modus: observe"}},
		"config check":          {args: []string{"config", "check", "--config", good}, code: 0, stdout: []string{"is valid", "carriers listed: 1"}},
		"config check, bad":     {args: []string{"config", "check", "--config", bad}, code: 2, stderr: []string{`did you mean "mode"?`}},
		"config check, secrets": {args: []string{"config", "check", "--config", secret}, code: 0},
		"config check, example": {args: []string{"config", "check", "--config", "../../drydock.yaml"}, code: 0},
		"config check, json":    {args: []string{"config", "check", "--config", good, "-o", "json"}, code: 0, stdout: []string{`"valid": true`}},
		"config schema":         {args: []string{"config", "schema"}, code: 0, stdout: []string{`"$schema"`, `"drain_namespaces"`}},
		"config check, missing files": {
			args: []string{"config", "check", "--config", missing}, code: 0, stdout: []string{"is valid"},
			stderr: []string{"warning: carriers[0].kubeconfig: ", "none.yaml does not exist", "warning: carriers[0].actor_kubeconfig: ", "warning: carrier_dir: "},
		},
		"config check, act without self_alert": {args: []string{"config", "check", "--config", act}, code: 2, stderr: []string{"drydock.yaml:1: mode: self_alert is missing", "mode act", "   1 | mode: act"}},
		"config schema, yaml":                  {args: []string{"config", "schema", "-o", "yaml"}, code: 0, stdout: []string{"$schema: "}},
		"config":                               {args: []string{"config"}, code: 2, stderr: []string{"check", "schema"}},
		"runs":                                 {args: []string{"runs"}, code: 2, stderr: []string{"retrigger"}},
		"version, no such file":                {args: []string{"version", "--config", "/nowhere.yaml"}, code: 2, stderr: []string{"/nowhere.yaml does not exist"}},
		"schema, no such file":                 {args: []string{"config", "schema"}, env: map[string]string{"DRYDOCK_CONFIG": "/nowhere.yaml"}, code: 2, stderr: []string{"/nowhere.yaml does not exist"}},
		"completion, no shell":                 {args: []string{"completion"}, code: 2, stderr: []string{"bash"}},
		"completion, unknown shell":            {args: []string{"completion", "tcsh"}, code: 2, stderr: []string{"tcsh"}},
		"diagnose, case":                       {args: []string{"diagnose", "C1", "Node-Exporter", "--config", good, "-o", "json"}, code: 3, stdout: []string{`"daemonset": "node-exporter"`}},
		"diagnose, act without self_alert":     {args: []string{"diagnose", "c1", "node-exporter", "--config", act}, code: 2, stderr: []string{"no carriers are configured"}},
		"approve, two hashes":                  {args: []string{"runs", "approve", "r1", "a", "--plan-hash", "b", "--token", "x"}, code: 2, stderr: []string{"two plan hashes"}},
		"version":                              {args: []string{"version"}, code: 0, stdout: []string{"drydock dev"}},
		"version, yaml":                        {args: []string{"version", "-o", "yaml"}, code: 0, stdout: []string{"version: dev"}},
		"completion":                           {args: []string{"completion", "bash"}, code: 0, stdout: []string{"drydock"}},
		"serve, secrets": {
			args: []string{"serve", "--config", secret}, code: 2,
			stderr: []string{"database_url: environment variable DATABASE_URL is empty", "pagerduty.token: file absent does not exist", "pagerduty.webhook_secrets[0]: environment variable HOOK is empty"},
		},
		"serve, act without self_alert": {args: []string{"serve", "--config", act}, code: 2, stderr: []string{"self_alert is missing", "mode act"}},
		"serve, hash that is none":      {args: []string{"serve", "--config", hash}, env: map[string]string{"HASH": "abc"}, code: 2, stderr: []string{"api_tokens[0].sha256", "drydock token new"}},
		"serve, odd level":              {args: []string{"serve", "--config", good, "--log-level", "loud"}, code: 2, stderr: []string{"debug, info, warn, error"}},
		"serve, odd format":             {args: []string{"serve", "--config", good, "--log-format", "xml"}, code: 2, stderr: []string{"text, json"}},
		"migrate, no url":               {args: []string{"migrate", "up", "--config", secret}, code: 2, stderr: []string{"database_url: environment variable DATABASE_URL is empty"}},
		"migrate, no database": {
			args: []string{"migrate", "status", "--config", secret}, env: map[string]string{"DATABASE_URL": "postgres://drydock:hunter2@127.0.0.1:1/drydock"}, code: 3,
			stderr: []string{"127.0.0.1:1"},
		},
		"migrate, odd url": {
			args: []string{"migrate", "status", "--config", secret}, env: map[string]string{"DATABASE_URL": "postgres:/u:hunter2%%@h/d"}, code: 2,
			stderr: []string{"database_url (environment variable DATABASE_URL) is not a Postgres address"},
		},
		"diagnose, unknown carrier":   {args: []string{"diagnose", "c9", "node-exporter", "--config", good}, code: 2, stderr: []string{"carrier c9 is not configured: there are c1"}},
		"diagnose, no carriers":       {args: []string{"diagnose", "c9", "node-exporter"}, code: 2, stderr: []string{"no carriers are configured"}},
		"diagnose, unknown namespace": {args: []string{"diagnose", "c1", "my-agent", "--config", good}, code: 2, stderr: []string{"name it with -n"}},
		"diagnose, odd name":          {args: []string{"diagnose", "c1", "A_B", "-n", "x", "--config", good}, code: 2, stderr: []string{"not the name of a DaemonSet"}},
		"diagnose, no kubeconfig": {
			args: []string{"diagnose", "C1", "node-exporter", "--config", good, "-o", "json"}, code: 3, stdout: []string{`"finding": "unknown"`, "none.yaml does not exist"},
		},
		"runs without a token":     {args: []string{"runs", "list", "--config", good}, code: 2, stderr: []string{"--token or DRYDOCK_TOKEN"}},
		"runs without a server":    {args: []string{"runs", "list", "--server", "http://127.0.0.1:1", "--token", "x"}, code: 3, stderr: []string{"the server does not answer", "--server"}},
		"runs, odd server":         {args: []string{"runs", "list", "--server", "nowhere", "--token", "x"}, code: 2, stderr: []string{"--server"}},
		"retrigger, nothing named": {args: []string{"runs", "retrigger", "--token", "x"}, code: 2, stderr: []string{"--incident"}},
		"kill-switch, no reason":   {args: []string{"kill-switch", "on", "--token", "x"}, code: 2, stderr: []string{"--reason is missing"}},
		"plan":                     {args: []string{"plan", "a", "b", "--config", good}, code: 2, stderr: []string{"name it with -n"}},
		"replay, nothing named":    {args: []string{"replay"}, code: 2, stderr: []string{"name either a run or --all"}},
		"replay, both":             {args: []string{"replay", "r1", "--all"}, code: 2, stderr: []string{"name either a run or --all"}},
		"replay, odd policy":       {args: []string{"replay", "--all", "--policy", "old"}, code: 2, stderr: []string{"stored, present"}},
		"replay, odd time":         {args: []string{"replay", "--all", "--since", "today"}, code: 2, stderr: []string{"2026-11-22T08:00:00Z"}},
		"replay, no history":       {args: []string{"replay", "--all", "--config", good}, code: 2, stderr: []string{"there is no history in data_dir"}},
		"replay, no database":      {args: []string{"replay", "--all", "--config", secret}, env: map[string]string{"DATABASE_URL": "postgres://drydock:hunter2@127.0.0.1:1/drydock"}, code: 3, stderr: []string{"127.0.0.1:1"}},
		"doctor, secrets":          {args: []string{"doctor", "--config", secret}, code: 2, stderr: []string{"pagerduty.token: file absent does not exist"}},
		"audit verify, no log":     {args: []string{"audit", "verify", "--config", good}, code: 2, stderr: []string{"there is no history in data_dir"}},
		"stats, odd time":          {args: []string{"stats", "--since", "x", "--token", "x"}, code: 2, stderr: []string{"2026-11-22T08:00:00Z"}},
		"kill-switch, odd carrier": {args: []string{"kill-switch", "on", "--file", "--reason", "x", "--carrier", "../x", "--config", good}, code: 2, stderr: []string{"not the name of a carrier"}},
		"pagerduty connect":        {args: []string{"pagerduty", "connect", "--config", good}, code: 2, stderr: []string{"pagerduty.token is not configured"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := drydock(t.Context(), tt.env, tt.args...)
			if got.code != tt.code {
				t.Errorf("exit %d, want %d\nstdout: %s\nstderr: %s", got.code, tt.code, got.stdout, got.stderr)
			}
			for _, want := range tt.stdout {
				if !strings.Contains(got.stdout, want) {
					t.Errorf("stdout lacks %q: %s", want, got.stdout)
				}
			}
			for _, want := range tt.stderr {
				if !strings.Contains(got.stderr, want) {
					t.Errorf("stderr lacks %q: %s", want, got.stderr)
				}
			}
			if tt.stdout == nil && tt.code != 0 && got.stdout != "" {
				t.Errorf("an error is on stdout: %s", got.stdout)
			}
			if strings.Contains(got.stdout+got.stderr, "hunter2") {
				t.Errorf("a password is shown: %s %s", got.stdout, got.stderr)
			}
		})
	}
}

// fullDisk is a stdout that takes nothing.
type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

// An answer that could not be written is not the user's mistake.
func TestAnswerThatCanNotBeWritten(t *testing.T) {
	t.Parallel()
	for _, output := range []string{"table", "json", "yaml"} {
		var stderr bytes.Buffer
		code := run(t.Context(), []string{"version", "-o", output}, func(string) string { return "" }, fullDisk{}, &stderr)
		if code != exitRemote || !strings.Contains(stderr.String(), "write the answer") || strings.Contains(stderr.String(), "--help") {
			t.Errorf("-o %s: exit %d: %s", output, code, stderr.String())
		}
	}
}

// Turning a switch off that something else still holds is told.
func TestKillSwitchStillEngaged(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"engaged":true,"carrier":"c1","reason":"bad night (file kill-switch.c1)"}`))
	}))
	t.Cleanup(server.Close)
	got := drydock(t.Context(), nil, "kill-switch", "off", "--carrier", "c1", "--reason", "over", "--server", server.URL, "--token", "x")
	if got.code != 0 || !strings.Contains(got.stdout, "bad night") || !strings.Contains(got.stderr, "still stopped") {
		t.Errorf("exit %d: %s%s", got.code, got.stdout, got.stderr)
	}
}

func TestParseJSON(t *testing.T) {
	t.Parallel()
	got := drydock(t.Context(), nil, "parse", "-o", "json", title)
	var answer map[string]any
	if err := json.Unmarshal([]byte(got.stdout), &answer); err != nil || got.code != 0 {
		t.Fatalf("exit %d, %v: %s%s", got.code, err, got.stdout, got.stderr)
	}
	want := map[string]any{
		"matched": true, "rule": "not_running_all", "alert": "not_running_all", "carrier": "prod-dal10-carrier3",
		"daemonset": "ibm-kube-fluentd", "namespace": "ibm-system", "region": "us-south",
	}
	if diff := cmp.Diff(want, answer); diff != "" {
		t.Error(diff)
	}
}

func TestTokenNew(t *testing.T) {
	t.Parallel()
	var tokens []string
	for range 2 {
		got := drydock(t.Context(), nil, "token", "new", "-o", "json")
		var answer struct{ Token, SHA256 string }
		if err := json.Unmarshal([]byte(got.stdout), &answer); err != nil {
			t.Fatal(err)
		}
		if answer.SHA256 != tokenHash(answer.Token) || len(answer.Token) < 40 {
			t.Errorf("token %q, hash %q", answer.Token, answer.SHA256)
		}
		tokens = append(tokens, answer.Token)
	}
	if tokens[0] == tokens[1] {
		t.Error("two tokens are the same")
	}
}

// Every command of the contract exists.
func TestContractsCommands(t *testing.T) {
	t.Parallel()
	root := newRoot(&app{getenv: func(string) string { return "" }, stdout: &bytes.Buffer{}, stderr: &bytes.Buffer{}})
	for _, path := range []string{
		"serve", "migrate up", "migrate down", "migrate status", "parse", "diagnose", "plan", "runs list", "runs get", "runs watch", "runs retrigger",
		"runs cancel", "runs approve", "kill-switch on", "kill-switch off", "replay", "config check", "config schema", "token new", "doctor", "audit verify",
		"stats", "pagerduty connect", "version",
	} {
		words := strings.Fields(path)
		cmd, rest, err := root.Find(words)
		if err != nil || len(rest) > 0 || cmd.Name() != words[len(words)-1] {
			t.Errorf("%s: %v, %v", path, err, rest)
		}
		if cmd.Short == "" {
			t.Errorf("%s does not say what it does", path)
		}
	}
}

// Every command that does something shows how it is typed, by its own name.
func TestEveryCommandHasAnExample(t *testing.T) {
	t.Parallel()
	root := newRoot(&app{getenv: func(string) string { return "" }, stdout: &bytes.Buffer{}, stderr: &bytes.Buffer{}})
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		for _, child := range cmd.Commands() {
			walk(child)
		}
		if cmd.HasSubCommands() || cmd.Name() == "help" || cmd.Parent().Name() == "completion" {
			return
		}
		if !strings.Contains(cmd.Example, cmd.CommandPath()) {
			t.Errorf("%s: its example is %q", cmd.CommandPath(), cmd.Example)
		}
	}
	walk(root)
}

func TestClientExitCodes(t *testing.T) {
	t.Parallel()
	for status, code := range map[int]int{200: 0, 201: 0, 400: 2, 401: 1, 403: 1, 404: 1, 409: 1, 422: 2, 429: 3, 500: 3, 502: 3, 503: 3} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") != "Bearer secret" {
				t.Errorf("Authorization %q", r.Header.Get("Authorization"))
			}
			w.WriteHeader(status)
			if status < 300 {
				_, _ = w.Write([]byte(`{"id":"r1","carrier":"c1","namespace":"m","daemonset":"d","state":"draining"}`))
				return
			}
			_, _ = w.Write([]byte(`{"title":"No","detail":"because"}`))
		}))
		for _, args := range [][]string{
			{"runs", "get", "r1"}, {"runs", "retrigger", "r1", "--reason", "x"}, {"runs", "retrigger", "--incident", "Q1", "--reason", "x"},
			{"stats"}, {"runs", "list"}, {"runs", "cancel", "r1"}, {"runs", "approve", "r1", "--plan-hash", "p"}, {"runs", "approve", "r1", "p"}, {"kill-switch", "off", "--reason", "x"},
		} {
			got := drydock(t.Context(), map[string]string{"DRYDOCK_URL": server.URL, "DRYDOCK_TOKEN": "secret"}, args...)
			if got.code != code {
				t.Errorf("%v answered %d: exit %d, want %d: %s", args, status, got.code, code, got.stderr)
			}
			if code != 0 && !strings.Contains(got.stderr, "No: because") {
				t.Errorf("%v: stderr %q", args, got.stderr)
			}
		}
		server.Close()
	}
}

func TestRunsList(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/api/v1/runs" || r.URL.RawQuery != "carrier=c1&since=2026-11-22T00%3A00%3A00Z&limit=2" {
			t.Errorf("%s", r.URL)
		}
		_, _ = w.Write([]byte(`{"items":[{"id":"r1","carrier":"c1","namespace":"m","daemonset":"d\u001b[2J","state":"draining","finding":"node_full","started_at":"2026-11-22T03:04:05Z"}],"next_cursor":"abc"}`))
	}))
	t.Cleanup(server.Close)
	env := map[string]string{"DRYDOCK_URL": server.URL, "DRYDOCK_TOKEN": "secret"}
	got := drydock(t.Context(), env, "runs", "list", "--carrier", "c1", "--limit", "2", "--since", "2026-11-22T00:00:00Z")
	want := "ID   CARRIER   DAEMONSET   STATE      FINDING     STARTED\nr1   c1        m/d·[2J     draining   node_full   2026-11-22T03:04:05Z\n"
	if got.code != 0 || got.stdout != want || !strings.Contains(got.stderr, "--cursor abc") {
		t.Errorf("exit %d\n%s%s", got.code, got.stdout, got.stderr)
	}
}

// events is a server whose stream breaks after the first connection's events, and goes on where it was.
func events(t *testing.T, outcome string) (*httptest.Server, *[]string) {
	var asked []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.Header.Get("Last-Event-ID"))
		w.Header().Set("Content-Type", "text/event-stream")
		switch r.Header.Get("Last-Event-ID") {
		case "":
			_, _ = io.WriteString(w, ": hello\n\nid: 1\nevent: tick\ndata: {\"seq\":1,\"at\":\"2026-11-22T03:04:05Z\",\"to\":\"draining\",\"finding\":\"node_full\",\"why\":\"it is full\"}\n\n"+
				"id: 2\nevent: news\ndata: of a newer server\n\n")
		case "2":
			_, _ = io.WriteString(w, "id: 3\nevent: intent\ndata: {\"seq\":1,\"kind\":\"cordon\",\"target\":{\"kind\":\"Node\",\"name\":\"n1\"},\"promised_at\":\"2026-11-22T03:04:06Z\",\"result\":null}\n\n"+
				"id: 4\nevent: end\ndata: {\"id\":\"r1\",\"outcome\":"+outcome+",\"why\":\"all is well\"}\n\n")
		}
	}))
	t.Cleanup(server.Close)
	return server, &asked
}

func TestRunsWatch(t *testing.T) {
	t.Parallel()
	server, asked := events(t, `"resolved"`)
	env := map[string]string{"DRYDOCK_URL": server.URL, "DRYDOCK_TOKEN": "secret"}
	got := drydock(t.Context(), env, "runs", "watch", "r1")
	want := "03:04:05  draining              node_full        it is full\n03:04:06    1. cordon Node n1: open\nended: resolved: all is well\n"
	want = strings.Replace(want, "open", "promised", 1)
	if got.code != 0 || got.stdout != want || got.stderr != "" || strings.Join(*asked, " ") != " 2" {
		t.Errorf("exit %d, asked %q\n%s%s", got.code, *asked, got.stdout, got.stderr)
	}
	server, _ = events(t, `"escalated"`)
	env["DRYDOCK_URL"] = server.URL
	got = drydock(t.Context(), env, "runs", "watch", "r1", "-o", "json")
	if got.code != 1 || strings.Count(got.stdout, "\n") != 3 || !strings.Contains(got.stdout, `"event":"end"`) {
		t.Errorf("exit %d\n%s%s", got.code, got.stdout, got.stderr)
	}
}

func TestKillSwitchFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	why := killSwitchFile(dir)
	if got := why("c1"); got != "" {
		t.Errorf("no file: %q", got)
	}
	if err := os.WriteFile(filepath.Join(dir, "kill-switch.c1"), []byte("bad night\nmore"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := why("c1"); !strings.HasPrefix(got, "bad night (file ") {
		t.Errorf("c1: %q", got)
	}
	if got := why("c2"); got != "" {
		t.Errorf("c2: %q", got)
	}
	if err := os.WriteFile(filepath.Join(dir, "kill-switch"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := why("c2"); !strings.Contains(got, "exists") {
		t.Errorf("c2: %q", got)
	}
}

func TestKeepSecret(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "new")
	file := filepath.Join(dir, "token")
	made := 0
	secret := func() string { made++; return "s3cret" }
	for range 2 {
		if got, err := keepSecret(file, secret); err != nil || got != "s3cret" {
			t.Fatalf("%q, %v", got, err)
		}
	}
	if made != 1 {
		t.Errorf("made %d times", made)
	}
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("left over: %v, %v", entries, err)
	}
	if err := os.WriteFile(file, []byte(" \n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := keepSecret(file, secret); err == nil {
		t.Error("an empty secret was accepted")
	}
}
