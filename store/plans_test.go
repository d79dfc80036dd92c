package store

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/drydock/drydock/playbook"
)

// planned is what the test reads of EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON).
type planned struct {
	NodeType string    `json:"Node Type"`
	Index    string    `json:"Index Name"`
	Relation string    `json:"Relation Name"`
	Hit      int       `json:"Shared Hit Blocks"`
	Read     int       `json:"Shared Read Blocks"`
	Plans    []planned `json:"Plans"`
}

func (p planned) each(fn func(planned)) {
	fn(p)
	for _, child := range p.Plans {
		child.each(fn)
	}
}

// explain runs a statement as the store's connections do, prepared and with the generic plan, and returns its plan.
func (f *fixture) explain(sql string, args ...any) planned {
	f.Helper()
	conn, err := f.pool.Acquire(f.Context())
	f.must(err)
	defer conn.Release()
	exec := func(sql string) {
		_, err := conn.Conn().PgConn().Exec(f.Context(), sql).ReadAll()
		f.must(err)
	}
	exec(`PREPARE statement AS ` + sql)
	defer exec(`DEALLOCATE statement`)
	call := `EXECUTE statement`
	if len(args) > 0 {
		literals := make([]string, len(args))
		for i, arg := range args {
			literals[i] = literal(arg)
		}
		call += `(` + strings.Join(literals, ", ") + `)`
	}
	rows, err := conn.Conn().PgConn().Exec(f.Context(), `EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) `+call).ReadAll()
	f.must(err)
	var plans []struct{ Plan planned }
	f.must(json.Unmarshal(rows[0].Rows[0][0], &plans))
	return plans[0].Plan
}

func literal(arg any) string {
	switch arg := arg.(type) {
	case time.Time:
		return "'" + arg.Format(time.RFC3339Nano) + "'"
	case time.Duration:
		return fmt.Sprintf("'%f s'", arg.Seconds())
	case []string:
		return "'{" + strings.Join(arg, ",") + "}'"
	case int64:
		return fmt.Sprint(arg)
	}
	return "'" + fmt.Sprint(arg) + "'"
}

// wantPlan fails when a plan reads a whole table, or many more blocks than a page needs.
func (f *fixture) wantPlan(name string, p planned, most int, sql string) {
	f.Helper()
	p.each(func(p planned) {
		if p.NodeType == "Seq Scan" {
			f.Errorf("%s: a sequential scan of %s: %s", name, p.Relation, sql)
		}
	})
	if blocks := p.Hit + p.Read; blocks > most {
		f.Errorf("%s: reads %d blocks, at most %d are due: %+v\n%s", name, blocks, most, p, sql)
	}
}

