package playbook

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Figures of the diagnosis that are not worth a key in the configuration.
const (
	// startGrace is how long a scheduled pod without any sign of a fault may take to become ready: an image pull.
	startGrace = 5 * time.Minute
	// rolloutPatience is how long a rolling update may make no progress before it counts as stalled (design.md).
	rolloutPatience = 10 * time.Minute
	// refusalAge is how old the newest FailedCreate may be: the controller backs off to 1,000 s between two tries.
	refusalAge = 20 * time.Minute
	// leaseFresh is how recently, at most, the controller-manager must have renewed its lease to be provably at work
	// (kubernetes.md 1.5); a lease that has run out by its own duration is never fresh.
	leaseFresh = 30 * time.Second
	// deletingPatience, in units of stuck_confirm, is how long a deleting object is waited for: 5 minutes by default
	// (durability.md 2.2).
	deletingPatience = 5
)

// Diagnose answers why the DaemonSet is not running on every expected node. It is total and pure: the same policy,
// observation and sightings give the same diagnosis. Its Wants are readings that it needs and that were not asked for.
func Diagnose(p Policy, o Observation, s Sightings) Diagnosis {
	return diagnose(p, o, s, nil)
}

// diagnose is Diagnose for a run that leaves some nodes alone: they are repaired no more, and never hide another one.
func diagnose(p Policy, o Observation, s Sightings, skipped map[string]string) Diagnosis {
	return examine(p, o, s, skipped).ask()
}

func examine(p Policy, o Observation, s Sightings, skipped map[string]string) *examination {
	d := &examination{p: p, o: o, target: o.Target, skipped: skipped}
	d.ds, d.dsKnown = o.DaemonSet.Get()
	d.nodes, d.nodesKnown = o.Nodes.Get()
	d.controller, d.controllerKnown = o.Controller.Get()
	d.lookAtNodes()
	d.fold(s)
	d.outlast()
	return d
}

// examination is one diagnosis in the making.
type examination struct {
	p       Policy
	o       Observation
	target  Target
	skipped map[string]string

	ds              DaemonSet
	dsKnown         bool
	nodes           []Node
	nodesKnown      bool
	controller      Controller
	controllerKnown bool

	verdicts  []Verdict
	byVerdict map[NodeVerdict][]int // indexes into verdicts, covered and excluded left out
	expected  int
	missing   int
	wants     []Want
	sightings Sightings
	refusal   string // the newest FailedCreate's message
}

func (d *examination) want(w Want) {
	if !slices.ContainsFunc(d.wants, func(have Want) bool { return have.Kind == w.Kind && have.Node == w.Node }) {
		d.wants = append(d.wants, w)
	}
}

// present reports whether there is a DaemonSet to have nodes for.
func (d *examination) present() bool {
	return d.dsKnown && d.ds.Exists && d.ds.DeletedAt == nil && d.nodesKnown
}

func (d *examination) lookAtNodes() {
	d.byVerdict = map[NodeVerdict][]int{}
	if !d.present() {
		return
	}
	d.verdicts = make([]Verdict, 0, len(d.nodes)+len(d.o.Covered))
	for i := range d.nodes {
		v := d.verdict(&d.nodes[i])
		switch v.Verdict {
		case VerdictExcluded:
		case VerdictCovered:
			d.expected++
		case VerdictDisk, VerdictNodeFull, VerdictUncovered, VerdictNoRoom, VerdictNodeDown, VerdictMalfunctioning,
			VerdictRollingOut, VerdictUnknown:
			d.expected++
			d.missing++
			d.byVerdict[v.Verdict] = append(d.byVerdict[v.Verdict], len(d.verdicts))
		}
		d.verdicts = append(d.verdicts, v)
	}
	for _, name := range d.o.Covered {
		d.expected++
		d.verdicts = append(d.verdicts, Verdict{Node: name, Verdict: VerdictCovered, Why: whyCovered})
	}
}

const whyCovered = "ready, with a ready daemon pod"

