package playbooktest

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/drydock/drydock/playbook"
)

// Observe projects the carrier into the observation, as the real adapter does.
func (c *Carrier) Observe(_ context.Context, look playbook.Look, o *playbook.Observation) {
	t := look.Target
	s := c.Set(t.Namespace, t.DaemonSet)
	fill(c, &o.DaemonSet, "daemonset", func() playbook.DaemonSet { return c.readSet(s) })
	fill(c, &o.Namespace, "namespace", func() playbook.Namespace {
		n := c.namespaces[t.Namespace]
		return playbook.Namespace{Exists: n != nil, Terminating: n != nil && n.Terminating}
	})
	fill(c, &o.Nodes, "nodes", func() []playbook.Node { return c.readNodes(s, t, look.Policy.PodLimit) })
	fill(c, &o.Controller, "controller", func() playbook.Controller {
		return playbook.Controller{Holder: c.controller.holder, RenewedAt: c.renewedAt(), Duration: 15 * time.Second}
	})
	for _, w := range look.Wants {
		c.observeWanted(w, look, s, o)
	}
}

func (c *Carrier) observeWanted(w playbook.Want, look playbook.Look, s *DaemonSet, o *playbook.Observation) {
	switch w.Kind {
	case playbook.WantNodePods:
		if o.NodePods == nil {
			o.NodePods = map[string]playbook.Reading[playbook.NodePods]{}
		}
		r := o.NodePods[w.Node]
		fill(c, &r, "node_pods", func() playbook.NodePods { return c.readNodePods(w.Node, look.Policy.DrainFrom) })
		o.NodePods[w.Node] = r
	case playbook.WantEvents:
		fill(c, &o.Events, "events", func() []playbook.Event { return c.readEvents(look.Target) })
	case playbook.WantReapply:
		fill(c, &o.Reapply, "reapply", func() playbook.ReapplyCheck { return c.readReapply(s) })
	case playbook.WantAdoption:
		fill(c, &o.Adoption, "adoption", func() playbook.Adoption { return c.readAdoption(s, w.UIDs) })
	case playbook.WantEvidence:
		fill(c, &o.Evidence, "evidence", func() []playbook.Evidence { return c.readEvidence(look.Target) })
	case playbook.WantManagerLog:
		fill(c, &o.ManagerLog, "manager_log", func() playbook.ManagerLog {
			lines := c.managerLog[look.Target.Namespace+"/"+look.Target.DaemonSet]
			return playbook.ManagerLog{Source: "pod kube-system/kube-controller-manager-" + c.controller.holder, Lines: slices.Clone(lines)}
		})
		fill(c, &o.MissingRights, "missing_rights", func() []string {
			if c.RevisionsForbidden {
				return []string{"create controllerrevisions.apps"}
			}
			return []string{}
		})
	case playbook.WantPromotion, playbook.WantDiskIncidents: // other remotes'
	}
}

// fill makes one reading, unless it is known already.
func fill[T any](c *Carrier, r *playbook.Reading[T], name string, read func() T) {
	switch why := cmp.Or(c.Unreachable, c.Unreadable[name]); {
	case r.IsKnown():
	case why != "":
		*r = playbook.Unknown[T](why)
	default:
		*r = playbook.Known(read())
	}
}

func (c *Carrier) readSet(s *DaemonSet) playbook.DaemonSet {
	if s == nil {
		return playbook.DaemonSet{}
	}
	d := playbook.DaemonSet{
		Exists: true, UID: s.uid, ResourceVersion: strconv.Itoa(s.version), Generation: s.generation,
		ObservedGeneration: s.observedGeneration, DeletedAt: s.deletedAt, Finalizers: slices.Clone(s.finalizers),
		Owners: s.Owners, CreatedAt: s.createdAt, RollingUpdate: !s.Spec.OnDelete, Desired: s.status.desired,
		Current: s.status.current, Ready: s.status.ready, Updated: s.status.updated, Available: s.status.available,
		Misscheduled: s.status.misscheduled, SpecHash: Checksum(s.manifest()), NudgedByRun: s.Annotations[nudgedKey],
	}
	for _, tool := range []struct{ mark, name string }{
		{s.Annotations[argoKey], "Argo CD application "}, {s.Labels[fluxKey], "Flux Kustomization "}, {s.Annotations[helmKey], "Helm release "},
	} {
		if tool.mark != "" && d.GitOps == "" {
			d.GitOps = tool.name + tool.mark
		}
	}
	for k, v := range s.Spec.NodeSelector {
		d.SelectorSummary = "node selector " + k + "=" + v
	}
	for _, p := range c.pods {
		if p.ownerUID == s.uid && p.createdAt.After(d.NewestPodAt) {
			d.NewestPodAt = p.createdAt
		}
	}
	return d
}

