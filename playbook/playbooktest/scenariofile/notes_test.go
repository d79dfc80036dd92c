package scenariofile

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/drydock/drydock/playbook"
)

var update = flag.Bool("update", false, "write testdata/notes anew")

// TestNotes holds every note that is on an incident at the end of a scenario against its golden file: a changed text is seen
// where people read it, beside the night that it tells of.
func TestNotes(t *testing.T) {
	const dir = "testdata/notes"
	if *update {
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	golden := map[string]bool{}
	for _, s := range scenarios(t) {
		if !s.PlayedOn(Simulator) {
			continue
		}
		file := filepath.Join(dir, s.File+".golden")
		golden[file] = true
		m := simulate(t.Context(), s)
		got := m.notes()
		if *update {
			if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Errorf("%v: go test ./playbook/playbooktest/scenariofile -run TestNotes -update writes it", err)
			continue
		}
		if diff := cmp.Diff(string(want), got); diff != "" {
			t.Errorf("the notes of %s are others (-want +got); -update writes them anew\n%s", s.File, diff)
		}
	}
	files, err := filepath.Glob(dir + "/*.golden")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if !golden[file] {
			t.Errorf("%s belongs to no scenario", file)
		}
	}
}

// notes are all notes of the scenario's incidents as they are at the end, by run.
func (m *simulation) notes() string {
	var b strings.Builder
	b.WriteString("# " + m.s.Name + "\n")
	for _, id := range m.w.Ledger.Runs() {
		r, _ := m.w.Ledger.Run(id)
		for _, in := range r.Incidents {
			at := m.w.Pager.Get(in.ID)
			b.WriteString("\n## " + m.names[id] + ", incident " + in.ID + ": " + string(in.End) + ", " + string(at.Status) + "\n")
			if len(at.Escalations) > 0 {
				b.WriteString("escalated to " + strings.Join(at.Escalations, ", ") + "\n")
			}
			for _, n := range at.Notes {
				if strings.Contains(n.Text, "run="+id+" ") { // a retriggered run's incident has the notes of the run before as well
					b.WriteString("\n" + n.Text + "\n")
				}
			}
		}
	}
	return b.String()
}

// TestObserveWritesNothing plays every scenario in mode observe: whatever happens, nothing of the carrier and the CI is
// changed, and an incident gets notes alone.
func TestObserveWritesNothing(t *testing.T) {
	t.Parallel()
	for _, s := range scenarios(t) {
		if !s.PlayedOn(Simulator) {
			continue
		}
		t.Run(s.File, func(t *testing.T) {
			t.Parallel()
			s.Settings.Mode = playbook.ModeObserve
			m := simulate(t.Context(), s)
			for _, e := range m.c.Effects {
				t.Errorf("%s %s", e.Action.Kind(), e.Action.Target())
			}
			if m.c.Touches > 0 {
				t.Errorf("%d objects were touched", m.c.Touches)
			}
			for _, asked := range m.w.Promoter.Asked {
				t.Errorf("the CI was asked to %s", asked.Action.Kind())
			}
			for _, w := range m.w.Pager.Writes {
				if w.Action.Kind() != playbook.KindAnnotate {
					t.Errorf("%s of incident %s", w.Action.Kind(), w.Incident)
				}
			}
			for _, id := range m.w.Ledger.Runs() {
				if r, _ := m.w.Ledger.Run(id); r.Outcome != playbook.OutcomeStoodDown {
					t.Errorf("run %s ended as %s: %s", id, r.Outcome, r.Why)
				}
			}
		})
	}
}
