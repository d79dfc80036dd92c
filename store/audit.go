package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/drydock/drydock/playbook"
)

// Deed is something that was done, for the audit log. It is written in the transaction that does it, as its last statement:
// the log's lock is held from there until the commit.
type Deed struct {
	Who      string // a person's token, or Drydock itself
	What     string // one word or two: run.cancel
	Why      string
	Run      string
	Carrier  string
	PlanHash string
	Before   any // nil: there was nothing
	After    any
}

// Drydock is who acts when nobody ordered it.
const Drydock = "drydock"

// deedJSON fixes the order of a deed's members, which is part of what is hashed.
type deedJSON struct {
	Who      string          `json:"who"`
	What     string          `json:"what"`
	Why      string          `json:"why,omitempty"`
	Run      string          `json:"run,omitempty"`
	Carrier  string          `json:"carrier,omitempty"`
	PlanHash string          `json:"plan_hash,omitempty"`
	Before   json.RawMessage `json:"before,omitempty"`
	After    json.RawMessage `json:"after,omitempty"`
}

// MarshalJSON is the text that the log keeps.
func (d Deed) MarshalJSON() ([]byte, error) {
	j := deedJSON{Who: d.Who, What: d.What, Why: d.Why, Run: d.Run, Carrier: d.Carrier, PlanHash: d.PlanHash}
	for _, doc := range []struct {
		from any
		to   *json.RawMessage
	}{{d.Before, &j.Before}, {d.After, &j.After}} {
		if doc.from == nil {
			continue
		}
		b, err := json.Marshal(doc.from)
		if err != nil {
			return nil, err
		}
		*doc.to = b
	}
	return json.Marshal(j)
}

// nul is a NUL as JSON writes it; Postgres can not read a member of a document that holds one.
var nul, noNul = []byte(`\u0000`), []byte(`\ufffd`)

// audit appends deeds to the log when tx, which is one of inTx, commits. Every replica waits for whoever appends, from then
// until its COMMIT is synced, so both are sent together: measured at 50 ticks a second on a busy machine, most sessions stood in
// this queue.
func audit(tx pgx.Tx, deeds ...Deed) error {
	last := tx.(*lastTx) //nolint:forcetypeassert // a panic says that somebody has made a transaction by himself
	for _, d := range deeds {
		entry, err := encode("audit entry", d)
		if err != nil {
			return err
		}
		last.last.Queue(`INSERT INTO audit (entry) VALUES ($1)`, bytes.ReplaceAll(entry, nul, noNul))
	}
	return nil
}

// Record appends a deed that no write of the store records: the start of a server, for example.
func (s *Store) Record(ctx context.Context, d Deed) error {
	if err := s.inTx(ctx, func(tx pgx.Tx) error { return audit(tx, d) }); err != nil {
		return fmt.Errorf("record %s: %w", d.What, err)
	}
	return nil
}

// Node names this process, as its leases do.
func (s *Store) Node() string { return s.opts.Node }

// intentDeed is what the log shows of an intent. The action itself stays in the ledger: it may be long.
type intentDeed struct {
	Seq    int           `json:"seq"`
	Lane   playbook.Lane `json:"lane"`
	Kind   playbook.Kind `json:"kind"`
	Target playbook.Ref  `json:"target"`
	Undoes int           `json:"undoes,omitempty"`
}

func newIntentDeed(i playbook.Intent) *intentDeed {
	return &intentDeed{Seq: i.Seq, Lane: i.Lane, Kind: i.Action.Kind(), Target: i.Action.Target(), Undoes: i.Undoes}
}

type stateDeed struct {
	State   playbook.State   `json:"state"`
	Finding playbook.Finding `json:"finding,omitempty"`
	Outcome playbook.Outcome `json:"outcome,omitempty"`
}

