package store

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/drydock/drydock/playbook"
)

// Load implements playbook.Ledger.
func (s *Store) Load(ctx context.Context, h playbook.Hold) (playbook.Run, time.Time, error) {
	run, err := loadRun(ctx, s.pool, h.RunID())
	if err != nil {
		return playbook.Run{}, time.Time{}, err
	}
	if err := known(run); err != nil {
		return playbook.Run{}, time.Time{}, err
	}
	var now time.Time
	if err := s.pool.QueryRow(ctx, `SELECT clock_timestamp()`).Scan(&now); err != nil {
		return playbook.Run{}, time.Time{}, fmt.Errorf("read the database's clock: %w", err)
	}
	return run, now.UTC(), nil
}

// Commit implements playbook.Ledger.
func (s *Store) Commit(ctx context.Context, h playbook.Hold, c playbook.Commit) (playbook.Run, error) {
	if c.Run.ID != h.RunID() {
		return playbook.Run{}, fmt.Errorf("commit tick: run %s is not the held one, %s", c.Run.ID, h.RunID())
	}
	if !c.Run.State.Ended() && c.NextTick.IsZero() {
		return playbook.Run{}, fmt.Errorf("commit tick of run %s: it goes on and has no next tick", c.Run.ID)
	}
	// All encoding comes first: nothing of ours can fail once rows are locked.
	w, err := s.draft(c)
	if err != nil {
		return playbook.Run{}, fmt.Errorf("commit tick of run %s: %w", c.Run.ID, err)
	}
	var stored playbook.Run
	err = s.write(ctx, h, func(ctx context.Context, tx pgx.Tx) error {
		f, err := lockFence(ctx, tx, h)
		if err != nil {
			return err
		}
		switch {
		case f.writeID == w.id: // an earlier try's COMMIT had gone through
			stored, err = loadRun(ctx, tx, c.Run.ID)
			return err
		case !f.held:
			return playbook.ErrLeaseLost
		case f.version != c.Run.Version:
			return playbook.ErrConflict
		}
		if stored, err = s.commitTick(ctx, tx, h, f, c, w); err != nil {
			return err
		}
		return audit(tx, tickDeeds(f, c, stored)...)
	})
	if err == nil {
		return stored, nil
	}
	if index, ok := uniqueViolation(err); ok && index == "runs_one_active" {
		return playbook.Run{}, fmt.Errorf("commit tick of run %s: another run of the target is active: %w", c.Run.ID, playbook.ErrConflict)
	}
	return playbook.Run{}, fmt.Errorf("commit tick of run %s: %w", c.Run.ID, err)
}

// draft is a commit ready to be written.
type draft struct {
	id      string
	memory  []byte
	tick    *tickDraft // nil when the tick is not worth a row
	intents []intentDraft
	// seen is the DaemonSet when the tick saw it exist.
	seen []byte
}

type tickDraft struct {
	policy, before, observation, diagnosis, plan []byte
	hash                                         [sha256.Size]byte
	observedAt                                   time.Time
}

type intentDraft struct {
	playbook.Promise
	lane   playbook.Lane
	change bool
	action []byte
	undo   []byte // nil: nothing is owed
	nonce  []byte
	sealed []byte
}

func (s *Store) draft(c playbook.Commit) (w draft, err error) {
	if w.id, err = newID(); err != nil {
		return w, err
	}
	if w.memory, err = encode("memory", c.Run.Memory); err != nil {
		return w, err
	}
	if c.Store {
		if w.tick, err = draftTick(c.Tick); err != nil {
			return w, err
		}
	}
	if ds, ok := c.Tick.Observation.DaemonSet.Get(); ok && ds.Exists {
		if w.seen, err = encode("DaemonSet", ds); err != nil {
			return w, err
		}
	}
	for _, p := range c.Promises {
		i := intentDraft{Promise: p, lane: playbook.LaneOf(c.Run.Target.Carrier, p.Action)}
		i.change = playbook.Intent{Action: p.Action, Undoes: p.Undoes}.IsChange()
		if i.action, err = playbook.EncodeAction(p.Action); err != nil {
			return w, err
		}
		if undo := p.Action.Undo(); undo != nil {
			if i.undo, err = playbook.EncodeAction(undo); err != nil {
				return w, err
			}
		}
		if p.Backup != nil {
			i.nonce, i.sealed = s.seal.seal(c.Run.ID, p.Backup.SHA256, p.Backup.Manifest)
		}
		w.intents = append(w.intents, i)
	}
	return w, nil
}

