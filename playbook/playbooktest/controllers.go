package playbooktest

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// wake lets the controllers and the scheduler look at the carrier a moment from now.
func (c *Carrier) wake() {
	if c.waking {
		return
	}
	c.waking = true
	c.clock.After(c.Delays.React, func() {
		c.waking = false
		before := c.version
		c.react()
		if c.version != before {
			c.wake()
		}
	})
}

// react is one pass of every controller over the whole carrier. Each change bumps the version, so passes go on until
// nothing changes.
func (c *Carrier) react() {
	if c.controller.diedAt.IsZero() {
		c.collect()
		for _, s := range slices.Clone(c.sets) {
			c.sync(s)
		}
		for _, o := range c.owners {
			c.replace(o)
		}
	}
	c.schedule()
}

// collect is the garbage collector: it orphans the pods of a DaemonSet that was deleted so, and removes those whose
// DaemonSet is gone.
func (c *Carrier) collect() {
	for _, s := range slices.Clone(c.sets) {
		if s.deletedAt == nil || !slices.Contains(s.finalizers, orphanFinalizer) {
			continue
		}
		if c.clock.Now().Before(s.deletedAt.Add(c.Delays.Orphan)) {
			continue // the delete has asked to be woken again
		}
		for _, p := range c.pods {
			if p.ownerUID == s.uid && s.deletedAt.Sub(p.createdAt) >= c.OrphanRace {
				p.Owner, p.ownerUID, p.orphanedAt = "", "", c.clock.Now()
			}
		}
		s.finalizers = slices.DeleteFunc(s.finalizers, func(f string) bool { return f == orphanFinalizer })
		s.version = c.bump()
		if len(s.finalizers) == 0 {
			c.remove(s)
		}
	}
	for _, p := range slices.Clone(c.pods) {
		if strings.HasPrefix(p.Owner, "DaemonSet/") && !slices.ContainsFunc(c.sets, func(s *DaemonSet) bool { return s.uid == p.ownerUID }) {
			c.terminate(p)
		}
	}
}

func (c *Carrier) remove(s *DaemonSet) {
	c.sets = slices.DeleteFunc(c.sets, func(o *DaemonSet) bool { return o == s })
	c.bump()
	c.wake()
}

// sync is the DaemonSet controller.
func (c *Carrier) sync(s *DaemonSet) {
	if s.deletedAt != nil {
		return // a deleting DaemonSet is not synced at all
	}
	revision := s.Namespace + "/" + s.Name + "/" + s.hash()
	if c.RevisionsForbidden && (!c.bearing[revision] || s.observedGeneration == 0) {
		c.logForbidden(s) // constructHistory fails before anything else, without an event
		return
	}
	c.bearing[revision] = true
	c.adopt(s)
	outdated, unavailable := c.coverNodes(s)
	if !s.Spec.OnDelete && len(outdated) > 0 && unavailable == 0 {
		c.outdated = append(c.outdated, outdated[0].uid)
		c.terminate(outdated[0]) // maxUnavailable is 1
	}
	c.report(s)
}

// adopt gives the DaemonSet the pods that match its selector and that nobody controls.
func (c *Carrier) adopt(s *DaemonSet) {
	for _, p := range c.pods {
		if p.Namespace == s.Namespace && p.App == s.Name && p.ownerUID == "" && !p.Terminating && c.knowsOrphan(p) {
			p.Owner, p.ownerUID = "DaemonSet/"+s.Name, s.uid
			c.bump()
		}
	}
}

// knowsOrphan: just after the orphaning, the controller's pod cache still shows the old owner.
func (c *Carrier) knowsOrphan(p *Pod) bool {
	if p.orphanedAt.IsZero() || c.clock.Now().Sub(p.orphanedAt) >= c.Delays.PodCache {
		return true
	}
	c.clock.After(c.Delays.PodCache, c.wake)
	return false
}

