package playbook

import (
	"fmt"
	"slices"
	"strings"
)

// asked is one question's answer on its way to being the finding.
type asked struct {
	answer    Answer
	saw       string
	confirmed bool
	node      string
}

// ask puts the questions in order: first those about the target, then the repairable verdicts, then those to hand over,
// so that a node that can not be repaired never hides one that can. The first yes is the finding; an unknown is the
// finding when nothing before it said yes and the questions after it can not be trusted without it.
func (d *examination) ask() Diagnosis {
	out := Diagnosis{Verdicts: d.verdicts, Expected: d.expected, Missing: d.missing, Sightings: d.sightings}
	found := false
	for _, q := range d.questions() {
		a := q.ask()
		out.Questions = append(out.Questions, Question{Finding: q.finding, Answer: a.answer, Saw: a.saw})
		if found || a.answer != Yes {
			continue
		}
		found = true
		out.Finding, out.Confirmed, out.Why, out.Node = q.finding, a.confirmed, a.saw, a.node
	}
	out.Wants = d.wants
	if !found {
		// Total: no question said yes, so at least one reading is missing.
		out.Finding, out.Confirmed, out.Why = FindingUnknown, false, "no question could be answered"
	}
	return out
}

type question struct {
	finding Finding
	ask     func() asked
	// ways lists what would turn an answer around, the likeliest first; see Explain.
	ways func(Answer) []way
}

func (d *examination) questions() []question {
	return []question{
		{FindingUnknown, d.askReadable, d.waysReadable},
		{FindingDeleting, d.askDeleting, d.waysDeleting},
		{FindingAbsent, d.askAbsent, d.waysAbsent},
		{FindingControllerStuck, d.askController, d.waysController},
		{FindingRefused, d.askRefused, d.waysRefused},
		{FindingRollingOut, d.askRollingOut, d.waysRollingOut},
		{FindingDisk, d.askDisk, d.waysDisk},
		{FindingUnknown, d.askDisksReadable, d.waysDisksReadable},
		{FindingNodeFull, func() asked { return d.askFull(true) }, func(a Answer) []way { return d.waysFull(a, true) }},
		{FindingUncovered, d.askUncovered, d.waysUncovered},
		{FindingUnknown, d.askNodesReadable, d.waysNodesReadable},
		{FindingNodeFull, func() asked { return d.askFull(false) }, func(a Answer) []way { return d.waysFull(a, false) }},
		{FindingNoRoom, func() asked { return d.askVerdict(VerdictNoRoom) }, d.waysNoRoom},
		{FindingNodeDown, func() asked { return d.askVerdict(VerdictNodeDown) }, d.waysNodeDown},
		{FindingMalfunctioning, func() asked { return d.askVerdict(VerdictMalfunctioning) }, d.waysMalfunctioning},
		{FindingNotSelected, d.askNotSelected, d.waysNotSelected},
		{FindingHealthy, d.askHealthy, d.waysHealthy},
	}
}

func (d *examination) askReadable() asked {
	switch {
	case !d.dsKnown:
		return asked{answer: Yes, saw: "the DaemonSet could not be read: " + orElse(d.o.DaemonSet.Why(), "not read")}
	case !d.ds.Exists || d.ds.DeletedAt != nil:
		return asked{answer: No, saw: "the DaemonSet was read"}
	case !d.nodesKnown:
		return asked{answer: Yes, saw: "the nodes could not be read: " + orElse(d.o.Nodes.Why(), "not read")}
	}
	return asked{answer: No, saw: "the DaemonSet and its nodes were read"}
}

func (d *examination) askDeleting() asked {
	if !d.dsKnown {
		return notReadable
	}
	if !d.ds.Exists || d.ds.DeletedAt == nil {
		return asked{answer: No, saw: "no deletionTimestamp"}
	}
	saw := fmt.Sprintf("the DaemonSet has been deleting for %s", short(d.o.At.Sub(*d.ds.DeletedAt)))
	if len(d.ds.Finalizers) > 0 {
		saw += ", held by the finalizer " + strings.Join(d.ds.Finalizers, ", ")
	}
	return asked{answer: Yes, saw: saw,
		confirmed: d.sightings.held(claimDeleting, deletingPatience*d.p.Timing.StuckConfirm, 2)}
}

