package playbooktest

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/drydock/drydock/playbook"
)

// controllerRestart is how long a restarted controller-manager needs to lead again (kubernetes.md B).
const controllerRestart = 18 * time.Second

// Do makes the one call of an action, by the API server's rules.
func (c *Carrier) Do(_ context.Context, call playbook.Call) (playbook.Settlement, error) {
	if c.Unreachable != "" {
		return playbook.Settlement{}, fmt.Errorf("%s: %s", call.Action.Kind(), c.Unreachable)
	}
	switch a := call.Action.(type) {
	case playbook.Cordon:
		return c.cordon(call, a), nil
	case playbook.Uncordon:
		return c.uncordon(call, a), nil
	case playbook.Evict:
		return c.evict(call, a), nil
	case playbook.OrphanDelete:
		return c.orphanDelete(call, a), nil
	case playbook.Create:
		return c.create(call, a)
	case playbook.Nudge:
		return c.nudge(call, a), nil
	case playbook.RestartControllerManager:
		return c.restart(call), nil
	case playbook.Promote, playbook.Annotate, playbook.Acknowledge, playbook.Escalate, playbook.Resolve:
	}
	return playbook.Settlement{}, fmt.Errorf("%s is not an action on a carrier", call.Action.Kind())
}

func (c *Carrier) did(call playbook.Call, e Effect) playbook.Settlement {
	e.At, e.Run, e.Seq, e.Action = c.clock.Now(), call.Run, call.Seq, call.Action
	c.Effects = append(c.Effects, e)
	c.wake()
	return playbook.Settlement{Result: playbook.Happened}
}

func superseded(format string, args ...any) playbook.Settlement {
	return playbook.Settlement{Result: playbook.Superseded, Detail: fmt.Sprintf(format, args...)}
}

func refused(format string, args ...any) playbook.Settlement {
	return playbook.Settlement{Result: playbook.Refused, Detail: fmt.Sprintf(format, args...)}
}

// stale is the API server's check of a precondition: what is not given is not checked.
func stale(uid, version, haveUID string, have int) bool {
	return (uid != "" && uid != haveUID) || (version != "" && version != strconv.Itoa(have))
}

func (c *Carrier) cordon(call playbook.Call, a playbook.Cordon) playbook.Settlement {
	n := c.Node(a.Node)
	if n == nil {
		return superseded("node %s is gone", a.Node)
	}
	if stale(a.UID, a.ResourceVersion, n.uid, n.version) {
		return superseded("409: node %s was changed meanwhile", a.Node)
	}
	foreign := n.Unschedulable && n.foreign
	mark := a.Mark
	n.Unschedulable, n.Mark, n.version = true, &mark, c.bump()
	return c.did(call, Effect{Foreign: foreign})
}

// uncordon removes mark and cordon in one compare-and-swap, and only while the mark is the run's.
func (c *Carrier) uncordon(call playbook.Call, a playbook.Uncordon) playbook.Settlement {
	n := c.Node(a.Node)
	switch {
	case n == nil || (a.UID != "" && n.uid != a.UID):
		return superseded("node %s is gone", a.Node)
	case n.Mark == nil || n.Mark.Run != a.Run:
		return superseded("node %s does not bear this run's mark", a.Node)
	case n.KeepCordoned:
		n.Mark, n.version = nil, c.bump()
		settled := c.did(call, Effect{})
		settled.Detail = "left cordoned at a person's wish"
		return settled
	}
	// A foreign cordon below our mark can only be one that our cordon took over.
	foreign := n.foreign && n.Unschedulable
	n.Unschedulable, n.Mark, n.version = false, nil, c.bump()
	return c.did(call, Effect{Foreign: foreign})
}

func (c *Carrier) evict(call playbook.Call, a playbook.Evict) playbook.Settlement {
	i := slices.IndexFunc(c.pods, func(p *Pod) bool { return p.Namespace == a.Namespace && p.Name == a.Pod })
	if i < 0 {
		return superseded("404: pod %s/%s is gone", a.Namespace, a.Pod)
	}
	p := c.pods[i]
	if a.UID != "" && p.uid != a.UID {
		return superseded("409: pod %s/%s is another one by now", a.Namespace, a.Pod)
	}
	allowed, budgets := c.allowed(p)
	if !p.Terminating && p.Ready { // pending and terminating pods pass a budget
		switch {
		case budgets > 1:
			return refused("500: the pod has more than one PodDisruptionBudget")
		case budgets == 1 && allowed == 0:
			return refused("429: Cannot evict pod as it would violate the pod's disruption budget.")
		}
	}
	node := c.Node(p.Node)
	needed := 0
	if node != nil {
		staying := 0
		for _, q := range c.pods {
			if q.Node == p.Node && !q.Terminating {
				staying++
			}
		}
		needed = staying + c.Waiting(p.Node) - node.Allocatable
	}
	if p.Terminating {
		needed = 1 // it leaves anyway
	}
	c.terminate(p)
	return c.did(call, Effect{Needed: needed})
}

