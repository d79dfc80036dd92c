package playbooktest

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/drydock/drydock/playbook"
)

var update = flag.Bool("update", false, "write the golden files of the notes")

// noted are the nights whose notes are kept as golden files: what a tired person reads, at least once for each end and for
// each thing that a run may wait for. The key is the file's name.
func noted() map[string]Scenario {
	approve := func(p *playbook.Policy) {
		p.Mode, p.Approvers, p.Timing.Approval = playbook.ModeApprove, []string{"PUSER01"}, time.Minute
	}
	nights := map[string]Scenario{
		"resolved-absent-promoted":   named("absent, promoted again"),
		"resolved-drained":           named("node full, drained"),
		"resolved-healthy":           named("healthy"),
		"resolved-reapplied":         named("uncovered, reapplied"),
		"escalated-budget-blocks":    named("node full, a disruption budget blocks for good"),
		"escalated-crash":            named("a pod crashes on one worker"),
		"escalated-disk":             named("disk pressure stays"),
		"escalated-forbidden":        named("the controller may not store revisions, for good"),
		"escalated-node-down":        named("one worker down does not hide a full one"),
		"escalated-promotion-failed": named("absent, and the promotion fails"),
		"escalated-unreachable":      named("the carrier can not be reached until the deadline"),
		"stood-down-acknowledged":    named("a person acknowledges during a drain"),
		"stood-down-observe":         named("mode observe"),
		"stood-down-recovered":       named("the alert recovers by itself during triage"),
		"approval-drain-nobody":      {Setup: func(w *World) { full(w, "worker-1") }, Policy: approve},
		"approval-promotion-nobody":  {Setup: func(w *World) { absent(w) }, Policy: approve},
		"waiting-two-targets": {
			Setup: func(w *World) {
				full(w, "worker-1").AddSet(DaemonSet{Namespace: defaultNS, Name: "docker-metrics-endpoint"})
			},
			Alerts: []playbook.Target{target(defaultCarrier, defaultDaemon), target(defaultCarrier, "docker-metrics-endpoint")},
		},
		"unwinding-blocked": {
			Setup: func(w *World) { full(w, "worker-1") },
			Later: func(w *World) {
				c := w.Carrier(defaultCarrier)
				w.When("cordoned", marked(c, "worker-1"), func() {
					w.Clock.After(time.Second, func() {
						w.Pager.Human("PINC001", playbook.ActHandsOff, "Ada")
						c.Unreachable = "i/o timeout"
					})
					w.Clock.After(3*time.Minute, func() { c.Unreachable = "" })
				})
			},
		},
	}
	for name, s := range nights {
		policy := s.Policy
		s.Policy = func(p *playbook.Policy) {
			p.PublicURL = "https://drydock.example.com"
			if policy != nil {
				policy(p)
			}
		}
		nights[name] = s
	}
	return nights
}

func named(name string) Scenario {
	for _, s := range Scenarios() {
		if s.Name == name {
			return s
		}
	}
	panic("there is no scenario " + name)
}

// TestNotes compares every note of the nights with its golden file; -update writes them.
func TestNotes(t *testing.T) {
	t.Parallel()
	ends := map[playbook.Outcome]bool{}
	for name, s := range noted() {
		n := s.Play(t.Context(), nil)
		if len(n.Problems) > 0 {
			t.Fatalf("%s: %s", name, n.Report())
		}
		for _, id := range n.World.Ledger.Runs() {
			r, _ := n.World.Ledger.Run(id)
			ends[r.Outcome] = true
		}
		t.Run(name, func(t *testing.T) { golden(t, name, n.World.notes()) })
	}
	if len(ends) != 3 {
		t.Errorf("the nights end as %v: each end must have its note", ends)
	}
}

// notes lists what Drydock wrote on each incident, in order.
func (w *World) notes() string {
	var b strings.Builder
	for _, write := range w.Pager.Writes {
		switch a := write.Action.(type) {
		case playbook.Annotate:
			how := "a note"
			if a.Note != "" {
				how = "the note, written anew"
			}
			fmt.Fprintf(&b, "== %s %s: %s ==\n%s\n\n", write.At.Format(time.TimeOnly), write.Incident, how, a.Text)
		default:
			fmt.Fprintf(&b, "== %s %s: %s ==\n\n", write.At.Format(time.TimeOnly), write.Incident, a.Kind())
		}
	}
	return b.String()
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", "notes", name+".txt")
	if *update {
		if err := os.MkdirAll(filepath.Dir(file), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("read the golden file (go test -update writes it): %v", err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("%s differs (go test -update writes it; -want +got):\n%s", file, d)
	}
}
