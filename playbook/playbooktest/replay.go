package playbooktest

import (
	"encoding/json"
	"fmt"

	"github.com/drydock/drydock/playbook"
)

// History is a run with its stored ticks.
func (l *Ledger) History(runID string) playbook.StoredRun {
	run := l.runs[runID]
	h := playbook.StoredRun{Run: share(run.run)}
	for n, t := range run.ticks {
		t.Observation = t.Observation.Compact()
		h.Ticks = append(h.Ticks, playbook.StoredTick{Seq: n + 1, Tick: t})
	}
	return h
}

// Encoded sends a history through its stored form, so that what can not be stored, or says something else when it is read
// back, shows in a test that needs no database.
func Encoded(h playbook.StoredRun) (playbook.StoredRun, error) {
	for n := range h.Ticks {
		t := &h.Ticks[n]
		back := playbook.Tick{At: t.At, From: t.From, To: t.To, Finding: t.Finding, Confirmed: t.Confirmed, Why: t.Why,
			PolicyHash: t.PolicyHash, Plan: t.Plan}
		for _, doc := range []struct{ from, to any }{{t.Policy, &back.Policy}, {t.Before, &back.Before}, {t.Observation, &back.Observation},
			{t.Diagnosis, &back.Diagnosis}} {
			b, err := json.Marshal(doc.from)
			if err == nil {
				err = json.Unmarshal(b, doc.to)
			}
			if err != nil {
				return h, fmt.Errorf("encode tick %d: %w", n+1, err)
			}
		}
		t.Tick = back
	}
	return h, nil
}

// checkReplay: every stored tick must decide again as it did, from nothing but the history.
func (n *Night) checkReplay() {
	for _, id := range n.World.Ledger.Runs() {
		h := n.World.Ledger.History(id)
		for i, t := range h.Ticks {
			if _, diff := playbook.Replay(t.Policy, h, i); len(diff) > 0 {
				n.problem("tick %d of run %s decides otherwise when it is replayed: %+v", i+1, id, diff)
				break
			}
		}
	}
}
