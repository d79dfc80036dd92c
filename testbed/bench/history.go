package main

import (
	"context"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/drydock/drydock/migrations"
	"github.com/drydock/drydock/playbook"
	"github.com/drydock/drydock/store"
	"github.com/drydock/drydock/store/privatepg"
)

// historyResult is the history of runs at one size.
type historyResult struct {
	Runs   int           `json:"runs"`
	Ticks  int           `json:"ticks"`
	Bytes  int64         `json:"bytes"` // of the whole database
	Shapes []shapeResult `json:"shapes"`
	Month  forgetting    `json:"month_deleted"`
}

// shapeResult is the pages of one set of filters, the first ones and those at any depth, and fetches of one row by its primary key
// between them.
type shapeResult struct {
	Name   string  `json:"name"`
	First  timing  `json:"first_page"`
	Deep   timing  `json:"deep_page"`
	Key    timing  `json:"primary_key"`
	Blocks float64 `json:"blocks"` // of 8 kB, read by a page, wherever they were
	Slow   int     `json:"timed_out"`
	// Bounded: the shape has no index of its own, and what is promised of it is only that it ends.
	Bounded bool `json:"bounded,omitempty"`
}

const (
	pageRows = 50
	// samples are the runs whose values are asked for: what many runs have is asked for often, as people do.
	samples    = 20_000
	historyAge = 400 * 24 * time.Hour
)

// measureHistory fills a Postgres and asks it for pages through the store, as the API does.
func measureHistory(ctx context.Context, b *bench) ([]row, any, error) {
	r, err := askHistory(ctx, b, shapes())
	return r.rows(), r, err
}

func askHistory(ctx context.Context, b *bench, all []shape) (r historyResult, err error) {
	r = historyResult{Runs: b.runs, Ticks: b.runs * b.ticks}
	dir := b.history
	if dir == "" {
		if dir, err = os.MkdirTemp(b.dir, "drydock-bench-"); err != nil {
			return r, fmt.Errorf("make the database's directory: %w", err)
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	}
	filled := filepath.Join(dir, fmt.Sprintf("filled-%d-%d", b.runs, b.ticks))
	if _, err := os.Stat(filled); err != nil {
		// Nothing that a crash could take is worth the wait while it is filled; what is measured runs on a server that syncs.
		err = onPostgres(ctx, privatepg.Options{Dir: dir, Log: b.log, Throwaway: true}, func(dsn string) error {
			return fillHistory(ctx, dsn, b)
		})
		if err == nil {
			err = os.WriteFile(filled, nil, 0o600)
		}
		if err != nil {
			return r, fmt.Errorf("fill the history: %w", err)
		}
	}
	err = onPostgres(ctx, privatepg.Options{Dir: dir, Log: b.log}, func(dsn string) error {
		if err := checkDurable(ctx, dsn); err != nil {
			return err
		}
		return r.measure(ctx, dsn, b, all)
	})
	return r, err
}

func (r historyResult) rows() []row {
	var rows []row
	for _, s := range r.Shapes {
		line := row{
			what:    "History by " + s.Name,
			drydock: fmt.Sprintf("%v; deep: %v; %.0f blocks", s.First, s.Deep, s.Blocks),
			limit:   "primary key: " + s.Key.String(),
			ratio:   ratio(max(s.First.P50, s.Deep.P50), s.Key.P50),
			goal:    "<= 3, p99 < 10 ms",
		}
		if s.Bounded {
			line.drydock += fmt.Sprintf("; %d refused as too slow", s.Slow)
			line.goal = "an answer, or a refusal"
		}
		rows = append(rows, line)
	}
	m := r.Month
	return append(rows, row{what: "Retention of a month", goal: "< 1 s", limit: "primary key beside it: " + m.Key.String(), ratio: "",
		drydock: fmt.Sprintf("%d runs with all that is theirs in %s, %d MB of WAL; pages beside it: %v", m.Runs, short(m.Took), m.Bytes>>20, m.Pages)})
}

func onPostgres(ctx context.Context, options privatepg.Options, do func(dsn string) error) (err error) {
	server, err := privatepg.Start(ctx, options)
	if err != nil {
		return err
	}
	defer func() {
		stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Minute) // it writes what it holds
		defer cancel()
		err = errors.Join(err, server.Stop(stopping))
	}()
	return do(server.DSN())
}

