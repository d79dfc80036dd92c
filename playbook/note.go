package playbook

import (
	"fmt"
	"slices"
	"strings"
)

// noteLimit keeps a note short enough to be read at 3 a.m. (pagerduty.md 5.2); evidence beyond it is in the run's history.
const noteLimit = 4000

// nodesShown is how many nodes a note lists by name.
const nodesShown = 8

// foundShown is how many nodes a note names for one finding.
const foundShown = 3

// relatedShown is how many other incidents of the run a note names.
const relatedShown = 5

type noteText struct{ strings.Builder }

func (n *noteText) line(format string, args ...any) {
	fmt.Fprintf(n, format, args...)
	n.WriteByte('\n')
}

func (n *noteText) item(label, format string, args ...any) {
	n.line("%-13s %s", label, fmt.Sprintf(format, args...))
}

// list writes lines under one label.
func (n *noteText) list(label string, lines []string) {
	for i, l := range lines {
		if i > 0 {
			label = ""
		}
		n.item(label, "%s", l)
	}
}

func (s *situation) name() string {
	return s.r.Target.Namespace + "/" + s.r.Target.DaemonSet
}

// noteProgress says what the run found and is doing now.
func (s *situation) noteProgress(st State) string {
	var n noteText
	n.line("Drydock is on it: %s on %s. %s", s.name(), s.r.Target.Carrier, s.doing(st))
	if st == AwaitingApproval {
		s.approvalWanted(&n)
	}
	s.alsoSee(&n)
	s.found(&n)
	s.nodes(&n)
	if changed := s.changes(); len(changed) > 0 {
		n.list("Done so far:", changed)
	}
	if still := s.stillChanged(); len(still) > 0 {
		n.list("Changed now:", still)
	}
	n.item("To stop it:", "%s this incident, or add the note \"drydock hands off\"; Drydock then takes back what is still changed", s.stopsBy())
	return s.close(&n)
}

// stopsBy is what a person does on the incident to stop the run.
func (s *situation) stopsBy() string {
	if s.p.StopOnAck {
		return "acknowledge, reassign or resolve"
	}
	return "reassign or resolve"
}

// approvalWanted lists the plan, action by action, and how to approve it.
func (s *situation) approvalWanted(n *noteText) {
	plan := s.plan()
	if len(plan) == 0 {
		return
	}
	if why := s.onPurpose(); why != "" {
		n.item("Careful:", "%s; approve only if that is wrong, else resolve this incident", why)
	}
	var lines []string
	for i, a := range plan {
		if i == planShown {
			lines = append(lines, fmt.Sprintf("and %d more, in the run", len(plan)-planShown))
			break
		}
		lines = append(lines, fmt.Sprintf("%d. %s", i+1, describePlan(plan[i:i+1])))
		if _, promotes := a.(Promote); promotes {
			lines = append(lines, "   "+promotionWarning)
		}
	}
	n.list("Plan:", lines)
	hash := HashPlan(plan)
	n.item("To approve:", "drydock runs approve %s --plan-hash %s", s.r.ID, hash)
	if len(s.p.Approvers) > 0 {
		n.item("", "or, for a listed approver, a note on this incident with the line \"drydock approve %s\"", hash)
	}
}

// planShown is how many actions of a plan a note lists.
const planShown = 12

// promotionWarning is the runbook's own: "may cause additional alerts to trigger".
const promotionWarning = "A promotion redeploys every part of the component, so alerts about its other parts may fire: look at those as well."