func (c *Carrier) readNodes(s *DaemonSet, t playbook.Target, limit int) []playbook.Node {
	pinned := map[string][]*Pod{}
	for _, p := range c.pods {
		if p.Namespace == t.Namespace && p.App == t.DaemonSet {
			pinned[p.Pinned] = append(pinned[p.Pinned], p)
		}
	}
	nodes := make([]playbook.Node, 0, len(c.nodes))
	for _, n := range c.nodes {
		seen := playbook.Node{
			Name: n.Name, UID: n.uid, ResourceVersion: strconv.Itoa(n.version), Ready: n.NotReady == "", NotReadyWhy: n.NotReady,
			DiskPressure: n.DiskPressure, Unschedulable: n.Unschedulable, KeepCordoned: n.KeepCordoned,
			Allocatable: cmp.Or(limit, n.Allocatable),
		}
		if n.Mark != nil {
			mark := *n.Mark
			seen.CordonedBy = &mark
		}
		if s != nil {
			seen.ExcludedBy = s.excludes(n)
			seen.Expected = seen.ExcludedBy == ""
		}
		for _, p := range pinned[n.Name] {
			seen.Pods = append(seen.Pods, readPod(p, s))
		}
		nodes = append(nodes, seen)
	}
	return nodes
}

func readPod(p *Pod, s *DaemonSet) playbook.Pod {
	seen := playbook.Pod{
		Name: p.Name, UID: p.uid, Phase: "Pending", Scheduled: p.Node != "", Ready: p.Ready, Terminating: p.Terminating,
		CreatedAt: p.createdAt, ScheduledAt: p.scheduledAt, Unschedulable: p.Message, Waiting: p.Waiting, Restarts: p.Restarts,
		Owned: s != nil && p.ownerUID == s.uid,
	}
	if p.Ready || p.Restarts > 0 {
		seen.Phase = "Running"
	}
	if p.Restarts > 0 {
		seen.LastExit = "Error, exit code 137"
	}
	return seen
}

func (c *Carrier) readNodePods(node string, drainFrom []string) playbook.NodePods {
	seen := playbook.NodePods{Count: c.Occupancy(node), PendingDaemon: c.Waiting(node)}
	on := slices.Clone(c.pods)
	slices.SortFunc(on, byAge)
	for _, p := range on {
		if p.Node != node {
			continue
		}
		allowed, budgets := c.allowed(p)
		k := playbook.Candidate{
			Namespace: p.Namespace, Name: p.Name, UID: p.uid, Owner: p.Owner, Priority: p.Priority, Budgets: budgets,
			Allowed: allowed, Terminating: p.Terminating, CreatedAt: p.createdAt, NotMovable: c.notMovable(p, drainFrom),
		}
		for _, o := range c.owners {
			if o.uid == p.ownerUID {
				k.OwnerWants = o.Replicas
			}
		}
		for _, q := range c.pods {
			if q.ownerUID == p.ownerUID && p.ownerUID != "" && q.Ready && !q.Terminating {
				k.OwnerReady++
			}
		}
		if k.NotMovable == "" {
			k.NotMovable = stays(k)
		}
		seen.Candidates = append(seen.Candidates, k)
	}
	return seen
}

// stays says why owner and budgets keep a pod where it is, as playbook/kube reports it; empty when they do not.
func stays(k playbook.Candidate) string {
	switch {
	case k.Budgets > 1:
		return "more than one budget selects it"
	case k.Budgets == 0 && k.OwnerReady < 2:
		return "no other replica serves meanwhile, and there is no budget"
	}
	return ""
}

const systemCritical = 2_000_000_000

