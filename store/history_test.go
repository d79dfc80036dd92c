package store

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/drydock/drydock/playbook"
)

// seed writes n runs, some started at the same moment, in mixed states.
func (f *fixture) seed(n int) []playbook.Run {
	f.Helper()
	at := time.Date(2026, time.March, 1, 0, 0, 0, 0, time.UTC)
	ends := []playbook.State{playbook.StateResolved, playbook.StateResolved, playbook.StateEscalated, playbook.StateStoodDown, playbook.Draining}
	var runs []playbook.Run
	for i := range n {
		r := playbook.Run{
			ID: fmt.Sprintf("run-%04d", i), Target: playbook.Target{Carrier: fmt.Sprintf("c%d", i%3), Namespace: fmt.Sprintf("ns%d", i%2),
				DaemonSet: fmt.Sprintf("ds%d", i)},
			Trigger: []playbook.Trigger{playbook.TriggerWebhook, playbook.TriggerRetrigger, playbook.TriggerReconcile}[i/2%3],
			State:   ends[i%len(ends)], Finding: playbook.Findings()[i%4], StartedAt: at.Add(time.Duration(i/3) * time.Minute),
			Incidents: []playbook.RunIncident{{ID: fmt.Sprintf("P%d", i/2)}},
		}
		if i%4 == 0 {
			r.Target.DaemonSet = "ds"
		}
		if r.State.Ended() {
			r.Outcome = playbook.Outcome(r.State)
		} else {
			r.Target.DaemonSet = fmt.Sprintf("only%d", i)
		}
		f.exec(`INSERT INTO runs (id, carrier, namespace, daemonset, trigger, mode, table_version, state, finding, outcome, started_at,
				deadline, wake_at, memory) VALUES ($1, $2, $3, $4, $5, 'act', 1, $6, $7, $8, $9, $9, $9, '{}')`,
			r.ID, r.Target.Carrier, r.Target.Namespace, r.Target.DaemonSet, r.Trigger, r.State, r.Finding, r.Outcome, r.StartedAt)
		f.exec(`INSERT INTO run_incidents (run, incident, number, title, url, joined_at) VALUES ($1, $2, 1, '', '', $3)`,
			r.ID, r.Incidents[0].ID, r.StartedAt)
		runs = append(runs, r)
	}
	slices.SortFunc(runs, func(a, b playbook.Run) int {
		if c := b.StartedAt.Compare(a.StartedAt); c != 0 {
			return c
		}
		return strings.Compare(b.ID, a.ID)
	})
	return runs
}

func idsOf(runs []playbook.Run) []string {
	var ids []string
	for _, r := range runs {
		ids = append(ids, r.ID)
	}
	return ids
}

// pages reads all pages of a filter.
func (f *fixture) pages(filter playbook.RunFilter) []playbook.Run {
	f.Helper()
	var all []playbook.Run
	for {
		page, err := f.Runs(f.Context(), filter)
		f.must(err)
		all = append(all, page.Runs...)
		if page.Next == "" {
			return all
		}
		if len(page.Runs) != filter.Limit {
			f.Errorf("a page that is not the last has %d runs, want %d", len(page.Runs), filter.Limit)
		}
		filter.Cursor = page.Next
	}
}