func draftTick(t playbook.Tick) (*tickDraft, error) {
	var d tickDraft
	var err error
	if d.policy, err = encode("policy", t.Policy); err != nil {
		return nil, err
	}
	if d.before, err = encode("run before the tick", t.Before); err != nil {
		return nil, err
	}
	if d.diagnosis, err = encode("diagnosis", t.Diagnosis); err != nil {
		return nil, err
	}
	if d.plan, err = encodeActions(t.Plan); err != nil {
		return nil, err
	}
	o := t.Observation.Compact()
	d.observedAt = o.At
	o.At = time.Time{} // kept with the tick: equal looks at two times are one row
	if d.observation, err = encode("observation", o); err != nil {
		return nil, err
	}
	d.hash = sha256.Sum256(d.observation)
	return &d, nil
}

// commitTick writes one tick, after the lease and the version were checked.
func (s *Store) commitTick(ctx context.Context, tx pgx.Tx, h playbook.Hold, f fence, c playbook.Commit, w draft) (playbook.Run, error) {
	none := playbook.Run{}
	if slices.ContainsFunc(w.intents, func(i intentDraft) bool { return i.change }) {
		why, err := s.killSwitch(ctx, tx, f.carrier)
		if err != nil {
			return none, err
		}
		if why != "" {
			return none, &playbook.RefusedError{Why: "kill switch: " + why}
		}
		if err := raiseCount(ctx, tx, f.carrier, c.LeaseCount, w.id); err != nil {
			return none, err
		}
	}
	run, err := updateRun(ctx, tx, f, c, w)
	if err != nil {
		return none, err
	}
	// The tick first: who follows the run sees what was decided, and then what was promised.
	if err := insertHistory(ctx, tx, f, run, c, w); err != nil {
		return none, err
	}
	if run.Intents, err = insertIntents(ctx, tx, h, f, run, w.intents); err != nil {
		return none, err
	}
	if c.Release || run.State.Ended() {
		if err := releaseHeld(ctx, tx, f.now, run.ID, c.Release); err != nil {
			return none, err
		}
	}
	if run.State.Ended() {
		return run, s.wakeQueued(ctx, tx, f.target)
	}
	due := c.NextTick
	if f.wokenAt != nil && f.wokenAt.After(f.acquiredAt) {
		due = f.now // something happened since this tick began to look
	}
	return run, s.insertTick(ctx, tx, Tick{RunID: run.ID, Seq: f.tickSeq + 1}, run.TableVersion, due)
}

// updateRun moves the run on and returns it as stored, still without the new intents.
func updateRun(ctx context.Context, tx pgx.Tx, f fence, c playbook.Commit, w draft) (playbook.Run, error) {
	run := c.Run
	run.Why = storable(run.Why)
	run.Incidents, run.Intents = slices.Clone(c.Run.Incidents), slices.Clone(c.Run.Intents)
	run.Memory = playbook.Memory{} // as it will be read, and shared with nobody
	if err := json.Unmarshal(w.memory, &run.Memory); err != nil {
		return playbook.Run{}, fmt.Errorf("decode memory: %w", err)
	}
	if run.State.Ended() && run.FinishedAt.IsZero() {
		run.FinishedAt = f.now
	}
	stored := 0
	if w.tick != nil {
		stored = 1
	}
	batch := &pgx.Batch{}
	batch.Queue(`UPDATE runs SET state = $2, finding = $3, confirmed = $4, why = $5, outcome = $6, finished_at = $7, deadline = $8,
			plan_hash = $9, memory = $10, version = version + 1, ticks = ticks + $11, write_id = $12,
			tick_seq = tick_seq + CASE WHEN $13 THEN 0 ELSE 1 END, wake_at = coalesce($14, wake_at), cause = $15
		WHERE id = $1 RETURNING version, ticks`,
		run.ID, run.State, run.Finding, run.Confirmed, run.Why, run.Outcome, orNull(run.FinishedAt), run.Deadline,
		run.PlanHash, w.memory, stored, w.id, run.State.Ended(), orNull(c.NextTick), run.Cause()).
		QueryRow(func(row pgx.Row) error { return row.Scan(&run.Version, &run.Ticks) })
	for _, in := range run.Incidents {
		if in.End != "" {
			batch.Queue(`UPDATE run_incidents SET outcome = $3, ended_at = $4 WHERE run = $1 AND incident = $2 AND outcome <> $3`,
				run.ID, in.ID, in.End, f.now)
		}
	}
	if err := tx.SendBatch(ctx, batch).Close(); err != nil {
		return playbook.Run{}, fmt.Errorf("update the run: %w", err)
	}
	return run, nil
}