func (c *Carrier) notMovable(p *Pod, drainFrom []string) string {
	switch {
	case p.Mirror:
		return "mirror pod of a static pod"
	case p.Pinned != "":
		return "pod of a DaemonSet"
	case p.Priority >= systemCritical:
		return "system-critical priority"
	case p.Owner == "":
		return "no controller would make it again"
	case p.LocalStorage:
		return "local storage (emptyDir) would be lost"
	case p.Claim != "":
		return "volume " + p.Claim + " is a claim: where it can be attached is not known"
	case !slices.Contains(drainFrom, p.Namespace):
		return "namespace " + p.Namespace + " is not in drain_namespaces"
	case !slices.ContainsFunc(c.nodes, func(n *Node) bool { return n.Name != p.Node && c.unfit(p, n) == "" }):
		return "no room on another node"
	}
	return ""
}

func (c *Carrier) readEvents(t playbook.Target) []playbook.Event {
	seen := []playbook.Event{}
	for _, e := range c.events {
		if e.namespace == t.Namespace && e.name == t.DaemonSet {
			seen = append(seen, e.Event)
		}
	}
	slices.SortStableFunc(seen, func(a, b playbook.Event) int { return b.At.Compare(a.At) })
	return seen
}

func (c *Carrier) readReapply(s *DaemonSet) playbook.ReapplyCheck {
	if s == nil {
		return playbook.ReapplyCheck{DryRun: "the DaemonSet does not exist"}
	}
	m := s.manifest()
	return playbook.ReapplyCheck{UID: s.uid, ResourceVersion: strconv.Itoa(s.version), MayCreate: true, MayDelete: true,
		DryRun: c.NoCreate, SHA256: Checksum(m), PodUIDs: c.podsOf(s), Manifest: m}
}

func (c *Carrier) podsOf(s *DaemonSet) []string {
	var uids []string
	for _, p := range c.pods {
		if p.ownerUID == s.uid && !p.Terminating {
			uids = append(uids, p.uid)
		}
	}
	return uids
}

func (c *Carrier) readAdoption(s *DaemonSet, uids []string) playbook.Adoption {
	var seen playbook.Adoption
	for _, uid := range uids {
		switch p := c.podByUID(uid); {
		case p == nil || p.Terminating:
			seen.Lost = append(seen.Lost, uid)
		case p.ownerUID == "":
			seen.Orphans = append(seen.Orphans, uid)
		case s != nil && p.ownerUID == s.uid:
			seen.Kept++
		}
	}
	return seen
}

func (c *Carrier) readEvidence(t playbook.Target) []playbook.Evidence {
	var lines []string
	for _, e := range c.readEvents(t) {
		lines = append(lines, fmt.Sprintf("%s (%d times): %s", e.Reason, e.Count, e.Message))
	}
	return []playbook.Evidence{{Source: "events", Text: strings.Join(lines, "\n")}}
}

// State reads one object afresh.
func (c *Carrier) State(_ context.Context, ref playbook.Ref) (playbook.ObjectState, error) {
	if c.Unreachable != "" {
		return playbook.ObjectState{}, fmt.Errorf("read %s: %s", ref, c.Unreachable)
	}
	switch ref.Kind {
	case "Node":
		if n := c.Node(ref.Name); n != nil {
			return playbook.ObjectState{Exists: true, UID: n.uid, ResourceVersion: strconv.Itoa(n.version),
				Unschedulable: n.Unschedulable, Mark: n.Mark}, nil
		}
	case "DaemonSet":
		if s := c.Set(ref.Namespace, ref.Name); s != nil {
			return playbook.ObjectState{Exists: true, UID: s.uid, ResourceVersion: strconv.Itoa(s.version),
				Deleting: s.deletedAt != nil, NudgedByRun: s.Annotations[nudgedKey], BackupSHA256: Checksum(s.manifest())}, nil
		}
	case "Pod":
		for _, p := range c.pods {
			if p.Namespace == ref.Namespace && p.Name == ref.Name {
				return playbook.ObjectState{Exists: true, UID: p.uid, Deleting: p.Terminating}, nil
			}
		}
	case "Lease":
		return playbook.ObjectState{Exists: true, UID: c.controller.holder, RestartedByRun: c.controller.restartedBy}, nil
	default:
		return playbook.ObjectState{}, fmt.Errorf("read %s: kind %q is not one of this carrier", ref, ref.Kind)
	}
	return playbook.ObjectState{}, nil
}
