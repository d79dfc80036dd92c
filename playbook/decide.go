package playbook

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Decide says what one tick does: the next state and why, what is promised, which readings are wanted first, and how long
// to wait. It is total and pure. It promises at most one change, and nothing towards the carrier or Jenkins while an
// earlier call there is not settled.
func Decide(p Policy, r Run, o Observation) Decision {
	s := newSituation(p, r, o)
	if r.State.Ended() {
		return s.decision(edge{to: r.State}, r.State)
	}
	s.leaveUndrainable()
	s.settleSteps()
	e := s.nextEdge()
	s.enter(e)
	s.step(e.to)
	s.noteCauses()
	s.speak(e.to)
	return s.decision(e, e.to)
}

// leaveUndrainable marks full nodes that can not be drained as left alone, so that they do not hide one that can.
func (s *situation) leaveUndrainable() {
	// While another run holds the claim, its cordon may be on the very node: wait and look again then.
	if s.r.State != Triage || s.blind != "" || s.ledger.ClaimHolder != "" {
		return
	}
	for s.d.Finding == FindingNodeFull && s.d.Confirmed && s.d.Node != "" {
		no := s.drainRefusal(s.d.Node)
		if !no.Refuses() {
			return
		}
		s.refused = append(s.refused, no)
		s.skip(s.d.Node, no.Why)
	}
}

func (s *situation) skip(node, why string) {
	if s.m.Skipped == nil {
		s.m.Skipped = map[string]string{}
	}
	s.m.Skipped[node] = why
	s.d = diagnose(s.p, s.o, s.r.Memory.Sightings, s.m.Skipped)
	s.m.Sightings = s.d.Sightings
	s.assume()
}

// nextEdge walks the global edges, then the state's cell for the finding; the first edge whose guard holds is taken.
func (s *situation) nextEdge() edge {
	// A queued run may not even unwind while another run of its target does: one run per target at a time.
	if s.r.State != Unwinding && (s.r.State != Queued || !gTargetBusy.ok(s)) {
		for _, e := range globalEdges() {
			if e.when.ok(s) {
				return e
			}
		}
	}
	for _, e := range machine[s.r.State].cell(s.d.Finding) {
		if e.when == nil || e.when.ok(s) {
			return e
		}
	}
	return edge{to: s.r.State}
}

// enter writes what changes with the state.
func (s *situation) enter(e edge) {
	if e.to == s.r.State {
		return
	}
	// Last: an ending's why may say how long the run was in the state that it leaves.
	defer func() { s.m.EnteredAt = s.now }()
	switch e.to {
	case Unwinding:
		end := Ending{Outcome: e.end, Why: s.d.Why, Finding: s.d.Finding}
		switch {
		case e.refusal != nil:
			no := e.refusal(s)
			s.refused = append(s.refused, no)
			end.Why, end.Refusal = no.Why, no.Name
		case e.why != nil:
			end.Why = e.why(s)
		}
		if e.when == gHumanActed {
			in, _, _ := s.stoppingAct()
			end.Acted = in.ID
		}
		// Mode observe reads, decides and notes: it never escalates.
		if s.r.Mode == ModeObserve {
			end.Outcome = OutcomeStoodDown
		}
		s.m.Ending = &end
	case Draining:
		if s.m.Drain == nil {
			n, _ := s.node(s.d.Node)
			s.m.Drain = &DrainMemory{Node: n.Name, UID: n.UID, Started: s.now}
		}
		if s.m.Reapply != nil {
			s.m.Drain.Reapplied = true
			if why := s.m.Reapply.Failed; why != "" && !s.placed(s.m.Drain.Node) {
				s.failDrain(why)
			}
			s.m.Reapply = nil
		}
	case Reapplying:
		if s.m.Reapply == nil {
			s.m.Reapply = &ReapplyMemory{Since: s.now}
		}
	case Triage:
		s.m.Reapply = nil
		if e.when == gApproved {
			s.m.Approved = planLines(s.plan())
		}
	case Queued, WaitingForDisk, Redeploying, RestartingController, Verifying, AwaitingApproval,
		StateResolved, StateEscalated, StateStoodDown:
	}
}

