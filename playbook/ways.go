package playbook

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
)

// What could be otherwise, question by question. Each function lists changes of concrete facts of this very look; whether one
// turns the answer is for Explain to find out.

func (d *examination) waysReadable(a Answer) []way {
	if a == Yes {
		return []way{{d.restored()}}
	}
	return one("the DaemonSet can not be read", func(w *world) { w.o.DaemonSet = Unknown[DaemonSet]("no answer") })
}

func (d *examination) waysDeleting(a Answer) []way {
	if a != Yes {
		return one("the DaemonSet has a deletionTimestamp", func(w *world) {
			at := w.o.At
			w.ds(func(ds *DaemonSet) { ds.Exists, ds.DeletedAt = true, &at })
		})
	}
	fact := "the object is gone"
	if len(d.ds.Finalizers) > 0 {
		fact = "its finalizers (" + strings.Join(d.ds.Finalizers, ", ") + ") are removed, and the object goes"
	}
	return one(fact, func(w *world) { w.o.DaemonSet = Known(DaemonSet{}) })
}

func (d *examination) waysAbsent(a Answer) []way {
	if a == Yes {
		return []way{{d.restored()}}
	}
	return one("the API server answers 404 for the DaemonSet", func(w *world) { w.o.DaemonSet = Known(DaemonSet{}) })
}

func (d *examination) waysController(a Answer) []way {
	if a == Yes {
		var steps way
		if d.forbidden() != "" {
			steps = append(steps, supposition{"no recent line of the controller-manager's log says that it is forbidden the DaemonSet's revisions",
				func(w *world) { w.o.ManagerLog = Known(ManagerLog{}) }})
		}
		return []way{append(steps, d.controllerSteps()...)}
	}
	behind := max(d.ds.Generation, 1)
	ways := one(fmt.Sprintf("observedGeneration is %d and generation %d", behind-1, behind), func(w *world) {
		w.ds(func(ds *DaemonSet) { ds.Generation, ds.ObservedGeneration = behind, behind-1 })
	})
	if a == AnswerUnknown {
		age := max(d.p.Timing.StuckConfirm, d.controller.Duration) + time.Second
		ways = append(one("the controller-manager's lease can be read, and was renewed "+short(age)+" ago", func(w *world) {
			w.o.Controller = Known(Controller{RenewedAt: w.o.At.Add(-age)})
		}), ways...)
	}
	return ways
}

// controllerSteps are what is amiss with the controller, put right one by one.
func (d *examination) controllerSteps() way {
	var steps way
	if want := d.ds.Generation; d.ds.ObservedGeneration < want {
		steps = append(steps, supposition{fmt.Sprintf("observedGeneration is %d instead of %d", want, d.ds.ObservedGeneration),
			func(w *world) { w.ds(func(ds *DaemonSet) { ds.ObservedGeneration = want }) }})
	}
	fact := fmt.Sprintf("the controller-manager (%s) has just renewed its lease", orElse(d.controller.Holder, "no holder"))
	if !d.controllerKnown {
		fact = "the controller-manager's lease can be read, and has just been renewed"
	} else if d.o.At.Sub(d.controller.RenewedAt) <= d.controller.freshFor() {
		return steps
	}
	return append(steps, supposition{fact, func(w *world) { c := d.controller; c.RenewedAt = w.o.At; w.o.Controller = Known(c) }})
}

func (d *examination) waysRefused(a Answer) []way {
	if a == Yes {
		return one("the DaemonSet's newest event is SuccessfulCreate instead of FailedCreate", func(w *world) { w.event("SuccessfulCreate", "") })
	}
	name := d.subject()
	refuse := supposition{"the DaemonSet's newest event is FailedCreate", func(w *world) { w.event("FailedCreate", "exceeded quota") }}
	return []way{{refuse, {nodeHas(name, "has no daemon pod though the controller-manager is at work"), func(w *world) { w.strip(name); w.atWork() }}}}
}

