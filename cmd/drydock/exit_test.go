package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/drydock/drydock/migrations"
	"github.com/drydock/drydock/playbook"
	"github.com/drydock/drydock/store/privatepg/pgtest"
)

// answering is a server that answers everything with one status.
func answering(t *testing.T, status int, body string) string {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// TestExitCodes is the matrix of all commands and of the ways in which each can end: 0 done; 1 the answer is "no"; 2 usage or
// configuration; 3 a remote system failed. Whatever is not data goes to stderr, and a failure puts no data on stdout.
func TestExitCodes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	healthy, full, denied := newStandIn(3), newStandIn(3), newStandIn(3)
	full.fill(2)
	denied.denied["patch nodes"] = true
	for name, c := range map[string]*standIn{"healthy": healthy, "full": full, "denied": denied} {
		c.serve(t, dir, name)
	}
	pager := httptest.NewServer(&standInPagerDuty{levels: 2})
	t.Cleanup(pager.Close)
	const self = "mode: act\nself_alert: {routing_key: {env: SELF}}\nbackup_key: {env: KEY}\n"
	carriers := func(names ...string) string {
		text := "carriers:\n"
		for _, n := range names {
			text += "  - {name: " + n + ", kubeconfig: " + filepath.Join(dir, n+".yaml") + "}\n"
		}
		return text
	}
	const account = "public_url: https://drydock.example.com\npagerduty: {from: drydock@example.com, token: {env: TOKEN}, webhook_secrets: [{env: HOOK}], api_url: "
	good := writeFile(t, "drydock.yaml", self+"database_url: {env: DSN}\n"+carriers("healthy", "full"))
	wrong := writeFile(t, "drydock.yaml", "modus: act\n")
	nothing := writeFile(t, "drydock.yaml", "data_dir: "+t.TempDir()+"\n")
	paged := writeFile(t, "drydock.yaml", account+pager.URL+"}\n")
	denying := writeFile(t, "drydock.yaml", self+"data_dir: "+t.TempDir()+"\n"+carriers("denied"))
	unreachable := writeFile(t, "drydock.yaml", "data_dir: "+t.TempDir()+"\n"+"carriers: [{name: gone, kubeconfig: "+writeFile(t, "k.yaml", deadCarrier)+"}]\n")
	noPager := writeFile(t, "drydock.yaml", account+"http://127.0.0.1:1}\n")
	env := map[string]string{"DSN": pgtest.New(t, migrations.Up), "SELF": "x", "HOOK": "x", "TOKEN": "good",
		"KEY": "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="}
	old := map[string]string{"DSN": pgtest.New(t, migrations.Up), "KEY": env["KEY"]}
	conn, err := pgx.Connect(t.Context(), old["DSN"])
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), `UPDATE schema_migrations SET version = version - 1`); err != nil {
		t.Fatal(err)
	}
	nowhere := map[string]string{"DSN": "postgres://127.0.0.1:1/drydock", "KEY": env["KEY"]}

	type way struct {
		args string
		code int
		env  map[string]string
	}
	matrix := map[string][]way{
		"serve":          {{"serve --config " + wrong, 2, nil}, {"serve x", 2, nil}, {"serve --config " + good, 2, nil}, {"serve --config " + good, 3, with(env, nowhere)}},
		"migrate up":     {{"migrate up --config " + good, 0, env}, {"migrate up x", 2, nil}, {"migrate up --config " + good, 2, nil}, {"migrate up --config " + good, 3, nowhere}},
		"migrate down":   {{"migrate down x", 2, nil}, {"migrate down --config " + good, 3, nowhere}},
		"migrate status": {{"migrate status --config " + good, 0, env}, {"migrate status --config " + good, 1, old}, {"migrate status --config " + wrong, 2, nil}, {"migrate status --config " + good, 3, nowhere}},
		"parse":          {{"parse " + nodeExporterTitle, 0, nil}, {"parse coffee", 1, nil}, {"parse", 2, nil}, {"parse x --config " + wrong, 2, nil}},
		"diagnose":       {{"diagnose healthy node-exporter --config " + good, 0, env}, {"diagnose full node-exporter --config " + good, 1, env}, {"diagnose mars node-exporter --config " + good, 2, env}, {"diagnose gone node-exporter --config " + unreachable, 3, nil}},
		"plan":           {{"plan full node-exporter --config " + good, 0, env}, {"plan mars node-exporter --config " + good, 2, env}, {"plan gone node-exporter --config " + unreachable, 3, nil}},
		"replay":         {{"replay --all --config " + good, 0, env}, {"replay nothing --config " + good, 1, env}, {"replay", 2, nil}, {"replay --all --config " + good, 3, nowhere}},
		"runs backup":    {{"runs backup nothing --file x --config " + good, 1, env}, {"runs backup nothing", 2, nil}, {"runs backup r1 --file x --config " + good, 3, nowhere}},
		"audit verify":   {{"audit verify --config " + good, 0, env}, {"audit verify --config " + nothing, 2, nil}, {"audit verify --config " + good, 3, nowhere}},
		"config check":   {{"config check --config " + nothing, 0, nil}, {"config check --config " + wrong, 2, nil}, {"config check --config /nowhere.yaml", 2, nil}},
		"config schema":  {{"config schema", 0, nil}, {"config schema x", 2, nil}},
		"token new":      {{"token new", 0, nil}, {"token new x", 2, nil}},
		"version":        {{"version", 0, nil}, {"version -o xml", 2, nil}},
		"doctor":         {{"doctor --config " + denying, 1, env}, {"doctor --config " + good, 2, nil}, {"doctor --config " + unreachable, 3, nil}},
		"pagerduty connect": {{"pagerduty connect --config " + paged, 0, env}, {"pagerduty connect --config " + paged, 1, with(env, map[string]string{"TOKEN": "bad"})},
			{"pagerduty connect --config " + nothing, 2, nil}, {"pagerduty connect --config " + noPager, 3, env}},
		"completion bash": {{"completion bash", 0, nil}, {"completion bash x", 2, nil}}, "completion zsh": {{"completion zsh", 0, nil}},
		"completion fish": {{"completion fish", 0, nil}}, "completion powershell": {{"completion powershell", 0, nil}},
	}
	// What asks a server has the same rows: what it answers decides.
	answers := map[string]string{
		"runs list": `{"items":[],"next_cursor":null}`, "runs get r1": `{"id":"r1"}`, "runs explain r1": `{"items":[]}`, "runs retrigger r1 --reason x": `{"id":"r2"}`,
		"runs cancel r1": `{"id":"r1"}`, "runs approve r1 h": `{"id":"r1"}`, "stats": `{}`, "kill-switch on --reason x": `{"engaged":true}`,
		"kill-switch off --reason x": `{"engaged":false}`, "carriers confirm c1 --reason x": `{"carrier":"c1"}`, "runs watch r1": "",
	}
	for args, body := range answers {
		words := strings.Fields(args)
		path := strings.Join(words[:min(len(words), 2)], " ")
		if words[0] == "stats" {
			path = "stats"
		}
		to := func(status int) map[string]string {
			return map[string]string{"DRYDOCK_URL": answering(t, status, body), "DRYDOCK_TOKEN": "x"}
		}
		if body != "" {
			matrix[path] = append(matrix[path], way{args, 0, to(200)})
		}
		for status, code := range map[int]int{401: 1, 403: 1, 404: 1, 409: 1, 400: 2, 422: 2, 429: 3, 500: 3, 503: 3, 302: 3} {
			matrix[path] = append(matrix[path], way{args, code, to(status)})
		}
		matrix[path] = append(matrix[path], way{args, 3, map[string]string{"DRYDOCK_URL": "http://127.0.0.1:1", "DRYDOCK_TOKEN": "x"}},
			way{args, 2, map[string]string{"DRYDOCK_URL": "nowhere", "DRYDOCK_TOKEN": "x"}}, way{args + " --config /nowhere.yaml", 2, nil},
			way{args + " --no-such-flag", 2, nil}, way{args + " --config " + nothing, 2, nil})
	}
	for path, ways := range matrix {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			for _, w := range ways {
				got := drydock(t.Context(), w.env, strings.Fields(w.args)...)
				if got.code != w.code {
					t.Errorf("%s: exit %d, want %d\n%s%s", w.args, got.code, w.code, got.stdout, got.stderr)
				}
				answered := path == "diagnose" || path == "plan" || path == "parse" || path == "doctor" || path == "migrate status"
				if w.code != 0 && got.stdout != "" && !(answered && w.code != 2) {
					t.Errorf("%s: what failed is on stdout: %s", w.args, got.stdout)
				}
				if w.code != 0 && got.stdout == "" && got.stderr == "" {
					t.Errorf("%s: it fails without a word", w.args)
				}
				if strings.Contains(got.stderr, "panic") || strings.Contains(got.stderr, "goroutine ") {
					t.Errorf("%s: %s", w.args, got.stderr)
				}
			}
		})
	}
	root := newRoot(&app{getenv: func(string) string { return "" }, stdout: &bytes.Buffer{}, stderr: &bytes.Buffer{}})
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		for _, child := range cmd.Commands() {
			walk(child)
		}
		path := strings.TrimPrefix(cmd.CommandPath(), "drydock ")
		if !cmd.HasSubCommands() && cmd.Name() != "help" && len(matrix[path]) == 0 {
			t.Errorf("no row of the matrix is about %q", path)
		}
		if help := drydock(t.Context(), nil, append(strings.Fields(path), "--help")...); path != "drydock" && (help.code != 0 || help.stderr != "" ||
			cmd.Parent().Name() != "completion" && cmd.Name() != "help" && !strings.Contains(help.stdout, "Examples:")) {
			t.Errorf("%s --help: exit %d: %s%s", path, help.code, help.stdout, help.stderr)
		}
	}
	walk(root)
}