// tickDeeds are the deeds of a tick: the run's start and end, and what it promised.
func tickDeeds(f fence, c playbook.Commit, after playbook.Run) []Deed {
	deed := func(what, why string) Deed {
		return Deed{Who: Drydock, What: what, Why: why, Run: after.ID, Carrier: after.Target.Carrier, PlanHash: after.PlanHash}
	}
	var deeds []Deed
	if f.tickSeq == 1 {
		d := deed("run.start", string(after.Trigger))
		incidents := make([]string, 0, len(after.Incidents))
		for _, i := range after.Incidents {
			incidents = append(incidents, i.ID)
		}
		d.After = struct {
			Target    string        `json:"target"`
			Mode      playbook.Mode `json:"mode"`
			Incidents []string      `json:"incidents"`
		}{after.Target.String(), after.Mode, incidents}
		deeds = append(deeds, d)
	}
	for _, i := range after.Intents[len(c.Run.Intents):] {
		d := deed("intent.promise", c.Tick.Why)
		d.After = newIntentDeed(i)
		deeds = append(deeds, d)
	}
	if after.State.Ended() && !c.Tick.From.Ended() {
		d := deed("run.end", after.Why)
		d.Before = stateDeed{State: c.Tick.From}
		d.After = stateDeed{State: after.State, Finding: after.Finding, Outcome: after.Outcome}
		deeds = append(deeds, d)
	}
	return deeds
}

// settleDeed is the deed of a settlement.
func settleDeed(r playbook.Run, seq int, st playbook.Settlement) Deed {
	d := Deed{Who: Drydock, What: "intent.settle", Why: st.Detail, Run: r.ID, Carrier: r.Target.Carrier, PlanHash: r.PlanHash}
	for _, i := range r.Intents {
		if i.Seq == seq {
			d.Before = newIntentDeed(i)
		}
	}
	d.After = struct {
		Result  playbook.Result `json:"result"`
		Receipt string          `json:"receipt,omitempty"`
	}{st.Result, st.Receipt}
	return d
}

// AuditEntry is one row of the audit log. Before and After are null where there was nothing.
type AuditEntry struct {
	Seq                                    int64
	At                                     time.Time
	Who, What, Why, Run, Carrier, PlanHash string
	Before, After                          json.RawMessage
	PrevHash, Hash                         string // hex
}

// AuditFilter picks entries. Empty fields do not filter.
type AuditFilter struct {
	Run, Carrier string
	Carriers     []string // of any of these
	Limit        int      // 1..200; 0 is 50
	Cursor       string
}

// AuditPage is one page of the log, newest first. Next is empty on the last page.
type AuditPage struct {
	Entries []AuditEntry
	Next    string
}

// Audit lists the audit log, newest first. The error is *BadCursorError or ErrTooSlow where it is one of those.
func (s *Store) Audit(ctx context.Context, f AuditFilter) (AuditPage, error) {
	limit := pageSize(f.Limit)
	hash := filterHash("audit", f.Run, f.Carrier, f.Carriers)
	after, err := parseCursor(f.Cursor, hash)
	if err != nil {
		return AuditPage{}, fmt.Errorf("list the audit log: %w", err)
	}
	seq := int64(0)
	if after.ID != "" {
		if seq, err = strconv.ParseInt(after.ID, 10, 64); err != nil {
			return AuditPage{}, fmt.Errorf("list the audit log: %w", &BadCursorError{Why: "is malformed"})
		}
	}
	f.Limit = limit
	q := auditQuery(f, seq)
	var page AuditPage
	reads := &pgx.Batch{}
	reads.Queue(q.text, q.args...).Query(func(rows pgx.Rows) (err error) {
		page.Entries, err = pgx.CollectRows(rows, scanAudit)
		return err
	})
	if err := s.history(ctx, reads); err != nil {
		return AuditPage{}, fmt.Errorf("list the audit log: %w", err)
	}
	if len(page.Entries) > limit {
		page.Entries = page.Entries[:limit]
		last := page.Entries[limit-1]
		page.Next = cursor{At: last.At, ID: strconv.FormatInt(last.Seq, 10), Filter: hash}.String()
	}
	return page, nil
}

