package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/drydock/drydock/playbook"
)

// The inbox commits in groups. A commit costs the same for one event as for a hundred: handlers hand their events to a few
// committers, each of which takes whatever waits and answers after the COMMIT. With one event at a time nothing waits for
// anything; in a storm the measured rate is three to five times that of one commit per event, and the p99 a sixth. Two, so
// that one batch is being sorted while another is being synced.
const (
	committers = 2
	maxBatch   = 256
	// commitWait bounds the write of a batch. PagerDuty gives up on a delivery after 16 s and sends it again.
	commitWait = 5 * time.Second
	// maxKey is the longest id that fits an index comfortably.
	maxKey = 255
)

// arrival is an event on its way to a committer, or a start without one.
type arrival struct {
	playbook.Arrival
	id     string // ours, of the event's row
	after  string // the ended run after whose end the incident was read and found to ask for another one
	answer chan<- answer
}

type answer struct {
	record playbook.EventRecord
	err    error
}

// Intake stores an event and what follows from it, the start of a run included, in one transaction, and returns when that
// is committed: then, and only then, may the delivery be answered. The same webhook id or event id again changes nothing and
// returns the first one's record, with Duplicate set.
func (s *Store) Intake(ctx context.Context, a playbook.Arrival) (playbook.EventRecord, error) {
	if len(a.WebhookID) > maxKey || len(a.EventID) > maxKey {
		return playbook.EventRecord{}, fmt.Errorf("store event: webhook id or event id is longer than %d bytes", maxKey)
	}
	a.WebhookID, a.EventID, a.Type, a.IncidentID = storable(a.WebhookID), storable(a.EventID), storable(a.Type), storable(a.IncidentID)
	id, err := newID()
	if err != nil {
		return playbook.EventRecord{}, fmt.Errorf("store event: %w", err)
	}
	if a.Start != nil {
		if a.Start, err = withRunID(*a.Start); err != nil {
			return playbook.EventRecord{}, fmt.Errorf("store event: %w", err)
		}
		if a.Start.Incident.OpenedAt.IsZero() {
			a.Start.Incident.OpenedAt = a.OccurredAt // it was triggered or reopened then
		}
	}
	answers := make(chan answer, 1)
	select {
	case s.arrivals <- arrival{Arrival: a, id: id, answer: answers}:
	case <-s.closing:
		return playbook.EventRecord{}, fmt.Errorf("store event: %w", ErrClosed)
	case <-ctx.Done():
		return playbook.EventRecord{}, fmt.Errorf("store event: %w", context.Cause(ctx))
	}
	select {
	case got := <-answers:
		if got.err != nil {
			return playbook.EventRecord{}, fmt.Errorf("store event: %w", got.err)
		}
		return got.record, nil
	case <-ctx.Done():
		// It may well be stored; the delivery's next attempt finds out.
		return playbook.EventRecord{}, fmt.Errorf("store event: %w", context.Cause(ctx))
	}
}

func withRunID(st playbook.Start) (*playbook.Start, error) {
	var err error
	if st.RunID == "" {
		st.RunID, err = newID()
	}
	return &st, err
}

// commitArrivals is one committer.
func (s *Store) commitArrivals(ctx context.Context) {
	for {
		select {
		case <-s.closing:
			return
		case first := <-s.arrivals:
			batch := []arrival{first}
			for len(batch) < maxBatch && s.another(&batch) {
			}
			s.commitBatch(ctx, batch)
		}
	}
}

// another adds an event that waits already, if there is one.
func (s *Store) another(batch *[]arrival) bool {
	select {
	case a := <-s.arrivals:
		*batch = append(*batch, a)
		return true
	default:
		return false
	}
}

// commitBatch writes a batch and answers everybody. When it fails, its events are tried one by one, so that one that can not
// be stored does not take the others with it; but not when the database is gone.
func (s *Store) commitBatch(ctx context.Context, batch []arrival) {
	ctx, cancel := context.WithTimeout(ctx, commitWait)
	defer cancel()
	records, err := s.storeArrivals(ctx, batch)
	for i, a := range batch {
		var one answer
		switch {
		case err == nil:
			one.record = records[i]
		case len(batch) == 1 || transient(err):
			one.err = err
		default:
			one = s.storeSingly(ctx, a)
		}
		a.answer <- one
	}
}

func (s *Store) storeSingly(ctx context.Context, a arrival) answer {
	records, err := s.storeArrivals(ctx, []arrival{a})
	if err != nil {
		return answer{err: err}
	}
	return answer{record: records[0]}
}

// storeArrivals places a batch in one transaction of two round trips. It is tried again a few times after a broken
// connection, a deadlock, or when another replica was first to store the same delivery or to start the same target: then it
// is found.
func (s *Store) storeArrivals(ctx context.Context, batch []arrival) ([]playbook.EventRecord, error) {
	var records []playbook.EventRecord
	err := s.placingAgain(ctx, func() error {
		d := newDesk()
		read := &pgx.Batch{}
		read.Queue("BEGIN")
		d.queueReads(read, batch)
		return s.inTwoTrips(ctx, read, func(writes *pgx.Batch) {
			records = records[:0]
			for _, a := range batch {
				records = append(records, d.receive(a))
			}
			d.queueWrites(writes)
		})
	})
	return records, err
}