// TestPagesReadLittle: with 100,000 runs, skewed as real ones are, every single filter and every mix of carrier, daemonset, state or
// outcome, and time finds its first and its deep pages by an index: it reads a few hundred blocks, where the table has thousands.
func TestPagesReadLittle(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.exec(`INSERT INTO runs (id, carrier, namespace, daemonset, trigger, mode, table_version, state, outcome, finding, cause, started_at, finished_at,
			deadline, wake_at, memory)
		SELECT 'r' || n, 'c' || floor(200 * power(random(), 2)), 'ns' || n % 3, 'ds' || floor(150 * power(random(), 2)),
			CASE WHEN n % 20 = 0 THEN 'retrigger' WHEN n % 31 = 0 THEN 'reconcile' ELSE 'webhook' END, CASE WHEN n % 5 = 0 THEN 'observe' ELSE 'act' END, 1,
			state, state, finding, finding, at, at + interval '5 min', at + interval '45 min', at, '{}'
		FROM (SELECT n, now() - n * interval '5 min' AS at,
			CASE WHEN n % 25 = 0 THEN 'escalated' WHEN n % 40 = 1 THEN 'stood_down' ELSE 'resolved' END AS state,
			(ARRAY['node_full', 'uncovered', 'healthy', 'absent', 'node_down'])[1 + floor(5 * random())::int] AS finding
			FROM generate_series(1, 100000) n) AS made ORDER BY random()`)
	f.exec(`INSERT INTO run_incidents (run, incident, number, title, url, joined_at) SELECT id, 'P' || substr(id, 2), 1, '', '', started_at FROM runs`)
	f.vacuum("runs", "run_incidents")
	now := time.Now()
	deep := cursor{At: now.Add(-200 * 24 * time.Hour), ID: "r57600"}

	check := func(name string, filter playbook.RunFilter) {
		for depth, after := range map[string]cursor{"first": {}, "deep": deep} {
			sql := runPageSQL(filter, after, 51)
			f.wantPlan(name+", "+depth+" page", f.explain(sql.text, sql.args...), 600, sql.text)
		}
	}
	for name, filter := range map[string]playbook.RunFilter{
		"since": {Since: now.Add(-7 * 24 * time.Hour)}, "until": {Until: now.Add(-100 * 24 * time.Hour)},
		"outcome escalated": {Outcome: playbook.OutcomeEscalated}, "state of nobody": {State: playbook.Redeploying},
		"finding, since": {Finding: playbook.FindingNodeFull, Since: now.Add(-90 * 24 * time.Hour)}, "one carrier of a token": {Carriers: []string{"c3"}},
		"carriers of a token, outcome": {Carriers: []string{"c1", "c77"}, Outcome: playbook.OutcomeEscalated},
		"no filter":                    {}, "namespace": {Namespace: "ns1"}, "finding": {Finding: playbook.FindingNodeFull}, "trigger": {Trigger: playbook.TriggerReconcile},
		"trigger of most": {Trigger: playbook.TriggerWebhook}, "incident": {Incident: "P500"}, "no such carrier": {Carrier: "none"},
		"carriers of a token": {Carriers: []string{"c1", "c77", "c150"}},
	} {
		check(name, filter)
	}
	states := map[string]playbook.RunFilter{"": {}, "state resolved": {State: playbook.StateResolved}, "state escalated": {State: playbook.StateEscalated},
		"state draining": {State: playbook.Draining}, "outcome resolved": {Outcome: playbook.OutcomeResolved}, "outcome stood_down": {Outcome: playbook.OutcomeStoodDown}}
	for what, filter := range states {
		for _, carrier := range []string{"", "c3", "c180"} {
			for _, daemonset := range []string{"", "ds2", "ds140"} {
				for _, span := range []time.Duration{0, 7 * 24 * time.Hour, 90 * 24 * time.Hour} {
					filter := filter
					filter.Carrier, filter.DaemonSet = carrier, daemonset
					if span > 0 {
						filter.Since, filter.Until = now.Add(-span), now
					}
					check(fmt.Sprintf("%s carrier %q daemonset %q %s", what, carrier, daemonset, span), filter)
				}
			}
		}
	}
}

// vacuum gathers tables' statistics and marks their pages as visible to all, which a read of an index alone needs. VACUUM marks
// no page whose commit is not yet on disk (the test server commits before its log is written) or is younger than a snapshot of a
// connection that is just being made, to any database: so it comes again until it has marked them.
func (f *fixture) vacuum(tables ...string) {
	f.Helper()
	f.until("pages are visible to all", func() bool {
		f.exec(`CHECKPOINT`)
		f.exec(`VACUUM ANALYZE ` + strings.Join(tables, ", "))
		return scan[int](f, `SELECT count(*) FROM pg_class WHERE oid = ANY($1::regclass[]) AND relallvisible < relpages`, tables) == 0
	})
}

// TestCountingReadsItsIndex: the statistics of a month touch the index of that month, and no run itself.
func TestCountingReadsItsIndex(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.exec(`INSERT INTO runs (id, carrier, namespace, daemonset, trigger, mode, table_version, state, started_at, finished_at, deadline, wake_at, memory)
		SELECT 'r' || n, 'c' || n % 50, 'ns', 'ds', 'webhook', 'act', 1, 'resolved', at, at, at, at, json_build_object('waiting', repeat('x', 500))
		FROM (SELECT n, now() - n * interval '10 min' AS at FROM generate_series(1, 40000) n) AS made`)
	f.vacuum("runs")
	for name, filter := range map[string]playbook.StatsFilter{
		"all":       {Since: time.Now().Add(-30 * 24 * time.Hour), Until: time.Now()},
		"a carrier": {Since: time.Now().Add(-30 * 24 * time.Hour), Until: time.Now(), Carriers: []string{"c1"}},
	} {
		q := countQuery(filter)
		f.wantPlan(name, f.explain(q.text, q.args...), 200, q.text)
		q = shadowQuery(filter)
		f.wantPlan(name+", observing", f.explain(q.text, q.args...), 20, q.text)
	}
}

