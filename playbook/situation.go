package playbook

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// MaxRun is the end of a run in any case, whatever it has waited for (contract: timing.deadline).
const MaxRun = 90 * time.Minute

// situation is what one decision is made from: the run, what was observed, and what follows from the two. Guards read it;
// steps write the memory and the promises.
type situation struct {
	p   Policy
	r   Run
	o   Observation
	now time.Time

	d Diagnosis // of the carrier alone
	m Memory    // the run's memory as it becomes

	ledger      LedgerFacts
	ledgerKnown bool
	// blind says which reading is missing without which no change may be made; empty when all are there.
	blind    string
	deadline time.Time

	promises []Promise
	wants    []Want
	wait     time.Duration
	ends     map[string]Outcome
	refused  []Refusal
	// assumed: the finding is taken for confirmed, see Forecast.
	assumed bool
}

func newSituation(p Policy, r Run, o Observation) *situation {
	s := &situation{p: p, r: r, o: o, now: o.At, m: r.Memory.clone(), wait: p.Timing.Tick, ends: map[string]Outcome{}}
	s.d = diagnose(p, o, r.Memory.Sightings, r.Memory.Skipped)
	s.m.Sightings = s.d.Sightings
	s.ledger, s.ledgerKnown = o.Ledger.Get()
	s.endIncidents()
	s.blind = s.missingReading()
	s.keepTime()
	return s
}

func (m Memory) clone() Memory {
	c := m
	c.Sightings = maps.Clone(m.Sightings)
	c.Skipped = maps.Clone(m.Skipped)
	c.Found = slices.Clone(m.Found)
	c.Approved = slices.Clone(m.Approved)
	c.Causes = slices.Clone(m.Causes)
	if m.Drain != nil {
		d := *m.Drain
		c.Drain = &d
	}
	if m.Reapply != nil {
		d := *m.Reapply
		c.Reapply = &d
	}
	if m.Ending != nil {
		e := *m.Ending
		c.Ending = &e
	}
	return c
}

// missingReading names the reading beyond the carrier without which no change may be made.
func (s *situation) missingReading() string {
	if !s.ledgerKnown {
		return "Drydock's own ledger could not be read: " + orElse(s.o.Ledger.Why(), "not read")
	}
	for _, in := range s.openIncidents() {
		if r := s.o.Incidents[in.ID]; !r.IsKnown() {
			return fmt.Sprintf("incident %s could not be read: %s", in.ID, orElse(r.Why(), "not read"))
		}
	}
	return ""
}

// endIncidents ends the incidents whose resolve has settled: happened, or superseded because others were first.
func (s *situation) endIncidents() {
	s.r.Incidents = slices.Clone(s.r.Incidents)
	for n := range s.r.Incidents {
		in := &s.r.Incidents[n]
		if in.End != "" {
			continue
		}
		switch i := s.resolveOf(*in); {
		case i == nil:
		case i.Result == Happened:
			in.End = OutcomeResolved
			s.ends[in.ID] = in.End
		case i.Result == Superseded:
			in.End = OutcomeStoodDown
			s.ends[in.ID] = in.End
		}
	}
}

// resolveOf is the newest resolve of an incident since it joined the run (or joined again, after it was reopened).
func (s *situation) resolveOf(in RunIncident) *Intent {
	var found *Intent
	for n := range s.r.Intents {
		i := &s.r.Intents[n]
		if i.Action.Kind() == KindResolve && i.Action.Target().Name == in.ID && i.PromisedAt.After(in.JoinedAt) {
			found = i
		}
	}
	return found
}

// keepTime counts the waits that the deadline does not count, and moves the deadline by them.
func (s *situation) keepTime() {
	if since := s.m.LookedAt; !since.IsZero() && s.now.After(since) && s.pausing() {
		s.m.Paused += s.now.Sub(since)
	}
	s.m.LookedAt = s.now
	s.m.Waiting = ""
	s.deadline = s.r.StartedAt.Add(s.p.Timing.Deadline + s.m.Paused)
	if last := s.r.StartedAt.Add(MaxRun); s.deadline.After(last) {
		s.deadline = last
	}
}

func (s *situation) pausing() bool {
	return s.r.State == WaitingForDisk || s.r.State == AwaitingApproval || s.r.Memory.Waiting == waitingForClaim
}

const waitingForClaim = "the carrier's claim"

// lastChangeAt is when new changes stop: 10 minutes before the deadline, or the same share of a shorter one.
func (s *situation) lastChangeAt() time.Time {
	return s.deadline.Add(-min(10*time.Minute, s.p.Timing.Deadline*2/9))
}

// openIncidents lists the run's incidents that have not ended.
func (s *situation) openIncidents() []RunIncident {
	var open []RunIncident
	for _, in := range s.r.Incidents {
		if in.End == "" {
			open = append(open, in)
		}
	}
	return open
}

