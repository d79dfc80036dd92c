package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/drydock/drydock/incident"
	"github.com/drydock/drydock/store"
)

const (
	// pausesEvery is how often a replica looks whether PagerDuty wants to be left alone: one read of one row.
	pausesEvery = 2 * time.Second
	aliveEvery  = store.ReplicaLife / 3
	leaveTime   = 2 * time.Second

	remotePagerDuty = "pagerduty"
)

// quota shares PagerDuty's rate limit, which is for the key, between the replicas that use the key: each living one has an equal
// part of the rate, and what one is told to wait all wait. Nothing is written per request.
type quota struct {
	store   *store.Store
	role    string
	limiter *incident.Limiter
	holds   chan time.Duration
	log     *slog.Logger
}

func newQuota(st *store.Store, role string, log *slog.Logger) *quota {
	q := &quota{store: st, role: role, holds: make(chan time.Duration, 1), log: log}
	q.limiter = incident.NewLimiter(time.Now, func(d time.Duration) {
		select {
		case q.holds <- d:
		default: // one is being written already, of the same moment
		}
	})
	return q
}

// run keeps the shares until ctx ends.
func (q *quota) run(ctx context.Context) {
	alive, pauses := time.NewTicker(aliveEvery), time.NewTicker(pausesEvery)
	defer alive.Stop()
	defer pauses.Stop()
	q.share(ctx)
	for {
		var err error
		select {
		case <-ctx.Done():
			q.leave(ctx)
			return
		case <-alive.C:
			q.share(ctx)
		case <-pauses.C:
			var d time.Duration
			d, err = q.store.Paused(ctx, remotePagerDuty)
			q.limiter.Hold(d)
		case d := <-q.holds:
			q.log.WarnContext(ctx, "PagerDuty's rate limit is reached: all replicas pause", "for", d)
			err = q.store.Pause(ctx, remotePagerDuty, d)
		}
		if err != nil && ctx.Err() == nil {
			q.log.DebugContext(ctx, "pause of PagerDuty is not shared", "error", err) // the database's trouble is told by /readyz
		}
	}
}

func (q *quota) share(ctx context.Context) {
	replicas, err := q.store.Alive(ctx, q.role)
	if err != nil {
		return // the share stays as it is
	}
	q.limiter.Share(replicas)
}

func (q *quota) leave(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveTime)
	defer cancel()
	if err := q.store.Leave(ctx); err != nil {
		q.log.DebugContext(ctx, "share of the rate limit was not given back", "error", err)
	}
}
