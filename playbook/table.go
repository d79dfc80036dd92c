package playbook

import "fmt"

// guard is a named pure predicate.
type guard struct {
	name string // a sentence's end: "when <name>"
	ok   func(*situation) bool
}

// edge leads to a state when its guard holds; the last edge of a cell has none. An edge into unwinding carries the ending
// that unwinding leads to.
type edge struct {
	when *guard
	to   State
	end  Outcome
	why  func(*situation) string // for an ending: why; the diagnosis' own words when nil
	// refusal is why for an ending that a protection of ours leads to.
	refusal func(*situation) Refusal
}

// row is a state's default cell and its exceptions.
type row struct {
	about    string // what a run does in this state, for docs/runbook.md
	standard []edge
	by       map[Finding][]edge
}

func (r row) cell(f Finding) []edge {
	if c, ok := r.by[f]; ok {
		return c
	}
	return r.standard
}

// The guards. Each is one question about the situation.
var (
	gHumanActed = &guard{"a person acted on an incident", func(s *situation) bool { _, _, ok := s.stoppingAct(); return ok }}
	gRecovered  = &guard{"others resolved every incident", (*situation).recovered}
	gCancelled  = &guard{"the run was cancelled", func(s *situation) bool { return s.ledger.Cancelled != "" }}
	gKillSwitch = &guard{"the kill switch is engaged", func(s *situation) bool { return s.ledger.KillSwitch != "" }}
	gDeadline   = &guard{"the deadline has passed, or is too near for looks as slow as this", (*situation).overdue}
	gTargetBusy = &guard{"another run of the target is unwinding", func(s *situation) bool { return !s.ledgerKnown || s.ledger.TargetHolder != "" }}
	gGivingUp   = &guard{"its deadline has passed, and that is being said", func(s *situation) bool { return s.m.Ending != nil }}
	gGivenUp    = &guard{"its deadline has passed, and it was handed over", func(s *situation) bool {
		return s.m.Ending != nil && s.unwound() && s.endOutcome() == OutcomeEscalated
	}}
	gUnheard           = &guard{"its deadline has passed, it was noted, and nobody is to be called", func(s *situation) bool { return s.m.Ending != nil && s.unwound() }}
	gUnconfirmed       = &guard{"not yet confirmed", func(s *situation) bool { return !s.d.Confirmed }}
	gBlind             = &guard{"a reading beyond the carrier is missing", func(s *situation) bool { return s.blind != "" }}
	gBlindToChange     = &guard{"a reading without which nothing may be changed is missing", func(s *situation) bool { return s.blindToChange() != "" }}
	gStale             = &guard{"the database is behind the carrier", (*situation).stale}
	gObserving         = &guard{"the mode is observe", func(s *situation) bool { return s.r.Mode == ModeObserve }}
	gClaimHeld         = &guard{"another run holds the carrier's claim", func(s *situation) bool { return s.ledger.ClaimHolder != "" }}
	gRefused           = &guard{"no change may be made now", func(s *situation) bool { return s.refusal().Refuses() }}
	gSurgery           = &guard{"work on nodes is refused", func(s *situation) bool { return s.surgeryRefusal().Refuses() }}
	gUnapproved        = &guard{"the plan needs a person's approval", func(s *situation) bool { return s.r.Mode == ModeApprove && !s.approved() }}
	gBackupOwed        = &guard{"this run still owes the DaemonSet's re-creation", func(s *situation) bool { _, ok := s.owesCreate(); return ok }}
	gNamespace         = &guard{"the namespace is gone", (*situation).namespaceGone}
	gNoNamespace       = &guard{"the namespace could not be read", func(s *situation) bool { return !s.o.Namespace.IsKnown() }}
	gNoPromotion       = &guard{"no promotion is configured", func(s *situation) bool { return s.p.DaemonSet.Promotion == "" }}
	gSource            = &guard{"the version source did not answer", func(s *situation) bool { return !s.o.Promotion.IsKnown() }}
	gOnPurpose         = &guard{"it was deleted on purpose", func(s *situation) bool { return s.onPurpose() != "" && !s.approved() }}
	gNoBuild           = &guard{"no build has the deployed version", (*situation).noBuild}
	gPromoted          = &guard{"it was promoted before", func(s *situation) bool { return s.promotionSpent().Refuses() }}
	gHopeless          = &guard{"nothing is left to try on the controller", func(s *situation) bool { return s.controllerHopeless().Refuses() }}
	gSkipped           = &guard{"every full node is left alone", func(s *situation) bool { return s.d.Node == "" }}
	gNoReapply         = &guard{"a reapply is not allowed", func(s *situation) bool { return s.reapplyRefusal().Refuses() }}
	gDiskOver          = &guard{"the wait for the disks is over", func(s *situation) bool { return s.inStateFor() >= s.p.Timing.DiskWait }}
	gPromoteLost       = &guard{"the promotion failed, or what became of it is not known", func(s *situation) bool { return s.promotionFailure() != "" }}
	gRedeployed        = &guard{"the promotion has ended and the DaemonSet exists", (*situation).redeployed}
	gRedeployOver      = &guard{"the wait for the promotion is over", func(s *situation) bool { return s.inStateFor() >= s.p.Timing.RedeployWait }}
	gControllerSettled = &guard{"the controller had time to follow", (*situation).controllerSettled}
	gControllerBack    = &guard{"the controller has caught up", func(s *situation) bool {
		return !s.changing() && s.d.Finding != FindingControllerStuck && s.d.Finding != FindingUnknown && (s.nudged() || s.restarted())
	}}
	gDrainOver     = &guard{"the drain is over", func(s *situation) bool { return s.m.Drain == nil && !s.changing() }}
	gDrainReapply  = &guard{"the drained node still needs a reapply", (*situation).drainWantsReapply}
	gCreateBlocked = &guard{"the DaemonSet could not be created again for a minute", (*situation).createBlocked}
	gReapplyFailed = &guard{"the reapply could not be done", func(s *situation) bool {
		return s.reapplyOver() && s.m.Reapply.Failed != "" && s.m.Drain == nil
	}}
	gReapplyBack     = &guard{"the reapply is over and a node is still cordoned", func(s *situation) bool { return s.reapplyOver() && s.m.Drain != nil }}
	gReapplyDone     = &guard{"the reapply is over", (*situation).reapplyOver}
	gUnexplained     = &guard{"it soaked and an incident has an alert about something else", func(s *situation) bool { return s.soaked() && s.unexplained() != "" }}
	gClosed          = &guard{"it soaked, was noted and resolved", (*situation).closed}
	gNotResolved     = &guard{"PagerDuty refused the resolve", (*situation).resolveRefused}
	gApproved        = &guard{"the plan was approved", (*situation).approved}
	gApprovalOver    = &guard{"the wait for an approval is over", func(s *situation) bool { return s.inStateFor() >= s.p.Timing.Approval }}
	gUnwound         = &guard{"nothing is owed and everything is said", (*situation).unwound}
	gSuperseded      = &guard{"it was noted, and others resolved or took over every incident", func(s *situation) bool { return s.closed() && !s.resolvedAny() }}
	gEndingEscalated = &guard{"nothing is owed, everything is said, and the ending is escalated", func(s *situation) bool { return s.unwound() && s.endOutcome() == OutcomeEscalated }}
)