// stoppingAct returns what a person did on an incident after the run, or the incident's part in it, began.
func (s *situation) stoppingAct() (in RunIncident, act Act, stopped bool) {
	for _, in := range s.openIncidents() {
		if act, ok := s.actOn(in); ok && !s.resolving(in) {
			return in, act, true
		}
	}
	return RunIncident{}, Act{}, false
}

// actOn returns the first act of a person on one incident that stops the run there.
func (s *situation) actOn(in RunIncident) (Act, bool) {
	facts, ok := s.o.Incidents[in.ID].Get()
	if !ok {
		return Act{}, false
	}
	began := s.r.StartedAt
	if in.JoinedAt.After(began) {
		began = in.JoinedAt
	}
	if !s.r.ordered(in.ID) {
		// A webhook can be late, and an incident that was found by listing can be hours old: who acted since it was triggered
		// is at work on it. PagerDuty's times have whole seconds: an act in the second of the trigger came with it or after it.
		if at := facts.TriggeredAt; !at.IsZero() && at.Before(began) {
			began = at
		}
		began = began.Truncate(time.Second).Add(-time.Nanosecond)
	}
	for _, a := range facts.Acts {
		if a.Kind.stops() && a.At.After(began) && (a.Kind != ActAcknowledged || s.p.StopOnAck) {
			return a, true
		}
	}
	if facts.MergedInto != "" {
		return Act{Kind: ActMerged, Who: "a person", At: s.now}, true
	}
	return Act{}, false
}

// ordered reports whether a person asked for this run of this incident: then only what comes after the order counts. An
// incident that joined a retriggered run later came by itself.
func (r Run) ordered(incident string) bool {
	return r.Trigger == TriggerRetrigger && len(r.Incidents) > 0 && r.Incidents[0].ID == incident
}

// stops reports whether an act stops a run: an approval and a word about the DaemonSet do not.
func (k ActKind) stops() bool { return k != ActApproved && k != ActOnPurpose }

// recovered reports whether every incident of the run has been resolved by others.
func (s *situation) recovered() bool {
	open := s.openIncidents()
	if len(open) == 0 {
		return len(s.r.Incidents) > 0 && s.r.State != Verifying
	}
	for _, in := range open {
		facts, ok := s.o.Incidents[in.ID].Get()
		if !ok || (facts.Status != Resolved && !facts.Gone) || s.resolving(in) {
			return false
		}
	}
	return true
}

// resolving reports whether this run's own resolve of the incident is on its way: an incident that it ends is not ended
// by others.
func (s *situation) resolving(in RunIncident) bool {
	i := s.resolveOf(in)
	return i != nil && i.Open() && !i.SentAt.IsZero()
}

// openLane reports whether something is promised and not settled in a lane of the given remote.
func (s *situation) openLane(remotes ...string) bool {
	for _, i := range s.r.Intents {
		if i.Open() && slices.Contains(remotes, i.Lane.Remote()) {
			return true
		}
	}
	return false
}

// changing reports whether a call towards the carrier or Jenkins is promised and not settled: nothing more is promised
// there until it is.
func (s *situation) changing() bool { return s.openLane("carrier", "jenkins") }

// tooManyMissing refuses node surgery when a large part of the carrier is missing: that is a bad release or an outage, not
// a full node.
func (s *situation) tooManyMissing() Refusal {
	limit := max(s.p.Limits.MissingNodesMin, int(s.p.Limits.MissingNodesShare*float64(s.d.Expected)))
	if s.d.Missing > limit || s.d.Missing*2 > s.d.Expected {
		return refuse(RefusedByShare, "%d of %s missing: too many for work on single nodes (more than %d, or than half)",
			s.d.Missing, count(s.d.Expected, "expected node"), limit)
	}
	return Refusal{}
}

// leftFull says which full nodes are left alone and why, when none is left to be drained.
func (s *situation) leftFull() string {
	lines := s.leftAlone()
	if len(lines) == 0 {
		return s.d.Why
	}
	text := is(len(s.m.Skipped), "full node") + " left alone: " + strings.Join(lines, "; ")
	if moved := len(happened(s.intents(KindEvict))); moved > 0 {
		text = "in this run " + count(moved, "pod") + " moved; " + text
	}
	return clip(text, 800)
}

// flapLimit is how often within a day a target may be repaired before a person has to find out why it comes back
// (durability.md 2.4).
const flapLimit = 3

// coolDown is how long after a repair the same target is not changed again: what came back so soon was not repaired, and
// doing the same again hides that (durability.md 2.4: 30 minutes). It is measured in soaks, 30 minutes with the default one,
// so that a configuration which shortens its timing (a demonstration, a test) shortens this with it.
func (p Policy) coolDown() time.Duration { return 15 * p.Timing.Soak }

