package playbooktest

import (
	"context"
	"fmt"
	"iter"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/drydock/drydock/playbook"
)

// worker is one of the replicas of a simulation.
type worker struct {
	name        string
	engine      *playbook.Engine
	probe       *probe
	turns       []*turn
	frozenUntil time.Time
	cut         bool // it does not reach the database
	dead        bool
}

// turn is one tick of a run under way on a worker: a coroutine.
type turn struct {
	worker   *worker
	run      string
	next     func() (struct{}, bool)
	stop     func()
	yield    func(struct{}) bool
	hold     *hold
	began    time.Time
	over     bool
	err      error
	effectAt time.Time // when the latest call landed
	// What this tick has seen, as it really was when it looked.
	reads   map[string]time.Time // incidents
	need    map[string]int       // pods that had to leave a node
	covered bool
	exists  bool
}

// newWorker starts a worker. Its clock is minutes off and runs a little fast or slow: only the ledger's clock counts.
func (s *simulation) newWorker(n int) *worker {
	w := &worker{name: fmt.Sprintf("worker %d", n), probe: &probe{w: s.World}}
	began, skew := s.Clock.Now(), time.Duration(s.draw.IntN(577)-288)*time.Second
	drift := (s.draw.Float64() - 0.5) / 100
	w.engine = s.newEngine(w.probe, func() time.Time {
		passed := s.Clock.Now().Sub(began)
		return began.Add(skew + passed + time.Duration(float64(passed)*drift))
	})
	return w
}

func (s *simulation) frozen(w *worker) bool { return w.frozenUntil.After(s.Clock.Now()) }

// start begins a tick.
func (s *simulation) start(w *worker, run string) {
	t := &turn{worker: w, run: run, began: s.Clock.Now(), reads: map[string]time.Time{}, need: map[string]int{}}
	t.next, t.stop = iter.Pull(func(yield func(struct{}) bool) {
		t.yield = yield
		t.err = w.engine.Advance(s.ctx, run)
	})
	w.turns = append(w.turns, t)
	s.turns++
	s.resume(t)
}

// resume lets a turn go on to its next external call, unless its worker is dead or frozen.
func (s *simulation) resume(t *turn) {
	switch {
	case t.over:
		return
	case s.frozen(t.worker):
		s.Clock.After(t.worker.frozenUntil.Sub(s.Clock.Now()), func() { s.resume(t) })
		return
	}
	before := s.now
	s.now = t
	_, more := t.next()
	s.now = before
	if more {
		return
	}
	s.finish(t)
	wait := jobRetry
	if t.err == nil {
		wait = 0
	}
	s.retryAt[t.run] = s.Clock.Now().Add(wait)
	s.log("%s has ticked %s: %v", t.worker.name, t.run, t.err)
	s.lookWhens()
}

func (s *simulation) finish(t *turn) {
	t.over = true
	t.worker.turns = slices.DeleteFunc(t.worker.turns, func(o *turn) bool { return o == t })
}

// wait gives the thread back until d has passed, or for ever when the worker dies before.
func (s *simulation) wait(t *turn, d time.Duration) {
	s.Clock.After(d, func() { s.resume(t) })
	if !t.yield(struct{}{}) {
		runtime.Goexit() // as a process ends: nothing of the product runs any more
	}
}

// kill lets a worker die in the middle of whatever it does.
func (s *simulation) kill(w *worker) {
	if w.dead {
		return
	}
	w.dead, w.probe.crashed = true, CrashAfter
	s.log("%s dies", w.name)
	s.excuse(w.turns...)
	for _, t := range slices.Clone(w.turns) {
		if t.hold != nil {
			t.hold.lapse()
		}
		s.finish(t)
		// In a goroutine of its own, because the coroutine's end is passed on to whoever stops it.
		stopped := make(chan struct{})
		go func() {
			defer close(stopped)
			t.stop()
		}()
		<-stopped
	}
}

