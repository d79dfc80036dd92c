package playbooktest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/drydock/drydock/playbook"
)

// A simulation plays one night with three workers over one ledger, and everything that goes wrong in it is drawn from its
// seed: workers die, freeze between any two calls and in the middle of one, lose the database, and wake up when another has
// taken over; their clocks are apart; remotes answer with errors, late, or not at all; people and a GitOps tool do what they
// like. It has one thread: each tick is a coroutine that gives the thread back at every external call, and the virtual clock
// decides who goes on. So a seed gives the same night again, byte for byte.
//
// After a while the faults stop. From then on everything must come to its end: that is the second half of each night.
type simulation struct {
	*World
	ctx        context.Context //nolint:containedctx // the night's own, given to every tick
	draw       *rand.Rand
	workers    []*worker
	rates      rates
	faulty     bool
	lost       bool  // nobody reaches the database
	now        *turn // whose code runs
	incidents  int
	strangerAt time.Time // when somebody else last changed a carrier
	hits       map[Hit]int
	trace      *strings.Builder // nil: nobody wants it
	turns      int
}

// rates are how often what goes wrong at one external call, as shares of 1.
type rates struct{ crash, freeze, failure, timeout, ambiguous float64 }

// Simulated is a night that was simulated.
type Simulated struct {
	Seed     uint64
	Scenario string
	Problems []string
	Hits     map[Hit]int
	Turns    int           // ticks that were begun
	Healing  time.Duration // from the end of the faults to the end of the last run
	// Trace is everything that happened, one line each, when it was asked for.
	Trace string
}

// The hits that are not a failure of one call.
const (
	FrozenInCall   Failure = "frozen in the call"
	FrozenBefore   Failure = "frozen before the call"
	LateAfterwards Failure = "landed after a take-over"
	Refenced       Failure = "not sent: the lease was lost"
	CutOff         Failure = "the database was away"
)

// convergence is how long after the faults have stopped (or after its deadline, which may be later) a run may go on.
const convergence = 10 * time.Minute

// Simulate plays the night of a seed. The scenarios are what can be wrong on the carrier.
func Simulate(ctx context.Context, seed uint64, scenarios []Scenario, traced bool) Simulated {
	s := &simulation{World: NewWorld(nil), ctx: ctx, draw: rand.New(rand.NewPCG(seed, 2026)), hits: map[Hit]int{}}
	s.sim, s.landing = s, true
	if traced {
		s.trace = &strings.Builder{}
	}
	scenario := scenarios[s.draw.IntN(len(scenarios))]
	for n := range 3 {
		s.workers = append(s.workers, s.newWorker(n+1))
	}
	s.rates = rates{crash: s.rate(0.01), freeze: s.rate(0.02), failure: s.rate(0.3), timeout: s.rate(0.03), ambiguous: s.rate(0.05)}
	if s.draw.IntN(3) == 0 {
		s.rates.failure = 0.3
	}
	s.begin(scenario)
	out := s.play()
	out.Seed, out.Scenario = seed, scenario.Name
	return out
}

// rate draws how often something goes wrong: never in every third night, so that the others are seen by themselves.
func (s *simulation) rate(most float64) float64 {
	if s.draw.IntN(3) == 0 {
		return 0
	}
	return s.draw.Float64() * most
}

// begin makes the carriers and lets the alerts come.
func (s *simulation) begin(scenario Scenario) {
	if scenario.Policy != nil {
		scenario.Policy(&s.Policy)
	}
	s.Policy.Acknowledge = s.draw.IntN(4) == 0
	scenario.Setup(s.World)
	s.Clock.Advance(BeforeAlerts)
	alerts := scenario.Alerts
	if len(alerts) == 0 {
		alerts = []playbook.Target{target(defaultCarrier, defaultDaemon)}
	}
	for _, t := range alerts {
		s.alert(t)
	}
	if scenario.Later != nil {
		scenario.Later(s.World)
	}
}

// play is the night: first with faults, then without.
func (s *simulation) play() Simulated {
	s.faulty = true
	faults := time.Duration(30+s.draw.IntN(570)) * time.Second
	s.planTrouble(faults)
	s.planPeople(faults)
	s.goOn(s.Clock.Now().Add(faults), func() bool { return false })
	s.heal()
	if len(s.violations) == 0 {
		s.goOn(s.Clock.Now().Add(nightLimit), s.converged)
	}
	out := Simulated{Healing: s.Clock.Now().Sub(s.healed), Hits: s.hits, Turns: s.turns}
	if len(s.violations) == 0 {
		s.goOn(s.Clock.Now().Add(2*time.Minute), func() bool { return false })
		s.inspectEnd()
	}
	for _, w := range s.workers {
		s.kill(w)
	}
	out.Problems = slices.Clone(s.violations)
	if s.trace != nil {
		for _, id := range s.Ledger.Runs() {
			s.trace.WriteString(s.Ledger.Dump(id))
		}
		out.Trace = s.trace.String()
	}
	return out
}