// historySQL makes the rows, in parts that begin with the name of their table.
//
//go:embed history_fill.sql
var historySQL string

// fillHistory makes the rows without their indexes and builds those afterwards, which is many times faster.
func fillHistory(ctx context.Context, dsn string, b *bench) error {
	if err := migrations.Up(ctx, dsn); err != nil {
		return err
	}
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return fmt.Errorf("fill the history: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	exec := func(sql string) error {
		if _, err := conn.Exec(ctx, sql, pgx.QueryExecModeSimpleProtocol); err != nil {
			return fmt.Errorf("fill the history: %.60s: %w", sql, err)
		}
		return nil
	}
	// The triggers would number each tick by an update of its run, and look each foreign key up.
	// The pages are asked of a server with a cache, not with the default of 128 MB.
	for _, sql := range []string{`SET session_replication_role = replica`, `SET maintenance_work_mem = '1GB'`, `ALTER SYSTEM SET max_wal_size = '2GB'`,
		`ALTER SYSTEM SET shared_buffers = '` + b.buffers + `'`, `SELECT pg_reload_conf()`} {
		if err := exec(sql); err != nil {
			return err
		}
	}
	rows, err := conn.Query(ctx, `SELECT indexname, indexdef FROM pg_indexes WHERE tablename IN ('runs', 'run_incidents', 'ticks')
		AND indexname NOT IN (SELECT conname FROM pg_constraint)`)
	if err != nil {
		return fmt.Errorf("fill the history: list indexes: %w", err)
	}
	type index struct{ Name, SQL string }
	indexes, err := pgx.CollectRows(rows, pgx.RowToStructByPos[index])
	if err != nil {
		return fmt.Errorf("fill the history: list indexes: %w", err)
	}
	for _, i := range indexes {
		if err := exec(`DROP INDEX ` + i.Name); err != nil {
			return err
		}
	}
	sql := strings.NewReplacer("{runs}", strconv.Itoa(b.runs), "{ticks}", strconv.Itoa(b.ticks)).Replace(historySQL)
	for i, part := range strings.Split(sql, "\n\n-- ") {
		if i == 0 {
			continue // what the file says of itself
		}
		name, statements, _ := strings.Cut(part, "\n")
		b.log.Info("filling the history", "table", name, "runs", b.runs)
		if err := exec(statements); err != nil {
			return err
		}
	}
	for _, i := range indexes {
		b.log.Info("filling the history", "index", i.Name)
		if err := exec(i.SQL); err != nil {
			return err
		}
	}
	b.log.Info("filling the history: statistics")
	return exec(`VACUUM ANALYZE runs, run_incidents, ticks, observations`)
}

// measure asks for pages of each shape, and then lets retention delete.
func (r *historyResult) measure(ctx context.Context, dsn string, b *bench, all []shape) error {
	// One connection: what another one reads would be counted as well.
	st, err := store.Open(ctx, store.Options{DatabaseURL: dsn, Node: "bench/1", BackupKey: make([]byte, 32), Log: b.log, MaxConns: 1})
	if err != nil {
		return err
	}
	defer st.Close()
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return fmt.Errorf("measure the history: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if err := conn.QueryRow(ctx, `SELECT pg_database_size(current_database())`).Scan(&r.Bytes); err != nil {
		return fmt.Errorf("measure the history: %w", err)
	}
	if err := warm(ctx, conn); err != nil {
		b.log.Warn("the history is not warm", "error", err)
	}
	h := &historian{store: st, conn: conn, random: rand.New(rand.NewPCG(1, 2)), log: b.log}
	if err := h.sample(ctx, b.runs); err != nil {
		return err
	}
	for _, s := range all {
		result, err := h.ask(ctx, s, b.pages)
		if err != nil {
			return err
		}
		r.Shapes = append(r.Shapes, result)
		b.log.Info("asked for pages", "shape", s.name, "first", result.First.String(), "deep", result.Deep.String(), "key", result.Key.String(),
			"blocks", int(result.Blocks), "timed_out", result.Slow)
	}
	r.Month, err = h.forget(ctx, dsn)
	return err
}

