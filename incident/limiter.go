package incident

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// PagerDuty takes 960 requests a minute for one key, whoever sends them, and of those 500 that update incidents
// (PUT /incidents; pagerduty.md 2.2). All replicas together stay below: in the worst minute their bursts and their rates add
// up to 900, and to 450 updates.
const (
	requestsPerSecond = 14
	requestsAtOnce    = 60
	updatesPerSecond  = 7
	updatesAtOnce     = 30
)

const (
	// fewRequests is how many requests must be left in PagerDuty's window; the rest are somebody else's, a person's perhaps.
	fewRequests = 10
	// limitPause is how long a 429 that does not say for how long holds us back; longestHold is the most that one may.
	limitPause  = 5 * time.Second
	longestHold = 5 * time.Minute
)

// Limiter keeps PagerDuty's rate limit for a client that shares its key with other replicas: it has a share of the rate, and
// a pause that one replica is told to make holds for all. Nothing of it is written per request. It is safe for concurrent use.
type Limiter struct {
	all     *rate.Limiter
	updates *rate.Limiter // of incidents, which count as requests too
	now     func() time.Time
	// held is told, without being waited for, when PagerDuty wants to be left alone for a while.
	held func(time.Duration)

	mu    sync.Mutex
	until time.Time
}

// NewLimiter makes a Limiter with the whole of both rates. held may be nil.
func NewLimiter(now func() time.Time, held func(time.Duration)) *Limiter {
	return &Limiter{all: rate.NewLimiter(requestsPerSecond, requestsAtOnce), updates: rate.NewLimiter(updatesPerSecond, updatesAtOnce),
		now: now, held: held}
}

// Share gives this replica its part of the rates.
func (l *Limiter) Share(replicas int) {
	replicas = max(1, replicas)
	l.all.SetLimit(rate.Limit(requestsPerSecond) / rate.Limit(replicas))
	l.all.SetBurst(max(1, requestsAtOnce/replicas))
	l.updates.SetLimit(rate.Limit(updatesPerSecond) / rate.Limit(replicas))
	l.updates.SetBurst(max(1, updatesAtOnce/replicas))
}

// Hold makes requests wait for that long; a longer pause that holds already stays.
func (l *Limiter) Hold(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if until := l.now().Add(min(d, longestHold)); d > 0 && until.After(l.until) {
		l.until = until
	}
}

// wait returns when a request, perhaps an update of incidents, may be sent, or at once with ErrRateLimited when that is after
// the context's end.
func (l *Limiter) wait(ctx context.Context, update bool) error {
	if l == nil {
		return nil
	}
	for {
		l.mu.Lock()
		d := l.until.Sub(l.now())
		l.mu.Unlock()
		if d <= 0 {
			break
		}
		if !fits(ctx, d) {
			return fmt.Errorf("%w: no request for %s", ErrRateLimited, d.Round(time.Second))
		}
		if err := pause(ctx, d); err != nil {
			return err
		}
	}
	if update {
		if err := share(ctx, l.updates); err != nil {
			return err
		}
	}
	return share(ctx, l.all)
}

// share waits for a place in this replica's part of a rate.
func share(ctx context.Context, of *rate.Limiter) error {
	if err := of.Wait(ctx); err != nil {
		if ctx.Err() != nil {
			return err
		}
		return fmt.Errorf("%w: this replica's share of it", ErrRateLimited)
	}
	return nil
}

// heed reads what an answer says about the limit.
func (l *Limiter) heed(resp *http.Response) {
	if l == nil {
		return
	}
	d := waitAsked(resp.Header)
	left, err := strconv.ParseInt(resp.Header.Get("ratelimit-remaining"), 10, 64)
	switch {
	case resp.StatusCode == http.StatusTooManyRequests:
		d = max(d, time.Second)
		if waitAsked(resp.Header) == 0 {
			d = limitPause
		}
	case err != nil || left > fewRequests || d <= 0:
		return
	}
	l.Hold(d)
	if l.held != nil {
		l.held(min(d, longestHold))
	}
}