// goOn lets the night go on until a moment, or until an invariant is broken, or until over.
func (s *simulation) goOn(until time.Time, over func() bool) {
	for s.Clock.Now().Before(until) && len(s.violations) == 0 && !over() {
		s.Clock.Advance(time.Second)
		s.inspect()
		s.lookForWork()
	}
}

// converged reports whether every run has ended and owes nothing, and complains about one that takes too long.
func (s *simulation) converged() bool {
	all := true
	for _, id := range s.Ledger.Runs() {
		r := s.Ledger.runs[id].run
		if r.State.Ended() && len(r.Owed()) == 0 && len(r.OpenIntents()) == 0 {
			continue
		}
		all = false
		if s.Clock.Now().Sub(s.due(r)) > convergence {
			s.violate("I8: run %s is still %s %s after the faults have stopped and its deadline has passed", id, r.State, convergence)
		}
	}
	return all
}

// heal ends the faults.
func (s *simulation) heal() {
	s.faulty, s.lost, s.healed = false, false, s.Clock.Now()
	s.log("the faults stop")
	for n, w := range s.workers {
		if w.dead {
			s.workers[n] = s.newWorker(n + 1)
			continue
		}
		w.cut = false
		w.frozenUntil = s.Clock.Now()
		s.renew(w)
	}
}

// lookForWork gives the runs that are due to workers, as River's fetchers and the sweep for lost ticks do.
func (s *simulation) lookForWork() {
	if !slices.ContainsFunc(s.workers, s.able) {
		s.lastOutage = s.Clock.Now()
	}
	for _, id := range s.Ledger.Runs() {
		r := s.Ledger.runs[id]
		due := r.next
		if r.run.State.Ended() {
			if len(r.run.Owed()) == 0 && len(r.run.OpenIntents()) == 0 {
				continue
			}
			due = s.Clock.Now() // the janitor's
		}
		if due.After(s.Clock.Now()) || s.retryAt[id].After(s.Clock.Now()) {
			continue
		}
		if s.turnOn(id) && s.draw.IntN(20) > 0 {
			continue // rarely a job is delivered twice
		}
		s.retryAt[id] = s.Clock.Now().Add(time.Second)
		s.Clock.After(time.Duration(s.draw.IntN(900))*time.Millisecond, func() {
			if w := s.workers[s.draw.IntN(len(s.workers))]; s.able(w) {
				s.start(w, id)
			}
		})
	}
}

// able reports whether a worker can tick a run.
func (s *simulation) able(w *worker) bool { return !w.dead && !s.frozen(w) && !w.cut && !s.lost }

// turnOn reports whether a worker that can be seen to live is at the run.
func (s *simulation) turnOn(id string) bool {
	return slices.ContainsFunc(s.workers, func(w *worker) bool {
		return !s.frozen(w) && slices.ContainsFunc(w.turns, func(t *turn) bool { return t.run == id })
	})
}

// alert lets the alert of a target come, as its webhook does: it joins the target's run, or starts one.
func (s *simulation) alert(t playbook.Target) {
	s.incidents++
	id := fmt.Sprintf("PINC%03d", s.incidents)
	for _, run := range s.Ledger.Runs() {
		r := s.Ledger.runs[run].run
		if r.Target != t || r.State.Ended() || r.State == playbook.Unwinding {
			continue
		}
		in := s.Pager.Trigger(id, "the same alert again")
		s.Ledger.JoinRun(run, playbook.RunIncident{ID: in.ID, Number: in.Number, Title: in.Title, URL: in.URL})
		s.log("%s joins %s", id, run)
		return
	}
	run, err := s.Alert(s.ctx, id, t)
	if err != nil {
		s.violate("alert: %v", err)
	}
	s.log("%s starts %s of %s", id, run, t)
}

func (s *simulation) log(format string, args ...any) {
	if s.trace != nil {
		fmt.Fprintf(s.trace, "%s "+format+"\n", append([]any{s.Clock.Now().Format("15:04:05.000")}, args...)...)
	}
}

// hit notes what became of a turn's call. An error of PagerDuty or of the CI is no reason for an undo to come late.
func (s *simulation) hit(t *turn, op string, f Failure) {
	s.hits[Hit{op, f}.General()]++
	if ofCarrier := strings.HasPrefix(op, "carrier") || strings.HasPrefix(op, "ledger"); ofCarrier || f != ErrorBefore && f != ErrorAfter {
		s.excuse(t)
	}
}

// excuse notes that something has just hit the worker of a turn.
func (s *simulation) excuse(turns ...*turn) {
	for _, t := range turns {
		s.hitAt[s.targetOf(t.run)] = s.Clock.Now()
	}
}