// coverNodes makes and removes pods, and returns the pods of an older template and the number of unavailable nodes.
func (c *Carrier) coverNodes(s *DaemonSet) (outdated []*Pod, unavailable int) {
	for _, n := range c.nodes {
		var mine []*Pod
		for _, p := range c.pods {
			if p.ownerUID == s.uid && p.Pinned == n.Name {
				mine = append(mine, p)
			}
		}
		switch {
		case s.excludes(n) != "":
			for _, p := range mine {
				c.terminate(p)
			}
			continue
		case !s.shouldRun(n):
			continue
		case len(mine) == 0 && !s.forgotten[n.Name]:
			c.makePod(s, n)
		case len(mine) > 1:
			c.terminate(mine[len(mine)-1])
		}
		ready := false
		for _, p := range mine {
			ready = ready || p.Ready && !p.Terminating
			if !p.Terminating && !s.updated(p) {
				outdated = append(outdated, p)
			}
		}
		if !ready {
			unavailable++
		}
	}
	return outdated, unavailable
}

func (c *Carrier) makePod(s *DaemonSet, n *Node) {
	if why := c.Quota[s.Namespace]; why != "" {
		c.event(s, "FailedCreate", "Error creating: pods is forbidden: "+why)
		return
	}
	uid, seq := c.id("pod")
	p := &Pod{Namespace: s.Namespace, Name: fmt.Sprintf("%s-%04d", s.Name, seq), App: s.Name, Pinned: n.Name,
		Owner: "DaemonSet/" + s.Name, ownerUID: s.uid, uid: uid, seq: seq, createdAt: c.clock.Now(), hash: s.hash(),
		templateGeneration: s.Annotations[templateGenerationKey], Priority: s.Spec.Priority, Image: s.Spec.Image}
	c.pods = append(c.pods, p)
	c.event(s, "SuccessfulCreate", "Created pod: "+p.Name)
	c.bump()
}

// report writes the status; only a change of it is a write.
func (c *Carrier) report(s *DaemonSet) {
	var now daemonStatus
	for _, n := range c.nodes {
		var oldest *Pod
		for _, p := range c.pods {
			if p.ownerUID == s.uid && p.Pinned == n.Name && !p.Terminating && (oldest == nil || p.seq < oldest.seq) {
				oldest = p
			}
		}
		if !s.shouldRun(n) {
			if oldest != nil {
				now.misscheduled++
			}
			continue
		}
		now.desired++
		if oldest == nil {
			continue
		}
		now.current++
		if oldest.Ready {
			now.ready++
			now.available++
		}
		if s.updated(oldest) {
			now.updated++
		}
	}
	if now != s.status || s.observedGeneration != s.generation {
		s.status, s.observedGeneration, s.version = now, s.generation, c.bump()
	}
}

// replace makes up for the missing replicas of an owner. A StatefulSet's pod comes back under its old name, and only when
// the old one is gone.
func (c *Carrier) replace(o *Owner) {
	names := map[string]bool{}
	live := 0
	for _, p := range c.pods {
		if p.ownerUID != o.uid {
			continue
		}
		if o.Kind == "StatefulSet" {
			names[p.Name] = true
			live++
		} else if !p.Terminating {
			live++
		}
	}
	for i := 0; live < o.Replicas; i++ {
		uid, seq := c.id("pod")
		name := fmt.Sprintf("%s-%04d", o.Name, seq)
		if o.Kind == "StatefulSet" {
			name = fmt.Sprintf("%s-%d", o.Name, i)
			if names[name] {
				continue
			}
		}
		c.pods = append(c.pods, &Pod{Namespace: o.Namespace, Name: name, Owner: o.Kind + "/" + o.Name, ownerUID: o.uid,
			uid: uid, seq: seq, createdAt: c.clock.Now()})
		c.bump()
		live++
	}
}

// schedule binds the waiting pods, oldest first.
func (c *Carrier) schedule() {
	for _, p := range c.pods {
		if p.Node != "" || p.Terminating {
			continue
		}
		node, message := c.place(p)
		if node == nil {
			if p.Message != message {
				p.Message = message
				c.bump()
			}
			continue
		}
		p.Node, p.Message, p.scheduledAt = node.Name, "", c.clock.Now()
		c.bump()
		c.start(p)
	}
}