// insertIntents writes the promises, what they reserve and what they will owe, and returns all intents of the run.
func insertIntents(ctx context.Context, tx pgx.Tx, h playbook.Hold, f fence, run playbook.Run, drafts []intentDraft) ([]playbook.Intent, error) {
	if len(drafts) == 0 {
		return run.Intents, nil
	}
	var last int
	if err := tx.QueryRow(ctx, `SELECT coalesce(max(seq), 0) FROM intents WHERE run = $1`, run.ID).Scan(&last); err != nil {
		return nil, fmt.Errorf("number the intents: %w", err)
	}
	var asked []reservation
	batch := &pgx.Batch{}
	intents := run.Intents
	for n, d := range drafts {
		i := playbook.Intent{Seq: last + 1 + n, Lane: d.lane, Action: d.Action, Generation: h.Generation(), PromisedAt: f.now, Undoes: d.Undoes}
		intents = append(intents, i)
		ref := d.Action.Target()
		batch.Queue(`INSERT INTO intents (run, seq, lane, kind, action, change, target_kind, target_namespace, target_name, target_uid,
				generation, promised_at, undoes) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)`,
			run.ID, i.Seq, i.Lane, d.Action.Kind(), d.action, d.change, ref.Kind, ref.Namespace, ref.Name, ref.UID, i.Generation, f.now, i.Undoes)
		if d.undo != nil {
			batch.Queue(`INSERT INTO obligations (run, seq, action, since) VALUES ($1, $2, $3, $4)`, run.ID, i.Seq, d.undo, f.now)
		}
		if d.Backup != nil {
			batch.Queue(`INSERT INTO backups (run, sha256, uid, nonce, ciphertext, at) VALUES ($1, $2, $3, $4, $5, $6)
				ON CONFLICT (run, sha256) DO NOTHING`, run.ID, d.Backup.SHA256, d.Backup.UID, d.nonce, d.sealed, f.now)
		}
		for _, r := range d.Reservations {
			asked = append(asked, reservation{Reservation: r, run: run.ID, intent: i.Seq})
		}
	}
	if err := reserve(ctx, tx, f.now, asked); err != nil {
		return nil, err
	}
	if err := tx.SendBatch(ctx, batch).Close(); err != nil {
		return nil, fmt.Errorf("insert the intents: %w", err)
	}
	return intents, nil
}

// insertHistory writes the tick's row, and what the target's DaemonSet looked like.
func insertHistory(ctx context.Context, tx pgx.Tx, f fence, run playbook.Run, c playbook.Commit, w draft) error {
	batch := &pgx.Batch{}
	if w.seen != nil {
		batch.Queue(`INSERT INTO last_seen (target, daemonset, at) VALUES ($1, $2, $3)
			ON CONFLICT (target) DO UPDATE SET daemonset = excluded.daemonset, at = excluded.at
			WHERE last_seen.daemonset::text <> excluded.daemonset::text`, f.target, w.seen, f.now)
	}
	if t := w.tick; t != nil {
		batch.Queue(`INSERT INTO observations (hash, body) VALUES ($1, $2) ON CONFLICT DO NOTHING`, t.hash[:], t.observation)
		batch.Queue(`INSERT INTO ticks (run, seq, at, from_state, to_state, finding, confirmed, why, policy, policy_hash, before,
				observation, observed_at, diagnosis, plan) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)`,
			run.ID, run.Ticks, c.Tick.At, c.Tick.From, c.Tick.To, c.Tick.Finding, c.Tick.Confirmed, storable(c.Tick.Why), t.policy,
			c.Tick.PolicyHash, t.before, t.hash[:], t.observedAt, t.diagnosis, t.plan)
	}
	if batch.Len() == 0 {
		return nil
	}
	if err := tx.SendBatch(ctx, batch).Close(); err != nil {
		return fmt.Errorf("insert the tick: %w", err)
	}
	return nil
}