// handOver is an edge that ends in escalation.
func handOver(when *guard, why func(*situation) string) edge {
	return edge{when: when, to: Unwinding, end: OutcomeEscalated, why: why}
}

// refuses is a hand-over because a protection refuses the change.
func refuses(when *guard, no func(*situation) Refusal) edge {
	return edge{when: when, to: Unwinding, end: OutcomeEscalated, refusal: no}
}

func standDown(when *guard, why func(*situation) string) edge {
	return edge{when: when, to: Unwinding, end: OutcomeStoodDown, why: why}
}

func stay(st State) edge { return edge{to: st} }

func said(text string) func(*situation) string { return func(*situation) string { return text } }

// globalEdges come first in every state but unwinding and the ends.
func globalEdges() []edge {
	return []edge{
		standDown(gHumanActed, func(s *situation) string {
			in, act, _ := s.stoppingAct()
			return fmt.Sprintf("%s %s the incident %s; Drydock stops and leaves it to them", orElse(act.Who, "a person"), actVerb(act.Kind), in.label())
		}),
		standDown(gRecovered, func(s *situation) string {
			for _, in := range s.openIncidents() {
				if facts, _ := s.o.Incidents[in.ID].Get(); facts.Gone {
					return "PagerDuty knows no incident " + in.ID
				}
			}
			if s.d.Finding == FindingHealthy {
				return "the alert recovered: the incident was resolved by others, and " + s.d.Why
			}
			return "the incident was resolved by others"
		}),
		standDown(gCancelled, func(s *situation) string { return "the run was cancelled by " + s.ledger.Cancelled }),
		refuses(gKillSwitch, func(s *situation) Refusal {
			return refuse(RefusedByKill, "the kill switch is engaged: %s", s.ledger.KillSwitch)
		}),
		refuses(gStale, (*situation).leaseRefusal),
		handOver(gDeadline, func(s *situation) string {
			return s.lateness() + ": " + orElse(s.blind, s.reason())
		}),
	}
}