// inStateFor is how long the run has been in its state.
func (s *situation) inStateFor() time.Duration {
	if s.m.EnteredAt.IsZero() {
		return s.now.Sub(s.r.StartedAt)
	}
	return s.now.Sub(s.m.EnteredAt)
}

// step does a state's work: it promises the next action, or waits for the last one.
func (s *situation) step(st State) {
	s.noteFound()
	switch st {
	case Queued:
		s.stepQueued()
	case Triage:
		s.stepTriage()
	case Redeploying:
		s.stepRedeploy()
	case RestartingController:
		s.stepController()
	case Draining:
		s.stepDrain()
	case Reapplying:
		s.stepReapply()
	case Verifying:
		s.stepVerify()
	case Unwinding:
		s.stepUnwind()
	case AwaitingApproval:
		s.wantPromotion()
	case WaitingForDisk, StateResolved, StateEscalated, StateStoodDown:
	}
}

// settleSteps folds what the last calls brought into the memory, before the guards look at it.
func (s *situation) settleSteps() {
	switch s.r.State {
	case Draining:
		s.followDrain()
	case Reapplying:
		s.followReapply()
	case Unwinding:
		if s.m.Reapply != nil {
			s.followReapply()
		}
	case AwaitingApproval:
		s.wantPromotion() // also in the look that ends the wait: the note says why a person was asked
	case Queued, Triage, WaitingForDisk, Redeploying, RestartingController, Verifying,
		StateResolved, StateEscalated, StateStoodDown:
	}
}

// noteFound remembers what was confirmed: the newest sentence of each finding and node.
func (s *situation) noteFound() {
	if !s.lasting() {
		return
	}
	f := Found{Finding: s.d.Finding, Node: s.d.Node, Why: s.reason()}
	for i, have := range s.m.Found {
		if have.Finding == f.Finding && have.Node == f.Node {
			s.m.Found[i] = f
			return
		}
	}
	// Full nodes that are left alone were full before; why they are is said beside them.
	if f.Finding == FindingNodeFull && f.Node == "" && s.sawFull() {
		return
	}
	s.m.Found = append(s.m.Found, f)
}

// lasting reports whether the present finding is confirmed, and a fault rather than something to wait for.
func (s *situation) lasting() bool {
	waits := s.d.Finding == FindingHealthy || s.d.Finding == FindingUnknown || s.d.Finding == FindingRollingOut
	// While the run works on the DaemonSet, what is seen is its own doing: a reapply's DaemonSet is absent for a moment.
	working := s.r.State == Draining || s.r.State == Reapplying || s.r.State == Redeploying
	return !waits && !working && s.d.Confirmed
}

// stepQueued waits. A run whose turn has not come by its deadline, because an undo of the earlier one stays blocked, changed
// nothing and owes nothing: it is handed over from where it stands (I8), as its target has room for one run that acts (I6).
func (s *situation) stepQueued() {
	if s.m.Ending == nil {
		if !gTargetBusy.ok(s) || !s.overdue() {
			return
		}
		s.m.Ending = &Ending{Outcome: OutcomeEscalated, Finding: s.d.Finding,
			Why: s.lateness() + " and its turn has not come: an earlier run of the same target still puts back what it changed"}
		if s.r.Mode == ModeObserve {
			s.m.Ending.Outcome = OutcomeStoodDown
		}
	}
	s.sayEnding(nil)
}

func (s *situation) stepTriage() {
	s.wantPromotion()
	if s.d.Confirmed && s.ledger.ClaimHolder != "" && IsRepairable(s.d.Finding) {
		s.m.Waiting = waitingForClaim
	}
}