// freshFor is how old the lease's renewal may be for the controller-manager to count as at work. One that died a moment ago
// must not pass: an orphan delete would hang on it (seen on a real control plane).
func (c Controller) freshFor() time.Duration {
	if c.Duration > 0 {
		return min(leaseFresh, c.Duration)
	}
	return leaseFresh
}

// verdict says what is the matter with one node, from the facts of this look alone.
func (d *examination) verdict(n *Node) Verdict {
	v := func(k NodeVerdict, format string, args ...any) Verdict {
		return Verdict{Node: n.Name, Verdict: k, Why: fmt.Sprintf(format, args...)}
	}
	switch {
	case n.Leaving:
		return v(VerdictExcluded, "the node is leaving the carrier")
	case !n.Expected:
		return v(VerdictExcluded, "%s", orElse(n.ExcludedBy, "the DaemonSet does not select it"))
	case n.Ready && hasReadyPod(n):
		return Verdict{Node: n.Name, Verdict: VerdictCovered, Why: whyCovered}
	case n.DiskPressure:
		return v(VerdictDisk, "the node reports DiskPressure")
	case !n.Ready:
		return v(VerdictNodeDown, "the node is NotReady: %s", orElse(n.NotReadyWhy, "no reason given"))
	}
	pod, terminating := oldestLive(n)
	if pod == nil {
		return d.verdictWithoutPod(n, terminating, v)
	}
	if pod.Scheduled && pod.Reason != "OutOfpods" {
		return d.verdictOfScheduled(pod, v)
	}
	return d.verdictOfPending(n, pod, v)
}

type verdictOf func(k NodeVerdict, format string, args ...any) Verdict

func (d *examination) verdictWithoutPod(n *Node, terminating bool, v verdictOf) Verdict {
	if terminating {
		return v(VerdictRollingOut, "its daemon pod is terminating")
	}
	if stranger(n, d.p.Installation) {
		return v(VerdictNodeDown, "no daemon pod, and somebody else has cordoned the node")
	}
	// A node without a pod is only then the controller's omission when the controller provably looked: otherwise it
	// is the controller's own trouble, which a reapply would turn into an outage (kubernetes.md fact 4).
	if d.ds.ObservedGeneration < d.ds.Generation {
		return v(VerdictUnknown, "no daemon pod, and the controller has not yet taken in the DaemonSet's latest change")
	}
	if !d.controllerKnown {
		return v(VerdictUnknown, "no daemon pod, and whether the controller-manager is at work is not known: %s",
			orElse(d.o.Controller.Why(), "its lease was not read"))
	}
	if age := d.o.At.Sub(d.controller.RenewedAt); age > d.controller.freshFor() {
		return v(VerdictUnknown, "no daemon pod, and the controller-manager renewed its lease %s ago", short(age))
	}
	if !d.o.Events.Asked() {
		d.want(Want{Kind: WantEvents})
		return v(VerdictUnknown, "no daemon pod; whether pods are refused was not read yet")
	}
	events, ok := d.o.Events.Get()
	if !ok {
		return v(VerdictUnknown, "no daemon pod, and the DaemonSet's events could not be read: %s", d.o.Events.Why())
	}
	if msg := newestRefusal(events, d.o.At); msg != "" {
		d.refusal = msg
		return v(VerdictUnknown, "no daemon pod: the API server refuses it (%s)", clip(msg, 160))
	}
	return v(VerdictUncovered, "the DaemonSet selects this node, it is ready, and it has no daemon pod")
}

// newestRefusal returns the message of a FailedCreate that is recent and that no later successful create outdates.
func newestRefusal(events []Event, now time.Time) string {
	var refused, created Event
	for _, e := range events {
		switch {
		case e.Reason == "FailedCreate" && e.At.After(refused.At):
			refused = e
		case e.Reason == "SuccessfulCreate" && e.At.After(created.At):
			created = e
		}
	}
	if refused.Reason == "" || now.Sub(refused.At) > refusalAge || created.At.After(refused.At) {
		return ""
	}
	return refused.Message
}

