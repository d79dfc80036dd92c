package playbooktest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"strings"
	"time"

	"github.com/drydock/drydock/playbook"
)

// Failure is a way in which one external call goes wrong.
type Failure string

// The failures. In the first four the worker is lost: it died, or it is paused for so long that another one takes over.
const (
	CrashBefore Failure = "crash before" // the worker dies before the call
	CrashAfter  Failure = "crash after"  // the worker dies after the call's effect
	LateSoon    Failure = "late, soon"   // the worker is paused; its call lands after the successor's first tick
	LateLast    Failure = "late, last"   // the worker is paused; its call lands just before it would have given up by itself
	ErrorBefore Failure = "error before" // the call answers with an error, and did nothing
	ErrorAfter  Failure = "error after"  // the call answers with an error, and did its work
	// In the last two the call does not answer until it gives up by itself, and nobody knows what became of it.
	TimeoutBefore Failure = "timeout, not happened"
	TimeoutAfter  Failure = "timeout, happened"
)

// giveUp is how long a call goes on that is not answered: what the engine allows one.
const giveUp = 10 * time.Second

// Reach says what a call can do, and so in which ways it can fail.
type Reach int

// A reading changes nothing, so it either fails or its worker dies first. What is written in the ledger can not land late:
// the ledger checks the lease. A mutating call of a remote can do all of it.
const (
	Reads Reach = iota
	Writes
	Mutates
)

// Failures lists the ways in which a call can fail.
func (r Reach) Failures() []Failure {
	switch r {
	case Reads:
		return []Failure{CrashBefore, ErrorBefore, TimeoutBefore}
	case Writes:
		return []Failure{CrashBefore, CrashAfter, LateSoon, ErrorBefore, ErrorAfter, TimeoutBefore, TimeoutAfter}
	case Mutates:
	}
	return []Failure{CrashBefore, CrashAfter, LateSoon, LateLast, ErrorBefore, ErrorAfter, TimeoutBefore, TimeoutAfter}
}

// fit turns a failure that a call can not have into its nearest one that it can. A reading has no effect, so that it never
// fails after it; the lease that an acquire took and whose answer was lost simply runs out.
func (r Reach) fit(f Failure) Failure {
	switch {
	case r == Reads && f == ErrorAfter:
		return ErrorBefore
	case r == Reads && f == TimeoutAfter:
		return TimeoutBefore
	case r == Reads && f != "" && f != ErrorBefore && f != TimeoutBefore:
		return CrashBefore
	case r == Writes && f == LateLast:
		return LateSoon
	}
	return f
}

// Point is one external call of a run, a place where something can fail.
type Point struct {
	Op    string
	Reach Reach
	State playbook.State // of the run, when the call was made
}

// Hit is a failure that came to pass.
type Hit struct {
	Op      string
	Failure Failure
}

// General is the hit without what its call was about in particular: "ledger commit" for every commit.
func (h Hit) General() Hit {
	for _, op := range []string{"ledger commit", "carrier observe"} {
		if strings.HasPrefix(h.Op, op) {
			h.Op = op
		}
	}
	return h
}

var errInjected = errors.New("connection reset by peer")

// probe counts the external calls and lets the planned ones fail. In a simulation it is a worker's, and the simulation
// decides what becomes of a call.
type probe struct {
	w       *World
	points  []Point
	faults  map[int]Failure // by the call's number, from 1
	crashed Failure         // why the present worker is lost, empty while it lives
	hit     []Hit           // faults that came to pass
}

// through makes a call that answers with a value.
func through[T any](p *probe, op string, reach Reach, late time.Duration, do func() (T, error)) (T, error) {
	var none T
	if p.w.sim != nil {
		return simulated(p, op, reach, late, do)
	}
	p.points = append(p.points, Point{Op: op, Reach: reach, State: p.w.ticking.State})
	failure := reach.fit(p.faults[len(p.points)])
	if failure == "" {
		v, err := do()
		p.w.inspect()
		return v, err
	}
	p.hit = append(p.hit, Hit{op, failure})
	switch failure {
	case CrashBefore:
		p.lose(failure)
	case CrashAfter:
		// What the call answers is lost with the worker.
		if _, err := do(); err == nil {
			p.w.inspect()
		}
		p.lose(failure)
	case LateSoon, LateLast:
		p.land(failure, op, reach, late, func() error { _, err := do(); return err })
		p.lose(failure)
	case ErrorAfter:
		if _, err := do(); err == nil {
			p.w.inspect()
		}
	case ErrorBefore:
	case TimeoutBefore, TimeoutAfter:
		if failure == TimeoutAfter {
			if _, err := do(); err == nil {
				p.w.inspect()
			}
		}
		p.w.Clock.Advance(giveUp)
		p.w.inspect()
		return none, fmt.Errorf("%s: %w", op, context.DeadlineExceeded)
	case FrozenBefore, FrozenInCall, LateAfterwards, Refenced, CutOff: // a simulation's own
	}
	return none, fmt.Errorf("%s: %w", op, errInjected)
}