// TestStormReadsItsCarrier: in a storm of 147 runs on one carrier, each with three incidents, each tick of each of them looks at the
// others. It reads the newest of that carrier, whatever the history of this carrier and of others holds.
func TestStormReadsItsCarrier(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.exec(`INSERT INTO runs (id, carrier, namespace, daemonset, trigger, mode, table_version, state, outcome, started_at, finished_at, deadline, wake_at, memory)
		SELECT 'r' || n, 'c' || n % 5, 'ns', 'ds', 'webhook', 'act', 1, 'resolved', 'resolved', at, at + interval '5 min', at, at, '{}'
		FROM (SELECT n, now() - n * interval '5 min' AS at FROM generate_series(1, 10000) n) AS made ORDER BY random()`)
	f.exec(`INSERT INTO runs (id, carrier, namespace, daemonset, trigger, mode, table_version, state, started_at, deadline, wake_at, memory)
		SELECT 's' || n, 'c3', 'ns', 'ds' || n, 'webhook', 'act', 1, 'triage', now() - n * interval '1 s', now(), now(), json_build_object('waiting', repeat('x', 500))
		FROM generate_series(1, 147) n`)
	f.exec(`INSERT INTO run_incidents (run, incident, number, title, url, joined_at)
		SELECT r.id, 'P' || n || r.id, 1, '', '', r.started_at FROM runs r, generate_series(1, 3) n WHERE r.carrier = 'c3'`)
	f.exec(`INSERT INTO reservations (scope, key, run, intent, amount, held, at, expires_at) VALUES ('claim', 'c3', 's9', 1, 1, true, now(), 'infinity')`)
	f.exec(`ANALYZE runs, run_incidents, reservations`)
	for name, run := range map[string]playbook.Run{
		"a run of the storm": {ID: "s5", StartedAt: time.Now(), Target: playbook.Target{Carrier: "c3"}},
		"the oldest of it":   {ID: "s147", StartedAt: time.Now().Add(-playbook.MaxRun), Target: playbook.Target{Carrier: "c3"}},
		"another carrier":    {ID: "x", StartedAt: time.Now(), Target: playbook.Target{Carrier: "c1"}},
		"a new carrier":      {ID: "x", StartedAt: time.Now(), Target: playbook.Target{Carrier: "none"}},
	} {
		f.wantPlan(name, f.explain(sameCarrierSQL, sameCarrierArgs(run)...), 200, sameCarrierSQL)
	}
}

// TestAgesAreAskedOfAnIndex: what looks at the newest runs, each tick or every few seconds, and what looks for the oldest, reads those
// alone and not the history: also when nothing is old enough.
func TestAgesAreAskedOfAnIndex(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.exec(`INSERT INTO runs (id, carrier, namespace, daemonset, trigger, mode, table_version, state, outcome, started_at, finished_at, deadline, wake_at, memory)
		SELECT 'r' || n, 'c' || n % 200, 'ns', 'ds' || n % 3, 'webhook', 'act', 1, 'resolved', 'resolved', at, at + interval '5 min', at, at, '{}'
		FROM (SELECT n, now() - n * interval '10 min' AS at FROM generate_series(1, 40000) n) AS made`)
	f.exec(`INSERT INTO events (id, type, received_at, payload, outcome) SELECT 'e' || n, 't', now() - n * interval '10 min', '{}', 'ignored' FROM generate_series(1, 20000) n`)
	f.exec(`ANALYZE runs, events`)
	const year = 365 * 24 * time.Hour
	for name, q := range map[string]statement{
		"same DaemonSet":      {sameDaemonSetSQL, []any{"ds1", "ns", sameDaemonSetWindow}},
		"breakers":            {breakersSQL, []any{breakerOpen, playbook.MaxRun, int64(3)}},
		"ended lately":        {endedLatelySQL, []any{2 * playbook.MaxRun, time.Hour}},
		"runs to forget":      {oldRunsSQL, []any{year / 2, backupLife, int64(runsBatch), time.Time{}}},
		"no runs to forget":   {oldRunsSQL, []any{year, backupLife, int64(runsBatch), time.Time{}}},
		"events to forget":    {oldEventsSQL, []any{90 * 24 * time.Hour, int64(rowsBatch)}},
		"no events to forget": {oldEventsSQL, []any{year, int64(rowsBatch)}},
	} {
		most := 400
		if name == "events to forget" {
			most = 5000 // each of a thousand is found, looked up and deleted
		}
		f.wantPlan(name, f.explain(q.text, q.args...), most, q.text)
	}
}