func TestRunsByFilter(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	runs := f.seed(90)
	since, until := runs[60].StartedAt, runs[20].StartedAt
	type keep func(r playbook.Run) bool
	single := map[string]struct {
		set  func(*playbook.RunFilter)
		keep keep
	}{
		"carrier":   {func(f *playbook.RunFilter) { f.Carrier = "C1" }, func(r playbook.Run) bool { return r.Target.Carrier == "c1" }},
		"daemonset": {func(f *playbook.RunFilter) { f.DaemonSet = "ds" }, func(r playbook.Run) bool { return r.Target.DaemonSet == "ds" }},
		"namespace": {func(f *playbook.RunFilter) { f.Namespace = "NS0" }, func(r playbook.Run) bool { return r.Target.Namespace == "ns0" }},
		"state": {func(f *playbook.RunFilter) { f.State = playbook.StateEscalated },
			func(r playbook.Run) bool { return r.State == playbook.StateEscalated }},
		"finding": {func(f *playbook.RunFilter) { f.Finding = playbook.FindingAbsent },
			func(r playbook.Run) bool { return r.Finding == playbook.FindingAbsent }},
		"outcome": {func(f *playbook.RunFilter) { f.Outcome = playbook.OutcomeResolved },
			func(r playbook.Run) bool { return r.Outcome == playbook.OutcomeResolved }},
		"incident": {func(f *playbook.RunFilter) { f.Incident = "P7" }, func(r playbook.Run) bool { return r.Incidents[0].ID == "P7" }},
		"trigger": {func(f *playbook.RunFilter) { f.Trigger = playbook.TriggerRetrigger },
			func(r playbook.Run) bool { return r.Trigger == playbook.TriggerRetrigger }},
		"since": {func(f *playbook.RunFilter) { f.Since = since }, func(r playbook.Run) bool { return !r.StartedAt.Before(since) }},
		"until": {func(f *playbook.RunFilter) { f.Until = until }, func(r playbook.Run) bool { return r.StartedAt.Before(until) }},
	}
	check := func(names ...string) {
		t.Helper()
		filter := playbook.RunFilter{Limit: 7}
		want := runs
		for _, name := range names {
			single[name].set(&filter)
			want = slices.DeleteFunc(slices.Clone(want), func(r playbook.Run) bool { return !single[name].keep(r) })
		}
		f.same(strings.Join(names, " and "), idsOf(f.pages(filter)), idsOf(want))
	}
	check()
	for a := range single {
		check(a)
		for b := range single {
			if a < b {
				check(a, b)
			}
		}
	}
	check("carrier", "daemonset", "state", "since")
}

func TestRunsPage(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	runs := f.seed(5)
	page, err := f.Runs(t.Context(), playbook.RunFilter{Limit: 1000})
	f.must(err)
	f.same("runs", idsOf(page.Runs), idsOf(runs))
	f.same("next", page.Next, "")
	f.same("incidents", page.Runs[0].Incidents[0].ID, runs[0].Incidents[0].ID)
	f.same("target", page.Runs[0].Target, runs[0].Target)
}

// TestListedRuns: each run of a page has its incidents, in the order in which they joined, and its memory where that is asked for.
func TestListedRuns(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.seed(2)
	f.exec(`UPDATE runs SET memory = '{"said":"s"}' WHERE id = 'run-0001'`)
	f.exec(`DELETE FROM run_incidents WHERE run = 'run-0000'`)
	f.exec(`INSERT INTO run_incidents (run, incident, number, title, url, joined_at, opened_at, outcome)
		VALUES ('run-0001', 'P2', 9, 'a, "title" {with} \ signs', 'https://x', '2026-03-02', '2026-03-01', 'resolved'), ('run-0001', 'P1', 8, '', '', '2026-03-02', NULL, '')`)
	joined := time.Date(2026, time.March, 2, 0, 0, 0, 0, time.UTC)
	for _, memory := range []bool{false, true} {
		page, err := f.Runs(t.Context(), playbook.RunFilter{Memory: memory})
		f.must(err)
		f.same("runs", idsOf(page.Runs), []string{"run-0001", "run-0000"})
		f.same("no incidents", len(page.Runs[1].Incidents), 0)
		f.same("incidents", page.Runs[0].Incidents, []playbook.RunIncident{
			{ID: "P0", Number: 1, JoinedAt: page.Runs[0].StartedAt},
			{ID: "P1", Number: 8, JoinedAt: joined},
			{ID: "P2", Number: 9, Title: `a, "title" {with} \ signs`, URL: "https://x", JoinedAt: joined, OpenedAt: joined.AddDate(0, 0, -1), End: playbook.OutcomeResolved},
		})
		f.same("memory", page.Runs[0].Memory.Said == "s", memory)
	}
}

// TestHistoryIsOneRoundTrip: a page that the connection has met before is asked for and answered in one message each way.
func TestHistoryIsOneRoundTrip(t *testing.T) {
	t.Parallel()
	var trips atomic.Int64
	f := newFixture(t)
	config := f.pool.Config()
	config.MaxConns = 1
	config.ConnConfig.AfterNetConnect = func(_ context.Context, _ *pgconn.Config, conn net.Conn) (net.Conn, error) {
		return &tripConn{Conn: conn, trips: &trips}, nil
	}
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	f.must(err)
	t.Cleanup(pool.Close)
	s := &Store{opts: f.opts, log: f.log, pool: pool}
	id := f.start("P1", target("c1", "a")).ID
	for name, read := range map[string]func() error{
		"page":    func() error { _, err := s.Runs(t.Context(), playbook.RunFilter{Carrier: "c1"}); return err },
		"run":     func() error { _, err := s.Run(t.Context(), id); return err },
		"events":  func() error { _, err := s.Events(t.Context(), []string{"c1"}, 0, ""); return err },
		"changes": func() error { _, err := s.Changes(t.Context(), id, 0); return err },
	} {
		f.must(read())
		before := trips.Load()
		f.must(read())
		f.same(name, trips.Load()-before, int64(1))
	}
}