func (d *examination) waysRollingOut(a Answer) []way {
	if a == Yes {
		var steps way
		if d.rolloutUnderWay() {
			steps = append(steps, supposition{fmt.Sprintf("all %s have the new template, instead of %d", count(d.ds.Current, "node"), d.ds.Updated),
				func(w *world) { w.ds(func(ds *DaemonSet) { ds.Updated = ds.Current }) }})
		}
		if names := d.with(VerdictRollingOut); len(names) > 0 {
			steps = append(steps, d.coverWay(names, "has a ready daemon pod", "have ready daemon pods")...)
		}
		return []way{steps}
	}
	// A new one, for one that stalls already is no rollout.
	return one(fmt.Sprintf("a new rolling update begins, with 0 of %s updated", count(max(d.ds.Current, 1), "node")), func(w *world) {
		w.ds(func(ds *DaemonSet) {
			ds.RollingUpdate, ds.Updated, ds.Current = true, 0, max(ds.Current, 1)
			ds.Generation, ds.ObservedGeneration = ds.Generation+1, ds.ObservedGeneration+1
		})
	})
}

func (d *examination) waysDisk(a Answer) []way {
	if a == Yes {
		var steps way
		if names := d.with(VerdictDisk); len(names) > 0 {
			steps = append(steps, supposition{nodesHave(names, "reports no DiskPressure", "report no DiskPressure"), func(w *world) {
				w.nodes(names, func(n *Node) { n.DiskPressure = false })
			}})
		}
		if open, _ := d.o.DiskIncidents.Get(); len(open) > 0 {
			numbers := make([]string, len(open))
			for i, in := range open {
				numbers[i] = fmt.Sprintf("#%d", in.Number)
			}
			steps = append(steps, supposition{fmt.Sprintf("disk-space incident %s is resolved", strings.Join(numbers, ", ")), func(w *world) { w.o.DiskIncidents = Known([]IncidentRef{}) }})
		}
		return []way{steps}
	}
	name, verb := d.subject(), "reports DiskPressure"
	if d.missing == 0 {
		verb = "has no daemon pod and reports DiskPressure"
	}
	return one(nodeHas(name, verb), func(w *world) {
		w.node(name, func(n *Node) { n.Expected, n.Leaving, n.DiskPressure = true, false, true; n.Pods = nil })
	})
}

func (d *examination) waysDisksReadable(a Answer) []way {
	if a == Yes {
		return one("the open incidents can be read, and none is about disk space", func(w *world) { w.o.DiskIncidents = Known([]IncidentRef{}) })
	}
	name := d.subject()
	return []way{{
		{"the open incidents can not be read", func(w *world) { w.o.DiskIncidents = Unknown[[]IncidentRef]("no answer") }},
		{nodeHas(name, "has no daemon pod"), func(w *world) { w.strip(name) }},
	}}
}

func (d *examination) waysFull(a Answer, repairable bool) []way {
	var here, there []string // full nodes that the question is about, and those that the other one is about
	for _, name := range d.with(VerdictNodeFull) {
		if _, skip := d.skipped[name]; skip != repairable {
			here = append(here, name)
		} else {
			there = append(there, name)
		}
	}
	if a == Yes {
		limit := d.allocatable(here[0])
		fact := fmt.Sprintf("%s (%d of %d pods)", nodesHave(here, "has a free place", "have a free place each"), limit-1, limit)
		return one(fact, func(w *world) {
			for _, name := range here {
				w.pods(name, NodePods{Count: d.allocatable(name) - 1, PendingDaemon: 1})
			}
		})
	}
	name := d.subject()
	var steps way
	if len(there) > 0 {
		name = there[0]
	} else {
		limit, fact := d.allocatable(name), nodeHas(name, "is at its pod limit, and its daemon pod waits for a place")
		steps = way{{fact, func(w *world) {
			w.pending(name, "Too many pods")
			w.node(name, func(n *Node) { n.Allocatable = limit })
			w.pods(name, NodePods{Count: limit, PendingDaemon: 1})
		}}}
	}
	leave := supposition{"the run leaves it alone", func(w *world) {
		w.skipped = maps.Clone(w.skipped)
		if w.skipped == nil {
			w.skipped = map[string]string{}
		}
		w.skipped[name] = "assumed"
	}}
	take := supposition{"the run does not leave it alone", func(w *world) {
		w.skipped = maps.Clone(w.skipped)
		delete(w.skipped, name)
	}}
	if len(there) > 0 {
		leave.fact, take.fact = "the run leaves node "+name+" alone", "the run does not leave node "+name+" alone"
	}
	if repairable {
		return []way{append(steps, take)}
	}
	return []way{append(steps, leave)}
}