// warm reads the tables of the pages, and all their indexes, once: into Postgres' cache as far as they fit, else the machine's.
func warm(ctx context.Context, conn *pgx.Conn) error {
	if _, err := conn.Exec(ctx, `CREATE EXTENSION IF NOT EXISTS pg_prewarm`); err != nil {
		return fmt.Errorf("warm the history (pg_prewarm is part of Postgres' contrib): %w", err)
	}
	// The indexes last, so that they stay.
	_, err := conn.Exec(ctx, `SELECT pg_prewarm(c.oid) FROM pg_class c LEFT JOIN pg_index i ON i.indexrelid = c.oid
		WHERE c.oid = ANY($1::regclass[]) OR i.indrelid = ANY($1::regclass[]) ORDER BY c.relkind DESC`, []string{"run_incidents", "runs"})
	if err != nil {
		return fmt.Errorf("warm the history: %w", err)
	}
	return nil
}

// shape is a set of filters; pick takes their values from a run.
type shape struct {
	name    string
	pick    func(*historian, playbook.Run) playbook.RunFilter
	bounded bool
}

// shapes are every single filter; every mix of carrier, daemonset, state or outcome, and time; and some of the rarer mixes.
func shapes() []shape {
	list := []shape{
		{name: "no filter", pick: func(*historian, playbook.Run) playbook.RunFilter { return playbook.RunFilter{} }},
		{name: "namespace", pick: func(_ *historian, r playbook.Run) playbook.RunFilter {
			return playbook.RunFilter{Namespace: r.Target.Namespace}
		}},
		{name: "finding", pick: func(_ *historian, r playbook.Run) playbook.RunFilter { return playbook.RunFilter{Finding: r.Finding} }},
		{name: "incident", pick: func(_ *historian, r playbook.Run) playbook.RunFilter {
			return playbook.RunFilter{Incident: r.Incidents[0].ID}
		}},
		{name: "trigger", pick: func(_ *historian, r playbook.Run) playbook.RunFilter { return playbook.RunFilter{Trigger: r.Trigger} }},
		{name: "since", pick: func(_ *historian, r playbook.Run) playbook.RunFilter { return playbook.RunFilter{Since: r.StartedAt} }},
		{name: "until", pick: func(_ *historian, r playbook.Run) playbook.RunFilter { return playbook.RunFilter{Until: r.StartedAt} }},
		{name: "a token of three carriers", pick: func(h *historian, r playbook.Run) playbook.RunFilter {
			return playbook.RunFilter{Carriers: []string{r.Target.Carrier, h.any().Target.Carrier, h.any().Target.Carrier}}
		}},
	}
	for mix := 1; mix < 24; mix++ {
		carrier, daemonset, time, end := mix&1 != 0, mix&2 != 0, mix&4 != 0, mix/8
		var names []string
		for _, part := range []struct {
			is   bool
			name string
		}{{carrier, "carrier"}, {daemonset, "daemonset"}, {end == 1, "state"}, {end == 2, "outcome"}, {time, "time"}} {
			if part.is {
				names = append(names, part.name)
			}
		}
		list = append(list, shape{name: strings.Join(names, " + "), pick: func(h *historian, r playbook.Run) playbook.RunFilter {
			var f playbook.RunFilter
			if carrier {
				f.Carrier = r.Target.Carrier
			}
			if daemonset {
				f.DaemonSet = r.Target.DaemonSet
			}
			switch end {
			case 1:
				f.State = r.State
				if h.random.IntN(4) == 0 {
					f.State = playbook.Draining // what goes on now
				}
			case 2:
				f.Outcome = r.Outcome
			}
			if time {
				f.Since, f.Until = h.span()
			}
			return f
		}})
	}
	return append(list,
		shape{name: "namespace + finding + trigger", bounded: true, pick: func(_ *historian, r playbook.Run) playbook.RunFilter {
			return playbook.RunFilter{Namespace: r.Target.Namespace, Finding: r.Finding, Trigger: r.Trigger}
		}},
		shape{name: "carrier + finding + outcome", bounded: true, pick: func(_ *historian, r playbook.Run) playbook.RunFilter {
			return playbook.RunFilter{Carrier: r.Target.Carrier, Finding: r.Finding, Outcome: r.Outcome}
		}},
		shape{name: "all at once", bounded: true, pick: func(h *historian, r playbook.Run) playbook.RunFilter {
			f := playbook.RunFilter{Carrier: r.Target.Carrier, DaemonSet: h.any().Target.DaemonSet, Namespace: r.Target.Namespace, State: r.State,
				Finding: h.any().Finding, Trigger: h.any().Trigger}
			f.Since, f.Until = h.span()
			return f
		}})
}