func actVerb(k ActKind) string {
	switch k {
	case ActAcknowledged:
		return "acknowledged"
	case ActResolved:
		return "resolved"
	case ActReassigned:
		return "took over"
	case ActSnoozed:
		return "snoozed"
	case ActMerged:
		return "merged"
	case ActHandsOff:
		return "said \"hands off\" on"
	case ActApproved, ActOnPurpose:
	}
	return "acted on"
}

// change is the common head of every cell that leads to a change of the carrier: what must hold before it, in order.
// when is the guard of the changes' own refusals.
func change(when *guard, no func(*situation) Refusal, rest ...edge) []edge {
	head := []edge{
		{when: gUnconfirmed, to: Triage},
		{when: gBlindToChange, to: Triage},
	}
	head = append(head, edge{when: gObserving, to: Unwinding, end: OutcomeStoodDown, refusal: func(s *situation) Refusal {
		return refuse(RefusedByMode, "the carrier's mode is observe: %s", s.d.Why)
	}})
	return append(append(head, rest...),
		refuses(when, no),
		edge{when: gUnapproved, to: AwaitingApproval},
		edge{when: gClaimHeld, to: Triage},
	)
}

// report is the cell of a finding that Drydock does not repair.
func report() []edge {
	return []edge{
		{when: gUnconfirmed, to: Triage},
		standDown(gObserving, nil),
		handOver(nil, nil),
	}
}

// approval is the cell of a plan that a person may approve.
func approval() []edge {
	return []edge{
		{when: gApproved, to: Triage},
		handOver(gApprovalOver, func(s *situation) string {
			if why := s.onPurpose(); why != "" && len(s.plan()) == 0 {
				return "nobody answered in time: " + why
			}
			return "nobody approved the plan in time: " + orElse(s.onPurpose(), s.d.Why)
		}),
		stay(AwaitingApproval),
	}
}