func (d *examination) verdictOfScheduled(pod *Pod, v verdictOf) Verdict {
	switch {
	case pod.Waiting != "" && pod.Waiting != "ContainerCreating" && pod.Waiting != "PodInitializing":
		return v(VerdictMalfunctioning, "pod %s waits: %s%s", pod.Name, pod.Waiting, lastExit(pod))
	case pod.Phase == "Failed":
		return v(VerdictMalfunctioning, "pod %s failed: %s", pod.Name, orElse(pod.Reason, orElse(pod.Message, "no reason given")))
	case pod.Restarts > 0:
		return v(VerdictMalfunctioning, "pod %s is not ready after %s%s", pod.Name, count(pod.Restarts, "restart"), lastExit(pod))
	}
	since := pod.CreatedAt
	if pod.ScheduledAt.After(since) {
		since = pod.ScheduledAt
	}
	if age := d.o.At.Sub(since); age < startGrace {
		return v(VerdictRollingOut, "pod %s has been starting for %s", pod.Name, short(age))
	}
	return v(VerdictMalfunctioning, "pod %s runs but is not ready", pod.Name)
}

// verdictOfPending tells a full node (proven by our own recount, kubernetes.md 1.3) from every other shortage.
func (d *examination) verdictOfPending(n *Node, pod *Pod, v verdictOf) Verdict {
	if pod.Nominated {
		return v(VerdictRollingOut, "pod %s waits for a preemption that is under way", pod.Name)
	}
	msg := pod.Unschedulable
	if msg == "" && pod.Reason != "OutOfpods" {
		if age := d.o.At.Sub(pod.CreatedAt); age < startGrace {
			return v(VerdictRollingOut, "pod %s waits for the scheduler, %s old", pod.Name, short(age))
		}
		return v(VerdictMalfunctioning, "pod %s has not been looked at by the scheduler", pod.Name)
	}
	full := pod.Reason == "OutOfpods" || strings.Contains(msg, "Too many pods")
	if !full || strings.Contains(msg, "Insufficient") {
		return v(VerdictNoRoom, "pod %s does not fit: %s", pod.Name, clip(msg, 160))
	}
	if stranger(n, d.p.Installation) {
		return v(VerdictNodeDown, "the node is full, and somebody else has cordoned it")
	}
	r := d.o.NodePods[n.Name]
	if !r.Asked() {
		d.want(Want{Kind: WantNodePods, Node: n.Name})
		return v(VerdictUnknown, "the scheduler says \"Too many pods\"; the node's pods were not counted yet")
	}
	pods, ok := r.Get()
	if !ok {
		return v(VerdictUnknown, "the node's pods could not be counted: %s", r.Why())
	}
	if n.Allocatable <= 0 {
		return v(VerdictUnknown, "the node does not say how many pods it can hold")
	}
	if pods.Count < n.Allocatable || need(*n, pods) == 0 {
		return v(VerdictRollingOut, "there is room again, or no pod waits for a place (%d of %d pods); pod %s is not running yet",
			pods.Count, n.Allocatable, pod.Name)
	}
	return v(VerdictNodeFull, "full: %d of %d pods, and pod %s waits for a place", pods.Count, n.Allocatable, pod.Name)
}

// stranger reports whether somebody who is not this installation has cordoned the node.
func stranger(n *Node, installation string) bool {
	return n.Unschedulable && (n.CordonedBy == nil || n.CordonedBy.Installation != installation)
}

func hasReadyPod(n *Node) bool {
	for i := range n.Pods {
		if n.Pods[i].Ready && !n.Pods[i].Terminating {
			return true
		}
	}
	return false
}

func oldestLive(n *Node) (pod *Pod, terminating bool) {
	for i := range n.Pods {
		p := &n.Pods[i]
		if p.Terminating {
			terminating = true
			continue
		}
		if pod == nil || p.CreatedAt.Before(pod.CreatedAt) {
			pod = p
		}
	}
	return pod, terminating
}