// historian asks for pages.
type historian struct {
	store  *store.Store
	conn   *pgx.Conn
	random *rand.Rand
	runs   []playbook.Run
	newest string // of them, which retention does not reach
	log    *slog.Logger
}

// sample reads the values of some runs.
func (h *historian) sample(ctx context.Context, all int) error {
	rows, err := h.conn.Query(ctx, fmt.Sprintf(`SELECT id, carrier, namespace, daemonset, state, outcome, finding, trigger, started_at,
		(SELECT incident FROM run_incidents WHERE run = id) FROM runs TABLESAMPLE SYSTEM (%f) REPEATABLE (1)`, min(100, 100*float64(samples)/float64(all))))
	if err != nil {
		return fmt.Errorf("sample the history: %w", err)
	}
	h.runs, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (playbook.Run, error) {
		r := playbook.Run{Incidents: make([]playbook.RunIncident, 1)}
		return r, row.Scan(&r.ID, &r.Target.Carrier, &r.Target.Namespace, &r.Target.DaemonSet, &r.State, &r.Outcome, &r.Finding, &r.Trigger,
			&r.StartedAt, &r.Incidents[0].ID)
	})
	if err != nil {
		return fmt.Errorf("sample the history: %w", err)
	}
	if len(h.runs) == 0 {
		return errors.New("sample the history: no run was found")
	}
	h.newest = slices.MaxFunc(h.runs, func(a, b playbook.Run) int { return a.StartedAt.Compare(b.StartedAt) }).ID
	return nil
}

func (h *historian) any() playbook.Run { return h.runs[h.random.IntN(len(h.runs))] }

// span is a day, a week or three months, some time ago.
func (h *historian) span() (since, until time.Time) {
	days := []int{1, 7, 90}[h.random.IntN(3)]
	until = h.any().StartedAt
	return until.Add(-time.Duration(days) * 24 * time.Hour), until
}

// ask measures n first pages and as many deep ones, each beside a fetch by primary key. The first tenth warms up.
func (h *historian) ask(ctx context.Context, s shape, n int) (shapeResult, error) {
	r := shapeResult{Name: s.name, Bounded: s.bounded}
	if s.bounded {
		n = min(n, 20) // each may take as long as the statement timeout
	}
	var first, deep, keys []time.Duration
	var before, after int64
	for i := range n + n/10 {
		if i == n/10 {
			var err error
			if before, err = h.blocks(ctx); err != nil {
				return r, err
			}
			first, deep, keys = nil, nil, nil
		}
		f := s.pick(h, h.any())
		page, took, err := h.page(ctx, f)
		if errors.Is(err, store.ErrTooSlow) && s.bounded {
			r.Slow++
			continue
		}
		if err != nil {
			return r, err
		}
		first = append(first, took)
		key, err := h.fetch(ctx, h.any().ID)
		if err != nil {
			return r, err
		}
		keys = append(keys, key)
		if page.Next == "" {
			continue // there is no other page
		}
		if f.Cursor, err = h.deeper(f, page); err != nil {
			return r, err
		}
		_, took, err = h.page(ctx, f)
		if errors.Is(err, store.ErrTooSlow) && s.bounded {
			r.Slow++
			continue
		}
		if err != nil {
			return r, err
		}
		deep = append(deep, took)
	}
	after, err := h.blocks(ctx)
	if err != nil {
		return r, err
	}
	r.First, r.Deep, r.Key = timingOf(first), timingOf(deep), timingOf(keys)
	r.Blocks = float64(after-before) / float64(max(1, len(first)+len(deep)))
	return r, nil
}

