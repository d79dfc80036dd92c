package playbook

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
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
		why := s.drainRefusal(s.d.Node)
		if why == "" {
			return
		}
		s.skip(s.d.Node, why)
	}
}

func (s *situation) skip(node, why string) {
	if s.m.Skipped == nil {
		s.m.Skipped = map[string]string{}
	}
	s.m.Skipped[node] = why
	s.d = diagnose(s.p, s.o, s.r.Memory.Sightings, s.m.Skipped)
	s.m.Sightings = s.d.Sightings
}

// nextEdge walks the global edges, then the state's cell for the finding; the first edge whose guard holds is taken.
func (s *situation) nextEdge() edge {
	if s.r.State != Unwinding {
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
	s.m.EnteredAt = s.now
	switch e.to {
	case Unwinding:
		end := Ending{Outcome: e.end, Why: s.d.Why}
		if e.why != nil {
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
			s.m.Reapply = nil
		}
	case Reapplying:
		if s.m.Reapply == nil {
			s.m.Reapply = &ReapplyMemory{Since: s.now}
		}
	case Triage:
		s.m.Reapply = nil
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
	case Triage:
		s.stepTriage()
	case Redeploying:
		s.stepRedeploy()
	case RestartingController:
		s.stepNudge()
	case Draining:
		s.stepDrain()
	case Reapplying:
		s.stepReapply()
	case Verifying:
		s.stepVerify()
	case Unwinding:
		s.stepUnwind()
	case Queued, WaitingForDisk, AwaitingApproval, StateResolved, StateEscalated, StateStoodDown:
	}
}

// settleSteps folds what the last calls brought into the memory, before the guards look at it.
func (s *situation) settleSteps() {
	switch s.r.State {
	case Draining:
		s.followDrain()
	case Reapplying:
		s.followReapply()
	case Queued, Triage, WaitingForDisk, Redeploying, RestartingController, Verifying, AwaitingApproval, Unwinding,
		StateResolved, StateEscalated, StateStoodDown:
	}
}

func (s *situation) noteFound() {
	if s.d.Confirmed && s.d.Finding != FindingHealthy && s.d.Finding != FindingUnknown && s.d.Finding != FindingRollingOut {
		text := string(s.d.Finding) + ": " + s.d.Why
		if len(s.m.Found) == 0 || s.m.Found[len(s.m.Found)-1] != text {
			s.m.Found = append(s.m.Found, text)
		}
		if len(s.m.Found) > 12 {
			s.m.Found = slices.Delete(s.m.Found, 1, 2)
		}
	}
}

func (s *situation) stepTriage() {
	if s.d.Finding == FindingAbsent && !s.o.Promotion.Asked() && s.p.DaemonSet.Promotion != "" {
		s.want(Want{Kind: WantPromotion})
	}
	if s.d.Confirmed && s.ledger.ClaimHolder != "" && IsRepairable(s.d.Finding) {
		s.m.Waiting = waitingForClaim
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
	d := Decision{To: to, Diagnosis: s.d, Why: s.why(e), Promises: s.promises, Wait: s.wait, Memory: s.m, Ends: s.ends,
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
			if _, set := d.Ends[in.ID]; !set {
				d.Ends[in.ID] = s.incidentEnd(in)
			}
		}
	}
	d.Release = (to == Verifying || to.Ended()) && len(s.r.Owed()) == 0 && !s.changing() && !promisesChange(s.promises)
	s.unblind(&d)
	return d
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
	case s.m.Ending != nil && (e.to == Unwinding || e.to.Ended()):
		return s.m.Ending.Why
	case s.m.Waiting == waitingForClaim:
		return s.d.Why + "; waiting: run " + s.ledger.ClaimHolder + " is changing this carrier"
	case e.to == Draining && s.m.Drain != nil && s.m.Drain.Failed != "":
		return "giving node " + s.m.Drain.Node + " back: " + s.m.Drain.Failed
	}
	return s.d.Why
}

// approved reports whether a person approved exactly the present plan.
func (s *situation) approved() bool {
	return s.ledgerKnown && s.ledger.ApprovedHash != "" && s.ledger.ApprovedHash == HashPlan(s.plan())
}

// HashPlan is the hash that a person approves: kinds, names and uids of the actions, in order. Empty for no plan.
func HashPlan(plan []Action) string {
	if len(plan) == 0 {
		return ""
	}
	type line struct {
		Kind Kind
		Ref  Ref
	}
	lines := make([]line, len(plan))
	for i, a := range plan {
		ref := a.Target()
		ref.ResourceVersion = "" // the plan stays the same when a heartbeat touches the node
		lines[i] = line{a.Kind(), ref}
	}
	b, err := json.Marshal(lines)
	if err != nil {
		return "" // strings and structs of strings always marshal
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:8])
}
