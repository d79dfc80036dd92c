package store

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"

	"github.com/drydock/drydock/playbook"
)

const (
	defaultPage = 50
	maxPage     = 200
)

func pageSize(limit int) int {
	if limit <= 0 {
		return defaultPage
	}
	return min(limit, maxPage)
}

// query builds one statement. A statement is made for each set of filters: one that fits all sets ("$1 IS NULL OR ...") can
// use no index.
type query struct {
	conditions []string
	args       []any
}

// where adds a condition; each $ in it stands for the next argument.
func (q *query) where(condition string, args ...any) {
	for _, arg := range args {
		q.args = append(q.args, arg)
		condition = strings.Replace(condition, "$", "\x00"+strconv.Itoa(len(q.args)), 1)
	}
	q.conditions = append(q.conditions, strings.ReplaceAll(condition, "\x00", "$"))
}

// sql is the statement: select, the conditions, and the rest.
func (q *query) sql(from, rest string) string {
	if len(q.conditions) == 0 {
		return from + " " + rest
	}
	return from + " WHERE " + strings.Join(q.conditions, " AND ") + " " + rest
}

// scoped is a page of a table, in an order that an index of it has. With carriers, each of them gives its first rows and the first of
// those are taken: one walk along the index for each, where "carrier = ANY" would read and sort all that they have.
func (q *query) scoped(table, columns, carrier string, carriers []string, order string, limit int) string {
	rest := "ORDER BY " + order + " LIMIT " + strconv.Itoa(limit)
	if len(carriers) == 0 {
		return q.sql("SELECT "+columns+" FROM "+table, rest)
	}
	q.args = append(q.args, carriers)
	scope := "$" + strconv.Itoa(len(q.args))
	q.conditions = append(q.conditions, carrier+" = scope.carrier")
	alias := table[strings.LastIndexByte(table, ' ')+1:]
	return "SELECT " + columns + " FROM (SELECT DISTINCT unnest(" + scope + "::text[]) AS carrier) AS scope CROSS JOIN LATERAL (" +
		q.sql("SELECT * FROM "+table, rest) + ") AS " + alias + " " + rest
}

// Runs lists runs, newest first, without ticks and intents, and with what they remember only where the filter asks for it. A limit
// of 0 is 50, and 200 is the most. The error is *BadCursorError or ErrTooSlow where it is one of those.
func (s *Store) Runs(ctx context.Context, f playbook.RunFilter) (playbook.RunPage, error) {
	limit := pageSize(f.Limit)
	// Names are kept in lower case, however a title or a person writes them.
	f.Carrier, f.DaemonSet, f.Namespace = strings.ToLower(f.Carrier), strings.ToLower(f.DaemonSet), strings.ToLower(f.Namespace)
	hash := filterHash("runs", f.Carrier, f.DaemonSet, f.Namespace, f.State, f.Finding, f.Outcome, f.Incident, f.Trigger,
		f.Since.UnixMicro(), f.Until.UnixMicro(), f.Carriers)
	after, err := parseCursor(f.Cursor, hash)
	if err != nil {
		return playbook.RunPage{}, fmt.Errorf("list runs: %w", err)
	}
	sql := runPageSQL(f, after, limit+1)
	var page playbook.RunPage
	reads := &pgx.Batch{}
	reads.Queue(sql.text, sql.args...).Query(func(rows pgx.Rows) (err error) {
		page.Runs, err = pgx.CollectRows(rows, scanListed)
		return err
	})
	if err := s.history(ctx, reads); err != nil {
		return playbook.RunPage{}, fmt.Errorf("list runs: %w", err)
	}
	if len(page.Runs) > limit {
		page.Runs = page.Runs[:limit]
		last := page.Runs[limit-1]
		page.Next = cursor{At: last.StartedAt, ID: last.ID, Filter: hash}.String()
	}
	return page, nil
}

// runPageSQL is a page of runs, each with its incidents: those are looked up once the page is cut.
func runPageSQL(f playbook.RunFilter, after cursor, limit int) statement {
	const order = "r.started_at DESC, r.id DESC"
	q, columns := runQuery(f, after), listedColumns
	if f.Memory {
		columns = runColumns
	}
	page := q.scoped("runs r", "r.*", "r.carrier", f.Carriers, order, limit)
	return statement{`SELECT ` + columns + `, ARRAY(SELECT ROW(` + incidentColumns + `) FROM run_incidents i WHERE i.run = r.id)
		FROM (` + page + `) AS r ORDER BY ` + order, q.args}
}