// TestAuditPagesReadLittle: the same of the audit log.
func TestAuditPagesReadLittle(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.exec(`INSERT INTO audit (entry) SELECT json_build_object('who', 'drydock', 'what', 'test', 'run', 'r' || n / 10, 'carrier', 'c' || n % 100)
		FROM generate_series(1, 20000) n`)
	f.vacuum("audit")
	for name, filter := range map[string]AuditFilter{"all": {}, "run": {Run: "r7"}, "carrier": {Carrier: "c7"}, "carriers": {Carriers: []string{"c1", "c2"}}} {
		q := auditQuery(filter, 15000)
		f.wantPlan(name, f.explain(q.text, q.args...), 400, q.text)
	}
	if _, err := f.Audit(t.Context(), AuditFilter{Cursor: cursor{At: time.Now(), ID: "x", Filter: filterHash("audit", "", "", []string(nil))}.String()}); err == nil {
		t.Error("a cursor whose id is no number is taken")
	}
}

// TestEventPagesReadLittle: the same of what came in. A token's carriers are those of the runs that events became part of.
func TestEventPagesReadLittle(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.exec(`INSERT INTO runs (id, carrier, namespace, daemonset, trigger, mode, table_version, state, started_at, finished_at, deadline, wake_at, memory)
		SELECT 'r' || n, 'c' || n % 100, 'ns', 'ds', 'webhook', 'act', 1, 'resolved', at, at, at, at, '{}'
		FROM (SELECT n, now() - n * interval '10 min' AS at FROM generate_series(1, 20000) n) AS made ORDER BY random()`)
	f.exec(`INSERT INTO events (id, type, incident, received_at, payload, outcome, run)
		SELECT 'e' || n, 'incident.triggered', 'P' || n, now() - n * interval '3 min', '{}', CASE WHEN n % 3 = 0 THEN 'started' ELSE 'ignored' END,
			CASE WHEN n % 3 = 0 THEN 'r' || n / 3 ELSE '' END
		FROM generate_series(1, 60000) n ORDER BY random()`)
	f.vacuum("runs", "events")
	deep := cursor{At: time.Now().Add(-30 * 24 * time.Hour), ID: "e14400"}
	for name, tt := range map[string]struct {
		carriers []string
		most     int
	}{
		"all": {nil, 100},
		// The newest are walked until there are enough: one in three hundred is of the carrier, at two blocks each.
		"one carrier":  {[]string{"c7"}, 40_000},
		"two carriers": {[]string{"c1", "c2"}, 20_000},
	} {
		for depth, after := range map[string]cursor{"first": {}, "deep": deep} {
			sql := eventPageSQL(tt.carriers, after, 51)
			f.wantPlan(name+", "+depth+" page", f.explain(sql.text, sql.args...), tt.most, sql.text)
		}
	}
}