// tripConn counts how often a side waits for the other: a read that follows a write.
type tripConn struct {
	net.Conn
	trips *atomic.Int64
	wrote atomic.Bool
}

func (c *tripConn) Write(b []byte) (int, error) {
	c.wrote.Store(true)
	return c.Conn.Write(b)
}

func (c *tripConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 && c.wrote.Swap(false) {
		c.trips.Add(1)
	}
	return n, err
}

// TestCursorsAreStable: what is added while somebody pages is neither repeated nor does it push anything out.
func TestCursorsAreStable(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	runs := f.seed(30)
	filter := playbook.RunFilter{Limit: 4}
	var got []string
	for {
		page, err := f.Runs(t.Context(), filter)
		f.must(err)
		got = append(got, idsOf(page.Runs)...)
		if page.Next == "" {
			break
		}
		filter.Cursor = page.Next
		f.start(fmt.Sprintf("PN%d", len(got)), target("new", fmt.Sprint(len(got))))
	}
	f.same("pages", got, idsOf(runs))
}

func TestBadCursors(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.seed(5)
	page, err := f.Runs(t.Context(), playbook.RunFilter{Carrier: "c1", Limit: 1})
	f.must(err)
	for name, filter := range map[string]playbook.RunFilter{
		"not base64":    {Cursor: "%"},
		"not a cursor":  {Cursor: "e30"},
		"cut":           {Carrier: "c1", Cursor: page.Next[:len(page.Next)-5]},
		"other filters": {Carrier: "c2", Cursor: page.Next},
		"fewer filters": {Cursor: page.Next},
	} {
		var bad *BadCursorError
		_, err := f.Runs(t.Context(), filter)
		if f.wantErrorAs(err, &bad); bad.Why == "" {
			t.Errorf("%s: the error does not say why", name)
		}
	}
	var bad *BadCursorError
	_, err = f.Events(t.Context(), nil, 1, page.Next)
	f.wantErrorAs(err, &bad)
}

func FuzzParseCursor(f *testing.F) {
	f.Add(cursor{At: time.Unix(1, 0).UTC(), ID: "x", Filter: "f"}.String())
	f.Add("e30")
	f.Fuzz(func(t *testing.T, s string) {
		c, err := parseCursor(s, "f")
		if err != nil || s == "" {
			return
		}
		again, err := parseCursor(c.String(), "f")
		if err != nil || !again.At.Equal(c.At) || again.ID != c.ID {
			t.Errorf("%q is read as %+v, which is written and read as %+v, %v", s, c, again, err)
		}
	})
}

func TestSlowHistory(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(o *Options) { o.HistoryTimeout = 50 * time.Millisecond })
	tx, err := f.pool.Begin(t.Context())
	f.must(err)
	defer tx.Rollback(t.Context())
	_, err = tx.Exec(t.Context(), `LOCK TABLE runs IN ACCESS EXCLUSIVE MODE`)
	f.must(err)
	_, err = f.Runs(t.Context(), playbook.RunFilter{})
	f.wantError(err, ErrTooSlow)
	// The same of what a connection has met before, and of more than one statement.
	f.must(tx.Rollback(t.Context()))
	_, err = f.Runs(t.Context(), playbook.RunFilter{})
	f.must(err)
	tx, err = f.pool.Begin(t.Context())
	f.must(err)
	defer tx.Rollback(t.Context())
	_, err = tx.Exec(t.Context(), `LOCK TABLE runs IN ACCESS EXCLUSIVE MODE`)
	f.must(err)
	for range 3 {
		_, err = f.Runs(t.Context(), playbook.RunFilter{})
		f.wantError(err, ErrTooSlow)
		_, err = f.Store.Run(t.Context(), "any")
		f.wantError(err, ErrTooSlow)
	}
	f.must(tx.Rollback(t.Context()))
	_, err = f.Store.Run(t.Context(), "any")
	f.wantError(err, playbook.ErrNoRun)
}

