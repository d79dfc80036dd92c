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

const runColumns = `r.id, r.carrier, r.namespace, r.daemonset, r.trigger, r.retriggered_from, r.requested_by, r.reason, r.mode, r.table_version,
	r.state, r.finding, r.confirmed, r.why, r.outcome, r.started_at, r.finished_at, r.deadline, r.plan_hash, r.version, r.ticks, r.memory, r.woken_at, r.panics`

func scanRun(row pgx.CollectableRow) (playbook.Run, error) {
	var r playbook.Run
	var finished, woken *time.Time
	var memory []byte
	err := row.Scan(&r.ID, &r.Target.Carrier, &r.Target.Namespace, &r.Target.DaemonSet, &r.Trigger, &r.RetriggeredFrom,
		&r.RequestedBy, &r.Reason, &r.Mode, &r.TableVersion, &r.State, &r.Finding, &r.Confirmed, &r.Why, &r.Outcome, &r.StartedAt,
		&finished, &r.Deadline, &r.PlanHash, &r.Version, &r.Ticks, &memory, &woken, &r.Panics)
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(memory, &r.Memory); err != nil {
		return r, fmt.Errorf("decode memory of run %s: %w", r.ID, err)
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
	batch := &pgx.Batch{}
	batch.Queue(`SELECT `+runColumns+` FROM runs r WHERE r.id = $1`, id)
	batch.Queue(`SELECT `+intentColumns+` FROM intents WHERE run = $1 ORDER BY seq`, id)
	batch.Queue(`SELECT `+incidentColumns+` FROM run_incidents WHERE run = $1 ORDER BY joined_at, incident`, id)
	results := q.SendBatch(ctx, batch)
	defer func() { _ = results.Close() }() // every result is read, or the error is returned already

	rows, err := results.Query()
	if err != nil {
		return playbook.Run{}, fmt.Errorf("read run %s: %w", id, err)
	}
	run, err := pgx.CollectExactlyOneRow(rows, scanRun)
	if errors.Is(err, pgx.ErrNoRows) {
		return playbook.Run{}, playbook.ErrNoRun
	}
	if err != nil {
		return playbook.Run{}, fmt.Errorf("read run %s: %w", id, err)
	}
	if rows, err = results.Query(); err == nil {
		run.Intents, err = pgx.CollectRows(rows, scanIntent)
	}
	if err != nil {
		return playbook.Run{}, fmt.Errorf("read intents of run %s: %w", id, err)
	}
	var incidents []runIncident
	if rows, err = results.Query(); err == nil {
		incidents, err = pgx.CollectRows(rows, scanIncident)
	}
	if err != nil {
		return playbook.Run{}, fmt.Errorf("read incidents of run %s: %w", id, err)
	}
	for _, in := range incidents {
		run.Incidents = append(run.Incidents, in.RunIncident)
	}
	return run, nil
}

// known refuses a run whose states this version does not know, so that it is left to a replica that does.
func known(r playbook.Run) error {
	if !slices.Contains(tableVersions, r.TableVersion) || !slices.Contains(playbook.States(), r.State) {
		return fmt.Errorf("run %s has table version %d and state %q: %w", r.ID, r.TableVersion, r.State, playbook.ErrForeignTable)
	}
	return nil
}

type runIncident struct {
	run string
	playbook.RunIncident
}

const incidentColumns = `run, incident, number, title, url, joined_at, opened_at, outcome`

func scanIncident(row pgx.CollectableRow) (runIncident, error) {
	var i runIncident
	var opened *time.Time
	err := row.Scan(&i.run, &i.ID, &i.Number, &i.Title, &i.URL, &i.JoinedAt, &opened, &i.End)
	i.JoinedAt, i.OpenedAt = i.JoinedAt.UTC(), timeOf(opened)
	return i, err
}

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