func (d *examination) askAbsent() asked {
	if !d.dsKnown {
		return notReadable
	}
	if d.ds.Exists {
		return asked{answer: No, saw: "the DaemonSet exists"}
	}
	s := d.sightings[claimAbsent]
	saw := fmt.Sprintf("the API server answered 404 %s over %s", count(s.Count, "time"), short(s.Last.Sub(s.First)))
	ns, ok := d.o.Namespace.Get()
	switch {
	case !ok:
		saw += "; the namespace could not be read: " + orElse(d.o.Namespace.Why(), "not read")
		return asked{answer: Yes, saw: saw}
	case !ns.Exists || ns.Terminating:
		saw += "; its namespace is gone or being deleted as well"
	}
	return asked{answer: Yes, saw: saw,
		confirmed: d.sightings.held(claimAbsent, d.p.Timing.AbsentConfirm, 2)}
}

var notReadable = asked{answer: AnswerUnknown, saw: "the carrier could not be read"}

func (d *examination) askController() asked {
	if !d.present() {
		return d.elsewhere()
	}
	if why := d.forbidden(); why != "" {
		saw := why
		if rights := d.missingRights(); rights != "" {
			saw += "; " + rights
		}
		return asked{answer: Yes, saw: saw, confirmed: d.sightings.held(claimForbidden, 0, 2)}
	}
	if d.ds.ObservedGeneration < d.ds.Generation {
		s := d.sightings[claimStuck]
		lag := ""
		if rights := d.missingRights(); rights != "" {
			lag = "; " + rights
		}
		return asked{answer: Yes,
			saw: fmt.Sprintf("the controller has seen generation %d of %d for %s", d.ds.ObservedGeneration, d.ds.Generation,
				short(s.Last.Sub(s.First))) + lag,
			confirmed: d.sightings.held(claimStuck, d.p.Timing.StuckConfirm, 2)}
	}
	if d.leaseDead() {
		return asked{answer: Yes,
			saw: fmt.Sprintf("the controller-manager (%s) renewed its lease %s ago", orElse(d.controller.Holder, "no holder"),
				short(d.o.At.Sub(d.controller.RenewedAt))),
			confirmed: d.sightings.held(claimDeadLease, 0, 2)}
	}
	if !d.controllerKnown && d.missing > 0 {
		return asked{answer: AnswerUnknown, saw: "the controller-manager's lease is not known: " + orElse(d.o.Controller.Why(), "not read")}
	}
	return asked{answer: No, saw: fmt.Sprintf("observedGeneration is %d of %d", d.ds.ObservedGeneration, d.ds.Generation)}
}

func (d *examination) askRefused() asked {
	if !d.present() {
		return d.elsewhere()
	}
	if d.refusal == "" {
		return asked{answer: No, saw: "no recent FailedCreate that matters"}
	}
	return asked{answer: Yes, saw: "the API server refuses the daemon pods: " + clip(d.refusal, 240),
		confirmed: d.sightings.held(claimRefused, d.p.Timing.UncoveredConfirm, 2)}
}

func (d *examination) askRollingOut() asked {
	if !d.present() {
		return d.elsewhere()
	}
	if d.rolloutUnderWay() {
		s := d.sightings[d.rolloutClaim()]
		saw := fmt.Sprintf("a rolling update is under way: %d of %d nodes updated", d.ds.Updated, d.ds.Current)
		if s.Last.Sub(s.First) <= rolloutPatience {
			return asked{answer: Yes, saw: saw, confirmed: true}
		}
	}
	if at := d.byVerdict[VerdictRollingOut]; len(at) > 0 {
		return asked{answer: Yes, saw: d.why(at[0]), confirmed: true}
	}
	return asked{answer: No, saw: "no rollout under way"}
}

func (d *examination) askDisk() asked {
	if !d.present() {
		return d.elsewhere()
	}
	if at := d.byVerdict[VerdictDisk]; len(at) > 0 {
		return asked{answer: Yes, saw: d.why(at[0]), confirmed: true}
	}
	if d.missing == 0 {
		return asked{answer: No, saw: "no node is missing"}
	}
	if !d.o.DiskIncidents.Asked() {
		d.want(Want{Kind: WantDiskIncidents})
	}
	if open, ok := d.o.DiskIncidents.Get(); ok && len(open) > 0 {
		return asked{answer: Yes, saw: fmt.Sprintf("a disk-space incident of this carrier is open: #%d %s", open[0].Number, clip(open[0].Title, 120)), confirmed: true}
	} else if !ok && d.o.DiskIncidents.Asked() {
		return asked{answer: AnswerUnknown, saw: "open incidents could not be read: " + d.o.DiskIncidents.Why()}
	}
	return asked{answer: No, saw: "no missing node reports DiskPressure and no disk-space incident is open"}
}

// askDisksReadable: the disks hold everything else up, so not knowing about them does as well.
func (d *examination) askDisksReadable() asked {
	if !d.present() {
		return d.elsewhere()
	}
	if d.missing > 0 && d.o.DiskIncidents.IsUnknown() {
		return asked{answer: Yes, saw: "whether a disk-space incident of this carrier is open is not known: " + d.o.DiskIncidents.Why()}
	}
	return asked{answer: No, saw: "open disk-space incidents are known, or do not matter"}
}

