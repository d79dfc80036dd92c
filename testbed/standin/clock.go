package standin

import (
	"sync"
	"time"
)

// Clock tells the time and runs functions later. All methods are safe for
// concurrent use.
type Clock interface {
	Now() time.Time
	// AfterFunc runs f once, in a goroutine of the clock's choosing, when d has
	// passed.
	AfterFunc(d time.Duration, f func()) Timer
}

// Timer is one function that waits for its time.
type Timer interface {
	// Stop keeps the function from being started. It reports whether it was in
	// time.
	Stop() bool
}

// Wall is the machine's own clock.
type Wall struct{}

// Now returns the present time in UTC.
func (Wall) Now() time.Time { return time.Now().UTC() }

// AfterFunc is time.AfterFunc.
func (Wall) AfterFunc(d time.Duration, f func()) Timer { return time.AfterFunc(d, f) }

// Manual is a clock that stands still until a test moves it. Timeouts of half
// an hour then cost a test nothing.
type Manual struct {
	mu     sync.Mutex
	now    time.Time
	timers map[*manualTimer]struct{}
	seq    int
}

type manualTimer struct {
	clock *Manual
	at    time.Time
	seq   int
	f     func()
}

// NewManual returns a clock that stands at start.
func NewManual(start time.Time) *Manual {
	return &Manual{now: start.UTC(), timers: map[*manualTimer]struct{}{}}
}

// Now returns the time the clock stands at.
func (m *Manual) Now() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.now
}

// AfterFunc plans f for d from now. Only Advance runs it, never AfterFunc
// itself, so that a caller may hold its own locks here.
func (m *Manual) AfterFunc(d time.Duration, f func()) Timer {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.seq++
	t := &manualTimer{clock: m, at: m.now.Add(d), seq: m.seq, f: f}
	m.timers[t] = struct{}{}
	return t
}

// Stop implements Timer.
func (t *manualTimer) Stop() bool {
	t.clock.mu.Lock()
	defer t.clock.mu.Unlock()
	_, waiting := t.clock.timers[t]
	delete(t.clock.timers, t)
	return waiting
}

// Advance moves the clock by d and runs what came due, in order, each at its
// own time and in the calling goroutine. What those functions plan within the
// same stretch runs too.
func (m *Manual) Advance(d time.Duration) {
	m.mu.Lock()
	end := m.now.Add(d)
	for {
		next := m.nextDue(end)
		if next == nil {
			break
		}
		delete(m.timers, next)
		if next.at.After(m.now) {
			m.now = next.at
		}
		m.mu.Unlock()
		next.f()
		m.mu.Lock()
	}
	m.now = end
	m.mu.Unlock()
}

// Waiting returns how many functions wait for their time.
func (m *Manual) Waiting() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.timers)
}

func (m *Manual) nextDue(end time.Time) *manualTimer {
	var next *manualTimer
	for t := range m.timers {
		if t.at.After(end) {
			continue
		}
		if next == nil || t.at.Before(next.at) || t.at.Equal(next.at) && t.seq < next.seq {
			next = t
		}
	}
	return next
}
