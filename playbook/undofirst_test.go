package playbook

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestFirstUndo(t *testing.T) {
	t.Parallel()
	cordon := Cordon{Node: "node-00", UID: "uid-node-00", Mark: Mark{Run: "run-1"}}
	del := OrphanDelete{Namespace: "monitoring", Name: "node-exporter", UID: "ds-1", ResourceVersion: "7", BackupSHA256: "sha", PodUIDs: []string{"p1", "p2"}}
	done := func(seq int, a Action) Intent {
		return Intent{Seq: seq, Lane: CarrierLane("c"), Action: a, PromisedAt: t0, SentAt: t0, SettledAt: t0, Result: Happened}
	}
	open := func(seq int, lane Lane, a Action) Intent {
		return Intent{Seq: seq, Lane: lane, Action: a, PromisedAt: t0, SentAt: t0}
	}
	goneAt := func(at time.Time) *ReapplyMemory { return &ReapplyMemory{GoneAt: at} }
	now := t0.Add(30 * time.Second)
	for name, tt := range map[string]struct {
		state   State
		drain   *DrainMemory
		reapply *ReapplyMemory
		intents []Intent
		want    Kind // of the undo; empty: none goes first
	}{
		"nothing is owed":                          {state: Unwinding},
		"a cordon, and the drain goes on":          {state: Draining, drain: &DrainMemory{Node: "node-00"}, intents: []Intent{done(1, cordon)}},
		"a cordon, and the drain is over":          {state: Draining, drain: &DrainMemory{Node: "node-00", Over: true}, intents: []Intent{done(1, cordon)}, want: KindUncordon},
		"a cordon of another node":                 {state: Draining, drain: &DrainMemory{Node: "node-01", Over: true}, intents: []Intent{done(1, cordon)}},
		"a cordon, held on while it is reapplied":  {state: Reapplying, drain: &DrainMemory{Node: "node-00"}, reapply: &ReapplyMemory{}, intents: []Intent{done(1, cordon)}},
		"a cordon, unwinding":                      {state: Unwinding, intents: []Intent{done(1, cordon)}, want: KindUncordon},
		"a cordon that is undone":                  {state: Unwinding, intents: []Intent{done(1, cordon), {Seq: 2, Action: cordon.Undo(), Undoes: 1, SettledAt: t0, Result: Happened}}},
		"whether the cordon happened is not known": {state: Unwinding, intents: []Intent{open(1, CarrierLane("c"), cordon)}},
		"a note is under way":                      {state: Unwinding, intents: []Intent{done(1, cordon), open(2, PagerDutyLane("Q1"), Annotate{Incident: "Q1"})}, want: KindUncordon},
		"the uncordon was refused a moment ago": {state: Unwinding, intents: []Intent{done(1, cordon),
			{Seq: 2, Lane: CarrierLane("c"), Action: cordon.Undo(), Undoes: 1, SentAt: t0, SettledAt: now.Add(-time.Second / 2), Result: Refused}}},
		"a delete, not seen gone":               {state: Reapplying, reapply: &ReapplyMemory{}, intents: []Intent{done(1, del)}, want: KindCreate},
		"a delete, gone, the orphans not known": {state: Reapplying, reapply: goneAt(now.Add(-createBy + time.Second)), intents: []Intent{done(1, del)}},
		"a delete, gone for long":               {state: Reapplying, reapply: goneAt(now.Add(-createBy)), intents: []Intent{done(1, del)}, want: KindCreate},
		"a delete and a cordon, unwinding": {state: Unwinding, reapply: goneAt(now.Add(-createBy)), intents: []Intent{done(1, cordon), done(2, del)},
			want: KindCreate},
		"a delete whose create has to wait, and a cordon": {state: Unwinding, reapply: goneAt(now), intents: []Intent{done(1, cordon), done(2, del)},
			want: KindUncordon},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := testRun(tt.state)
			r.Deadline, r.Intents, r.Memory.Drain, r.Memory.Reapply = t0.Add(time.Hour), tt.intents, tt.drain, tt.reapply
			o, ok := r.firstUndo(now)
			if !ok && tt.want == "" {
				return
			}
			if !ok || o.Action.Kind() != tt.want {
				t.Errorf("the first undo is %v (%v), want %q", o.Action, ok, tt.want)
			}
		})
	}
}

func TestFoundGone(t *testing.T) {
	t.Parallel()
	del := OrphanDelete{Namespace: "monitoring", Name: "node-exporter", UID: "ds-1", BackupSHA256: "sha", PodUIDs: []string{"p1", "p2"}}
	r := testRun(Reapplying)
	r.Intents = []Intent{{Seq: 3, Lane: CarrierLane("c"), Action: del, PromisedAt: t0, SettledAt: t0, Result: Happened}}
	r.Memory.Reapply = &ReapplyMemory{Since: t0}
	owed := r.Owed()[0]

	m, due := r.foundGone(owed, t0.Add(time.Minute))
	want := &ReapplyMemory{Since: t0, DeleteSeq: 3, OldUID: "ds-1", BackupSHA256: "sha", PodUIDs: []string{"p1", "p2"}, GoneAt: t0.Add(time.Minute)}
	if diff := cmp.Diff(want, m.Reapply); diff != "" || due {
		t.Errorf("seen gone for the first time: due %v, memory (-want +got):\n%s", due, diff)
	}
	if r.Memory.Reapply.DeleteSeq != 0 {
		t.Error("the run that was given was changed")
	}
	r.Memory = m
	if again, due := r.foundGone(owed, t0.Add(time.Minute+createBy)); !due || again.Reapply.GoneAt != want.GoneAt {
		t.Errorf("seen gone %s later: due %v, gone at %s", createBy, due, again.Reapply.GoneAt)
	}
	r.Memory.Reapply = nil
	if m, due := r.foundGone(owed, t0); !due || m.Reapply != nil {
		t.Errorf("without a reapply under way: due %v, memory %+v", due, m.Reapply)
	}
}
