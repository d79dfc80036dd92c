package playbook

// Plan lists all that remains to be done, as if the finding were confirmed. Decide promises its head when its time has
// come; diagnose and the notes show it.
func Plan(p Policy, r Run, o Observation) []Action {
	return newSituation(p, r, o).plan()
}

// Forecast decides as Decide does, with the finding taken for confirmed: what would be done now, were it looked at again and
// found the same. The Plan is all of it; Outcome and Why say how the run would end instead when nothing may be done.
func Forecast(p Policy, r Run, o Observation) Decision {
	s := newSituation(p, r, o)
	s.assumed = true
	s.assume()
	s.leaveUndrainable()
	plan := s.plan()
	e := s.nextEdge()
	s.enter(e)
	s.step(e.to)
	d := s.decision(e, e.to)
	d.Plan, d.PlanHash = plan, HashPlan(plan)
	switch {
	case s.m.Ending != nil:
		d.Outcome = s.m.Ending.Outcome
	case s.m.Reapply != nil && s.m.Reapply.Failed != "":
		d.Outcome, d.Why = OutcomeEscalated, s.m.Reapply.Failed
	}
	return d
}

// assume takes the finding for confirmed where that was asked for; what is not known stays so.
func (s *situation) assume() {
	s.d.Confirmed = s.d.Confirmed || s.assumed && s.d.Finding != FindingUnknown
}

func (s *situation) plan() []Action {
	if s.m.Ending != nil || s.r.State.Ended() {
		var undo []Action
		for _, owed := range s.r.Owed() {
			undo = append(undo, owed.Action)
		}
		return undo
	}
	if s.m.Drain != nil {
		return s.drainPlan(s.m.Drain.Node)
	}
	if _, owes := s.owesCreate(); owes {
		return s.reapplyPlan()
	}
	if no := s.refusal(); no.Refuses() && no.Name != RefusedByMode {
		return nil // nothing is planned that would be refused; only mode observe shows what it would do
	}
	switch s.d.Finding {
	case FindingNodeFull:
		if !s.tooManyMissing().Refuses() {
			return s.planDrains()
		}
	case FindingUncovered:
		if !s.tooManyMissing().Refuses() && !s.reapplyRefusal().Refuses() {
			return s.reapplyPlan()
		}
	case FindingAbsent:
		if promo, ok := s.o.Promotion.Get(); ok && promo.Build != 0 && !s.promotionSpent().Refuses() {
			return []Action{s.promotion(promo)}
		}
	case FindingControllerStuck:
		switch {
		case !s.leaseRanOut() && !s.nudged():
			return []Action{s.nudge()}
		case !s.restartRefusal().Refuses():
			return []Action{s.restart()}
		}
	case FindingUnknown, FindingDeleting, FindingRefused, FindingRollingOut, FindingDisk, FindingNoRoom, FindingNodeDown,
		FindingMalfunctioning, FindingNotSelected, FindingHealthy:
	}
	return nil
}

// planDrains plans every full node that may be drained: the one that is taken first, then the others in their order.
func (s *situation) planDrains() []Action {
	var plan []Action
	first := s.d.Node
	if first != "" && !s.drainRefusal(first).Refuses() {
		plan = append(plan, s.drainPlan(first)...)
	}
	for _, v := range s.d.Verdicts {
		if v.Verdict != VerdictNodeFull || v.Node == first {
			continue
		}
		if _, skip := s.m.Skipped[v.Node]; !skip && !s.drainRefusal(v.Node).Refuses() {
			plan = append(plan, s.drainPlan(v.Node)...)
		}
	}
	return plan
}