// table is the machine: the only place that knows transitions. docs/runbook.md is rendered from it.
func table() map[State]row {
	refused := (*situation).refusal
	surgery := (*situation).surgeryRefusal
	return map[State]row{
		Queued: {
			about: "The run waits until an earlier run of the same target has ended; at its own deadline it is handed over from here.",
			standard: []edge{
				{when: gGivenUp, to: StateEscalated},
				{when: gUnheard, to: StateStoodDown},
				{when: gGivingUp, to: Queued},
				{when: gTargetBusy, to: Queued},
				stay(Triage),
			},
		},
		Triage: {
			about:    "Look at the carrier, find out why nodes are missing, and look again until that is confirmed.",
			standard: report(),
			by: map[Finding][]edge{
				FindingUnknown:    {stay(Triage)},
				FindingRollingOut: {stay(Triage)},
				FindingAbsent: append(append([]edge{{when: gBackupOwed, to: Reapplying}}, change(gRefused, refused,
					handOver(gNamespace, said("the DaemonSet's namespace is gone or being deleted: nothing can be created in it")),
					edge{when: gNoNamespace, to: Triage},
					handOver(gNoPromotion, said("the DaemonSet is absent, and no promotion is configured for it")),
					edge{when: gSource, to: Triage},
					edge{when: gOnPurpose, to: AwaitingApproval},
					handOver(gNoBuild, func(s *situation) string {
						promo, _ := s.o.Promotion.Get()
						return "the DaemonSet is absent, and the CI has no build of its deployed version " + promo.Version
					}),
					refuses(gPromoted, (*situation).promotionSpent),
				)...), stay(Redeploying)),
				FindingControllerStuck: append(change(gRefused, refused,
					refuses(gHopeless, (*situation).controllerHopeless)),
					stay(RestartingController)),
				FindingDisk: {standDown(gObserving, nil), stay(WaitingForDisk)},
				FindingNodeFull: append(change(gSurgery, surgery,
					handOver(gSkipped, (*situation).leftFull)), stay(Draining)),
				FindingUncovered: append(change(gSurgery, surgery,
					refuses(gNoReapply, func(s *situation) Refusal {
						no := s.reapplyRefusal()
						no.Why = s.d.Why + "; the DaemonSet is not reapplied: " + no.Why
						return no
					})),
					stay(Reapplying)),
				FindingHealthy: {stay(Verifying)},
			},
		},
		WaitingForDisk: {
			about: "The disks come first, as in the runbook: wait, look again, go on only when the pressure is gone.",
			standard: []edge{
				stay(Triage),
			},
			by: map[Finding][]edge{
				FindingUnknown: {handOver(gDiskOver, nil), stay(WaitingForDisk)},
				FindingDisk: {
					handOver(gDiskOver, func(s *situation) string {
						return fmt.Sprintf("still pressed after %s: %s", short(s.inStateFor()), s.d.Why)
					}),
					stay(WaitingForDisk),
				},
			},
		},
		Redeploying: {
			about: "The DaemonSet's deployed build is promoted again, once, and followed to its end.",
			standard: []edge{
				handOver(gPromoteLost, (*situation).promotionFailure),
				{when: gRedeployed, to: Triage},
				handOver(gRedeployOver, said("the promotion did not bring the DaemonSet back in time")),
				stay(Redeploying),
			},
		},
		RestartingController: {
			about: "The DaemonSet is nudged, so that its controller looks at it at once; where that does not help and the proof is there, the leading controller-manager is restarted.",
			standard: []edge{
				{when: gControllerBack, to: Triage},
				{when: gControllerSettled, to: Triage},
				stay(RestartingController),
			},
		},
		Draining: {
			about: "One full node is cordoned, as few pods as needed are evicted, and the node is given back.",
			standard: []edge{
				{when: gDrainOver, to: Triage},
				{when: gDrainReapply, to: Reapplying},
				stay(Draining),
			},
		},
		Reapplying: {
			about: "The DaemonSet is deleted without its pods and created again from its own backup; every pod is kept.",
			standard: []edge{
				{when: gReapplyBack, to: Draining},
				handOver(gCreateBlocked, func(s *situation) string {
					return fmt.Sprintf("the DaemonSet could not be created again for %s: %s", short(undoPatience), s.lastRefusal(KindCreate))
				}),
				handOver(gReapplyFailed, func(s *situation) string { return s.m.Reapply.Failed }),
				{when: gReapplyDone, to: Triage},
				stay(Reapplying),
			},
		},
		Verifying: {
			about:    "Every expected node is covered: watch for the soak time, note it, resolve.",
			standard: []edge{{when: gSuperseded, to: StateStoodDown}, {when: gClosed, to: StateResolved}, stay(Triage)},
			by: map[Finding][]edge{
				FindingUnknown:    {{when: gSuperseded, to: StateStoodDown}, {when: gClosed, to: StateResolved}, stay(Verifying)},
				FindingRollingOut: {{when: gSuperseded, to: StateStoodDown}, {when: gClosed, to: StateResolved}, stay(Verifying)},
				FindingHealthy: {
					{when: gSuperseded, to: StateStoodDown},
					{when: gClosed, to: StateResolved},
					handOver(gNotResolved, func(s *situation) string {
						return "the carrier is healthy, and PagerDuty refused the resolve: " + s.lastRefusal(KindResolve)
					}),
					{when: gBlind, to: Verifying},
					standDown(gUnsoakedObserve, said("the carrier's mode is observe: every expected node has a ready daemon pod")),
					handOver(gUnexplained, (*situation).unexplained),
					standDown(gOwned, (*situation).owned),
					stay(Verifying),
				},
			},
		},
		AwaitingApproval: {
			about:    "The plan is on the incident; a person may approve it until it expires.",
			standard: []edge{stay(Triage)},
			by: map[Finding][]edge{
				FindingUnknown:         {handOver(gApprovalOver, nil), stay(AwaitingApproval)},
				FindingRollingOut:      {handOver(gApprovalOver, nil), stay(AwaitingApproval)},
				FindingAbsent:          approval(),
				FindingControllerStuck: approval(),
				FindingNodeFull:        approval(),
				FindingUncovered:       approval(),
			},
		},
		Unwinding: {
			about: "What was changed is put back; then the ending is noted and, at a hand-over, the incident escalated.",
			standard: []edge{
				{when: gEndingEscalated, to: StateEscalated},
				{when: gUnwound, to: StateStoodDown},
				stay(Unwinding),
			},
		},
		StateResolved:  {about: "Drydock resolved the incident.", standard: []edge{stay(StateResolved)}},
		StateEscalated: {about: "The incident was handed over with all the evidence.", standard: []edge{stay(StateEscalated)}},
		StateStoodDown: {about: "Others ended it, or Drydock was asked to stop or not to act.", standard: []edge{stay(StateStoodDown)}},
	}
}

var (
	gUnsoakedObserve = &guard{"it soaked and the mode is observe", func(s *situation) bool { return s.soaked() && s.r.Mode == ModeObserve }}
	gOwned           = &guard{"it soaked and a person owns every open incident", func(s *situation) bool { return s.soaked() && s.owned() != "" }}
)

var machine = table()
