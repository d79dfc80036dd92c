package playbook

import (
	"fmt"
	"strings"
	"time"
)

// undoPatience is how long an undo may stay blocked before the incident is handed over with it still owed (I8).
const undoPatience = time.Minute

func (in RunIncident) label() string {
	if in.Number > 0 {
		return fmt.Sprintf("#%d", in.Number)
	}
	return in.ID
}

// soaked reports whether every expected node has been covered for the soak time, in at least three looks.
func (s *situation) soaked() bool {
	return s.d.Finding == FindingHealthy && s.blind == "" && s.m.Sightings.held(claimHealthy, s.p.Timing.Soak, 3)
}

// unexplained says which incident has an alert that is about something else, or nothing.
func (s *situation) unexplained() string {
	for _, in := range s.openIncidents() {
		facts, _ := s.o.Incidents[in.ID].Get()
		if len(facts.Unexplained) > 0 {
			return fmt.Sprintf("%s/%s is healthy, and incident %s has an alert about something else: %s",
				s.r.Target.Namespace, s.r.Target.DaemonSet, in.label(), clip(facts.Unexplained[0], 160))
		}
	}
	return ""
}

// owned says that people own every open incident, so that Drydock does not resolve over their heads; or nothing.
func (s *situation) owned() string {
	open := s.openIncidents()
	owner := ""
	for _, in := range open {
		facts, _ := s.o.Incidents[in.ID].Get()
		if facts.Owner == "" {
			return ""
		}
		owner = facts.Owner
	}
	if owner == "" {
		return ""
	}
	return s.d.Why + "; " + owner + " owns the incident and resolves it"
}

// finals returns an incident's last note, and whether it was promised.
func (s *situation) final(incident string) (Intent, bool) {
	for _, i := range s.intents(KindAnnotate) {
		if a, ok := i.Action.(Annotate); ok && a.Incident == incident && a.Final {
			return i, true
		}
	}
	return Intent{}, false
}

// closing reports whether the last notes have been promised.
func (s *situation) closing() bool {
	for _, in := range s.r.Incidents {
		if _, ok := s.final(in.ID); ok {
			return true
		}
	}
	return false
}

// closed reports whether every open incident has its last note, and nothing is on its way to PagerDuty.
func (s *situation) closed() bool {
	if !s.closing() || s.openLane("pagerduty") {
		return false
	}
	for _, in := range s.openIncidents() {
		if _, ok := s.final(in.ID); !ok {
			return false
		}
	}
	return true
}

func (s *situation) resolvedAny() bool {
	for _, i := range s.intents(KindResolve) {
		if i.Result == Happened {
			return true
		}
	}
	return false
}

// unwound reports whether nothing is owed or unsettled and every incident has its last note.
func (s *situation) unwound() bool {
	return len(s.r.Owed()) == 0 && !s.changing() && (s.closed() || len(s.openIncidents()) == 0)
}

// endOutcome is the ending that was set on entering unwinding; a hand-over that found every incident resolved by others
// has become a stand-down.
func (s *situation) endOutcome() Outcome {
	if s.m.Ending == nil {
		return OutcomeStoodDown
	}
	if s.m.Ending.Outcome == OutcomeEscalated && len(s.r.Incidents) > 0 {
		for _, i := range s.intents(KindEscalate) {
			if i.Result == Happened || i.Result == Refused {
				return OutcomeEscalated
			}
		}
		return OutcomeStoodDown
	}
	return s.m.Ending.Outcome
}

// incidentEnd is how one incident ended, by what its lane took.
func (s *situation) incidentEnd(in RunIncident) Outcome {
	end := OutcomeStoodDown
	for _, i := range s.r.Intents {
		switch a := i.Action.(type) {
		case Resolve:
			if a.Incident == in.ID && i.Result == Happened {
				end = OutcomeResolved
			}
		case Escalate:
			if a.Incident == in.ID && (i.Result == Happened || i.Result == Refused) {
				end = OutcomeEscalated
			}
		default:
		}
	}
	return end
}

// stepVerify watches for the soak time, then notes and resolves: the note first, in the same lane.
func (s *situation) stepVerify() {
	if !s.soaked() || s.r.State != Verifying || s.changing() || len(s.r.Owed()) > 0 {
		return
	}
	for _, in := range s.openIncidents() {
		if _, promised := s.final(in.ID); promised || s.laneOpen(in.ID) {
			continue
		}
		facts, _ := s.o.Incidents[in.ID].Get()
		resolve := facts.Owner == "" && facts.Status != Resolved
		s.annotate(in, s.noteResolved(in, facts), true)
		if resolve {
			s.promise(Resolve{Incident: in.ID}, 0)
		}
	}
}