// wantPromotion asks for the deployed version where the DaemonSet is absent: the plan is made from it.
func (s *situation) wantPromotion() {
	if s.d.Finding == FindingAbsent && s.p.DaemonSet.Promotion != "" {
		s.want(Want{Kind: WantPromotion})
	}
}

// IsRepairable reports whether Drydock changes something about a finding.
func IsRepairable(f Finding) bool {
	switch f {
	case FindingAbsent, FindingControllerStuck, FindingNodeFull, FindingUncovered:
		return true
	case FindingUnknown, FindingDeleting, FindingRefused, FindingRollingOut, FindingDisk, FindingNoRoom, FindingNodeDown,
		FindingMalfunctioning, FindingNotSelected, FindingHealthy:
	}
	return false
}

// decision puts together what the caller gets.
func (s *situation) decision(e edge, to State) Decision {
	d := Decision{To: to, Diagnosis: s.d, Why: s.why(e), Promises: s.promises, Wait: s.pace(to), Memory: s.m, Ends: s.ends,
		Deadline: s.deadline}
	if e.when != nil {
		d.Edge = e.when.name
	}
	d.Wants = append(append(d.Wants, s.d.Wants...), s.wants...)
	d.Plan = s.plan()
	d.PlanHash = HashPlan(d.Plan)
	if to.Ended() && !s.r.State.Ended() {
		d.Outcome = Outcome(to)
		for _, in := range s.openIncidents() {
			d.Ends[in.ID] = s.incidentEnd(in)
		}
	}
	d.Release = (to == Verifying || to.Ended()) && len(s.r.Owed()) == 0 && !s.changing() && !promisesChange(s.promises)
	d.Refused = s.refused
	d.Withdraw = s.withdrawals(to)
	s.unblind(&d)
	return d
}

// withdrawals are the open changes of an incident that must not be made any more: the carrier broke again, a person acted, or
// nobody is at it any more whom an acknowledge could speak for.
func (s *situation) withdrawals(to State) []int {
	var seqs []int
	for _, i := range s.r.OpenIntents() {
		_, acted := s.actOn(s.incidentOf(i))
		kind := i.Action.Kind()
		broken := kind == KindResolve && (to != Verifying || s.d.Finding != FindingHealthy)
		left := kind == KindAcknowledge && (to == Unwinding || to.Ended())
		if broken || left || (acted && (kind == KindResolve || kind == KindEscalate || kind == KindAcknowledge)) {
			seqs = append(seqs, i.Seq)
		}
	}
	return seqs
}

// incidentOf is the run's incident that an intent towards PagerDuty is about.
func (s *situation) incidentOf(i Intent) RunIncident {
	for _, in := range s.r.Incidents {
		if in.ID == i.Action.Target().Name {
			return in
		}
	}
	return RunIncident{ID: i.Action.Target().Name}
}

// unblind shows a missing reading as the finding: unknown is the finding when what the decision needs was not read, be it
// the carrier or the incident itself.
func (s *situation) unblind(d *Decision) {
	if s.blind == "" || d.To.Ended() || d.To == Unwinding {
		return
	}
	d.Diagnosis.Finding, d.Diagnosis.Confirmed, d.Diagnosis.Why = FindingUnknown, false, s.blind
	d.Why = s.blind
}

func promisesChange(ps []Promise) bool {
	return slices.ContainsFunc(ps, func(p Promise) bool { return IsChange(p.Action) })
}

// why is the run's sentence: what it sees, and what it waits for or was stopped by.
func (s *situation) why(e edge) string {
	switch {
	case s.m.Ending != nil && (e.to == Unwinding || e.to == Queued || e.to.Ended()):
		return s.m.Ending.Why
	case s.m.Waiting == waitingForClaim:
		text := s.d.Why + "; waiting: run " + s.ledger.ClaimHolder + " is changing this carrier"
		if shared := s.shared(); shared != "" {
			text += "; " + shared
		}
		return text
	case e.to == Draining && s.m.Drain != nil && s.m.Drain.Failed != "":
		return "giving node " + s.m.Drain.Node + " back: " + s.m.Drain.Failed
	}
	return s.reason()
}