// land lets a paused worker's call arrive when a successor is at work.
func (p *probe) land(failure Failure, op string, reach Reach, late time.Duration, do func() error) {
	after := LeaseTTL + takeover + 500*time.Millisecond
	if failure == LateLast {
		after = max(after, late-time.Millisecond)
	}
	p.w.Clock.After(after, func() {
		p.w.landing = true
		err := do()
		p.w.inspect()
		p.w.landing = false
		if reach == Writes && err == nil {
			p.w.violate("%s of a worker that had lost its lease was accepted", op)
		}
	})
}

// lose ends the tick as the end of its process does: nothing of the product runs any more. World.tick made a goroutine for it.
func (p *probe) lose(failure Failure) {
	p.crashed = failure
	runtime.Goexit()
}

// The decorators: what the engine is given instead of the ledger, the carriers, the pager and the promoter.

type probedLedger struct {
	*probe
	l *Ledger
}

type probedHold struct {
	playbook.Hold
	p *probe
}

// Release is a lost worker's last deferred call: nobody hears it.
func (h probedHold) Release() {
	if h.p.crashed == "" {
		h.Hold.Release()
	}
}

func (l probedLedger) Acquire(ctx context.Context, runID string) (playbook.Hold, error) {
	h, err := through(l.probe, "ledger acquire", Reads, 0, func() (playbook.Hold, error) { return l.l.Acquire(ctx, runID) })
	if err != nil {
		return nil, err
	}
	return probedHold{h, l.probe}, nil
}

type loaded struct {
	run playbook.Run
	now time.Time
}

func (l probedLedger) Load(ctx context.Context, h playbook.Hold) (playbook.Run, time.Time, error) {
	v, err := through(l.probe, "ledger load", Reads, 0, func() (loaded, error) {
		r, now, err := l.l.Load(ctx, h)
		return loaded{r, now}, err
	})
	return v.run, v.now, err
}

func (l probedLedger) Facts(ctx context.Context, h playbook.Hold, r playbook.Run) (playbook.LedgerFacts, error) {
	return through(l.probe, "ledger facts", Reads, 0, func() (playbook.LedgerFacts, error) { return l.l.Facts(ctx, h, r) })
}

func (l probedLedger) Commit(ctx context.Context, h playbook.Hold, c playbook.Commit) (playbook.Run, error) {
	op := "ledger commit"
	for _, p := range c.Promises {
		op += " " + string(p.Action.Kind())
	}
	return through(l.probe, op, Writes, 0, func() (playbook.Run, error) { return l.l.Commit(ctx, h, c) })
}

func (l probedLedger) Begin(ctx context.Context, h playbook.Hold, seq int, callDeadline time.Time) error {
	_, err := through(l.probe, "ledger begin", Writes, 0, func() (struct{}, error) { return struct{}{}, l.l.Begin(ctx, h, seq, callDeadline) })
	return err
}

func (l probedLedger) Settle(ctx context.Context, h playbook.Hold, seq int, s playbook.Settlement) (playbook.Run, error) {
	return through(l.probe, "ledger settle", Writes, 0, func() (playbook.Run, error) { return l.l.Settle(ctx, h, seq, s) })
}

func (l probedLedger) Count(ctx context.Context, carrier string) (playbook.Count, error) {
	return through(l.probe, "ledger count", Reads, 0, func() (playbook.Count, error) { return l.l.Count(ctx, carrier) })
}

// Panicked is no place to fail: it comes after a tick that has failed already.
func (l probedLedger) Panicked(ctx context.Context, runID string) (int, error) {
	return l.l.Panicked(ctx, runID)
}

func (l probedLedger) Backup(ctx context.Context, runID, sha256 string) (playbook.Manifest, error) {
	return through(l.probe, "ledger backup", Reads, 0, func() (playbook.Manifest, error) { return l.l.Backup(ctx, runID, sha256) })
}

type probedCarrier struct {
	*probe
	c *Carrier
}

// Observe never fails: a failed read is an unknown reading.
func (c probedCarrier) Observe(ctx context.Context, look playbook.Look, o *playbook.Observation) {
	op := "carrier observe"
	for _, w := range look.Wants {
		op += " " + string(w.Kind)
	}
	_, err := through(c.probe, op, Reads, 0, func() (struct{}, error) {
		c.c.Observe(ctx, look, o)
		return struct{}{}, nil
	})
	if err == nil {
		return
	}
	was := c.c.Unreachable
	c.c.Unreachable = err.Error()
	c.c.Observe(ctx, look, o)
	c.c.Unreachable = was
}