// Claim keys. A node's claim is "<verdict>/<node>".
const (
	claimAbsent     = "absent"
	claimDeleting   = "deleting"
	claimStuck      = "stuck"
	claimDeadLease  = "dead_lease"
	claimForbidden  = "forbidden"
	claimRefused    = "refused"
	claimHealthy    = "healthy"
	claimUnselected = "not_selected"
)

func nodeClaim(v NodeVerdict, node string) string { return string(v) + "/" + node }

func (d *examination) rolloutClaim() string {
	return fmt.Sprintf("rollout/%d/%d", d.ds.Generation, d.ds.Updated)
}

// rolloutUnderWay: some node still runs a pod of an older template. A node without any pod is not a sign of a rollout.
func (d *examination) rolloutUnderWay() bool {
	return d.present() && d.ds.RollingUpdate && d.ds.Updated < d.ds.Current
}

func (d *examination) leaseDead() bool {
	age := d.o.At.Sub(d.controller.RenewedAt)
	return d.controllerKnown && d.missing > 0 && age > d.p.Timing.StuckConfirm && age > d.controller.Duration
}

// mayBeForbidden: the controller has not taken in the DaemonSet, or leaves nodes without pods. Only then its log is read.
func (d *examination) mayBeForbidden() bool {
	return d.ds.ObservedGeneration < d.ds.Generation || len(d.byVerdict[VerdictUncovered]) > 0
}

// fold writes this look's claims into the sightings.
func (d *examination) fold(s Sightings) {
	yes := map[string]bool{}
	unknownNodes := map[string]bool{}
	if d.dsKnown {
		yes[claimAbsent] = !d.ds.Exists
		yes[claimDeleting] = d.ds.Exists && d.ds.DeletedAt != nil
	}
	if d.present() {
		yes[claimStuck] = d.ds.ObservedGeneration < d.ds.Generation
		yes[claimDeadLease] = d.leaseDead()
		if d.mayBeForbidden() {
			if !d.o.ManagerLog.Asked() {
				d.want(Want{Kind: WantManagerLog})
			}
			yes[claimForbidden] = d.forbidden() != ""
		}
		yes[claimRefused] = d.refusal != ""
		yes[claimHealthy] = d.expected > 0 && d.missing == 0 && d.ds.ObservedGeneration >= d.ds.Generation
		yes[claimUnselected] = d.expected == 0
		if d.rolloutUnderWay() {
			yes[d.rolloutClaim()] = true
		}
		for verdict, indexes := range d.byVerdict {
			for _, i := range indexes {
				if verdict == VerdictUnknown {
					unknownNodes[d.verdicts[i].Node] = true
				} else {
					yes[nodeClaim(verdict, d.verdicts[i].Node)] = true
				}
			}
		}
	}
	for key, held := range yes {
		if !held {
			delete(yes, key)
		}
	}
	d.sightings = s.fold(d.o.At, d.o.seenAt(), claims{yes: yes, unknown: func(key string) bool {
		if !d.dsKnown || (!d.nodesKnown && d.ds.Exists) {
			return true
		}
		if key == claimForbidden && d.o.ManagerLog.IsUnknown() {
			return true
		}
		_, node, ok := strings.Cut(key, "/")
		return ok && unknownNodes[node]
	}})
}

// outlast turns what was only waited for into a fault when it has been there for too long.
func (d *examination) outlast() {
	var still []int
	for _, i := range d.byVerdict[VerdictRollingOut] {
		v := &d.verdicts[i]
		if !d.sightings.held(nodeClaim(VerdictRollingOut, v.Node), startGrace, 3) {
			still = append(still, i)
			continue
		}
		v.Verdict = VerdictMalfunctioning
		v.Why += ", for more than " + short(startGrace)
		d.byVerdict[VerdictMalfunctioning] = append(d.byVerdict[VerdictMalfunctioning], i)
	}
	d.byVerdict[VerdictRollingOut] = still
}

func (d *examination) why(i int) string {
	return "node " + d.verdicts[i].Node + ": " + d.verdicts[i].Why
}