// coolingDown refuses a change while an earlier repair of the target is fresh. A person's order is not held up by it: a
// retrigger is one, and in mode approve every change is.
func (s *situation) coolingDown() Refusal {
	ago := s.now.Sub(s.ledger.RepairedAt)
	if s.ledger.RepairedAt.IsZero() || ago >= s.p.coolDown() || s.r.Trigger == TriggerRetrigger || s.r.Mode == ModeApprove {
		return Refusal{}
	}
	return refuse(RefusedByCoolDown, "run %s repaired it at %s, %s ago, and it is back: what was done then did not last (the same is not tried again for %s; a retrigger does)",
		s.ledger.RepairedBy, s.ledger.RepairedAt.UTC().Format("15:04 UTC"), short(ago), short(s.p.coolDown()))
}

// refusal says why no new change may be made at all, or nothing.
func (s *situation) refusal() Refusal {
	switch {
	case s.r.Mode == ModeObserve:
		return refuse(RefusedByMode, "the carrier's mode is observe")
	case s.leaseRefusal().Refuses():
		return s.leaseRefusal()
	case !s.ledgerKnown:
		return Refusal{}
	case s.now.Before(s.ledger.BreakerUntil):
		return refuse(RefusedByBreaker, "the breaker is open until %s: %s had no effect", s.ledger.BreakerUntil.UTC().Format("15:04 UTC"),
			count(len(s.ledger.Tries), "earlier run"))
	case s.ledger.RepairedToday >= flapLimit && s.r.Trigger != TriggerRetrigger:
		return refuse(RefusedByFlapping, "it was repaired %s within a day and came back: a person has to find out why",
			count(s.ledger.RepairedToday, "time"))
	case s.coolingDown().Refuses():
		return s.coolingDown()
	case len(s.ledger.SameDaemonSet) >= 3:
		return refuse(RefusedBySystem, "the same DaemonSet fails on %s within 15 minutes: that is not one carrier's fault",
			count(len(s.ledger.SameDaemonSet), "carrier"))
	case s.now.After(s.lastChangeAt()):
		return refuse(RefusedByDeadline, "the deadline is too near for a new change")
	case s.ds().EmptySelector:
		return refuse(RefusedBySelector, "the DaemonSet's selector is empty: it would match every pod")
	}
	return Refusal{}
}

// surgeryRefusal says why no work on nodes or on the DaemonSet itself may begin, or nothing.
func (s *situation) surgeryRefusal() Refusal { return s.refusal().or(s.tooManyMissing()) }

func (s *situation) ds() DaemonSet {
	ds, _ := s.o.DaemonSet.Get()
	return ds
}

func (s *situation) node(name string) (Node, bool) {
	nodes, _ := s.o.Nodes.Get()
	for i := range nodes {
		if nodes[i].Name == name {
			return nodes[i], true
		}
	}
	return Node{}, false
}

// used is how much of a budget is gone.
func (s *situation) used(r Reservation) int { return s.ledger.Used[r.Budget()] }

// fits reports whether a reservation fits what is left.
func (s *situation) fits(r Reservation) bool { return s.used(r)+r.Amount <= r.Limit }

func (s *situation) promise(a Action, undoes int, reservations ...Reservation) *Promise {
	if s.stale() && IsChange(a) {
		return &Promise{} // an undo too
	}
	s.promises = append(s.promises, Promise{Action: a, Undoes: undoes, Reservations: reservations})
	return &s.promises[len(s.promises)-1]
}

func (s *situation) want(w Want) { s.wants = append(s.wants, w) }

// owes returns the obligation to take back the newest cordon of a node, or the delete of the DaemonSet.
func (s *situation) owes(match func(Action) bool) (Obligation, bool) {
	for _, o := range s.r.Owed() {
		if match(o.Action) {
			return o, true
		}
	}
	return Obligation{}, false
}

func (s *situation) owesCreate() (Obligation, bool) {
	return s.owes(func(a Action) bool { _, ok := a.(Create); return ok })
}

func (s *situation) owesUncordon(node string) (Obligation, bool) {
	return s.owes(func(a Action) bool { u, ok := a.(Uncordon); return ok && u.Node == node })
}

// claim is the reservation of the carrier for the run's changes. It goes with each change: holding it twice is free.
func (s *situation) claim() Reservation {
	return Reservation{Scope: ScopeClaim, Key: s.r.Target.Carrier, Amount: 1, Limit: 1}
}

// intents returns the run's intents of one kind, oldest first.
func (s *situation) intents(k Kind) []Intent {
	var out []Intent
	for _, i := range s.r.Intents {
		if i.Action.Kind() == k {
			out = append(out, i)
		}
	}
	return out
}
