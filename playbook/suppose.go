package playbook

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// somewhere stands for a node where the carrier shows none.
const somewhere = "(a node)"

// maxPods is the kubelet's own limit, for a node that is covered: what that one may hold was not kept.
const maxPods = 110

// one is a way of a single supposition.
func one(fact string, suppose func(*world)) []way { return []way{{{fact, suppose}}} }

func (w *world) ds(change func(*DaemonSet)) {
	ds, _ := w.o.DaemonSet.Get()
	change(&ds)
	w.o.DaemonSet = Known(ds)
}

// nodes changes nodes, and makes those that are not there: one that is covered is only a name in what was kept of the look.
func (w *world) nodes(names []string, change func(*Node)) {
	was, _ := w.o.Nodes.Get()
	list := slices.Clone(was)
	at := make(map[string]int, len(list))
	for i := range list {
		at[list[i].Name] = i
	}
	made := map[string]bool{}
	for _, name := range names {
		i, there := at[name]
		if !there {
			i, made[name] = len(list), true
			list = append(list, covered(Node{Name: name, Allocatable: maxPods}, w.o.At))
		}
		change(&list[i])
	}
	w.o.Nodes = Known(list)
	w.o.Covered = slices.DeleteFunc(slices.Clone(w.o.Covered), func(name string) bool { return made[name] })
}

func (w *world) node(name string, change func(*Node)) { w.nodes([]string{name}, change) }

// covered is the node as it would be if nothing were the matter with it.
func covered(n Node, now time.Time) Node {
	n.Expected, n.Ready, n.Leaving, n.DiskPressure, n.Unschedulable, n.CordonedBy = true, true, false, false, false, nil
	n.Pods = []Pod{{Name: "its daemon pod", Phase: "Running", Scheduled: true, Ready: true, Owned: true, CreatedAt: now}}
	return n
}

func (w *world) cover(names []string) {
	w.nodes(names, func(n *Node) { *n = covered(*n, w.o.At) })
}

// strip takes the daemon pod from a node that is otherwise well.
func (w *world) strip(name string) {
	w.node(name, func(n *Node) { *n = covered(*n, w.o.At); n.Pods = nil })
}

func (w *world) pending(name, message string) {
	w.node(name, func(n *Node) {
		*n = covered(*n, w.o.At)
		n.Pods = []Pod{{Name: "its daemon pod", Phase: "Pending", Owned: true, CreatedAt: w.o.At, Unschedulable: message}}
	})
}

func (w *world) pods(node string, pods NodePods) {
	w.o.NodePods = maps.Clone(w.o.NodePods)
	if w.o.NodePods == nil {
		w.o.NodePods = map[string]Reading[NodePods]{}
	}
	w.o.NodePods[node] = Known(pods)
}

// atWork makes the controller provably so.
func (w *world) atWork() {
	w.ds(func(ds *DaemonSet) { ds.ObservedGeneration = max(ds.ObservedGeneration, ds.Generation) })
	c, _ := w.o.Controller.Get()
	c.RenewedAt = w.o.At
	w.o.Controller = Known(c)
}

// event puts one more event before the DaemonSet's others.
func (w *world) event(reason, message string) {
	events, _ := w.o.Events.Get()
	at := w.o.At
	for _, e := range events {
		if !e.At.Before(at) {
			at = e.At.Add(time.Second)
		}
	}
	w.o.Events = Known(append([]Event{{Reason: reason, Message: message, Count: 1, At: at}}, events...))
}

// subject is the node that a fault is thought up for: a missing one that is not left alone, else any.
func (d *examination) subject() string {
	best := ""
	for _, v := range d.verdicts {
		_, skip := d.skipped[v.Node]
		switch {
		case v.Verdict == VerdictExcluded || skip:
		case v.Verdict != VerdictCovered:
			return v.Node
		case best == "":
			best = v.Node
		}
	}
	for _, v := range d.verdicts {
		if best == "" && v.Verdict != VerdictExcluded {
			best = v.Node
		}
	}
	return orElse(best, somewhere)
}

// with names the nodes that have a verdict, and without those that have none of some.
func (d *examination) with(verdict NodeVerdict) []string {
	return d.nodesWhere(func(v NodeVerdict) bool { return v == verdict })
}

func (d *examination) without(verdicts ...NodeVerdict) []string {
	return d.nodesWhere(func(v NodeVerdict) bool { return !slices.Contains(verdicts, v) })
}

func (d *examination) nodesWhere(has func(NodeVerdict) bool) []string {
	var names []string
	for _, v := range d.verdicts {
		if has(v.Verdict) {
			names = append(names, v.Node)
		}
	}
	return names
}

// nodesHave writes "node a has" or "nodes a, b, c and 4 more have", with the verb for one and for several.
func nodesHave(names []string, singular, plural string) string {
	const most = 3
	if len(names) == 1 {
		if names[0] == somewhere {
			return "a node " + singular
		}
		return "node " + names[0] + " " + singular
	}
	list := strings.Join(names[:min(len(names), most)], ", ")
	if over := len(names) - most; over > 0 {
		list += fmt.Sprintf(" and %d more", over)
	}
	return "nodes " + list + " " + plural
}

func nodeHas(name, verb string) string { return nodesHave([]string{name}, verb, verb) }

func (d *examination) coverWay(names []string, singular, plural string) way {
	return way{{nodesHave(names, singular, plural), func(w *world) { w.cover(names) }}}
}

// restored is the DaemonSet on every node that is known.
func (d *examination) restored() supposition {
	fact := "the DaemonSet exists and runs on every node"
	if !d.dsKnown || !d.nodesKnown && d.ds.Exists && d.ds.DeletedAt == nil {
		fact = "the carrier's API server answers and shows the DaemonSet on every node"
	}
	return supposition{fact, func(w *world) {
		live := d.ds
		facts, _ := w.o.Ledger.Get()
		if !live.Exists && facts.LastSeen != nil {
			live = *facts.LastSeen
		}
		live.Exists, live.DeletedAt, live.Generation, live.ObservedGeneration = true, nil, 1, 1
		live.Updated = live.Current
		w.o.DaemonSet = Known(live)
		names := append([]string{}, w.o.Covered...)
		for _, n := range d.nodes {
			names = append(names, n.Name)
		}
		if len(names) == 0 {
			names = []string{somewhere}
		}
		w.o.Nodes, w.o.Covered = Known([]Node{}), names
	}}
}