func (c *Carrier) orphanDelete(call playbook.Call, a playbook.OrphanDelete) playbook.Settlement {
	s := c.Set(a.Namespace, a.Name)
	switch {
	case s == nil:
		return superseded("404: DaemonSet %s/%s is gone", a.Namespace, a.Name)
	case stale(a.UID, a.ResourceVersion, s.uid, s.version):
		return superseded("409: DaemonSet %s/%s was changed meanwhile", a.Namespace, a.Name)
	case s.deletedAt != nil:
		return superseded("DaemonSet %s/%s is being deleted already", a.Namespace, a.Name)
	}
	now := c.clock.Now()
	s.deletedAt, s.finalizers, s.version = &now, append(s.finalizers, orphanFinalizer), c.bump()
	c.clock.After(c.Delays.Orphan, c.wake)
	return c.did(call, Effect{Pods: c.podsOf(s)})
}

func (c *Carrier) create(call playbook.Call, a playbook.Create) (playbook.Settlement, error) {
	if c.NoCreate != "" {
		return refused("%s", c.NoCreate), nil
	}
	if Checksum(call.Manifest) != a.BackupSHA256 {
		return playbook.Settlement{}, fmt.Errorf("create %s/%s: the manifest is not the one that was backed up", a.Namespace, a.Name)
	}
	if s := c.Set(a.Namespace, a.Name); s != nil {
		if s.deletedAt != nil {
			return playbook.Settlement{Result: playbook.NotHappened, Detail: "object is being deleted: already exists"}, nil
		}
		return superseded("DaemonSet %s/%s exists already", a.Namespace, a.Name), nil
	}
	var s DaemonSet
	if err := json.Unmarshal(call.Manifest, &s); err != nil {
		return playbook.Settlement{}, fmt.Errorf("create %s/%s: %w", a.Namespace, a.Name, err)
	}
	made := c.AddSet(s)
	settled := c.did(call, Effect{})
	settled.Receipt = made.uid
	return settled, nil
}

func (c *Carrier) nudge(call playbook.Call, a playbook.Nudge) playbook.Settlement {
	s := c.Set(a.Namespace, a.Name)
	if s == nil || s.deletedAt != nil {
		return superseded("DaemonSet %s/%s is gone", a.Namespace, a.Name)
	}
	if stale(a.UID, a.ResourceVersion, s.uid, s.version) {
		return superseded("409: DaemonSet %s/%s was changed meanwhile", a.Namespace, a.Name)
	}
	s.Annotations[nudgedKey], s.version = a.Run, c.bump()
	return c.did(call, Effect{})
}

// restart is a patch with the resourceVersion that the call has read at its begin: one from before a touch is stale.
func (c *Carrier) restart(call playbook.Call) playbook.Settlement {
	switch {
	case c.controller.restartedBy == call.Run:
		return playbook.Settlement{Result: playbook.Happened, Detail: "it was restarted by this run already"}
	case call.Generation < c.controller.touched:
		return playbook.Settlement{Result: playbook.NotHappened, Detail: "409: the Deployment was changed meanwhile"}
	}
	c.controller.diedAt, c.controller.restartedBy = c.clock.Now(), call.Run
	c.clock.After(controllerRestart, func() {
		c.controller.holder = c.Name + "-master-01_restarted"
		c.StartController()
	})
	return c.did(call, Effect{})
}

// Lease reads the carrier's Lease of ours.
func (c *Carrier) Lease(context.Context) playbook.Reading[playbook.CarrierLease] {
	if why := cmp.Or(c.Unreachable, c.Unreadable["lease"]); why != "" {
		return playbook.Unknown[playbook.CarrierLease](why)
	}
	l := c.lease
	l.Denied = c.mayNotLease
	return playbook.Known(l)
}

// Hold writes it, unless it refuses.
func (c *Carrier) Hold(ctx context.Context, installation string, count playbook.Count) (playbook.CarrierLease, error) {
	l, ok := c.Lease(ctx).Get()
	switch {
	case !ok:
		return l, fmt.Errorf("hold the Lease: %s", c.Lease(ctx).Why())
	case l.Refusal(c.Name, installation, count).Refuses():
		return l, nil
	}
	c.lease = playbook.CarrierLease{Holder: installation, Count: count}
	return c.lease, nil
}

// TakenBy makes the Lease another installation's, or another copy's of this one, with that count.
func (c *Carrier) TakenBy(installation string, count playbook.Count) {
	c.lease = playbook.CarrierLease{Holder: installation, Count: count}
}

// Touch bumps an annotation of ours, so that a resourceVersion which a paused worker holds is stale.
func (c *Carrier) Touch(_ context.Context, ref playbook.Ref, run string, generation int64) (bool, error) {
	if c.Unreachable != "" {
		return false, fmt.Errorf("touch %s: %s", ref, c.Unreachable)
	}
	c.Touches++
	value := run + "/" + strconv.FormatInt(generation, 10)
	switch ref.Kind {
	case "Node":
		if n := c.Node(ref.Name); n != nil && n.uid == cmp.Or(ref.UID, n.uid) {
			n.touched, n.version = value, c.bump()
			if n.Mark != nil && n.Mark.Run == run {
				mark := *n.Mark
				mark.Generation = generation
				n.Mark = &mark
			}
			return true, nil
		}
	case "DaemonSet":
		if s := c.Set(ref.Namespace, ref.Name); s != nil && s.uid == cmp.Or(ref.UID, s.uid) {
			s.Annotations[touchedKey], s.version = value, c.bump()
			return true, nil
		}
	case "Lease":
		c.controller.touched = generation
		return true, nil
	}
	return false, nil
}