func scanListed(row pgx.CollectableRow) (playbook.Run, error) {
	var incidents []incidentRow
	r, err := scanRunAnd(row, &incidents)
	for _, i := range incidents {
		r.Incidents = append(r.Incidents, i.value())
	}
	slices.SortFunc(r.Incidents, func(a, b playbook.RunIncident) int {
		return cmp.Or(a.JoinedAt.Compare(b.JoinedAt), strings.Compare(a.ID, b.ID))
	})
	return r, err
}

func runQuery(f playbook.RunFilter, after cursor) *query {
	q := &query{}
	equals := func(column, value string) {
		if value != "" {
			q.where(column+" = $", storable(value))
		}
	}
	equals("r.carrier", f.Carrier)
	equals("r.daemonset", f.DaemonSet)
	equals("r.namespace", f.Namespace)
	equals("r.finding", string(f.Finding))
	// An outcome and the end state of its name go together, so that one set of indexes serves both.
	for _, state := range []playbook.State{f.State, f.Outcome.State()} {
		equals("r.state", string(state))
		if state != "" && state != playbook.StateResolved {
			q.where("r.state <> 'resolved'") // literally, for the partial indexes
		}
	}
	equals("r.trigger", string(f.Trigger))
	if f.Trigger != "" && f.Trigger != playbook.TriggerWebhook {
		q.where("r.trigger <> 'webhook'")
	}
	if f.Incident != "" {
		q.where("r.id IN (SELECT run FROM run_incidents WHERE incident = $)", storable(f.Incident))
	}
	if !f.Since.IsZero() {
		q.where("r.started_at >= $", f.Since)
	}
	if !f.Until.IsZero() {
		q.where("r.started_at < $", f.Until)
	}
	if after.ID != "" {
		q.where("(r.started_at, r.id) < ($, $)", after.At, after.ID)
	}
	return q
}

// history makes reads in one round trip, all as of one moment, with the statement timeout, which Postgres keeps: a page that
// nobody waits for any more must not keep the database busy. The error is ErrTooSlow when one took too long.
func (s *Store) history(ctx context.Context, reads *pgx.Batch) error {
	began := ctx
	// A statement that this connection has not met before is parsed before the timeout is set, and may wait for a lock there.
	ctx, cancel := context.WithTimeout(ctx, 2*s.opts.HistoryTimeout)
	defer cancel()
	batch := &pgx.Batch{}
	one := len(reads.QueuedQueries) == 1 // and so of one moment without more ado
	if !one {
		batch.Queue(`BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY`)
	}
	// Local to the transaction, which without BEGIN is the batch.
	batch.Queue(`SELECT set_config('statement_timeout', $1, true)`, strconv.FormatInt(max(1, s.opts.HistoryTimeout.Milliseconds()), 10))
	batch.QueuedQueries = append(batch.QueuedQueries, reads.QueuedQueries...)
	if !one {
		batch.Queue(`COMMIT`)
	}
	err := s.onConn(ctx, func(conn *pgx.Conn) (bool, error) { return false, conn.SendBatch(ctx, batch).Close() })
	if sqlstate(err) == pgerrcode.QueryCanceled || err != nil && ctx.Err() != nil && began.Err() == nil {
		return fmt.Errorf("%w: over %s", ErrTooSlow, s.opts.HistoryTimeout)
	}
	return err
}

// Run reads one run with everything that is known of it. The error is playbook.ErrNoRun when there is none.
func (s *Store) Run(ctx context.Context, id string) (playbook.StoredRun, error) {
	var run playbook.StoredRun
	reads := &pgx.Batch{}
	queueRun(reads, storable(id), &run.Run)
	queueTicks(reads, storable(id), 0, &run.Ticks)
	if err := s.history(ctx, reads); err != nil {
		return playbook.StoredRun{}, fmt.Errorf("read run %s: %w", id, err)
	}
	return run, nil
}

// Ticks reads the ticks of a run that came after a number, oldest first: for those who follow a run.
func (s *Store) Ticks(ctx context.Context, run string, after int) ([]playbook.StoredTick, error) {
	var ticks []playbook.StoredTick
	reads := &pgx.Batch{}
	queueTicks(reads, storable(run), after, &ticks)
	if err := s.history(ctx, reads); err != nil {
		return nil, fmt.Errorf("read ticks of run %s: %w", run, err)
	}
	return ticks, nil
}

