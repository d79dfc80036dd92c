package main

import (
	"testing"
	"time"
)

func TestQueue(t *testing.T) {
	t.Parallel()
	small := crowd{Incidents: 100, Life: time.Minute, Every: 5 * time.Second, Read: time.Second, Webhook: time.Millisecond,
		Tick: 10 * time.Millisecond, Workers: 100, Cores: 2}
	w := small.simulate(1)
	// The first tick, and one after each 5 s and what a tick takes, until a minute is over.
	if want := 100 * 11; w.Late.Calls != want {
		t.Errorf("%d ticks, want %d", w.Late.Calls, want)
	}
	if w.Late.P50 != 0 {
		t.Errorf("late by %s on an idle machine", w.Late.P50)
	}
	if again := small.simulate(1); again != w {
		t.Errorf("the same seed gave %+v and %+v", w, again)
	}
	starved := small
	starved.Workers, starved.Incidents = 1, 1000
	if w := starved.simulate(1); w.Late.P50 < 5*time.Second {
		t.Errorf("with one worker for 1,000 runs a tick is late by %s", w.Late.P50)
	}
	slow := small
	slow.Tick, slow.Incidents, slow.Cores = time.Second, 1000, 1
	if w := slow.simulate(1); w.Busy < 1 || w.Late.P50 < 5*time.Second {
		t.Errorf("with a database that is too slow: %+v", w)
	}
}