func with(a, b map[string]string) map[string]string {
	out := map[string]string{}
	for _, m := range []map[string]string{a, b} {
		for k, v := range m {
			out[k] = v
		}
	}
	return out
}

// The manifest that was kept before a delete comes back whole, with the server's key alone, and never over another file.
func TestRunsBackup(t *testing.T) {
	t.Parallel()
	d := newTidying(t)
	run, other := d.begin("c1"), d.begin("c1")
	d.orphan(run)
	file := writeFile(t, "drydock.yaml", "database_url: {env: DSN}\nbackup_key: {env: KEY}\n")
	env := map[string]string{"DSN": d.dsn, "KEY": strings.Repeat("A", 43) + "="} // 32 zeros
	out := filepath.Join(t.TempDir(), "daemonset.yaml")
	backup := func(env map[string]string, id, out string) result {
		return drydock(t.Context(), env, "runs", "backup", id, "--file", out, "--config", file, "-o", "json")
	}
	got := backup(env, run, out)
	var answer backupAnswer
	if err := json.Unmarshal([]byte(got.stdout), &answer); err != nil || got.code != 0 || answer.File != out || answer.UID != "old" {
		t.Fatalf("exit %d, %v: %s%s", got.code, err, got.stdout, got.stderr)
	}
	if text := readFile(t, out); !strings.Contains(text, "name: "+answer.DaemonSet) {
		t.Errorf("the file holds %q", text)
	}
	if got := backup(env, run, out); got.code != 2 || !strings.Contains(got.stderr, "exists") {
		t.Errorf("over a file: exit %d: %s", got.code, got.stderr)
	}
	if got := backup(env, other, out+"2"); got.code != 1 || !strings.Contains(got.stderr, "deleted no DaemonSet") {
		t.Errorf("a run without a delete: exit %d: %s", got.code, got.stderr)
	}
	env["KEY"] = strings.Repeat("B", 42) + "A="
	if got := backup(env, run, out+"3"); got.code != 2 || !strings.Contains(got.stderr, "another backup_key") {
		t.Errorf("another key: exit %d: %s", got.code, got.stderr)
	}
}

