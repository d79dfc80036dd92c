package playbooktest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/drydock/drydock/playbook"
)

// How soon others notice that a worker is gone. A dead worker's run waits for the janitor, which looks for ticks that are
// 30 s overdue; a paused one's is taken over as soon as its lease has run out.
const (
	takeover        = time.Second
	janitorOverdue  = 30 * time.Second
	maxTicks        = 4000
	jobRetry        = 5 * time.Second
	runIDPattern    = "run-%02d"
	installation    = "test"
	defaultDaemon   = "node-exporter"
	defaultNS       = "monitoring"
	defaultCarrier  = "prod-dal10-carrier3"
	victimNamespace = "kubx-masters"
	component       = "armada-ops"
)

// World is one night: carriers, PagerDuty, promotions, the ledger and the engine, on one clock.
type World struct {
	Clock    *Clock
	Pager    *Pager
	Promoter *Promoter
	Ledger   *Ledger
	Policy   playbook.Policy // of every target
	// Reapply overrides the policy's reapply for a DaemonSet.
	Reapply map[string]playbook.Reapply
	// Bug is what every tick that decides panics with; empty: none does.
	Bug string

	carriers map[string]*Carrier
	engine   *playbook.Engine
	probe    *probe
	retryAt  map[string]time.Time
	whens    []when
	ticking  playbook.Run // the run that is being ticked, as it was before
	ticks    int
	// sim is the simulation that plays this world; nil: World.Run does.
	sim *simulation
	inspector
}

type when struct {
	name string
	is   func() bool
	do   func()
}

// NewWorld makes a world without carriers, whose external calls fail as faults says.
func NewWorld(faults map[int]Failure) *World {
	clock := NewClock()
	w := &World{Clock: clock, Pager: NewPager(clock), Promoter: NewPromoter(clock), Ledger: NewLedger(clock),
		Policy: TestPolicy(), Reapply: map[string]playbook.Reapply{}, carriers: map[string]*Carrier{},
		retryAt: map[string]time.Time{}, inspector: newInspector()}
	w.probe = &probe{w: w, faults: faults}
	w.engine = w.newEngine(w.probe, clock.Now)
	return w
}

// TestPolicy is the policy of the scenarios: the product's rules with shorter waits, so that a night has fewer ticks.
func TestPolicy() playbook.Policy {
	t := playbook.DefaultTiming()
	t.Soak, t.FullConfirm, t.UncoveredConfirm, t.StuckConfirm = 20*time.Second, 15*time.Second, 15*time.Second, 20*time.Second
	t.QuietAfterNewPod, t.EvictWait, t.DiskWait, t.RedeployWait = 10*time.Second, 30*time.Second, time.Minute, 3*time.Minute
	return playbook.Policy{
		Mode: playbook.ModeAct, StopOnAck: true, DrainFrom: []string{victimNamespace}, RestartDriver: "none",
		DaemonSet: playbook.DaemonSetPolicy{Known: true, EscalationPolicy: "PARMOPS", Team: "armada-ops",
			Promotion: component, Reapply: playbook.ReapplyIfNeeded},
		Timing: t, Limits: playbook.DefaultLimits(), Installation: installation,
	}
}

// newEngine makes the engine of a worker whose calls go through a probe.
func (w *World) newEngine(p *probe, clock func() time.Time) *playbook.Engine {
	return &playbook.Engine{
		Ledger: probedLedger{p, w.Ledger},
		Carrier: func(name string) (playbook.Carrier, error) {
			c := w.carriers[name]
			if c == nil {
				return nil, fmt.Errorf("carrier %s is not configured", name)
			}
			return probedCarrier{p, c}, nil
		},
		Pager: probedPager{p, w.Pager}, Promoter: probedPromoter{p, w.Promoter},
		Policy: func(t playbook.Target) playbook.Policy {
			if w.Bug != "" {
				panic(w.Bug)
			}
			p := w.Policy
			if r, ok := w.Reapply[t.DaemonSet]; ok {
				p.DaemonSet.Reapply = r
			}
			return p
		},
		Clock: clock, Log: slog.New(slog.DiscardHandler),
	}
}

// Carrier returns the carrier of a name, and makes it at first.
func (w *World) Carrier(name string) *Carrier {
	if w.carriers[name] == nil {
		w.carriers[name] = NewCarrier(w.Clock, name)
	}
	return w.carriers[name]
}

// SameCarrier gives a carrier another name: an entry of its own in the configuration, and the same cluster.
func (w *World) SameCarrier(name string, c *Carrier) { w.carriers[name] = c }

// Alert opens an incident and starts its run. It returns the run's id.
func (w *World) Alert(ctx context.Context, incident string, t playbook.Target) (string, error) {
	in := w.Pager.Trigger(incident, fmt.Sprintf("blumemix.containers-kubernetes.%s.not_running_all_%s_demonsets.us-south", t.Carrier, t.DaemonSet))
	id := fmt.Sprintf(runIDPattern, len(w.Ledger.Runs())+1)
	err := w.Ledger.StartRun(ctx, playbook.Start{RunID: id, Target: t, Trigger: playbook.TriggerWebhook, Mode: w.Policy.Mode,
		Incident: playbook.RunIncident{ID: incident, Number: in.Number, Title: in.Title, URL: in.URL}, Deadline: w.Policy.Timing.Deadline})
	if err != nil {
		return "", fmt.Errorf("start run for %s: %w", t, err)
	}
	w.watch(t)
	return id, nil
}