// page reads a page and holds it against its filter.
func (h *historian) page(ctx context.Context, f playbook.RunFilter) (playbook.RunPage, time.Duration, error) {
	f.Limit = pageRows
	began := time.Now()
	page, err := h.store.Runs(ctx, f)
	took := time.Since(began)
	if err != nil {
		return page, took, err
	}
	for i, r := range page.Runs {
		if f.Carrier != "" && r.Target.Carrier != f.Carrier || f.DaemonSet != "" && r.Target.DaemonSet != f.DaemonSet ||
			f.State != "" && r.State != f.State || f.Outcome != "" && r.Outcome != f.Outcome || f.Finding != "" && r.Finding != f.Finding ||
			!f.Since.IsZero() && r.StartedAt.Before(f.Since) || !f.Until.IsZero() && !r.StartedAt.Before(f.Until) ||
			len(f.Carriers) > 0 && !slices.Contains(f.Carriers, r.Target.Carrier) || len(r.Incidents) != 1 ||
			i > 0 && r.StartedAt.After(page.Runs[i-1].StartedAt) {
			return page, took, fmt.Errorf("run %s does not belong on the page of %+v", r.ID, f)
		}
	}
	return page, took, nil
}

// deeper moves a page's cursor to anywhere between the page and the end of the history: walking there would take hours.
func (h *historian) deeper(f playbook.RunFilter, page playbook.RunPage) (string, error) {
	raw, err := base64.RawURLEncoding.DecodeString(page.Next)
	if err != nil {
		return "", fmt.Errorf("move a cursor: %w", err)
	}
	var cursor map[string]any
	if err := json.Unmarshal(raw, &cursor); err != nil {
		return "", fmt.Errorf("move a cursor: %w", err)
	}
	last := page.Runs[len(page.Runs)-1].StartedAt
	end := time.Now().Add(-historyAge)
	if !f.Since.IsZero() {
		end = f.Since
	}
	cursor["t"] = last.Add(-time.Duration(h.random.Int64N(max(1, int64(last.Sub(end))))))
	if raw, err = json.Marshal(cursor); err != nil {
		return "", fmt.Errorf("move a cursor: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(raw), nil
}

// fetch reads one run by its primary key, with nothing around it.
func (h *historian) fetch(ctx context.Context, id string) (time.Duration, error) {
	began := time.Now()
	rows, err := h.conn.Query(ctx, `SELECT * FROM runs WHERE id = $1`, id)
	if err != nil {
		return 0, fmt.Errorf("fetch run %s: %w", id, err)
	}
	for rows.Next() {
		rows.RawValues()
	}
	took := time.Since(began)
	if err := rows.Err(); err != nil {
		return 0, fmt.Errorf("fetch run %s: %w", id, err)
	}
	if rows.CommandTag().RowsAffected() != 1 {
		return 0, fmt.Errorf("fetch run %s: it is not there", id)
	}
	return took, nil
}

// statsDelay is for how long a session of Postgres may keep its counts to itself.
const statsDelay = 1100 * time.Millisecond

// blocks is how many blocks were read from tables and indexes so far. Those of the fetches by primary key are among them: some ten each.
func (h *historian) blocks(ctx context.Context) (int64, error) {
	select {
	case <-ctx.Done():
		return 0, ctx.Err()
	case <-time.After(statsDelay):
	}
	// Each session hands its counts over with its next statement.
	if err := h.store.Ping(ctx); err != nil {
		return 0, err
	}
	var n int64
	err := h.conn.QueryRow(ctx, `SELECT sum(heap_blks_hit + heap_blks_read + idx_blks_hit + idx_blks_read)
		FROM pg_statio_user_tables`).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count blocks: %w", err)
	}
	return n, nil
}
