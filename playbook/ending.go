package playbook

import (
	"fmt"
	"slices"
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

// final returns an incident's last note of the present state, and whether it was promised. A last note from before the
// incident joined (again), or from a state that the run has left, is none.
func (s *situation) final(in RunIncident) (Intent, bool) {
	var found Intent
	ok := false
	for _, i := range s.intents(KindAnnotate) {
		a, _ := i.Action.(Annotate)
		if a.Incident == in.ID && a.Final && i.Result != NotHappened && !i.PromisedAt.Before(s.m.EnteredAt) && i.PromisedAt.After(in.JoinedAt) {
			found, ok = i, true
		}
	}
	return found, ok
}

// closing reports whether the last note of every open incident has been promised.
func (s *situation) closing() bool {
	open := s.openIncidents()
	for _, in := range open {
		if _, ok := s.final(in); !ok {
			return false
		}
	}
	return len(open) > 0
}

// closed reports whether verifying has nothing left to say: each incident has ended, or has its last note and is not for
// us to resolve.
func (s *situation) closed() bool {
	if s.r.State != Verifying || len(s.r.Incidents) == 0 || s.openLane("pagerduty") {
		return false
	}
	for _, in := range s.openIncidents() {
		facts, known := s.o.Incidents[in.ID].Get()
		last, ok := s.final(in)
		if !ok || last.Open() || !known || (facts.Owner == "" && facts.Status != Resolved) {
			return false
		}
	}
	return true
}

func (s *situation) resolvedAny() bool {
	for _, in := range s.r.Incidents {
		if in.End == OutcomeResolved {
			return true
		}
	}
	return false
}

// resolveRefused reports whether PagerDuty refused to resolve an incident that is still open.
func (s *situation) resolveRefused() bool {
	for _, in := range s.openIncidents() {
		if i := s.resolveOf(in); i != nil && i.Result == Refused && !i.PromisedAt.Before(s.m.EnteredAt) {
			return true
		}
	}
	return false
}

// lastRefusal is what the remote said when it last refused an action of a kind.
func (s *situation) lastRefusal(k Kind) string {
	said := ""
	for _, i := range s.intents(k) {
		if i.Result == Refused || i.Result == NotHappened {
			said = i.Detail
		}
	}
	return orElse(said, "no reason given")
}

// notDone is what the remote said to the newest action of a kind if it did not happen; empty if it did, may still, or was superseded.
func (s *situation) notDone(k Kind) string {
	last := lastOf(s.intents(k))
	if last == nil || last.Result != Refused && last.Result != NotHappened {
		return ""
	}
	return orElse(last.Detail, "no reason given")
}

// unwound reports whether nothing is owed or unsettled and every open incident has its last note, which is still true.
func (s *situation) unwound() bool {
	if len(s.r.Owed()) > 0 || s.changing() || s.openLane("pagerduty") {
		return false
	}
	for _, in := range s.openIncidents() {
		if last, ok := s.final(in); !ok || s.outdated(last) {
			return false
		}
	}
	return true
}

// outdated reports whether something was put back after a last note had said that it was not.
func (s *situation) outdated(note Intent) bool {
	for _, i := range s.r.Intents {
		if i.Undoes != 0 && i.SettledAt.After(note.PromisedAt) && (i.Result == Happened || i.Result == Superseded) {
			return true
		}
	}
	return false
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

// stepVerify watches for the soak time, then notes, then resolves. The resolve is promised only after the note has settled
// and while the carrier is still healthy: one promised long ago could land on a carrier that broke meanwhile.
func (s *situation) stepVerify() {
	if !s.soaked() || s.r.State != Verifying || s.changing() || len(s.r.Owed()) > 0 {
		return
	}
	for _, in := range s.openIncidents() {
		if s.laneOpen(in.ID) {
			continue
		}
		facts, _ := s.o.Incidents[in.ID].Get()
		last, noted := s.final(in)
		switch {
		case !noted:
			s.annotate(in, s.noteResolved(in, facts), true)
			s.wait = min(s.wait, time.Second)
		case !last.Open() && facts.Owner == "" && facts.Status != Resolved:
			s.promise(Resolve{Incident: in.ID}, 0)
			s.wait = min(s.wait, time.Second)
		}
	}
}

// stepUnwind puts back what was changed, then says the ending on every incident: the note first, then the escalation. What
// can not be put back, or whose outcome is not known, is waited for a minute; then a person is told, and Drydock goes on
// trying.
func (s *situation) stepUnwind() {
	s.wait = min(s.wait, 2*time.Second)
	owed := s.r.Owed()
	if !s.changing() {
		s.promiseUndo(owed)
	}
	if s.m.Ending == nil || s.r.State != Unwinding || ((len(owed) > 0 || s.changing()) && s.inStateFor() < undoPatience) {
		return
	}
	s.sayEnding(owed)
}

// escalated reports whether this run has escalated the incident since it joined, in whatever state: a run says its ending in
// queued as well, and once is enough (I7).
func (s *situation) escalated(in RunIncident) bool {
	return slices.ContainsFunc(s.intents(KindEscalate), func(i Intent) bool {
		return i.Action.Target().Name == in.ID && i.PromisedAt.After(in.JoinedAt) && (i.Open() || i.Result == Happened)
	})
}

// sayEnding says the ending on every open incident where it was not said, or is not true any more: the note first, then the
// escalation.
func (s *situation) sayEnding(owed []Obligation) {
	var unsaid []RunIncident
	for _, in := range s.openIncidents() {
		if last, ok := s.final(in); (!ok || (s.outdated(last) && len(owed) == 0)) && !s.laneOpen(in.ID) {
			unsaid = append(unsaid, in)
		}
	}
	escalates := func(in RunIncident) bool { facts, _ := s.o.Incidents[in.ID].Get(); return s.escalates(in, facts) }
	if slices.ContainsFunc(unsaid, escalates) && !s.o.Evidence.Asked() {
		s.want(Want{Kind: WantEvidence})
		return
	}
	for _, in := range unsaid {
		escalate := escalates(in)
		s.annotate(in, s.noteEnding(in, escalate), true)
		if _, again := s.final(in); escalate && !again && !s.escalated(in) {
			s.promise(Escalate{Incident: in.ID, Policy: s.p.DaemonSet.EscalationPolicy, Team: s.p.DaemonSet.Team}, 0)
		}
	}
}

// promiseUndo promises the undo whose turn it is: a create before an uncordon, and one that was just refused after one that
// was not, so that no undo starves behind another.
func (s *situation) promiseUndo(owed []Obligation) {
	for _, creates := range []bool{true, false} {
		for _, o := range owed {
			_, isCreate := o.Action.(Create)
			if isCreate != creates || s.stillDeleting(o.Action) || !s.undoDue(o) || s.forsaken(o) {
				continue
			}
			if isCreate && s.m.Reapply != nil && !s.createDue() && s.inStateFor() < createBy {
				s.want(Want{Kind: WantAdoption, UIDs: s.m.Reapply.PodUIDs})
				continue
			}
			s.promise(o.Action, o.Seq)
			return
		}
	}
}

// forsaken: an old create is left to people (Run.Forsaken), unless it can do no harm, because the DaemonSet exists again.
func (s *situation) forsaken(o Obligation) bool {
	return s.r.Forsaken(o, s.now) && !s.ds().Exists
}

// undoDue spaces repeated tries of one undo: 1, 2, 4 ... seconds, at most half a minute: a DaemonSet is to be there again within a
// minute after the API server takes it.
func (s *situation) undoDue(o Obligation) bool { return undoDue(s.r.Intents, o, s.now) }

func undoDue(intents []Intent, o Obligation, now time.Time) bool {
	pause, last := time.Second/2, time.Time{}
	for _, i := range intents {
		if i.Undoes == o.Seq && (i.Open() || !i.SentAt.IsZero()) { // what was never sent says nothing about the remote
			pause, last = min(2*pause, 30*time.Second), i.SettledAt
		}
	}
	return last.IsZero() || now.Sub(last) >= pause
}

// escalates: a hand-over escalates every incident that is still open; when a person's act on one incident stopped the run,
// the others are handed over.
func (s *situation) escalates(in RunIncident, facts Incident) bool {
	if _, acted := s.actOn(in); acted || s.r.Mode == ModeObserve || facts.Status == Resolved || facts.Gone {
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
		if facts.Status == Resolved || s.laneOpen(in.ID) || (s.m.Said == key && s.noted(in)) {
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
		if len(s.changes()) > 0 {
			return string(st)
		}
	case Draining:
		if s.m.Drain != nil && !s.m.Drain.Reapplied && !s.m.Drain.Over {
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

// noted reports whether an incident has had a note since it joined.
func (s *situation) noted(in RunIncident) bool {
	for _, i := range s.intents(KindAnnotate) {
		if i.Action.Target().Name == in.ID && i.PromisedAt.After(in.JoinedAt) {
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
			out = append(out, fmt.Sprintf("node %s is cordoned by this run%s", a.Node, s.undoRefused(owed)),
				fmt.Sprintf("  undo: kubectl uncordon %s && kubectl annotate node %s drydock.dev/cordon-owner-", a.Node, a.Node))
		case Create:
			out = append(out, fmt.Sprintf("DaemonSet %s/%s was deleted for its reapply; its pods run on, and Drydock keeps trying to create it again (backup %s)%s",
				a.Namespace, a.Name, clip(a.BackupSHA256, 12), s.undoRefused(owed)),
				fmt.Sprintf("  look: kubectl -n %s get daemonset %s", a.Namespace, a.Name),
				fmt.Sprintf("  undo: kubectl -n %s create -f <its manifest>, or promote its component again; Drydock never overwrites it", a.Namespace))
		default:
			out = append(out, strings.ToLower(string(a.Kind()))+" "+a.Target().String())
		}
	}
	for _, i := range s.r.OpenIntents() {
		if IsChange(i.Action) && !i.SentAt.IsZero() {
			out = append(out, fmt.Sprintf("whether the %s of %s happened is not known%s", kindWords(i.Action.Kind()), i.Action.Target(), lookAt(i.Action.Target())))
		}
	}
	return out
}

// undoRefused is what the API server said against the newest try to take something back, to follow what is owed.
func (s *situation) undoRefused(owed Obligation) string {
	said := ""
	for _, i := range s.r.Intents {
		if i.Undoes == owed.Seq && !i.Open() {
			said = ""
			if i.Result == Refused {
				said = "; taking it back was refused: " + orElse(i.Detail, "no reason given")
			}
		}
	}
	return said
}

// lookAt is the command that shows an object, for a person who has to find out.
func lookAt(ref Ref) string {
	switch ref.Kind {
	case "Node":
		return ": kubectl get node " + ref.Name
	case "Pod", "DaemonSet":
		return ": kubectl -n " + ref.Namespace + " get " + strings.ToLower(ref.Kind) + " " + ref.Name
	}
	return ""
}

func kindWords(k Kind) string { return strings.ReplaceAll(string(k), "_", " ") }

// changes lists in words what the run changed, from its intents: it can not disagree with the history.
func (s *situation) changes() []string {
	var out []string
	nodes := map[string]*nodeChanges{}
	on := func(node string) *nodeChanges {
		if nodes[node] == nil {
			nodes[node] = &nodeChanges{}
			out = append(out, node) // its place; what was done there is known in the end
		}
		return nodes[node]
	}
	for _, i := range s.r.Intents {
		if i.Result != Happened {
			continue
		}
		switch a := i.Action.(type) {
		case Cordon:
			on(a.Node).cordoned++
		case Uncordon:
			on(a.Node).uncordoned++
		case Evict:
			on(a.Node).evicted = append(on(a.Node).evicted, a.Namespace+"/"+a.Pod)
		case OrphanDelete:
			out = append(out, fmt.Sprintf("deleted DaemonSet %s/%s without its pods", a.Namespace, a.Name))
		case Create:
			line := fmt.Sprintf("created DaemonSet %s/%s again from its own backup", a.Namespace, a.Name)
			if s.m.Adopted != "" {
				line += ": " + s.m.Adopted
			}
			out = append(out, line)
		case Nudge:
			out = append(out, fmt.Sprintf("nudged DaemonSet %s/%s", a.Namespace, a.Name))
		case Promote:
			out = append(out, fmt.Sprintf("promoted build %d (version %s) of %s to %s again: its other parts were redeployed too, so alerts about them may come from this",
				a.Build, a.Version, a.Component, a.Carrier))
		case RestartControllerManager:
			out = append(out, "restarted the controller-manager "+a.Holder)
		case Annotate, Acknowledge, Escalate, Resolve:
		}
	}
	for i, line := range out {
		if done := nodes[line]; done != nil {
			out[i] = "node " + line + ": " + done.words()
		}
	}
	return out
}

// nodeChanges is what was done to one node.
type nodeChanges struct {
	cordoned, uncordoned int
	evicted              []string
}

func (n *nodeChanges) words() string {
	var parts []string
	if n.cordoned > 0 {
		parts = append(parts, "cordoned")
	}
	if k := len(n.evicted); k > 0 {
		parts = append(parts, "evicted "+count(k, "pod")+" ("+strings.Join(n.evicted, ", ")+")")
	}
	switch {
	case n.uncordoned == 0:
	case n.uncordoned < n.cordoned:
		parts = append(parts, "uncordoned and cordoned again")
	default:
		parts = append(parts, "uncordoned")
	}
	return strings.Join(parts, ", ")
}