// Retrigger starts a run on the newest incident of one that has ended, by a person's order. It returns the run's id.
func (w *World) Retrigger(ctx context.Context, ended, who string) (string, error) {
	before, ok := w.Ledger.Run(ended)
	if !ok {
		return "", fmt.Errorf("retrigger run %s: there is no such run", ended)
	}
	in := before.Incidents[len(before.Incidents)-1]
	in.End = ""
	id := fmt.Sprintf(runIDPattern, len(w.Ledger.Runs())+1)
	err := w.Ledger.StartRun(ctx, playbook.Start{RunID: id, Target: before.Target, Trigger: playbook.TriggerRetrigger, Mode: w.Policy.Mode,
		RequestedBy: who, RetriggeredFrom: ended, Incident: in, Deadline: w.Policy.Timing.Deadline})
	if err != nil {
		return "", fmt.Errorf("retrigger run %s: %w", ended, err)
	}
	return id, nil
}

// When does something once, as soon as the condition holds after an external call or a tick: a person who comes in the
// middle of a drain.
func (w *World) When(name string, is func() bool, do func()) {
	w.whens = append(w.whens, when{name, is, do})
}

func (w *World) lookWhens() {
	for i := 0; i < len(w.whens); i++ {
		if x := w.whens[i]; x.is() {
			w.whens = append(w.whens[:i:i], w.whens[i+1:]...)
			i--
			x.do()
		}
	}
}

// Run ticks every run when it is due until all have ended, until limit has passed, or until an invariant is broken. Then it
// lets two more minutes go by, in which nothing may go wrong any more.
func (w *World) Run(ctx context.Context, limit time.Duration) {
	end := w.Clock.Now().Add(limit)
	for {
		id, due := w.next()
		if id == "" {
			break
		}
		if due.After(end) {
			w.violate("I8: run %s goes on after %s", id, limit)
			break
		}
		if w.ticks++; w.ticks > maxTicks {
			w.violate("I8: run %s still goes on after %d ticks", id, maxTicks)
			break
		}
		w.Clock.AdvanceTo(due)
		w.tick(ctx, id)
		w.inspect()
		if len(w.violations) > 0 {
			return // a damaged night is over: what follows from the damage would only hide it
		}
	}
	for range 12 {
		w.Clock.Advance(10 * time.Second)
		w.inspect()
		w.sweepEnded(ctx)
	}
	w.inspectEnd()
}

// next finds the run that is due first.
func (w *World) next() (string, time.Time) {
	var first string
	var at time.Time
	for _, id := range w.Ledger.Runs() {
		due := w.Ledger.NextTick(id)
		if due.IsZero() {
			continue
		}
		if w.retryAt[id].After(due) {
			due = w.retryAt[id]
		}
		if first == "" || due.Before(at) {
			first, at = id, due
		}
	}
	return first, at
}

// sweepEnded is the janitor's round over ended runs that still owe something.
func (w *World) sweepEnded(ctx context.Context) {
	for _, id := range w.Ledger.Runs() {
		if r, _ := w.Ledger.Run(id); r.State.Ended() && (len(r.Owed()) > 0 || len(r.OpenIntents()) > 0) {
			w.tick(ctx, id)
		}
	}
}

// tick makes one tick and, when the worker is lost in it, lets the others find out.
func (w *World) tick(ctx context.Context, id string) {
	w.ticking, _ = w.Ledger.Run(id)
	defer w.lookWhens()
	// A goroutine of its own, so that a lost worker can end at once, without its deferred calls finding anything out.
	var err error
	over := make(chan struct{})
	go func() {
		defer close(over)
		err = w.engine.Advance(ctx, id)
	}()
	<-over
	switch {
	case w.probe.crashed != "":
		w.Ledger.Kill()
		w.lastCrash = w.Clock.Now()
		wait := janitorOverdue
		if w.probe.crashed == LateSoon || w.probe.crashed == LateLast {
			wait = LeaseTTL + takeover
		}
		w.retryAt[id] = w.Clock.Now().Add(wait)
		w.engine, w.probe.crashed = w.newEngine(w.probe, w.Clock.Now), ""
	case err == nil:
		delete(w.retryAt, id)
	case errors.Is(err, playbook.ErrBusy):
		w.retryAt[id] = w.Clock.Now().Add(time.Second)
	default:
		w.retryAt[id] = w.Clock.Now().Add(jobRetry)
	}
}

// givesUpIn is how long a call goes on before it gives up by itself.
func (w *World) givesUpIn(call playbook.Call) time.Duration {
	r, ok := w.Ledger.Run(call.Run)
	if !ok || call.Seq < 1 || call.Seq > len(r.Intents) {
		return 0
	}
	return r.Intents[call.Seq-1].CallDeadline.Sub(w.Clock.Now())
}
