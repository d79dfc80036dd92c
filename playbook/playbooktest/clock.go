package playbooktest

import (
	"container/heap"
	"time"
)

// Clock is virtual time. It stands still until Advance; what was asked for with After happens on the way, in order.
// It is not safe for concurrent use: a world is single-threaded, which is what makes it repeatable.
type Clock struct {
	now    time.Time
	timers timers
	seq    int
}

// NewClock starts at a fixed instant, the same for every world.
func NewClock() *Clock {
	return &Clock{now: time.Date(2026, time.November, 22, 3, 0, 0, 0, time.UTC)}
}

// Now is the virtual time.
func (c *Clock) Now() time.Time { return c.now }

// After calls f once, d from now, while the clock is being advanced.
func (c *Clock) After(d time.Duration, f func()) {
	c.seq++
	heap.Push(&c.timers, timer{at: c.now.Add(d), seq: c.seq, f: f})
}

// Advance moves the clock by d and runs what falls due, each at its own time.
func (c *Clock) Advance(d time.Duration) { c.AdvanceTo(c.now.Add(d)) }

// AdvanceTo moves the clock to t, or leaves it where it is when t has passed.
func (c *Clock) AdvanceTo(t time.Time) {
	for len(c.timers) > 0 && !c.timers[0].at.After(t) {
		due, _ := heap.Pop(&c.timers).(timer)
		if due.at.After(c.now) {
			c.now = due.at
		}
		due.f()
	}
	if t.After(c.now) {
		c.now = t
	}
}

type timer struct {
	at  time.Time
	seq int // equal times run in the order in which they were asked for
	f   func()
}

type timers []timer

func (t timers) Len() int { return len(t) }

func (t timers) Less(i, j int) bool {
	if !t[i].at.Equal(t[j].at) {
		return t[i].at.Before(t[j].at)
	}
	return t[i].seq < t[j].seq
}

func (t timers) Swap(i, j int) { t[i], t[j] = t[j], t[i] }

func (t *timers) Push(x any) {
	if v, ok := x.(timer); ok {
		*t = append(*t, v)
	}
}

func (t *timers) Pop() any {
	old := *t
	last := old[len(old)-1]
	*t = old[:len(old)-1]
	return last
}