func TestRunStats(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	now := scan[time.Time](f, `SELECT clock_timestamp()`).UTC()
	n := 0
	add := func(carrier, mode, state, cause string, changed bool, took time.Duration, age time.Duration, planHash string) string {
		n++
		id, incident := fmt.Sprintf("r%d", n), fmt.Sprintf("P%d", n)
		var finished *time.Time
		if took > 0 {
			at := now.Add(took - age)
			finished = &at
		}
		f.exec(`INSERT INTO runs (id, carrier, namespace, daemonset, trigger, mode, table_version, state, finding, cause, changed, started_at, finished_at,
			deadline, wake_at, memory, plan_hash) VALUES ($1, $2, 'ns', 'ds' || $1, 'webhook', $3, 1, $4, $5, $5, $6, $7, $8, now(), now(), '{}', $9)`,
			id, carrier, mode, state, cause, changed, now.Add(-age), finished, planHash)
		f.exec(`INSERT INTO run_incidents (run, incident, number, title, url, joined_at) VALUES ($1, $2, 1, '', '', now())`, id, incident)
		return incident
	}
	resolved := func(incident, agent string, after time.Duration) {
		f.exec(`INSERT INTO events (id, type, incident, received_at, payload, outcome) VALUES ($1, 'incident.resolved', $2, $3, $4, 'followed')`,
			"e"+incident, incident, now.Add(after), []byte(`{"event":{"id":"x","event_type":"incident.resolved","resource_type":"incident","agent":`+agent+
				`,"data":{"id":"`+incident+`","type":"incident"}}}`))
	}
	const person, machine = `{"id":"PUSER01","type":"user_reference"}`, `null`
	const hour = time.Hour
	add("c1", "act", "resolved", "node_full", true, 10*time.Minute, 3*hour, "")
	add("c1", "act", "resolved", "node_full", true, 20*time.Minute, 3*hour, "")
	add("c2", "act", "resolved", "healthy", false, 2*time.Minute, 3*hour, "")
	add("c1", "act", "escalated", "node_down", false, 45*time.Minute, 3*hour, "")
	add("c1", "act", "draining", "", false, 0, hour, "")
	add("c1", "act", "resolved", "node_full", true, 10*time.Minute, 40*24*hour, "") // too old
	resolved(add("c1", "observe", "stood_down", "node_full", false, time.Minute, 2*hour, "plan"), person, -hour)
	resolved(add("c1", "observe", "stood_down", "node_full", false, time.Minute, 2*hour, "plan"), machine, -90*time.Minute)
	resolved(add("c2", "observe", "stood_down", "node_full", false, time.Minute, 2*hour, ""), person, -3*hour) // before the run began: not its end
	resolved(add("c1", "observe", "stood_down", "healthy", false, time.Minute, 2*hour, ""), person, -hour)

	filter := playbook.StatsFilter{Since: now.Add(-24 * hour), Until: now}
	got, err := f.RunStats(t.Context(), filter)
	f.must(err)
	full := playbook.CauseStats{Cause: playbook.FindingNodeFull, RunCounts: playbook.RunCounts{Runs: 5, Resolved: 2, StoodDown: 3}, Repairs: 2,
		P50: 15 * time.Minute, P95: 19*time.Minute + 30*time.Second}
	f.same("total", got.Total, playbook.CauseStats{RunCounts: playbook.RunCounts{Runs: 9, Active: 1, Resolved: 3, Escalated: 1, StoodDown: 4}, Repairs: 2, P50: full.P50, P95: full.P95})
	f.same("by cause", got.ByCause, []playbook.CauseStats{
		{Cause: playbook.FindingUnknown, RunCounts: playbook.RunCounts{Runs: 1, Active: 1}}, full,
		{Cause: playbook.FindingNodeDown, RunCounts: playbook.RunCounts{Runs: 1, Escalated: 1}},
		{Cause: playbook.FindingHealthy, RunCounts: playbook.RunCounts{Runs: 2, Resolved: 1, StoodDown: 1}},
	})
	score := playbook.ScoreOf(got.Shadows)
	f.same("scores", score, playbook.Scores{Runs: 4, ByPerson: 2, ByItself: 1, Right: 2, Wrong: 1, Undecided: 1, EndedAfterP50: hour})
	filter.Carriers = []string{"c2"}
	got, err = f.RunStats(t.Context(), filter)
	f.must(err)
	f.same("of one carrier", []int{got.Total.Runs, len(got.Shadows)}, []int{2, 1})
}

// TestScopedPages: a token with carriers sees their runs and events, page by page, and no other.
func TestScopedPages(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	want := map[string]bool{}
	for n := range 12 {
		carrier := fmt.Sprintf("c%d", n%4)
		a := triggered(fmt.Sprint(n), fmt.Sprintf("P%d", n), target(carrier, fmt.Sprintf("agent%d", n)))
		record := f.intake(a)
		if carrier == "c1" || carrier == "c3" {
			want[record.Run] = true
		}
	}
	filter := playbook.RunFilter{Carriers: []string{"c1", "c3", "c9", "c1"}, Limit: 2}
	got := map[string]bool{}
	for first := true; first || filter.Cursor != ""; first = false {
		page, err := f.Runs(t.Context(), filter)
		f.must(err)
		for i, r := range page.Runs {
			if got[r.ID] || i > 0 && r.StartedAt.After(page.Runs[i-1].StartedAt) {
				t.Errorf("run %s comes twice or out of order", r.ID)
			}
			got[r.ID] = true
		}
		filter.Cursor = page.Next
	}
	f.same("runs", got, want)
	events, err := f.Events(t.Context(), []string{"c1", "c3"}, 0, "")
	f.must(err)
	f.same("events", len(events.Events), 6)
	for _, e := range events.Events {
		if !want[e.Run] {
			t.Errorf("event of run %s is seen", e.Run)
		}
	}
	page, err := f.Runs(t.Context(), playbook.RunFilter{Carriers: []string{"c1"}, Limit: 1})
	f.must(err)
	_, err = f.Runs(t.Context(), playbook.RunFilter{Carriers: []string{"c3"}, Limit: 1, Cursor: page.Next})
	var bad *BadCursorError
	f.wantErrorAs(err, &bad)
}