func (c probedCarrier) Do(ctx context.Context, call playbook.Call) (playbook.Settlement, error) {
	c.w.inspectCall(call)
	return through(c.probe, "carrier "+string(call.Action.Kind()), Mutates, c.w.givesUpIn(call),
		func() (playbook.Settlement, error) { return c.c.Do(ctx, call) })
}

func (c probedCarrier) Touch(ctx context.Context, ref playbook.Ref, run string, generation int64) (bool, error) {
	return through(c.probe, "carrier touch", Mutates, 0, func() (bool, error) { return c.c.Touch(ctx, ref, run, generation) })
}

func (c probedCarrier) Lease(ctx context.Context) playbook.Reading[playbook.CarrierLease] {
	r, err := through(c.probe, "carrier lease", Reads, 0, func() (playbook.Reading[playbook.CarrierLease], error) {
		return c.c.Lease(ctx), nil
	})
	if err != nil {
		return playbook.Unknown[playbook.CarrierLease](err.Error())
	}
	return r
}

func (c probedCarrier) Hold(ctx context.Context, installation string, count playbook.Count) (playbook.CarrierLease, error) {
	return through(c.probe, "carrier hold", Mutates, 0, func() (playbook.CarrierLease, error) { return c.c.Hold(ctx, installation, count) })
}

func (c probedCarrier) State(ctx context.Context, ref playbook.Ref) (playbook.ObjectState, error) {
	return through(c.probe, "carrier state", Reads, 0, func() (playbook.ObjectState, error) { return c.c.State(ctx, ref) })
}

type probedPager struct {
	*probe
	p *Pager
}

func (p probedPager) Incident(ctx context.Context, id string, t playbook.Target, since time.Time) playbook.Reading[playbook.Incident] {
	r, err := through(p.probe, "pagerduty incident", Reads, 0, func() (playbook.Reading[playbook.Incident], error) {
		return p.p.Incident(ctx, id, t, since), nil
	})
	if err != nil {
		r = playbook.Unknown[playbook.Incident](err.Error())
	}
	if r.IsKnown() {
		p.w.readAt[id] = p.w.Clock.Now()
	}
	p.w.sim.sawIncident(id, r.IsKnown())
	return r
}

func (p probedPager) DiskIncidents(ctx context.Context, carrier string) playbook.Reading[[]playbook.IncidentRef] {
	r, err := through(p.probe, "pagerduty disk incidents", Reads, 0, func() (playbook.Reading[[]playbook.IncidentRef], error) {
		return p.p.DiskIncidents(ctx, carrier), nil
	})
	if err != nil {
		return playbook.Unknown[[]playbook.IncidentRef](err.Error())
	}
	return r
}

func (p probedPager) Do(ctx context.Context, call playbook.Call) (playbook.Settlement, error) {
	p.w.inspectCall(call)
	return through(p.probe, "pagerduty "+string(call.Action.Kind()), Mutates, p.w.givesUpIn(call),
		func() (playbook.Settlement, error) { return p.p.Do(ctx, call) })
}

func (p probedPager) Recover(ctx context.Context, i playbook.Intent, run string) (playbook.Settlement, error) {
	return through(p.probe, "pagerduty recover", Reads, 0, func() (playbook.Settlement, error) { return p.p.Recover(ctx, i, run) })
}

type probedPromoter struct {
	*probe
	p *Promoter
}

func (p probedPromoter) Promotion(ctx context.Context, carrier, component string) playbook.Reading[playbook.Promotion] {
	r, err := through(p.probe, "promotion read", Reads, 0, func() (playbook.Reading[playbook.Promotion], error) {
		return p.p.Promotion(ctx, carrier, component), nil
	})
	if err != nil {
		return playbook.Unknown[playbook.Promotion](err.Error())
	}
	return r
}

func (p probedPromoter) Do(ctx context.Context, call playbook.Call) (playbook.Settlement, error) {
	p.w.inspectCall(call)
	return through(p.probe, "promotion ask", Mutates, p.w.givesUpIn(call), func() (playbook.Settlement, error) { return p.p.Do(ctx, call) })
}

func (p probedPromoter) Recover(ctx context.Context, i playbook.Intent) (playbook.Settlement, error) {
	return through(p.probe, "promotion recover", Reads, 0, func() (playbook.Settlement, error) { return p.p.Recover(ctx, i) })
}

func equalActions(a, b playbook.Action) bool { return reflect.DeepEqual(a, b) }