// TestHistoryUsesItsIndexes: a page by state must not read through the resolved nine tenths.
func TestHistoryUsesItsIndexes(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.exec(`INSERT INTO runs (id, carrier, namespace, daemonset, trigger, mode, table_version, state, started_at, deadline, wake_at, memory)
		SELECT 'r' || n, 'c' || n % 50, 'ns', 'ds' || n % 40, 'webhook', 'act', 1,
			CASE WHEN n % 10 = 0 THEN 'escalated' ELSE 'resolved' END, now() - n * interval '1 min', now(), now(), '{}'
		FROM generate_series(1, 20000) n`)
	f.exec(`ANALYZE runs`)
	explain := func(want, sql string, args ...any) {
		t.Helper()
		rows, err := f.pool.Query(t.Context(), `EXPLAIN `+sql, args...)
		f.must(err)
		lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
		f.must(err)
		if plan := strings.Join(lines, "\n"); !strings.Contains(plan, want) {
			t.Errorf("does not use %s:\n%s", want, plan)
		}
	}
	explain("runs_open", openRunsSQL, []string{"c1/ns/ds1"}, []string{"P1", "P2"})
	for want, filter := range map[string]playbook.RunFilter{
		"runs_newest":         {},
		"runs_by_both":        {Carrier: "c1", DaemonSet: "ds1"},
		"runs_unresolved":     {State: playbook.StateEscalated},
		"runs_unresolved_by_": {Carrier: "c1", Outcome: playbook.OutcomeEscalated}, // whichever the planner likes
	} {
		q := runQuery(filter, cursor{})
		explain(want, q.sql(`SELECT id FROM runs r`, `ORDER BY started_at DESC, id DESC LIMIT 51`), q.args...)
	}
}

func TestRunWithTicks(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	id := f.start("P1", target("c1", "a")).ID
	h := f.acquire(id)
	seen := playbook.Observation{
		DaemonSet: playbook.Known(playbook.DaemonSet{Exists: true, UID: "u"}),
		Evidence:  playbook.Known([]playbook.Evidence{{Source: "log", Text: "a NUL \x00 in a log"}}),
		Nodes:     playbook.Unknown[[]playbook.Node]("no answer"),
	}
	var want []playbook.StoredTick
	for seq := 1; seq <= 3; seq++ {
		f.commit(h, func(c *playbook.Commit) {
			c.Tick.To, c.Tick.Finding, c.Tick.Confirmed, c.Tick.Why = playbook.Triage, playbook.FindingUnknown, true, "why"
			c.Tick.PolicyHash, c.Tick.Policy = "h", playbook.Policy{Mode: playbook.ModeAct, Timing: playbook.DefaultTiming()}
			c.Tick.Before = playbook.Before{Memory: playbook.Memory{Said: "s"}, Intents: 2, Open: []playbook.OpenIntent{{Seq: 2, Sent: true}}}
			c.Tick.Observation, c.Tick.Observation.At = seen, c.Tick.At
			c.Tick.Diagnosis = playbook.Diagnosis{Finding: playbook.FindingUnknown, Questions: []playbook.Question{{Finding: playbook.FindingAbsent, Answer: playbook.No}}}
			c.Tick.Plan = []playbook.Action{cordonOf(id)}
			want = append(want, playbook.StoredTick{Seq: seq, Tick: c.Tick})
		})
	}
	f.commit(h, func(c *playbook.Commit) { c.Store = false })
	got := f.run(id)
	f.same("ticks", fmt.Sprintf("%+v", got.Ticks), fmt.Sprintf("%+v", want))
	f.same("observations: equal looks are one row", scan[int](f, `SELECT count(*) FROM observations`), 1)
	after, err := f.Ticks(t.Context(), id, 2)
	f.must(err)
	f.same("ticks after the second", after[0].Seq, 3)
	_, err = f.Store.Run(t.Context(), "no-such-run\x00")
	f.wantError(err, playbook.ErrNoRun)
}

func TestEventsPage(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	var want []string
	for n := range 5 {
		want = append(want, f.intake(acknowledged(fmt.Sprint(n), "P1")).ID)
	}
	slices.Reverse(want)
	var got []string
	for next, first := "", true; first || next != ""; first = false {
		page, err := f.Events(t.Context(), nil, 2, next)
		f.must(err)
		for _, e := range page.Events {
			got = append(got, e.ID)
		}
		next = page.Next
	}
	f.same("events", got, want)
	_, err := f.Payload(t.Context(), "no-such-event")
	f.wantError(err, ErrNoEvent)
}