// die kills a worker and starts another one in its place a while later. It may be called by the worker's own turn.
func (s *simulation) die(w *worker, after time.Duration) {
	n := slices.Index(s.workers, w)
	again := time.Duration(1+s.draw.IntN(30)) * time.Second
	s.Clock.After(after, func() {
		s.kill(w)
		s.Clock.After(again, func() {
			if s.workers[n] == w {
				s.workers[n] = s.newWorker(n + 1)
			}
		})
	})
}

// freeze stops a worker for a while: it notices nothing, renews nothing, and goes on as if nothing had been.
func (s *simulation) freeze(w *worker, d time.Duration) {
	if w.dead || s.frozen(w) {
		return
	}
	s.log("%s freezes for %s", w.name, d)
	s.excuse(w.turns...)
	w.frozenUntil = s.Clock.Now().Add(d)
	s.lapse(w)
	s.Clock.After(d, func() {
		if !s.frozen(w) {
			s.log("%s is awake", w.name)
			s.renew(w)
		}
	})
}

// cutOff keeps a worker from the database for a while.
func (s *simulation) cutOff(w *worker, d time.Duration) {
	if w.cut || w.dead {
		return
	}
	s.log("%s loses the database for %s", w.name, d)
	s.excuse(w.turns...)
	w.cut = true
	s.lapse(w)
	s.Clock.After(d, func() { w.cut = false; s.renew(w) })
}

// lapse ends the renewal of a worker's leases. A worker that can look at its own clock stops when they have run out.
func (s *simulation) lapse(w *worker) {
	for _, t := range w.turns {
		if t.hold != nil {
			t.hold.lapse()
		}
	}
	s.Clock.After(LeaseTTL, func() {
		if !s.frozen(w) && (w.cut || s.lost) {
			s.endHolds(w)
		}
	})
}

func (s *simulation) endHolds(w *worker) {
	for _, t := range w.turns {
		if t.hold != nil && !t.hold.lease.alive(s.Clock.Now()) {
			t.hold.renew() // too late: it is over
		}
	}
}

// renew goes on with a worker's leases where they are still its own.
func (s *simulation) renew(w *worker) {
	if w.dead || s.frozen(w) {
		return
	}
	for _, t := range w.turns {
		switch {
		case t.hold == nil:
		case w.cut || s.lost:
			s.endHolds(w)
		default:
			t.hold.renew()
		}
	}
}

// fate is what becomes of one external call.
type fate struct {
	failure Failure
	lands   time.Duration // from the call on; negative: never
	answers time.Duration
	freeze  time.Duration
	blind   bool // the worker froze after its last look at the lease: the call is sent all the same
}

// unlimited are the calls that may land at any time after a freeze: their targets are touched by whoever takes over. The others
// carry the call's own deadline with them (the client gives up, and takes its request back).
var unlimited = []string{"carrier cordon", "carrier uncordon", "carrier orphan_delete", "carrier nudge"}

// fate draws what becomes of a call.
func (s *simulation) fate(op string, reach Reach, late time.Duration) fate {
	there, back := time.Duration(1+s.draw.IntN(20))*time.Millisecond, time.Duration(1+s.draw.IntN(20))*time.Millisecond
	f := fate{lands: there, answers: there + back}
	if !s.faulty {
		return f
	}
	ledger := strings.HasPrefix(op, "ledger")
	r := s.draw.Float64()
	hits := func(rate float64) bool {
		r -= rate
		return r < 0
	}
	coin := s.draw.IntN(2) == 0
	often := 1.0
	if reach == Mutates {
		often = 8 // there are few of these calls, and they matter most
	}
	switch {
	case hits(s.rates.crash * often):
		f.failure = CrashBefore
		if coin && reach != Reads {
			f.failure = CrashAfter
		} else {
			f.lands = -1
		}
	case hits(s.rates.freeze * often):
		f.freeze = time.Duration(200+s.draw.IntN(60_000)) * time.Millisecond
		f.failure = FrozenInCall
		if coin {
			f.failure = FrozenBefore
			f.blind = reach == Mutates && s.draw.IntN(2) == 0 && (slices.Contains(unlimited, op) || f.freeze+there < late)
		}
	case !ledger && hits(s.rates.failure), ledger && hits(s.rates.ambiguous):
		f.failure = ErrorBefore
		if coin && reach != Reads {
			f.failure = ErrorAfter
		} else {
			f.lands = -1
		}
	case hits(s.rates.timeout * often):
		f.answers, f.failure = giveUp, TimeoutBefore
		if coin && reach != Reads {
			f.failure = TimeoutAfter
			if f.lands = time.Duration(s.draw.IntN(int(giveUp))); late > 0 {
				f.lands = min(f.lands, late-time.Millisecond)
			}
		} else {
			f.lands = -1
		}
	}
	return f
}