const placingTries = 4

// placing runs a transaction that places events or starts.
func (s *Store) placing(ctx context.Context, fn func(pgx.Tx) error) error {
	return s.placingAgain(ctx, func() error { return s.inTx(ctx, fn) })
}

func (s *Store) placingAgain(ctx context.Context, place func() error) error {
	for try := 1; ; try++ {
		err := place()
		_, raced := uniqueViolation(err)
		if err == nil {
			s.ring()
		}
		if err == nil || try == placingTries || ctx.Err() != nil || !raced && !transient(err) {
			return err
		}
	}
}

// What is known of a batch. Each key is looked up by itself (LATERAL ... LIMIT): a plan that was cached while the tables were
// nearly empty would otherwise read them whole when a storm has filled them, which made the inbox twenty times slower.
const (
	openRunsSQL = `SELECT id, target, state, table_version, tick_seq FROM runs WHERE state NOT IN ('resolved', 'escalated', 'stood_down')
		AND id = ANY(ARRAY(
			SELECT r.id FROM unnest($1::text[]) AS k CROSS JOIN LATERAL (SELECT id FROM runs
				WHERE target = k AND state NOT IN ('resolved', 'escalated', 'stood_down') LIMIT 2) AS r
			UNION SELECT i.run FROM unnest($2::text[]) AS k CROSS JOIN LATERAL (SELECT run FROM run_incidents
				WHERE incident = k LIMIT 1000) AS i))
		ORDER BY id FOR NO KEY UPDATE`
	linksSQL = `SELECT k, l.run, l.ended, l.outcome, l.opened_at FROM unnest($1::text[]) AS k CROSS JOIN LATERAL (
			SELECT i.run, i.outcome <> '' OR r.state IN ('resolved', 'escalated', 'stood_down') AS ended,
				coalesce(nullif(i.outcome, ''), r.outcome) AS outcome, coalesce(i.opened_at, i.joined_at) AS opened_at
			FROM run_incidents i JOIN runs r ON r.id = i.run WHERE i.incident = k ORDER BY i.joined_at DESC, i.run DESC LIMIT 1) AS l`
	storedSQL = `SELECT e.* FROM unnest($1::text[]) AS k CROSS JOIN LATERAL (
			SELECT ` + eventColumns + `, webhook_id, event_id FROM events WHERE webhook_id = k LIMIT 1) AS e
		UNION ALL SELECT e.* FROM unnest($2::text[]) AS k CROSS JOIN LATERAL (
			SELECT ` + eventColumns + `, webhook_id, event_id FROM events WHERE event_id = k LIMIT 1) AS e`
)

// readDesk locks what the batch is about and reads what is known of it.
func readDesk(ctx context.Context, tx pgx.Tx, batch []arrival) (*desk, error) {
	d := newDesk()
	queries := &pgx.Batch{}
	d.queueReads(queries, batch)
	if err := tx.SendBatch(ctx, queries).Close(); err != nil {
		return nil, fmt.Errorf("look up what the event is about: %w", err)
	}
	return d, nil
}

// queueReads asks for the locks of what the batch is about, and for what is known of it.
func (d *desk) queueReads(queries *pgx.Batch, batch []arrival) {
	var locks []int64
	var targets, incidents, webhooks, events []string
	add := func(list *[]string, key string) {
		if key != "" {
			*list = append(*list, key)
		}
	}
	lock := func(kind, key string) {
		if key != "" {
			locks = append(locks, lockOf(kind, key))
		}
	}
	for _, a := range batch {
		add(&webhooks, a.WebhookID)
		add(&events, a.EventID)
		add(&incidents, a.IncidentID)
		lock("incident", a.IncidentID)
		if a.IncidentID == "" { // else whoever has the same event waits for the incident
			lock("webhook", a.WebhookID)
			lock("event", a.EventID)
		}
		if a.Start != nil {
			for _, in := range incidentsOf(*a.Start) {
				add(&incidents, in.ID)
				lock("incident", in.ID)
			}
			add(&targets, a.Start.Target.String())
			lock("target", a.Start.Target.String())
		}
	}
	targets, incidents, webhooks, events = sorted(targets), sorted(incidents), sorted(webhooks), sorted(events)
	queries.Queue(lockAllSQL, sorted(locks))
	// Each statement sees what was committed before it began: everything below is read after all locks are held.
	queries.Queue(openRunsSQL, targets, incidents).Query(d.scanOpenRuns)
	queries.Queue(linksSQL, incidents).Query(func(rows pgx.Rows) error { return scanLinks(rows, d.links) })
	queries.Queue(storedSQL, webhooks, events).Query(d.scanStored)
	queries.Queue(`SELECT clock_timestamp()`).QueryRow(func(row pgx.Row) error {
		err := row.Scan(&d.now)
		d.now = d.now.UTC()
		return err
	})
}

// writeDesk writes what was decided on a desk.
func writeDesk(ctx context.Context, tx pgx.Tx, d *desk) error {
	queries := &pgx.Batch{}
	d.queueWrites(queries)
	if queries.Len() == 0 {
		return nil
	}
	return tx.SendBatch(ctx, queries).Close()
}
