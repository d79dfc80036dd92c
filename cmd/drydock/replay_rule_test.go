package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/drydock/drydock/migrations"
	"github.com/drydock/drydock/store/privatepg/pgtest"
)

// A program with one rule changed, built like any other, is tried on a history before it goes live: replay names what it would
// decide otherwise, and exits 1; the unchanged one finds nothing.
func TestReplayFindsAChangedRule(t *testing.T) {
	t.Parallel()
	full := newStandIn(5)
	full.fill(4)
	dsn := pgtest.New(t, migrations.Up)
	env := map[string]string{"DATABASE_URL": dsn, "HOOK": hookSecret, "BACKUP_KEY": "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="}
	const database = "database_url: {env: DATABASE_URL}\nbackup_key: {env: BACKUP_KEY}\n"
	s := startServer(t, database+"carriers: [{name: prod-dal10-carrier3, kubeconfig: "+full.serve(t, t.TempDir(), "full")+"}]\n"+
		"pagerduty: {webhook_secrets: [{env: HOOK}]}\ntiming: {tick: 1s}\n", env)
	_, a := s.webhook("w1", triggered("e1", "QTEST0000001", nodeExporterTitle))
	run := a["run"].(string)
	eventually(t, "the run has ticks", func() bool {
		_, r := s.do("GET", "/api/v1/runs/"+run, "", nil)
		ticks, _ := r["ticks"].([]any)
		return len(ticks) > 0
	})
	s.stop()

	const rule, changed = "pods.Count < n.Allocatable", "pods.Count <= n.Allocatable"
	for name, overlaid := range map[string]bool{"unchanged": false, "changed": true} {
		program := filepath.Join(t.TempDir(), "drydock")
		args := []string{"build", "-buildvcs=false", "-o", program}
		if overlaid {
			args = append(args, "-overlay", overlayOf(t, filepath.Join("..", "..", "playbook", "diagnose.go"), rule, changed))
		}
		if out, err := exec.CommandContext(t.Context(), "go", append(args, ".")...).CombinedOutput(); err != nil {
			t.Fatalf("build the %s program: %v\n%s", name, err, out)
		}
		cmd := exec.CommandContext(t.Context(), program, "replay", "--all", "-o", "json", "--config", writeFile(t, "drydock.yaml", database))
		cmd.Env = append(os.Environ(), "DATABASE_URL="+dsn, "BACKUP_KEY="+env["BACKUP_KEY"])
		out, err := cmd.Output()
		var answer replayed
		if jsonErr := json.Unmarshal(out, &answer); jsonErr != nil || answer.Ticks == 0 {
			t.Fatalf("%s: %v, %v: %s", name, err, jsonErr, out)
		}
		if code := cmd.ProcessState.ExitCode(); answer.Identical == overlaid || (code == exitNo) != overlaid || (code == exitDone) == overlaid {
			t.Errorf("%s: exit %d: %s", name, code, out)
		}
		if overlaid && !strings.Contains(string(out), `"what": "verdict of worker-05"`) {
			t.Errorf("the difference is not named: %s", out)
		}
	}
}

// overlayOf changes one place of a source file, for "go build -overlay", and returns the list's name.
func overlayOf(t *testing.T, file, was, is string) string {
	t.Helper()
	source := readFile(t, file)
	if strings.Count(source, was) != 1 {
		t.Fatalf("%s has %q %d times, not once", file, was, strings.Count(source, was))
	}
	name, err := filepath.Abs(file)
	if err != nil {
		t.Fatal(err)
	}
	list, err := json.Marshal(map[string]any{"Replace": map[string]string{name: writeFile(t, "changed.go", strings.Replace(source, was, is, 1))}})
	if err != nil {
		t.Fatal(err)
	}
	return writeFile(t, "overlay.json", string(list))
}