// simulated makes a call in a simulation. The request is sent, lands and is answered at three different moments, and others
// go on meanwhile.
func simulated[T any](p *probe, op string, reach Reach, late time.Duration, do func() (T, error)) (T, error) {
	var none, v T
	s, t := p.w.sim, p.w.sim.now
	f := s.fate(op, reach, late)
	if t.hold != nil && t.hold.ctx.Err() != nil {
		f.blind = false // it froze in the call before, and its last look at the lease told it so
	}
	if f.failure == FrozenBefore {
		s.hit(t, op, f.failure)
		s.freeze(t.worker, f.freeze)
		s.wait(t, 0)
	}
	if t.hold != nil && t.hold.ctx.Err() != nil && !f.blind {
		s.hit(t, op, Refenced)
		return none, fmt.Errorf("%s: %w", op, context.Cause(t.hold.ctx))
	}
	if f.failure != "" && f.failure != FrozenBefore {
		s.hit(t, op, f.failure)
		s.log("%s, %s of %s: %s", t.worker.name, op, t.run, f.failure)
	}
	err := fmt.Errorf("%s: %w", op, errInjected)
	if f.lands >= 0 {
		s.Clock.After(f.lands, func() {
			if strings.HasPrefix(op, "ledger") && (s.lost || t.worker.cut) {
				s.hit(t, op, CutOff)
				return
			}
			v, err = do()
			s.landed(t, op, reach, v, err)
		})
	}
	if f.failure == CrashBefore || f.failure == CrashAfter {
		s.die(t.worker, f.answers)
		f.answers = time.Hour // it does not live to hear it
	}
	if f.failure == FrozenInCall {
		s.freeze(t.worker, f.freeze)
	}
	s.wait(t, f.answers)
	if f.failure == ErrorBefore || f.failure == ErrorAfter {
		err = fmt.Errorf("%s: %w", op, errInjected)
	}
	if f.failure == TimeoutBefore || f.failure == TimeoutAfter {
		err = fmt.Errorf("%s: %w", op, context.DeadlineExceeded)
	}
	if err != nil {
		if h, isHold := any(v).(*hold); isHold && h != nil {
			h.lapse() // nobody knows of it, so nobody renews it
			t.hold = nil
		}
		return none, err
	}
	return v, nil
}

// landed looks at what a call did.
func (s *simulation) landed(t *turn, op string, reach Reach, v any, err error) {
	t.effectAt = s.Clock.Now()
	if h, isHold := v.(*hold); isHold && h != nil {
		t.hold = h
		if t.over {
			h.lapse()
		}
	}
	after := t.hold != nil && t.hold.lease.generation != t.hold.generation
	switch {
	case err == nil && after && reach == Writes:
		s.violate("%s of a worker that had lost its lease was accepted", op)
	case after && reach == Mutates:
		s.hit(t, op, LateAfterwards)
	}
	if strings.HasPrefix(op, "carrier observe") {
		s.sawCarrier(t)
	}
	if reach != Reads || err != nil {
		s.log("%s, %s of %s: landed: %v", t.worker.name, op, t.run, err)
	}
	s.inspect()
}
