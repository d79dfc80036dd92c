package store

import (
	"slices"
	"testing"
	"time"

	"github.com/drydock/drydock/playbook"
)

// age makes everything of a run that much older.
func (f *fixture) age(run string, d time.Duration) {
	f.Helper()
	f.exec(`UPDATE runs SET started_at = started_at - $2::interval, finished_at = finished_at - $2::interval WHERE id = $1`, run, d)
	f.exec(`UPDATE backups SET at = at - $2::interval WHERE run = $1`, run, d)
}

func TestForget(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	const day = 24 * time.Hour
	keep := Retention{Runs: 20 * day, Events: 10 * day}
	ended := func(name string, age time.Duration, before func(h playbook.Hold)) string {
		t.Helper()
		id := f.start("P-"+name, target("c1", name)).ID
		h := f.acquire(id)
		f.commit(h, func(c *playbook.Commit) { c.Tick.Observation.Target.Carrier = "same for all" })
		if before != nil {
			before(h)
		}
		f.commit(h, func(c *playbook.Commit) {
			c.Tick.Observation.Target.Carrier = name
			c.Run.State, c.Run.Outcome, c.NextTick = playbook.StateEscalated, playbook.OutcomeEscalated, time.Time{}
		})
		h.Release()
		f.age(id, age)
		return id
	}
	promise := func(p playbook.Promise, settle playbook.Result) func(playbook.Hold) {
		return func(h playbook.Hold) {
			f.commit(h, func(c *playbook.Commit) { c.Promises = []playbook.Promise{p} })
			if settle != "" {
				_, err := f.Settle(t.Context(), h, 1, playbook.Settlement{Result: settle})
				f.must(err)
			}
		}
	}
	note := playbook.Promise{Action: playbook.Annotate{Incident: "P1", Marker: "m"}, Reservations: []playbook.Reservation{
		{Scope: playbook.ScopeEvictionsRun, Key: "k", Amount: 1, Limit: 100, Window: time.Hour}}}
	deleted := playbook.Promise{Action: playbook.OrphanDelete{Namespace: "monitoring", Name: "a", UID: "u", BackupSHA256: "s"},
		Backup: &playbook.Backup{SHA256: "s", UID: "u", Manifest: []byte("{}")}}

	ended("old", 21*day, promise(note, playbook.Happened))
	ended("old-backup", 31*day, promise(deleted, playbook.NotHappened))
	kept := []string{
		ended("young", 19*day, nil),
		ended("owing", 400*day, promise(playbook.Promise{Action: cordonOf("r")}, playbook.Happened)),
		ended("unsettled", 400*day, promise(note, "")),
		ended("young-backup", 29*day, promise(deleted, playbook.NotHappened)),
		f.start("P-open", target("c1", "open")).ID,
	}
	f.age(kept[4], 400*day)

	f.intake(acknowledged("1", "P1"))
	waiting := acknowledged("2", "P9")
	waiting.LookUp = true
	f.intake(waiting)
	f.intake(acknowledged("3", "P1"))
	f.exec(`UPDATE events SET received_at = received_at - interval '11 days' WHERE event_id <> 'e-3'`)
	for _, key := range []string{"old", "young"} {
		_, err := f.ClaimKey(t.Context(), "ops", key, []byte("r"))
		f.must(err)
		f.must(f.NoteLook(t.Context(), key, "s"))
	}
	f.exec(`UPDATE idempotency_keys SET at = at - interval '8 days' WHERE key = 'old'`)
	f.exec(`UPDATE looks SET at = at - interval '31 days' WHERE incident = 'old'`)

	// Another replica is at it: nothing is done twice.
	tx, err := f.pool.Begin(t.Context())
	f.must(err)
	if _, err := tx.Exec(t.Context(), `SELECT pg_advisory_xact_lock($1)`, lockOf("retention", "")); err != nil {
		t.Fatal(err)
	}
	got, err := f.Forget(t.Context(), keep)
	f.must(err)
	f.same("while another replica is at it", got, Forgotten{})
	f.must(tx.Rollback(t.Context()))

	got, err = f.Forget(t.Context(), keep)
	f.must(err)
	f.same("forgotten", got, Forgotten{Runs: 2, Observations: 2, Events: 1, Keys: 1, Looks: 1})
	f.same("runs", scan[[]string](f, `SELECT array_agg(id ORDER BY id) FROM runs`), slices.Sorted(slices.Values(kept)))
	for _, table := range []string{"run_incidents", "ticks", "intents", "obligations", "reservations", "backups"} {
		f.same("orphans in "+table, scan[int](f, `SELECT count(*) FROM `+table+` x WHERE NOT EXISTS (SELECT FROM runs r WHERE r.id = x.run)`), 0)
	}
	f.same("observations nobody saw", scan[int](f, `SELECT count(*) FROM observations o WHERE NOT EXISTS (SELECT FROM ticks t WHERE t.observation = o.hash)`), 0)
	f.same("events", scan[[]string](f, `SELECT array_agg(event_id ORDER BY event_id) FROM events`), []string{"e-2", "e-3"})
	for _, run := range kept {
		f.run(run) // still whole
	}
	got, err = f.Forget(t.Context(), Retention{})
	f.must(err)
	f.same("nothing more, and without an age nothing at all", got, Forgotten{})
}