// allocatable is how many pods a node may hold.
func (d *examination) allocatable(name string) int {
	for i := range d.nodes {
		if d.nodes[i].Name == name && d.nodes[i].Allocatable > 0 {
			return d.nodes[i].Allocatable
		}
	}
	return maxPods
}

func (d *examination) waysUncovered(a Answer) []way {
	if a == Yes {
		return []way{d.coverWay(d.with(VerdictUncovered), "has a ready daemon pod", "have ready daemon pods")}
	}
	name := d.subject()
	return one(nodeHas(name, "has no daemon pod though the controller-manager is at work and no pod is refused"), func(w *world) {
		w.strip(name)
		w.atWork()
		w.o.Events = Known([]Event{})
	})
}

func (d *examination) waysNodesReadable(a Answer) []way {
	if a != Yes {
		name := d.subject()
		return one(nodeHas(name, "has no daemon pod, and the DaemonSet's events can not be read"), func(w *world) {
			w.strip(name)
			w.atWork()
			w.o.Events = Unknown[[]Event]("no answer")
		})
	}
	names := d.with(VerdictUnknown)
	steps := d.controllerSteps()
	if !d.o.Events.IsKnown() {
		steps = append(steps, supposition{"the DaemonSet's events can be read, and no pod is refused", func(w *world) { w.o.Events = Known([]Event{}) }})
	} else if d.refusal != "" {
		steps = append(steps, supposition{"the DaemonSet's newest event is SuccessfulCreate instead of FailedCreate", func(w *world) { w.event("SuccessfulCreate", "") }})
	}
	var uncounted, limitless []string
	for _, name := range names {
		switch i := slices.IndexFunc(d.nodes, func(n Node) bool { return n.Name == name }); {
		case len(d.nodes[i].Pods) == 0:
		case d.nodes[i].Allocatable <= 0:
			limitless = append(limitless, name)
		case !d.o.NodePods[name].IsKnown():
			uncounted = append(uncounted, name)
		}
	}
	if len(uncounted) > 0 {
		steps = append(steps, supposition{nodesHave(uncounted, "can be counted, and has a free place", "can be counted, and have a free place each"), func(w *world) {
			for _, name := range uncounted {
				w.pods(name, NodePods{Count: d.allocatable(name) - 1})
			}
		}})
	}
	if len(limitless) > 0 {
		steps = append(steps, supposition{nodesHave(limitless, "says how many pods it can hold, and has a free place", "say how many pods they can hold, and have a free place each"), func(w *world) {
			for _, name := range limitless {
				w.node(name, func(n *Node) { n.Allocatable = maxPods })
				w.pods(name, NodePods{Count: maxPods - 1})
			}
		}})
	}
	return []way{steps, d.coverWay(names, "has a ready daemon pod", "have ready daemon pods")}
}

var insufficient = regexp.MustCompile(`Insufficient ([\w./-]*\w)`)

func (d *examination) waysNoRoom(a Answer) []way {
	if a != Yes {
		name := d.subject()
		return one(nodeHas(name, "is short of cpu for its daemon pod, which waits"), func(w *world) { w.pending(name, "Insufficient cpu") })
	}
	names := d.with(VerdictNoRoom)
	var short []string // of what
	for i := range d.nodes {
		if !slices.Contains(names, d.nodes[i].Name) {
			continue
		}
		for _, p := range d.nodes[i].Pods {
			for _, m := range insufficient.FindAllStringSubmatch(p.Unschedulable, -1) {
				if !slices.Contains(short, m[1]) {
					short = append(short, m[1])
				}
			}
		}
	}
	what := "room for its daemon pod"
	if len(short) > 0 {
		what = "enough free " + strings.Join(short, " and ") + " for its daemon pod"
	}
	return []way{d.coverWay(names, "has "+what+", which is ready", "each have "+what+", which is ready")}
}