// auditQuery is a page of the log, and one row more, before an entry; 0 is the newest page.
func auditQuery(f AuditFilter, before int64) statement {
	q := &query{}
	if f.Run != "" {
		q.where("a.run = $", storable(f.Run))
	}
	if f.Carrier != "" {
		q.where("a.carrier = $", storable(f.Carrier))
	}
	if before > 0 {
		q.where("a.seq < $", before)
	}
	text := q.scoped(`audit a`, `a.seq, a.at, a.entry, a.prev_hash, a.hash`, `a.carrier`, f.Carriers, `a.seq DESC`, pageSize(f.Limit)+1)
	return statement{text, q.args}
}

func scanAudit(row pgx.CollectableRow) (AuditEntry, error) {
	var e AuditEntry
	var entry, prev, hash []byte
	if err := row.Scan(&e.Seq, &e.At, &entry, &prev, &hash); err != nil {
		return e, err
	}
	var d deedJSON
	if err := json.Unmarshal(entry, &d); err != nil {
		return e, fmt.Errorf("decode audit entry %d: %w", e.Seq, err)
	}
	e.At, e.PrevHash, e.Hash = e.At.UTC(), hex.EncodeToString(prev), hex.EncodeToString(hash)
	e.Who, e.What, e.Why, e.Run, e.Carrier, e.PlanHash, e.Before, e.After = d.Who, d.What, d.Why, d.Run, d.Carrier, d.PlanHash, d.Before, d.After
	return e, nil
}

// AuditReport is what a check of the whole log found.
type AuditReport struct {
	Entries int64
	// Head is the newest entry's hash in hex, empty when there is none. Kept elsewhere, it shows whether entries were cut off the
	// log's end, which the chain alone can not.
	Head string
	// Broken says at which entry the chain breaks first; 0 when it is whole. Why says how.
	Broken int64
	Why    string
}

// VerifyAudit reads the whole audit log of a database, oldest first, and makes every hash again. A broken chain is a report, not
// an error.
func VerifyAudit(ctx context.Context, databaseURL string) (AuditReport, error) {
	conn, err := pgx.Connect(ctx, databaseURL)
	if err != nil {
		return AuditReport{}, fmt.Errorf("verify the audit log: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	rows, err := conn.Query(ctx, `SELECT seq, at, entry::text, prev_hash, hash FROM audit ORDER BY seq`)
	if err != nil {
		return AuditReport{}, fmt.Errorf("verify the audit log: %w", err)
	}
	report, prev := AuditReport{}, make([]byte, sha256.Size)
	var seq int64
	var at time.Time
	var entry string
	var prevHash, hash []byte
	_, err = pgx.ForEachRow(rows, []any{&seq, &at, &entry, &prevHash, &hash}, func() error {
		report.Entries++
		switch sum := auditHash(prev, seq, at, entry); {
		case seq != report.Entries:
			report.Broken, report.Why = report.Entries, fmt.Sprintf("entry %d is missing: the next one is %d", report.Entries, seq)
		case !bytes.Equal(prevHash, prev):
			report.Broken, report.Why = seq, fmt.Sprintf("entry %d does not follow the one before it", seq)
		case !bytes.Equal(hash, sum):
			report.Broken, report.Why = seq, fmt.Sprintf("entry %d is not what was hashed", seq)
		default:
			prev, report.Head = sum, hex.EncodeToString(sum)
			return nil
		}
		return errBroken
	})
	if err != nil && !errors.Is(err, errBroken) {
		return AuditReport{}, fmt.Errorf("verify the audit log: %w", err)
	}
	return report, nil
}

var errBroken = errors.New("the chain is broken")

// auditHash is what the trigger audit_append makes.
func auditHash(prev []byte, seq int64, at time.Time, entry string) []byte {
	sum := sha256.Sum256(fmt.Appendf(bytes.Clone(prev), "%d\n%s\n%s", seq, at.UTC().Format("2006-01-02T15:04:05.000000Z"), entry))
	return sum[:]
}