// Begin implements playbook.Ledger.
func (s *Store) Begin(ctx context.Context, h playbook.Hold, seq int, callDeadline time.Time) error {
	err := s.write(ctx, h, func(ctx context.Context, tx pgx.Tx) error {
		f, err := lockFence(ctx, tx, h)
		if err != nil {
			return err
		}
		if !f.held {
			return playbook.ErrLeaseLost
		}
		var change bool
		err = tx.QueryRow(ctx, `UPDATE intents SET sent_at = coalesce(sent_at, $3), call_deadline = $4
			WHERE run = $1 AND seq = $2 AND settled_at IS NULL RETURNING change`, h.RunID(), seq, f.now, callDeadline).Scan(&change)
		if errors.Is(err, pgx.ErrNoRows) {
			return fmt.Errorf("it is not open: %w", playbook.ErrConflict)
		}
		if err != nil || !change {
			return err
		}
		why, err := s.killSwitch(ctx, tx, f.carrier)
		if err == nil && why != "" {
			err = &playbook.RefusedError{Why: "kill switch: " + why}
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("begin intent %d of run %s: %w", seq, h.RunID(), err)
	}
	return nil
}

// Settle implements playbook.Ledger. Another result than the one that was settled before is ErrConflict.
func (s *Store) Settle(ctx context.Context, h playbook.Hold, seq int, st playbook.Settlement) (playbook.Run, error) {
	var run playbook.Run
	err := s.write(ctx, h, func(ctx context.Context, tx pgx.Tx) error {
		f, err := lockFence(ctx, tx, h)
		if err != nil {
			return err
		}
		var undoes int
		var settled playbook.Result
		err = tx.QueryRow(ctx, `SELECT undoes, result FROM intents WHERE run = $1 AND seq = $2`, h.RunID(), seq).Scan(&undoes, &settled)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			return errors.New("there is no such intent")
		case err != nil:
			return err
		case settled == st.Result && settled != "": // perhaps by an earlier try, whose COMMIT had gone through
			run, err = loadRun(ctx, tx, h.RunID())
			return err
		case settled != "":
			return fmt.Errorf("it was settled as %s: %w", settled, playbook.ErrConflict)
		case !f.held:
			return playbook.ErrLeaseLost
		}
		if err := settleIntent(ctx, tx, f.now, h.RunID(), seq, undoes, st); err != nil {
			return err
		}
		if run, err = loadRun(ctx, tx, h.RunID()); err != nil {
			return err
		}
		return audit(tx, settleDeed(run, seq, st))
	})
	if err != nil {
		return playbook.Run{}, fmt.Errorf("settle intent %d of run %s as %s: %w", seq, h.RunID(), st.Result, err)
	}
	return run, nil
}

// settleIntent records a result, discharges what it ends, by the rule of playbook.Run.Owed, and gives back what was reserved
// for something that is undone or came to nothing. The claim is not the intent's but the run's.
func settleIntent(ctx context.Context, tx pgx.Tx, now time.Time, run string, seq, undoes int, st playbook.Settlement) error {
	var discharged []int // the intents whose undo is not owed any more
	nothing := 0         // the intent that came to nothing
	switch st.Result {
	case playbook.NotHappened, playbook.Refused:
		discharged, nothing = []int{seq}, seq
	case playbook.Superseded:
		discharged, nothing = []int{seq, undoes}, seq
	case playbook.Happened:
		discharged = []int{undoes}
	default:
		return fmt.Errorf("result %q is not one of the four", st.Result)
	}
	batch := &pgx.Batch{}
	batch.Queue(`UPDATE intents SET settled_at = $3, result = $4, detail = $5, receipt = $6 WHERE run = $1 AND seq = $2`,
		run, seq, now, st.Result, storable(st.Detail), storable(st.Receipt))
	batch.Queue(`UPDATE obligations SET discharged_at = $3 WHERE run = $1 AND seq = ANY($2) AND discharged_at IS NULL`, run, discharged, now)
	// A promotion that was sent and not seen keeps its place in the budget: Jenkins may start it later.
	batch.Queue(`UPDATE reservations r SET released_at = $4 WHERE run = $1 AND released_at IS NULL AND scope <> $5
		AND (held AND intent = ANY($2) OR intent = $3) AND NOT (scope = $6 AND EXISTS (SELECT FROM intents i
			WHERE i.run = r.run AND i.seq = r.intent AND i.sent_at IS NOT NULL AND i.result = 'not_happened'))`,
		run, discharged, nothing, now, playbook.ScopeClaim, playbook.ScopePromotion)
	batch.Queue(`UPDATE runs SET version = version + 1 WHERE id = $1`, run)
	if err := tx.SendBatch(ctx, batch).Close(); err != nil {
		return err
	}
	return releaseHeldOfEnded(ctx, tx, now, run)
}