// doing says what happens now, and what comes next.
func (s *situation) doing(st State) string {
	switch st {
	case WaitingForDisk:
		return fmt.Sprintf("Disks come first: waiting up to %s for them (runbook armada-carrier-node-filesystem-space), then looking again.",
			short(s.p.Timing.DiskWait))
	case Redeploying:
		promo, _ := s.o.Promotion.Get()
		return fmt.Sprintf("It is absent, so build %d of %s (version %s) is being promoted to this carrier again. %s",
			promo.Build, orElse(promo.Component, "its component"), orElse(promo.Version, "not known"), promotionWarning)
	case RestartingController:
		return "Its controller does not follow: nudging the DaemonSet, so that it is looked at now; a restart of the controller-manager only with proof."
	case Draining:
		if s.m.Drain != nil {
			return fmt.Sprintf("Making room on the full node %s: cordon it, move as few pods as needed, uncordon it.", s.m.Drain.Node)
		}
	case Reapplying:
		return "Deleting the DaemonSet without its pods and creating it again from its own backup, within a minute; no pod restarts."
	case AwaitingApproval:
		within := short(s.p.Timing.Approval)
		if why := s.onPurpose(); why != "" && len(s.plan()) == 0 {
			return fmt.Sprintf("There is nothing to do: %s. Resolve this incident if that is right; within %s it is handed over.", why, within)
		}
		return fmt.Sprintf("A person has to approve the plan within %s, else this is handed over. Nothing was changed.", within)
	case Verifying:
		return fmt.Sprintf("Every expected node has its daemon pod again; watching for %s, then resolving.", short(s.p.Timing.Soak))
	case Triage:
		if s.m.Waiting != "" {
			return "Waiting for " + s.holder() + ", which is changing this carrier: one run at a time, and its repair may be this one's."
		}
	case Queued, Unwinding, StateResolved, StateEscalated, StateStoodDown:
	}
	return "Looking into it."
}

// noteResolved is the last note of a repaired carrier.
func (s *situation) noteResolved(in RunIncident, facts Incident) string {
	var n noteText
	verb := "Drydock resolves this incident"
	switch {
	case facts.Status == Resolved:
		verb = "This incident was resolved by others"
	case facts.Owner != "":
		verb = "Drydock leaves resolving to " + facts.Owner
	}
	switch {
	case len(s.changes()) > 0:
		n.line("%s: %s on %s is repaired.", verb, s.name(), s.r.Target.Carrier)
	case len(s.m.Found) > 0:
		n.line("%s: %s on %s is healthy again, and this run changed nothing for it.", verb, s.name(), s.r.Target.Carrier)
	default:
		n.line("%s: %s on %s is healthy, and nothing had to be changed.", verb, s.name(), s.r.Target.Carrier)
	}
	n.item("Proof:", "%s, watched for %s", s.d.Why, short(s.m.Sightings[claimHealthy].Last.Sub(s.m.Sightings[claimHealthy].First)))
	s.alsoSee(&n)
	s.body(&n)
	s.related(&n, in)
	return s.close(&n)
}

// noteEnding is the last note of a run that was handed over or stood down.
func (s *situation) noteEnding(in RunIncident, escalated bool) string {
	var n noteText
	switch {
	case escalated:
		to := "the next level"
		if s.p.DaemonSet.Team != "" {
			to = s.p.DaemonSet.Team
		}
		n.line("Drydock hands this over to %s: %s on %s is not repaired.", to, s.name(), s.r.Target.Carrier)
	case s.r.Mode == ModeObserve:
		n.line("Drydock observed %s on %s and changed nothing (mode observe: it never does here).", s.name(), s.r.Target.Carrier)
	default:
		n.line("Drydock stood down: it makes no more changes for %s on %s.", s.name(), s.r.Target.Carrier)
	}
	if owed := len(s.r.Owed()); owed > 0 {
		n.line("ATTENTION: %s not put back yet; Drydock keeps trying. See \"Left behind\".", is(owed, "change"))
	}
	why := s.m.Ending.Why
	if acted := s.m.Ending.Acted; escalated && acted != "" && acted != in.ID {
		why += "; nobody has taken this incident"
	}
	n.item("Why:", "%s", why)
	if escalated {
		n.item("Next step:", "%s", s.nextStep())
	}
	s.alsoSee(&n)
	if s.r.Mode == ModeObserve && IsRepairable(s.d.Finding) {
		n.item("Would do:", "%s", orElse(describePlan(s.remaining()), "nothing"))
	}
	s.body(&n)
	if s.now.Before(s.ledger.BreakerUntil) {
		n.list("Past tries:", s.ledger.Tries)
	}
	s.related(&n, in)
	if escalated {
		s.evidence(&n)
	}
	return s.close(&n)
}

// remaining is the plan as it would be without the ending.
func (s *situation) remaining() []Action {
	t := *s
	t.m.Ending = nil
	return t.plan()
}

// describePlan writes a plan in one line; empty for no plan.
func describePlan(plan []Action) string {
	parts := make([]string, 0, len(plan))
	for _, a := range plan {
		ref := a.Target()
		name := ref.Name
		if ref.Kind == "Pod" || ref.Kind == "DaemonSet" {
			name = ref.Namespace + "/" + ref.Name
		}
		if p, promotes := a.(Promote); promotes {
			name = fmt.Sprintf("build %d (version %s) of %s", p.Build, p.Version, p.Component)
		}
		parts = append(parts, kindWords(a.Kind())+" "+name)
	}
	return strings.Join(parts, ", ")
}