// TestForgetMany deletes from tables in which a delete without an index would take minutes, beside rows that stay.
func TestForgetMany(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	const runs, ticks = 4_000, 10 // half of the runs are old
	f.exec(`INSERT INTO runs (id, carrier, namespace, daemonset, trigger, mode, deadline, table_version, started_at, finished_at, wake_at, state,
			outcome, memory)
		SELECT 'r' || n, 'c' || n % 200, 'monitoring', 'd' || n % 150, 'webhook', 'act', at, 1, at, at + interval '10 min', at, 'resolved', 'resolved', '{}'
		FROM generate_series(1, $1) AS n, LATERAL (SELECT now() - n * interval '800 days' / $1 AS at) AS a`, runs)
	f.exec(`INSERT INTO run_incidents (run, incident, number, title, url, joined_at) SELECT id, 'P' || id, 1, '', '', started_at FROM runs`)
	f.exec(`INSERT INTO observations (hash, body) SELECT (id || '/' || n)::bytea, '{}' FROM runs, generate_series(1, $1) AS n`, ticks)
	f.exec(`INSERT INTO ticks (run, seq, at, from_state, to_state, finding, confirmed, why, policy, policy_hash, before, observation, observed_at,
			diagnosis, plan)
		SELECT id, n, started_at, '', '', '', false, '', '{}', '', '{}', (id || '/' || n)::bytea, started_at, '{}', '[]' FROM runs, generate_series(1, $1) AS n`, ticks)
	f.exec(`INSERT INTO intents (run, seq, lane, kind, action, change, target_kind, target_namespace, target_name, target_uid, generation,
			promised_at, settled_at) SELECT id, n, 'l', 'k', '{}', true, '', '', '', '', 1, started_at, started_at FROM runs, generate_series(1, 4) AS n`)
	f.exec(`INSERT INTO reservations (scope, key, run, intent, amount, held, at, expires_at)
		SELECT 's', carrier, id, n, 1, false, started_at, started_at FROM runs, generate_series(1, 4) AS n`)
	f.exec(`INSERT INTO events (id, type, received_at, payload, outcome)
		SELECT 'e' || n, 'incident.triggered', now() - n * interval '180 days' / $1, decode(repeat('7b', 2000), 'hex'), 'ignored'
		FROM generate_series(1, $1) AS n`, 10*runs)
	began := time.Now()
	got, err := f.Forget(t.Context(), Retention{Runs: 400 * 24 * time.Hour, Events: 90 * 24 * time.Hour})
	f.must(err)
	t.Logf("%d runs with %d ticks, and %d events were deleted in %s", got.Runs, got.Observations, got.Events, time.Since(began).Round(time.Millisecond))
	f.same("forgotten", got, Forgotten{Runs: runs / 2, Observations: ticks * runs / 2, Events: 5*runs + 1})
	f.same("left", scan[int](f, `SELECT count(*) FROM runs`), runs/2)
}
