package api

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// What one token may ask, and how often one address may try tokens that do not exist. A webhook is not counted: what PagerDuty sends
// and is refused is lost, and its signature is cheap to check.
const (
	requestRate  = 50 // a second
	requestBurst = 100
	guessRate    = 1 // a second
	guessBurst   = 20
	maxBuckets   = 10_000
)

// limiter holds each of many clients to a rate.
type limiter struct {
	rate  rate.Limit
	burst int

	mu      sync.Mutex
	buckets map[string]*rate.Limiter
}

func newLimiter(r rate.Limit, burst int) *limiter {
	return &limiter{rate: r, burst: burst, buckets: map[string]*rate.Limiter{}}
}

// allow counts a request of a client.
func (l *limiter) allow(client string, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.buckets[client]
	if b == nil {
		if len(l.buckets) >= maxBuckets {
			l.forget(now)
		}
		b = rate.NewLimiter(l.rate, l.burst)
		l.buckets[client] = b
	}
	return b.AllowN(now, 1)
}

// forget drops those who asked nothing for a while, which changes nothing for them; and all, when that is nobody.
func (l *limiter) forget(now time.Time) {
	for client, b := range l.buckets {
		if b.TokensAt(now) >= float64(l.burst) {
			delete(l.buckets, client)
		}
	}
	if len(l.buckets) >= maxBuckets {
		clear(l.buckets)
	}
}
