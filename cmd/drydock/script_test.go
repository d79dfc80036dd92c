package main

import (
	"errors"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	corev1 "k8s.io/api/core/v1"
)

// TestScripts plays the transcripts of testdata/script: what a person types, and what they see.
//
// Each runs in a directory of its own in which these carriers are configured (drydock.yaml): healthy, full (its node
// worker-12 has no place for a daemon pod), tight (the same, and none of its pods may ever go), spent (the same, and
// their budgets allow no eviction now), absent, denied (it
// grants too little), large, hostile
// (its messages try to write on the terminal), dead (it does not answer).
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "script"),
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		UpdateScripts:       os.Getenv("UPDATE_SCRIPTS") != "",
		Cmds:                map[string]func(*testscript.TestScript, bool, []string){"exec-code": execCode, "envsubst": envSubst},
		Setup: func(env *testscript.Env) error {
			env.Setenv("TERM", "xterm")
			dir := filepath.Join(env.WorkDir, "carriers")
			if err := os.Mkdir(dir, 0o700); err != nil {
				return err
			}
			for name, carrier := range standIns() {
				carrier.serve(env.T().(testing.TB), dir, name)
			}
			for name, account := range map[string]*standInPagerDuty{"PAGERDUTY": {levels: 2}, "PAGERDUTY_POOR": {levels: 1, onCall: true}} {
				server := httptest.NewServer(account)
				env.Defer(server.Close)
				env.Setenv(name, server.URL)
			}
			return os.WriteFile(filepath.Join(dir, "dead.yaml"), []byte(deadCarrier), 0o600)
		},
	})
}

func standIns() map[string]*standIn {
	full := newStandIn(12)
	full.fill(11)
	tight := newStandIn(12)
	tight.fill(11)
	for _, master := range []string{"master-1", "master-2", "master-3", "master-4"} {
		tight.budget(master, 0)
		tight.budget(master, 1) // two on one pod: the Eviction API refuses that for good
	}
	spent := newStandIn(12)
	spent.fill(11)
	for _, master := range []string{"master-1", "master-2", "master-3", "master-4"} {
		spent.budget(master, 0)
	}
	denied := newStandIn(3)
	denied.denied["create pods"], denied.denied["patch nodes"] = true, true
	absent := newStandIn(3)
	absent.sets = nil
	hostile := newStandIn(3)
	hostile.nodes[1].Status.Conditions[0] = corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionFalse,
		Reason: "Bad", Message: "\x1b[2J\x1b[31mall is well\x07\u202egnp.exe\nNODE  VERDICT"}
	large := newStandIn(2300)
	for i := 100; i < 103; i++ {
		large.nodes[i].Status.Conditions[0].Status = "False"
	}
	return map[string]*standIn{"healthy": newStandIn(12), "full": full, "tight": tight, "spent": spent, "absent": absent, "denied": denied, "hostile": hostile, "large": large}
}

// execCode is exec with the exit code that is wanted: "exec-code 3 drydock ...". Its output is checked as exec's is.
func execCode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exec-code CODE PROGRAM [ARGUMENT...]")
	}
	err := ts.Exec(args[1], args[2:]...)
	got := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if want := args[0]; want != strconv.Itoa(got) {
		ts.Fatalf("exit %d, want %s", got, want)
	}
}

// envSubst puts the environment's values into a file.
func envSubst(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: envsubst FILE")
	}
	file := ts.MkAbs(args[0])
	ts.Check(os.WriteFile(file, []byte(os.Expand(ts.ReadFile(args[0]), ts.Getenv)), 0o600))
}