func queueTicks(batch *pgx.Batch, run string, after int, ticks *[]playbook.StoredTick) {
	batch.Queue(`SELECT t.seq, t.at, t.from_state, t.to_state, t.finding, t.confirmed, t.why, t.policy, t.policy_hash,
			t.before, o.body, t.observed_at, t.diagnosis, t.plan
		FROM ticks t JOIN observations o ON o.hash = t.observation WHERE t.run = $1 AND t.seq > $2 ORDER BY t.seq`, run, after).
		Query(func(rows pgx.Rows) (err error) {
			*ticks, err = pgx.CollectRows(rows, scanTick)
			return err
		})
}

func scanTick(row pgx.CollectableRow) (playbook.StoredTick, error) {
	var t playbook.StoredTick
	var policy, before, observation, diagnosis, plan []byte
	var observedAt time.Time
	err := row.Scan(&t.Seq, &t.At, &t.From, &t.To, &t.Finding, &t.Confirmed, &t.Why, &policy, &t.PolicyHash, &before, &observation,
		&observedAt, &diagnosis, &plan)
	if err != nil {
		return t, err
	}
	for _, doc := range []struct {
		body []byte
		into any
	}{{policy, &t.Policy}, {before, &t.Before}, {observation, &t.Observation}, {diagnosis, &t.Diagnosis}} {
		if err := json.Unmarshal(doc.body, doc.into); err != nil {
			return t, fmt.Errorf("decode tick %d: %w", t.Seq, err)
		}
	}
	t.At, t.Observation.At = t.At.UTC(), observedAt.UTC()
	t.Plan, err = decodeActions(plan)
	return t, err
}

// EventPage is one page of events, newest first. Next is empty on the last page.
type EventPage struct {
	Events []playbook.EventRecord
	Next   string
}

const eventColumns = `id, type, incident, received_at, outcome, reason, run`

func eventFields(r *playbook.EventRecord) []any {
	return []any{&r.ID, &r.Type, &r.Incident, &r.ReceivedAt, &r.Outcome, &r.Reason, &r.Run}
}

// Events lists what came in, newest first; with carriers, only what became part of their runs. A limit of 0 is 50, and 200 is the most.
func (s *Store) Events(ctx context.Context, carriers []string, limit int, after string) (EventPage, error) {
	limit = pageSize(limit)
	hash := filterHash("events", carriers)
	from, err := parseCursor(after, hash)
	if err != nil {
		return EventPage{}, fmt.Errorf("list events: %w", err)
	}
	sql := eventPageSQL(carriers, from, limit+1)
	var page EventPage
	reads := &pgx.Batch{}
	reads.Queue(sql.text, sql.args...).Query(func(rows pgx.Rows) (err error) {
		page.Events, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (playbook.EventRecord, error) {
			var r playbook.EventRecord
			err := row.Scan(eventFields(&r)...)
			r.ReceivedAt = r.ReceivedAt.UTC()
			return r, err
		})
		return err
	})
	if err := s.history(ctx, reads); err != nil {
		return EventPage{}, fmt.Errorf("list events: %w", err)
	}
	if len(page.Events) > limit {
		page.Events = page.Events[:limit]
		last := page.Events[limit-1]
		page.Next = cursor{At: last.ReceivedAt, ID: last.ID, Filter: hash}.String()
	}
	return page, nil
}

func eventPageSQL(carriers []string, after cursor, limit int) statement {
	q := &query{}
	if len(carriers) > 0 {
		q.where("EXISTS (SELECT FROM runs r WHERE r.id = events.run AND r.carrier = ANY($))", carriers)
	}
	if after.ID != "" {
		q.where("(received_at, id) < ($, $)", after.At, after.ID)
	}
	return statement{q.sql(`SELECT `+eventColumns+` FROM events`, `ORDER BY received_at DESC, id DESC LIMIT `+strconv.Itoa(limit)), q.args}
}

// Payload is the body of an event, as it came.
func (s *Store) Payload(ctx context.Context, event string) ([]byte, error) {
	var body []byte
	err := s.pool.QueryRow(ctx, `SELECT payload FROM events WHERE id = $1`, storable(event)).Scan(&body)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, fmt.Errorf("read payload of event %s: %w", event, ErrNoEvent)
	}
	if err != nil {
		return nil, fmt.Errorf("read payload of event %s: %w", event, err)
	}
	return body, nil
}