// stepUnwind puts back what was changed, then says the ending on every incident: the note first, then the escalation.
func (s *situation) stepUnwind() {
	s.wait = min(s.wait, 2*time.Second)
	if s.changing() {
		return
	}
	owed := s.r.Owed()
	if len(owed) > 0 {
		if !s.stillDeleting(owed[0].Action) {
			s.promise(owed[0].Action, owed[0].Seq)
		}
		if s.inStateFor() < undoPatience {
			return
		}
	}
	if s.m.Ending == nil || s.r.State != Unwinding {
		return
	}
	if s.m.Ending.Outcome == OutcomeEscalated && !s.o.Evidence.Asked() && !s.closing() {
		s.want(Want{Kind: WantEvidence})
		return
	}
	for _, in := range s.openIncidents() {
		if _, promised := s.final(in.ID); promised || s.laneOpen(in.ID) {
			continue
		}
		facts, _ := s.o.Incidents[in.ID].Get()
		escalate := s.escalates(in, facts)
		s.annotate(in, s.noteEnding(in, escalate), true)
		if escalate {
			s.promise(Escalate{Incident: in.ID, Policy: s.p.DaemonSet.EscalationPolicy, Team: s.p.DaemonSet.Team}, 0)
		}
	}
}

// escalates: a hand-over escalates every incident that is still open; when a person's act on one incident stopped the run,
// the others are handed over.
func (s *situation) escalates(in RunIncident, facts Incident) bool {
	if s.r.Mode == ModeObserve || facts.Status == Resolved {
		return false
	}
	end := s.m.Ending
	return end.Outcome == OutcomeEscalated || (end.Acted != "" && end.Acted != in.ID)
}

// stillDeleting: a create is not asked for while the API server still holds the old object.
func (s *situation) stillDeleting(a Action) bool {
	_, isCreate := a.(Create)
	ds, known := s.o.DaemonSet.Get()
	return isCreate && known && ds.Exists && ds.DeletedAt != nil
}

func (s *situation) laneOpen(incident string) bool {
	for _, i := range s.r.Intents {
		if i.Open() && i.Lane == PagerDutyLane(incident) {
			return true
		}
	}
	return false
}

// annotate promises the run's rolling note on an incident: the same note is rewritten where PagerDuty lets us.
func (s *situation) annotate(in RunIncident, text string, final bool) {
	note, ids := "", map[string]bool{}
	for _, i := range s.intents(KindAnnotate) {
		if a, ok := i.Action.(Annotate); ok && a.Incident == in.ID && i.Receipt != "" {
			note, ids[i.Receipt] = i.Receipt, true
		}
	}
	if len(ids) >= 2 && !final {
		return // the note can not be edited here: the third and last one is kept for the ending
	}
	marker := fmt.Sprintf("[drydock run=%s note=%d]", s.r.ID, len(s.r.Intents)+len(s.promises)+1)
	s.promise(Annotate{Incident: in.ID, Note: note, Marker: marker, Text: text + "\n" + marker, Final: final}, 0)
}

// speak keeps the rolling note up to date: once for each thing that the run begins or waits for.
func (s *situation) speak(st State) {
	key := s.topic(st)
	if key == "" || s.blind != "" || s.closing() {
		return
	}
	for _, in := range s.openIncidents() {
		facts, _ := s.o.Incidents[in.ID].Get()
		if facts.Status == Resolved || s.laneOpen(in.ID) || (s.m.Said == key && s.annotated(in.ID)) {
			continue
		}
		s.annotate(in, s.noteProgress(st), false)
		if s.p.Acknowledge && st != Triage && facts.Status == Triggered && facts.Owner == "" && s.r.Mode == ModeAct && !s.acknowledged(in.ID) {
			s.promise(Acknowledge{Incident: in.ID}, 0)
		}
	}
	s.m.Said = key
}

// topic is what the note is about in a state; empty when there is nothing to say yet.
func (s *situation) topic(st State) string {
	switch st {
	case WaitingForDisk, Redeploying, RestartingController, Reapplying, AwaitingApproval:
		return string(st)
	case Verifying:
		if len(s.m.Done) > 0 {
			return string(st)
		}
	case Draining:
		if s.m.Drain != nil {
			return string(st) + " " + s.m.Drain.Node
		}
	case Triage:
		if s.m.Waiting == waitingForClaim {
			return "waiting for run " + s.ledger.ClaimHolder
		}
	case Queued, Unwinding, StateResolved, StateEscalated, StateStoodDown:
	}
	return ""
}

func (s *situation) annotated(incident string) bool {
	for _, i := range s.intents(KindAnnotate) {
		if i.Action.Target().Name == incident {
			return true
		}
	}
	return false
}

func (s *situation) acknowledged(incident string) bool {
	for _, i := range s.intents(KindAcknowledge) {
		if i.Action.Target().Name == incident {
			return true
		}
	}
	return false
}

// stillChanged lists in words what the run changed and still owes, with the command that puts it back by hand.
func (s *situation) stillChanged() []string {
	var out []string
	for _, owed := range s.r.Owed() {
		switch a := owed.Action.(type) {
		case Uncordon:
			out = append(out, fmt.Sprintf("node %s is cordoned by this run: kubectl uncordon %s && kubectl annotate node %s drydock.dev/cordon-owner-",
				a.Node, a.Node, a.Node))
		case Create:
			out = append(out, fmt.Sprintf("DaemonSet %s/%s was deleted for its reapply; its manifest is kept with this run (backup %s) and Drydock keeps trying to create it",
				a.Namespace, a.Name, clip(a.BackupSHA256, 12)))
		default:
			out = append(out, strings.ToLower(string(a.Kind()))+" "+a.Target().String())
		}
	}
	return out
}