// body is what every note says: cause, nodes, what was done, what is still changed.
func (s *situation) body(n *noteText) {
	s.found(n)
	s.nodes(n)
	if ds, ok := s.o.DaemonSet.Get(); ok && ds.Exists {
		n.item("DaemonSet:", "desired %d, current %d, ready %d; %s expected", ds.Desired, ds.Current, ds.Ready, count(s.d.Expected, "node"))
	}
	if changed := s.changes(); len(changed) > 0 {
		n.list("Done:", changed)
	} else {
		n.item("Done:", "nothing was changed")
	}
	if still := s.stillChanged(); len(still) > 0 {
		n.list("Left behind:", still)
	} else {
		n.item("Left behind:", "nothing")
	}
	if s.sawFull() {
		n.item("To prevent:", "give the DaemonSet a PriorityClass (system-node-critical): a full node then makes room by itself")
	}
}

func (s *situation) sawFull() bool {
	return slices.ContainsFunc(s.m.Found, func(f Found) bool { return f.Finding == FindingNodeFull })
}

// found lists what was confirmed, or what is seen now when nothing is yet.
func (s *situation) found(n *noteText) {
	var lines []string
	of := map[Finding]int{}
	for _, f := range s.m.Found {
		if of[f.Finding]++; of[f.Finding] <= foundShown {
			lines = append(lines, fmt.Sprintf("%s: %s", f.Finding, clip(f.Why, 300)))
		}
	}
	for _, f := range Findings() {
		if more := of[f] - foundShown; more > 0 {
			lines = append(lines, fmt.Sprintf("%s: on %s as well", f, count(more, "more node")))
		}
	}
	if len(lines) == 0 && s.d.Finding != FindingHealthy {
		lines = append(lines, fmt.Sprintf("%s: %s", s.d.Finding, clip(s.d.Why, 300)))
	}
	n.list("Found:", lines)
}

// nodes lists the missing nodes, one verdict each.
func (s *situation) nodes(n *noteText) {
	shown, more := 0, map[NodeVerdict]int{}
	for _, v := range s.d.Verdicts {
		if v.Verdict == VerdictCovered || v.Verdict == VerdictExcluded {
			continue
		}
		if shown == nodesShown {
			more[v.Verdict]++
			continue
		}
		label := ""
		if shown == 0 {
			label = "Nodes:"
		}
		shown++
		n.item(label, "%s  %s  %s", v.Node, v.Verdict, clip(v.Why, 160))
	}
	var rest []string
	for _, v := range sortedKeys(more) {
		rest = append(rest, fmt.Sprintf("%d %s", more[v], v))
	}
	if len(rest) > 0 {
		n.item("", "and more: %s", strings.Join(rest, ", "))
	}
	n.list("Left alone:", s.leftAlone())
}

// leftAlone lists the nodes that the run does not touch again, those with the same reason on one line.
func (s *situation) leftAlone() []string {
	nodes := map[string][]string{}
	var reasons []string
	for _, name := range sortedKeys(s.m.Skipped) {
		why := s.m.Skipped[name]
		if nodes[why] == nil {
			reasons = append(reasons, why)
		}
		nodes[why] = append(nodes[why], name)
	}
	var lines []string
	for i, why := range reasons {
		if i == nodesShown {
			lines = append(lines, "and more, in the run")
			break
		}
		names := nodes[why]
		if more := len(names) - relatedShown; more > 0 {
			names = append(names[:relatedShown:relatedShown], fmt.Sprintf("%d more", more))
		}
		lines = append(lines, strings.Join(names, ", ")+": "+clip(why, 200))
	}
	return lines
}

// related names the run's other incidents.
func (s *situation) related(n *noteText, in RunIncident) {
	var others []string
	for _, other := range s.r.Incidents {
		if other.ID != in.ID {
			others = append(others, strings.TrimSpace(other.label()+" "+other.URL))
		}
	}
	if more := len(others) - relatedShown; more > 0 {
		others = append(others[:relatedShown], fmt.Sprintf("and %d more of the same run", more))
	}
	n.list("Same run:", others)
}