// askFull asks for full nodes that can still be repaired, or for those that the run leaves alone.
func (d *examination) askFull(repairable bool) asked {
	if !d.present() {
		return d.elsewhere()
	}
	best, confirmed := -1, false
	for _, i := range d.byVerdict[VerdictNodeFull] {
		if _, skip := d.skipped[d.verdicts[i].Node]; skip == repairable {
			continue
		}
		sure := d.sightings.held(nodeClaim(VerdictNodeFull, d.verdicts[i].Node), d.p.Timing.FullConfirm, 2)
		if best < 0 || (sure && !confirmed) {
			best, confirmed = i, sure
		}
	}
	if best < 0 {
		return asked{answer: No, saw: "no missing node is at its pod limit"}
	}
	a := asked{answer: Yes, saw: d.why(best), confirmed: confirmed}
	if repairable {
		a.node = d.verdicts[best].Node
	} else {
		a.saw += "; left alone: " + d.skipped[d.verdicts[best].Node]
	}
	return a
}

func (d *examination) askUncovered() asked {
	if !d.present() {
		return d.elsewhere()
	}
	at := d.byVerdict[VerdictUncovered]
	if len(at) == 0 {
		return asked{answer: No, saw: "no expected node lacks a daemon pod"}
	}
	a := d.longest(VerdictUncovered, at)
	return a
}

func (d *examination) askNodesReadable() asked {
	if !d.present() {
		return d.elsewhere()
	}
	if at := d.byVerdict[VerdictUnknown]; len(at) > 0 {
		return asked{answer: Yes, saw: d.why(at[0])}
	}
	return asked{answer: No, saw: "every node has a verdict"}
}

func (d *examination) askVerdict(v NodeVerdict) asked {
	if !d.present() {
		return d.elsewhere()
	}
	at := d.byVerdict[v]
	if len(at) == 0 {
		return asked{answer: No, saw: "none seen"}
	}
	a := d.longest(v, at)
	if len(at) > 1 {
		a.saw += fmt.Sprintf(" (and %d more)", len(at)-1)
	}
	return a
}

// longest answers yes for the first of the nodes, confirmed when any of them has been so for long enough.
func (d *examination) longest(v NodeVerdict, at []int) asked {
	a := asked{answer: Yes, saw: d.why(at[0]), node: d.verdicts[at[0]].Node}
	for _, i := range at {
		if d.sightings.held(nodeClaim(v, d.verdicts[i].Node), d.p.Timing.UncoveredConfirm, 2) {
			a.confirmed, a.saw, a.node = true, d.why(i), d.verdicts[i].Node
			break
		}
	}
	return a
}

func (d *examination) askNotSelected() asked {
	if !d.present() {
		return d.elsewhere()
	}
	if d.missing > 0 {
		return asked{answer: No, saw: "a selected node is missing"}
	}
	if d.expected == 0 {
		saw := "the DaemonSet selects no node of this carrier"
		if d.ds.SelectorSummary != "" {
			saw += ": " + d.ds.SelectorSummary
		}
		return asked{answer: Yes, saw: saw, confirmed: d.sightings.held(claimUnselected, d.p.Timing.UncoveredConfirm, 2)}
	}
	for _, id := range sortedKeys(d.o.Incidents) {
		in, _ := d.o.Incidents[id].Get()
		for _, v := range d.verdicts {
			if v.Verdict == VerdictExcluded && slices.Contains(in.NodesInDetails, v.Node) {
				return asked{answer: Yes, saw: "the alert names node " + v.Node + ", which is excluded: " + v.Why, confirmed: true}
			}
		}
	}
	return asked{answer: No, saw: fmt.Sprintf("%s selected", count(d.expected, "node"))}
}

func (d *examination) askHealthy() asked {
	if !d.present() {
		return d.elsewhere()
	}
	if d.expected > 0 && d.missing == 0 {
		return asked{answer: Yes, saw: fmt.Sprintf("all %s have a ready daemon pod", count(d.expected, "expected node")), confirmed: true}
	}
	return asked{answer: No, saw: fmt.Sprintf("%d of %s missing", d.missing, count(d.expected, "expected node"))}
}

// elsewhere answers a question about nodes when there is no DaemonSet to have nodes for.
func (d *examination) elsewhere() asked {
	if !d.dsKnown || !d.nodesKnown {
		return notReadable
	}
	return asked{answer: No, saw: "there is no live DaemonSet to ask about"}
}
