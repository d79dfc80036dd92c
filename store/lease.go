package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/drydock/drydock/playbook"
)

// The lease of a target, by two clocks. Whether it is alive is the database's word alone. When to stop relying on it is the
// holder's monotonic clock: five sixths of the TTL after the moment *before* the newest successful renewal was sent, which
// is earlier than the database's expiry whatever the network did. The node's wall clock plays no part.

// acquireSQL takes the lease unless somebody's is alive, the caller's own included: two ticks in one process exclude each
// other too. It answers no row when there is no such run.
const acquireSQL = `
WITH r AS (SELECT target FROM runs WHERE id = $1),
l AS (
	INSERT INTO leases AS t (target, generation, run, node, acquired_at, expires_at)
	SELECT target, 1, $1, $2, clock_timestamp(), clock_timestamp() + $3::interval FROM r
	ON CONFLICT (target) DO UPDATE SET generation = t.generation + 1, run = excluded.run, node = excluded.node,
		acquired_at = clock_timestamp(), expires_at = clock_timestamp() + $3::interval
	WHERE t.expires_at <= clock_timestamp()
	RETURNING generation)
SELECT r.target, (SELECT generation FROM l) FROM r`

// hold is a held lease.
type hold struct {
	s          *Store
	run        string
	target     string
	generation int64

	ctx      context.Context
	cancel   context.CancelCauseFunc
	lapse    *time.Timer // cancels ctx at the local deadline
	stopped  chan struct{}
	released sync.Once
}

// Acquire implements playbook.Ledger.
func (s *Store) Acquire(ctx context.Context, runID string) (playbook.Hold, error) {
	sent := time.Now()
	var target string
	var generation *int64
	err := s.pool.QueryRow(ctx, acquireSQL, storable(runID), s.opts.Node, s.opts.LeaseTTL).Scan(&target, &generation)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil, playbook.ErrNoRun
	case err != nil:
		return nil, fmt.Errorf("acquire the lease of run %s: %w", runID, err)
	case generation == nil:
		return nil, playbook.ErrBusy
	}
	h := &hold{s: s, run: runID, target: target, generation: *generation, stopped: make(chan struct{})}
	h.ctx, h.cancel = context.WithCancelCause(ctx)
	h.lapse = time.AfterFunc(time.Until(h.deadline(sent)), func() { h.cancel(playbook.ErrLeaseLost) })
	go h.renew()
	return h, nil
}

func (h *hold) Context() context.Context { return h.ctx }
func (h *hold) RunID() string            { return h.run }
func (h *hold) Generation() int64        { return h.generation }

// deadline is when a lease whose acquiring or renewing was sent at that moment must not be relied on any more.
func (h *hold) deadline(sent time.Time) time.Time { return sent.Add(h.s.opts.LeaseTTL * 5 / 6) }

// renew keeps the lease alive until the hold's context ends.
func (h *hold) renew() {
	defer close(h.stopped)
	every := time.NewTicker(h.s.opts.LeaseTTL / 3)
	defer every.Stop()
	for {
		select {
		case <-h.ctx.Done():
			return
		case <-every.C:
		}
		sent := time.Now()
		tag, err := h.renewOnce()
		switch {
		case err != nil:
			// Perhaps a short outage: the local deadline decides.
			if h.ctx.Err() == nil {
				h.s.log.WarnContext(h.ctx, "lease was not renewed", "target", h.target, "run", h.run, "error", err)
			}
		case tag.RowsAffected() == 0:
			h.cancel(playbook.ErrLeaseLost)
			return
		case !h.lapse.Stop():
			return // the local deadline came first
		default:
			h.lapse.Reset(time.Until(h.deadline(sent)))
		}
	}
}

func (h *hold) renewOnce() (pgconn.CommandTag, error) {
	ctx, cancel := context.WithTimeout(h.ctx, h.s.opts.LeaseTTL/4)
	defer cancel()
	return h.s.renewals.Exec(ctx, `UPDATE leases SET expires_at = clock_timestamp() + $3::interval
		WHERE target = $1 AND generation = $2 AND expires_at > clock_timestamp()`, h.target, h.generation, h.s.opts.LeaseTTL)
}

// Release implements playbook.Hold. When the database does not answer, the lease runs out by itself.
func (h *hold) Release() {
	h.released.Do(func() {
		h.lapse.Stop()
		h.cancel(context.Canceled)
		<-h.stopped
		ctx, cancel := context.WithTimeout(context.WithoutCancel(h.ctx), h.s.opts.LeaseTTL)
		defer cancel()
		if _, err := h.s.renewals.Exec(ctx, `UPDATE leases SET expires_at = '-infinity', run = '', node = ''
			WHERE target = $1 AND generation = $2`, h.target, h.generation); err != nil {
			h.s.log.WarnContext(ctx, "lease was not given back", "target", h.target, "run", h.run, "error", err)
		}
	})
}

// TakeOver ends the leases of earlier processes of the same identity, so that a restarted replica need not wait for its own
// leases to run out. It is safe only where the earlier process is surely dead: the same container of the same pod, or the
// one replica of a private Postgres. identity is the part of Options.Node before the slash.
func (s *Store) TakeOver(ctx context.Context, identity string) error {
	_, err := s.pool.Exec(ctx, `UPDATE leases SET expires_at = clock_timestamp()
		WHERE run <> '' AND starts_with(node, $1 || '/') AND node <> $2`, identity, s.opts.Node)
	if err != nil {
		return fmt.Errorf("take over the leases of %s: %w", identity, err)
	}
	return nil
}