// alsoSee says what the runs of this carrier share, and names the incidents of the others.
func (s *situation) alsoSee(n *noteText) {
	if shared := s.shared(); shared != "" {
		n.item("Shared:", "%s", shared)
	}
	var lines []string
	for _, r := range s.ledger.SameCarrier {
		lines = append(lines, r.line(s.p.PublicURL))
	}
	if more := len(lines) - relatedShown; more > 0 {
		lines = append(lines[:relatedShown], count(more, "more run")+" of this carrier")
	}
	n.list("See also:", lines)
}

// evidence adds what was collected, as far as it fits; all of it is in the run's history.
func (s *situation) evidence(n *noteText) {
	pieces, ok := s.o.Evidence.Get()
	if !ok {
		n.item("Evidence:", "could not be collected: %s", orElse(s.o.Evidence.Why(), "not read"))
		return
	}
	for _, e := range pieces {
		if strings.TrimSpace(e.Text) == "" {
			continue
		}
		room := noteLimit - n.Len() - 400
		if room < 120 {
			n.item("Evidence:", "more in the run's history")
			return
		}
		n.item("Evidence:", "%s", e.Source)
		for _, l := range strings.Split(strings.TrimSpace(clip(e.Text, min(room, 500))), "\n") {
			n.line("  | %s", l)
		}
	}
}

// nextStep is the advice for who takes over: about the protection that stopped the run, else about the finding.
func (s *situation) nextStep() string {
	end := s.m.Ending
	switch end.Refusal {
	case RefusedByKill:
		return "when the reason of the kill switch is over, release it and retrigger the run; by hand: " + nextStepOf(end.Finding)
	case RefusedBySystem:
		return "look for what these carriers have in common (a release, the registry, the network) before mending a single one"
	case RefusedByBreaker, RefusedByFlapping:
		return "find out why the earlier runs did not mend it for good; by hand: " + nextStepOf(end.Finding)
	case RefusedByOwner:
		return "sync the DaemonSet with the tool that owns it, which would take back what is changed by hand"
	}
	if end.Finding == FindingAbsent && s.namespaceGone() {
		return "find out who deleted the namespace; it has to be there again before the component's build can be promoted"
	}
	return nextStepOf(end.Finding)
}

func nextStepOf(f Finding) string {
	switch f {
	case FindingUnknown:
		return "check that the carrier's API server and PagerDuty answer and let Drydock in (drydock doctor), then retrigger the run"
	case FindingDeleting:
		return "find who deleted the DaemonSet and why its finalizers stay; do not remove a finalizer blindly"
	case FindingAbsent:
		return "find out who removed the DaemonSet; if it was not on purpose, promote the component's deployed build again"
	case FindingControllerStuck:
		return "look at the controller-manager's log and at the ClusterRole system:controller:daemon-set-controller"
	case FindingRefused:
		return "mend the quota, policy or webhook that refuses the pods; a restart of the controller-manager can not help"
	case FindingRollingOut:
		return "watch the rollout; look at the newest pods when it stalls"
	case FindingDisk:
		return "free the disk by the runbook armada-carrier-node-filesystem-space, then retrigger the run"
	case FindingNodeFull:
		return "move pods off the full nodes by hand, or raise their pod limit"
	case FindingUncovered:
		return "reapply the DaemonSet by its owner's means (kubectl delete --cascade=orphan, then apply)"
	case FindingNoRoom:
		return "free cpu, memory or ports on these nodes, or lower the DaemonSet's requests; moving pods by count does not help"
	case FindingNodeDown:
		return "bring the nodes back, or uncordon them if their maintenance is over"
	case FindingMalfunctioning:
		return "read the pod's last exit and log: image, probe or configuration"
	case FindingNotSelected:
		return "mend the selector, affinity or taint that excludes the nodes, or the alert's rule"
	case FindingHealthy:
	}
	return "check the remaining alerts of the incident"
}

func (s *situation) close(n *noteText) string {
	var link noteText
	link.item("Run:", "%s", runLink(s.p.PublicURL, s.r.ID))
	// Whatever is too long, the link to all of it stays.
	return strings.TrimRight(clip(n.String(), noteLimit-link.Len()), "\n") + "\n" + strings.TrimRight(link.String(), "\n")
}

// runLink is where a run can be looked at; its id where no public_url is configured.
func runLink(publicURL, run string) string {
	if publicURL == "" {
		return run
	}
	return strings.TrimRight(publicURL, "/") + "/runs/" + run
}