// reason is what the run sees, and which reading it waits for before it can do something about it.
func (s *situation) reason() string {
	if s.d.Confirmed && IsRepairable(s.d.Finding) && s.o.Lease.IsUnknown() {
		return s.d.Why + "; waiting: " + s.blindToChange()
	}
	if s.d.Finding == FindingAbsent && s.d.Confirmed {
		switch {
		case s.o.Namespace.IsUnknown():
			return s.d.Why + "; waiting for the namespace to be readable"
		case s.o.Promotion.IsUnknown():
			return s.d.Why + "; the version source or the CI did not answer: " + s.o.Promotion.Why()
		}
	}
	return s.d.Why
}

// overdue reports whether it is time to hand over, so that this is done by the deadline. A soak that is under way may end, what is
// already being said is said, and what was resolved stays so.
func (s *situation) overdue() bool {
	deadline := s.deadline.Add(-s.sayingTakes())
	if s.now.Before(deadline) || s.closing() || s.closed() {
		return false
	}
	soaking := s.r.State == Verifying && s.d.Finding == FindingHealthy && s.blind == ""
	return !soaking || !s.now.Before(deadline.Add(2*s.p.Timing.Soak))
}

// sayingTakes is how long before its deadline a run has to begin its hand-over where looks are slow: this tick may be the last
// before, the next one decides, and the evidence, the look after which it is said, and the one after which the run ends come
// then. With 5 s for each request a look took 25 s, and hand-overs that began at the deadline ended up to 77 s after it.
func (s *situation) sayingTakes() time.Duration {
	if s.lookTook() == 0 {
		return 0
	}
	return s.p.Timing.Tick + 5*s.lookTook()
}

// lookTook is how long a slow look took, or nothing.
func (s *situation) lookTook() time.Duration { return s.o.seenAt().Sub(s.o.At) }

// lateness says in words that the run is overdue.
func (s *situation) lateness() string {
	if s.now.Before(s.deadline) {
		return fmt.Sprintf("the run's deadline is in %s and a look takes %s", short(s.deadline.Sub(s.now)), short(s.lookTook()))
	}
	return fmt.Sprintf("the run's deadline has passed (%s)", short(s.now.Sub(s.r.StartedAt)))
}

// approved reports whether a person approved the present plan, or a larger one of which it is what remains.
func (s *situation) approved() bool {
	plan := s.plan()
	hash := HashPlan(plan)
	if s.ledgerKnown && s.ledger.ApprovedHash != "" && s.ledger.ApprovedHash == hash {
		return true
	}
	for _, in := range s.openIncidents() {
		facts, _ := s.o.Incidents[in.ID].Get()
		if hash != "" && slices.ContainsFunc(facts.Acts, func(a Act) bool { return a.Kind == ActApproved && a.PlanHash == hash }) {
			return true
		}
	}
	for _, line := range planLines(plan) {
		if !slices.Contains(s.m.Approved, line) {
			return false
		}
	}
	return len(plan) > 0
}

// planLines writes each action of a plan as kind, name and uid: what an approval covers. A resourceVersion is not part of
// it, because a heartbeat changes it.
func planLines(plan []Action) []string {
	lines := make([]string, len(plan))
	for i, a := range plan {
		ref := a.Target()
		lines[i] = fmt.Sprintf("%s %s %s", a.Kind(), ref, ref.UID)
		if p, ok := a.(Promote); ok {
			lines[i] += fmt.Sprintf(" version %s build %d", p.Version, p.Build)
		}
	}
	return lines
}

// HashPlan is the hash that a person approves: kinds, names and uids of the actions, in order. Empty for no plan.
func HashPlan(plan []Action) string {
	if len(plan) == 0 {
		return ""
	}
	sum := sha256.Sum256([]byte(strings.Join(planLines(plan), "\n")))
	return hex.EncodeToString(sum[:8])
}