// place picks the emptiest node that takes the pod, or says why there is none, as the scheduler does.
func (c *Carrier) place(p *Pod) (*Node, string) {
	reasons := map[string]int{}
	var best *Node
	for _, n := range c.nodes {
		switch reason := c.unfit(p, n); {
		case reason != "":
			reasons[reason]++
		case best == nil || c.Occupancy(n.Name) < c.Occupancy(best.Name):
			best = n
		}
	}
	if best != nil {
		return best, ""
	}
	why := make([]string, 0, len(reasons))
	for reason, count := range reasons {
		why = append(why, fmt.Sprintf("%d %s", count, reason))
	}
	slices.Sort(why)
	total := len(c.nodes)
	return nil, fmt.Sprintf("0/%d nodes are available: %s. preemption: 0/%d nodes are available: %d No preemption victims found for incoming pod.",
		total, strings.Join(why, ", "), total, total)
}

func (c *Carrier) unfit(p *Pod, n *Node) string {
	daemon := p.Pinned != ""
	switch {
	case daemon && p.Pinned != n.Name:
		return "node(s) didn't satisfy plugin(s) [NodeAffinity]"
	case n.NotReady != "":
		return "node(s) had untolerated taint(s) {node.kubernetes.io/not-ready: }"
	case !daemon && n.Unschedulable:
		return "node(s) were unschedulable"
	case !daemon && n.Master:
		return "node(s) had untolerated taint(s) {node-role.kubernetes.io/control-plane: }"
	case !daemon && n.DiskPressure:
		return "node(s) had untolerated taint(s) {node.kubernetes.io/disk-pressure: }"
	case c.Occupancy(n.Name) >= n.Allocatable:
		return "Too many pods"
	case !daemon && p.OnlyOn != "" && p.OnlyOn != n.Name:
		return "node(s) didn't match Pod's node affinity/selector"
	case n.Short == "port":
		return "node(s) didn't have free ports for the requested pod ports"
	case n.Short != "":
		return "Insufficient " + n.Short
	case !daemon && n.Cramped:
		return "Insufficient cpu"
	}
	return ""
}

// start lets a bound pod become ready, unless its node or its template is broken.
func (c *Carrier) start(p *Pod) {
	p.Waiting = "ContainerCreating"
	c.clock.After(c.Delays.Start, func() {
		n := c.Node(p.Node)
		if c.podByUID(p.uid) == nil || p.Terminating || n == nil || n.NotReady != "" || (n.DiskPressure && p.Pinned != "") {
			return
		}
		if s := c.setOf(p); s != nil && (s.Spec.Crash != "" || n.Broken) {
			p.Waiting, p.Restarts = "CrashLoopBackOff", p.Restarts+3
		} else {
			p.Waiting, p.Ready = "", true
		}
		c.bump()
		c.wake()
	})
}

func (c *Carrier) setOf(p *Pod) *DaemonSet {
	for _, s := range c.sets {
		if s.uid == p.ownerUID {
			return s
		}
	}
	return nil
}

// terminate deletes a pod gracefully.
func (c *Carrier) terminate(p *Pod) {
	if p.Terminating {
		return
	}
	p.Terminating = true
	c.bump()
	c.wake()
	if p.Stuck {
		return
	}
	grace := c.Delays.Grace
	if p.Node == "" {
		grace = 0 // no kubelet has to agree
	}
	c.clock.After(grace, func() {
		c.pods = slices.DeleteFunc(c.pods, func(o *Pod) bool { return o == p })
		c.bump()
		c.wake()
	})
}

// allowed is how many more pods the budgets let go, and how many budgets select the pod.
func (c *Carrier) allowed(p *Pod) (allowed, budgets int) {
	for _, b := range c.budgets {
		if b.Namespace != p.Namespace || !slices.ContainsFunc(b.Owners, func(o string) bool { return strings.HasSuffix(p.Owner, "/"+o) }) {
			continue
		}
		healthy := 0
		for _, q := range c.pods {
			if q.Namespace == b.Namespace && q.Ready && !q.Terminating &&
				slices.ContainsFunc(b.Owners, func(o string) bool { return strings.HasSuffix(q.Owner, "/"+o) }) {
				healthy++
			}
		}
		left := max(0, healthy-b.MinAvailable)
		if budgets == 0 {
			allowed = left
		}
		allowed = min(allowed, left)
		budgets++
	}
	return allowed, budgets
}

func byAge(a, b *Pod) int { return cmp.Compare(a.seq, b.seq) }