func (d *examination) waysNodeDown(a Answer) []way {
	if a != Yes {
		name := d.subject()
		return one(nodeHas(name, "is NotReady"), func(w *world) {
			w.node(name, func(n *Node) { n.Expected, n.Leaving, n.Ready, n.DiskPressure = true, false, false, false })
		})
	}
	var down, cordoned []string
	for _, name := range d.with(VerdictNodeDown) {
		if i := slices.IndexFunc(d.nodes, func(n Node) bool { return n.Name == name }); !d.nodes[i].Ready {
			down = append(down, name)
		} else {
			cordoned = append(cordoned, name)
		}
	}
	var steps way
	if len(down) > 0 {
		steps = append(steps, supposition{nodesHave(down, "is Ready", "are Ready"), func(w *world) {
			w.nodes(down, func(n *Node) { n.Ready = true })
		}})
	}
	// One that is Ready may turn out to be cordoned as well.
	if all := append(slices.Clone(cordoned), down...); len(all) > 0 {
		if len(cordoned) > 0 {
			all = cordoned
		}
		steps = append(steps, supposition{nodesHave(all, "is not cordoned", "are not cordoned"), func(w *world) {
			w.nodes(all, func(n *Node) { n.Unschedulable, n.CordonedBy = false, nil })
		}})
	}
	return []way{steps, d.coverWay(d.with(VerdictNodeDown), "is Ready, uncordoned and has a ready daemon pod", "are Ready, uncordoned and have ready daemon pods")}
}

func (d *examination) waysMalfunctioning(a Answer) []way {
	if a != Yes {
		name := d.subject()
		return one(nodeHas(name, "has a daemon pod that crashes"), func(w *world) {
			w.node(name, func(n *Node) {
				*n = covered(*n, w.o.At)
				n.Pods[0].Ready, n.Pods[0].Waiting = false, "CrashLoopBackOff"
			})
		})
	}
	names := d.with(VerdictMalfunctioning)
	if len(names) == 1 {
		for i := range d.nodes {
			if pod, _ := oldestLive(&d.nodes[i]); d.nodes[i].Name == names[0] && pod != nil {
				return []way{d.coverWay(names, "has its pod "+pod.Name+" ready", "")}
			}
		}
	}
	return []way{d.coverWay(names, "has a ready daemon pod", "have ready daemon pods")}
}

func (d *examination) waysNotSelected(a Answer) []way {
	if a != Yes {
		return one(fmt.Sprintf("the DaemonSet selects none of the %s", count(d.expected, "node")), func(w *world) {
			w.nodes(d.without(VerdictExcluded), func(n *Node) { n.Expected = false })
		})
	}
	unnamed := supposition{"no alert names a node that is excluded", func(w *world) {
		w.o.Incidents = maps.Clone(w.o.Incidents)
		for id, r := range w.o.Incidents {
			if in, ok := r.Get(); ok {
				in.NodesInDetails = nil
				w.o.Incidents[id] = Known(in)
			}
		}
	}}
	selected := supposition{"the carrier has a node that the DaemonSet selects", func(w *world) { w.node(somewhere, func(*Node) {}) }}
	var named way
	for i := range d.nodes {
		n := d.nodes[i]
		if n.Expected && !n.Leaving {
			continue
		}
		fact := "node " + n.Name + " is not excluded"
		if n.ExcludedBy != "" {
			fact += " (" + n.ExcludedBy + ")"
		}
		c := supposition{fact, func(w *world) { w.node(n.Name, func(n *Node) { n.Expected, n.Leaving = true, false }) }}
		if d.expected == 0 && !n.Leaving {
			return []way{{c, unnamed}}
		}
		if d.namedInAlert(n.Name) {
			named = append(named, c)
		}
	}
	if d.expected > 0 {
		return []way{named}
	}
	return []way{{selected, unnamed}}
}

func (d *examination) namedInAlert(node string) bool {
	for _, r := range d.o.Incidents {
		if in, _ := r.Get(); slices.Contains(in.NodesInDetails, node) {
			return true
		}
	}
	return false
}

func (d *examination) waysHealthy(a Answer) []way {
	if a == Yes {
		name := d.subject()
		return one(nodeHas(name, "has no daemon pod"), func(w *world) { w.strip(name) })
	}
	if d.expected == 0 {
		return one("a node that the DaemonSet selects has a ready daemon pod", func(w *world) { w.cover([]string{somewhere}) })
	}
	names := d.without(VerdictExcluded, VerdictCovered)
	return []way{d.coverWay(names, "has a ready daemon pod", "have ready daemon pods")}
}