// The answers to all questions, the decisive one marked, on a terminal of any width.
func TestRunsExplain(t *testing.T) {
	t.Parallel()
	list, err := json.Marshal(map[string]any{"items": []playbook.Question{
		{Finding: playbook.FindingUnknown, Answer: playbook.No, Saw: "the DaemonSet and its nodes were read", Flip: "the DaemonSet can not be read: then unknown"},
		{Finding: playbook.FindingNodeFull, Answer: playbook.Yes, Saw: "node w-12: full: 31 of 31 pods", Flip: "node w-12 has a free place (30 of 31 pods): then rolling_out"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"DRYDOCK_URL": answering(t, 200, string(list)), "DRYDOCK_TOKEN": "x", "COLUMNS": "40"}
	want := `  unknown: no
    the DaemonSet and its nodes were
    read
    if the DaemonSet can not be read:
    then unknown
> node_full: yes
    node w-12: full: 31 of 31 pods
    if node w-12 has a free place (30 of
    31 pods): then rolling_out
`
	if got := drydock(t.Context(), env, "runs", "explain", "r1"); got.code != 0 || got.stdout != want {
		t.Errorf("exit %d, width %s:\n%s%s", got.code, strconv.Quote(env["COLUMNS"]), got.stdout, got.stderr)
	}
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
