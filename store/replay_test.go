package store

import (
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/drydock/drydock/playbook"
	"github.com/drydock/drydock/playbook/playbooktest"
)

// write puts a history into the database as its ticks would have.
func (f *fixture) write(h playbook.StoredRun) {
	f.Helper()
	r := h.Run
	memory, err := encode("memory", r.Memory)
	f.must(err)
	batch := &pgx.Batch{}
	batch.Queue(`INSERT INTO runs (id, carrier, namespace, daemonset, trigger, requested_by, reason, retriggered_from, mode, table_version, state,
			finding, confirmed, why, outcome, started_at, finished_at, deadline, plan_hash, memory, ticks, wake_at, panics)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $16, $22)`,
		r.ID, r.Target.Carrier, r.Target.Namespace, r.Target.DaemonSet, r.Trigger, r.RequestedBy, r.Reason, r.RetriggeredFrom, r.Mode, r.TableVersion,
		r.State, r.Finding, r.Confirmed, storable(r.Why), r.Outcome, r.StartedAt, orNull(r.FinishedAt), r.Deadline, r.PlanHash, memory, r.Ticks, r.Panics)
	for _, in := range r.Incidents {
		batch.Queue(`INSERT INTO run_incidents (run, incident, number, title, url, joined_at, outcome) VALUES ($1, $2, $3, $4, $5, $6, $7)`,
			r.ID, in.ID, in.Number, in.Title, in.URL, in.JoinedAt, in.End)
	}
	for _, i := range r.Intents {
		action, err := playbook.EncodeAction(i.Action)
		f.must(err)
		ref := i.Action.Target()
		batch.Queue(`INSERT INTO intents (run, seq, lane, kind, action, change, target_kind, target_namespace, target_name, target_uid, generation,
				promised_at, sent_at, call_deadline, settled_at, undoes, result, detail, receipt)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)`,
			r.ID, i.Seq, i.Lane, i.Action.Kind(), action, i.IsChange(), ref.Kind, ref.Namespace, ref.Name, ref.UID, i.Generation, i.PromisedAt,
			orNull(i.SentAt), orNull(i.CallDeadline), orNull(i.SettledAt), i.Undoes, i.Result, storable(i.Detail), storable(i.Receipt))
	}
	for _, t := range h.Ticks {
		d, err := draftTick(t.Tick)
		f.must(err)
		batch.Queue(`INSERT INTO observations (hash, body) VALUES ($1, $2) ON CONFLICT DO NOTHING`, d.hash[:], d.observation)
		batch.Queue(`INSERT INTO ticks (run, seq, at, from_state, to_state, finding, confirmed, why, policy, policy_hash, before, observation,
				observed_at, diagnosis, plan) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)`,
			r.ID, t.Seq, t.At, t.From, t.To, t.Finding, t.Confirmed, storable(t.Why), d.policy, t.PolicyHash, d.before, d.hash[:], d.observedAt,
			d.diagnosis, d.plan)
	}
	f.must(f.pool.SendBatch(f.Context(), batch).Close())
}

// Every scenario's history decides again as it did, after it was read back from Postgres; and a changed rule is found.
func TestReplayOfEveryScenario(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ticks, changed := 0, 0
	for n, s := range playbooktest.Scenarios() {
		ledger := s.Play(t.Context(), nil).World.Ledger
		for _, id := range ledger.Runs() {
			h := ledger.History(id)
			h.ID = id + "/" + string(rune('a'+n/26)) + string(rune('a'+n%26)) // scenarios number their runs alike
			if !h.State.Ended() {
				t.Errorf("%s: run %s has not ended", s.Name, id)
				continue
			}
			f.write(h)
			run, err := f.Store.Run(t.Context(), h.ID)
			f.must(err)
			run.ID = id // the core writes it on what it promises
			for n, tick := range run.Ticks {
				ticks++
				if _, diff := playbook.Replay(tick.Policy, run, n); len(diff) > 0 {
					t.Errorf("%s: tick %d of run %s decides otherwise: %+v", s.Name, n+1, id, diff)
				}
				p := tick.Policy
				p.DrainFrom = nil
				if _, diff := playbook.Replay(p, run, n); len(diff) > 0 {
					changed++
				}
			}
		}
	}
	if ticks < 100 || changed == 0 {
		t.Errorf("%d ticks were replayed, and a changed policy changed %d of them", ticks, changed)
	}
}

// A store that is opened to read can not write.
func TestReadOnly(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	run := f.start("Q1", target("c1", "d1"))
	reader := openFixture(t, f.dsn, "", func(o *Options) { o.ReadOnly, o.BackupKey = true, nil })
	if _, err := reader.Store.Run(t.Context(), run.ID); err != nil {
		t.Errorf("read: %v", err)
	}
	if err := reader.EngageKillSwitch(t.Context(), KillSwitch{Reason: "test"}); err == nil {
		t.Error("it wrote")
	}
}
