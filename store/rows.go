package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/drydock/drydock/playbook"
)

// querier is a pool or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
	SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults
}

const runFields = `r.id, r.carrier, r.namespace, r.daemonset, r.trigger, r.retriggered_from, r.requested_by, r.reason, r.mode, r.table_version,
	r.state, r.finding, r.confirmed, r.why, r.outcome, r.started_at, r.finished_at, r.deadline, r.plan_hash, r.version, r.ticks, r.woken_at, r.panics`

const (
	runColumns = runFields + `, r.memory`
	// A list leaves out what a run remembers, which is as long as all the rest and not shown in one.
	listedColumns = runFields + `, NULL::json`
)

func scanRun(row pgx.CollectableRow) (playbook.Run, error) {
	return scanRunAnd(row)
}

// scanRunAnd scans a run and the columns behind it.
func scanRunAnd(row pgx.CollectableRow, more ...any) (playbook.Run, error) {
	var r playbook.Run
	var finished, woken *time.Time
	var memory []byte
	err := row.Scan(append([]any{&r.ID, &r.Target.Carrier, &r.Target.Namespace, &r.Target.DaemonSet, &r.Trigger, &r.RetriggeredFrom,
		&r.RequestedBy, &r.Reason, &r.Mode, &r.TableVersion, &r.State, &r.Finding, &r.Confirmed, &r.Why, &r.Outcome, &r.StartedAt,
		&finished, &r.Deadline, &r.PlanHash, &r.Version, &r.Ticks, &woken, &r.Panics, &memory}, more...)...)
	if err != nil {
		return r, err
	}
	if memory != nil {
		if err := json.Unmarshal(memory, &r.Memory); err != nil {
			return r, fmt.Errorf("decode memory of run %s: %w", r.ID, err)
		}
	}
	r.StartedAt, r.FinishedAt, r.Deadline, r.WokenAt = r.StartedAt.UTC(), timeOf(finished), r.Deadline.UTC(), timeOf(woken)
	return r, nil
}

const intentColumns = `seq, lane, action, generation, promised_at, sent_at, call_deadline, settled_at, undoes, result, detail, receipt`

func scanIntent(row pgx.CollectableRow) (playbook.Intent, error) {
	var i playbook.Intent
	var action []byte
	var sent, deadline, settled *time.Time
	err := row.Scan(&i.Seq, &i.Lane, &action, &i.Generation, &i.PromisedAt, &sent, &deadline, &settled, &i.Undoes, &i.Result,
		&i.Detail, &i.Receipt)
	if err != nil {
		return i, err
	}
	i.PromisedAt, i.SentAt, i.CallDeadline, i.SettledAt = i.PromisedAt.UTC(), timeOf(sent), timeOf(deadline), timeOf(settled)
	i.Action, err = playbook.DecodeAction(action)
	return i, err
}

// loadRun reads a run with its incidents and intents, all as of one moment when q is a transaction that locked the run.
func loadRun(ctx context.Context, q querier, id string) (playbook.Run, error) {
	var run playbook.Run
	batch := &pgx.Batch{}
	queueRun(batch, id, &run)
	err := q.SendBatch(ctx, batch).Close() // a statement of its own: Go leaves open whether run is read before or after a call beside it
	return run, err
}

// queueRun adds what reads a run with its incidents and intents. The batch's error is playbook.ErrNoRun when there is none.
func queueRun(batch *pgx.Batch, id string, run *playbook.Run) {
	batch.Queue(`SELECT `+runColumns+` FROM runs r WHERE r.id = $1`, id).Query(func(rows pgx.Rows) (err error) {
		if *run, err = pgx.CollectExactlyOneRow(rows, scanRun); errors.Is(err, pgx.ErrNoRows) {
			return playbook.ErrNoRun
		}
		return doing("read run", id, err)
	})
	batch.Queue(`SELECT `+intentColumns+` FROM intents WHERE run = $1 ORDER BY seq`, id).Query(func(rows pgx.Rows) (err error) {
		run.Intents, err = pgx.CollectRows(rows, scanIntent)
		return doing("read intents of run", id, err)
	})
	batch.Queue(`SELECT `+incidentColumns+` FROM run_incidents i WHERE run = $1 ORDER BY joined_at, incident`, id).Query(func(rows pgx.Rows) (err error) {
		run.Incidents, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (playbook.RunIncident, error) {
			var i incidentRow
			err := row.Scan(i.fields()...)
			return i.value(), err
		})
		return doing("read incidents of run", id, err)
	})
}

func doing(what, id string, err error) error {
	if err != nil {
		return fmt.Errorf("%s %s: %w", what, id, err)
	}
	return nil
}

// known refuses a run whose states this version does not know, so that it is left to a replica that does.
func known(r playbook.Run) error {
	if !slices.Contains(tableVersions, r.TableVersion) || !slices.Contains(playbook.States(), r.State) {
		return fmt.Errorf("run %s has table version %d and state %q: %w", r.ID, r.TableVersion, r.State, playbook.ErrForeignTable)
	}
	return nil
}

const incidentColumns = `i.incident, i.number, i.title, i.url, i.joined_at, i.opened_at, i.outcome`

// incidentRow is scanned from incidentColumns: from a row of them, or from a value that is such a row.
type incidentRow struct {
	playbook.RunIncident
	opened *time.Time
}

func (i *incidentRow) fields() []any {
	return []any{&i.ID, &i.Number, &i.Title, &i.URL, &i.JoinedAt, &i.opened, &i.End}
}

func (i *incidentRow) value() playbook.RunIncident {
	i.JoinedAt, i.OpenedAt = i.JoinedAt.UTC(), timeOf(i.opened)
	return i.RunIncident
}

// ScanIndex and ScanNull make it a pgtype.CompositeIndexScanner.
func (i *incidentRow) ScanIndex(field int) any { return i.fields()[field] }

// ScanNull refuses, since no run's list of incidents has one.
func (i *incidentRow) ScanNull() error { return errors.New("an incident is NULL") }

// timeOf is the zero time for NULL.
func timeOf(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.UTC()
}

// orNull is NULL for the zero time.
func orNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// storable makes text from outside fit for a text column, which takes neither NUL nor broken UTF-8: a pod's message must not
// be able to stop a run from being written.
func storable(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// encode writes a document for a json column.
func encode(what string, v any) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", what, err)
	}
	return b, nil
}

// encodeActions writes a plan as a list of actions in EncodeAction's form.
func encodeActions(plan []playbook.Action) ([]byte, error) {
	list := make([]json.RawMessage, 0, len(plan))
	for _, a := range plan {
		b, err := playbook.EncodeAction(a)
		if err != nil {
			return nil, err
		}
		list = append(list, b)
	}
	return encode("plan", list)
}

func decodeActions(b []byte) ([]playbook.Action, error) {
	var list []json.RawMessage
	if err := json.Unmarshal(b, &list); err != nil {
		return nil, fmt.Errorf("decode plan: %w", err)
	}
	var plan []playbook.Action
	for _, raw := range list {
		a, err := playbook.DecodeAction(raw)
		if err != nil {
			return nil, err
		}
		plan = append(plan, a)
	}
	return plan, nil
}
