package chaos

import (
	"context"
	"errors"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/drydock/drydock/playbook"
	"github.com/drydock/drydock/testbed/await"
	"github.com/drydock/drydock/testbed/fault"
)

// trouble is a way in which a target breaks, and how its run ends on a quiet night.
type trouble struct {
	name string
	// often is how many of all troubles are of this kind, in relation to the others.
	often int
	alert string // what the title claims: not running, or absent
	ends  playbook.Outcome
	// begin breaks the target; over, if it is set, mends what Drydock hands over to people.
	begin func(t *target, ctx context.Context) (over func(context.Context) error, err error)
}

var troubles = []trouble{
	{name: "full node", often: 9, ends: playbook.OutcomeResolved, begin: (*target).fill},
	{name: "absent", often: 5, alert: "absent", ends: playbook.OutcomeResolved, begin: (*target).remove},
	{name: "controller behind", often: 3, ends: playbook.OutcomeResolved, begin: (*target).fallBehind},
	{name: "crash loop", often: 2, ends: playbook.OutcomeEscalated, begin: (*target).crash},
	{name: "false alarm", often: 1, ends: playbook.OutcomeResolved, begin: func(*target, context.Context) (func(context.Context) error, error) {
		return nothing, nil
	}},
}

func nothing(context.Context) error { return nil }

// fill fills a node with customers' masters, so that the pods of both DaemonSets wait.
func (t *target) fill(ctx context.Context) (func(context.Context) error, error) {
	names, err := fault.FillNode(ctx, t.client, fault.Full{
		Node:     t.fullNode(),
		Displace: []types.NamespacedName{{Namespace: t.Namespace, Name: t.DaemonSet}, {Namespace: t.Namespace, Name: t.companion()}},
		With: fault.Workload{
			Name: fmt.Sprintf("master-%s-%d", t.DaemonSet, t.episode), Replicas: 3, MinAvailable: new(2), NodeSelector: t.labels(),
		},
	})
	return func(ctx context.Context) error {
		for _, name := range names {
			if err := fault.DeleteWorkload(ctx, t.client, "kubx-masters", name); err != nil {
				return err
			}
		}
		return nil
	}, err
}

// remove deletes the DaemonSet with its pods.
func (t *target) remove(ctx context.Context) (func(context.Context) error, error) {
	err := fault.DeleteDaemonSet(ctx, t.client, t.Namespace, t.DaemonSet, metav1.DeletePropagationBackground)
	return func(ctx context.Context) error { return t.create(ctx, t.DaemonSet) }, err
}

// crash lets one pod crash, which nobody but its team can mend.
func (t *target) crash(ctx context.Context) (func(context.Context) error, error) {
	pod, err := fault.DaemonPod(ctx, t.client, t.Namespace, t.DaemonSet, t.node(2))
	if err == nil && pod == nil {
		err = errors.New("there is no pod to crash")
	}
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) error { return fault.HealPod(ctx, t.client, t.Namespace, pod.Name) },
		fault.CrashPod(ctx, t.client, t.Namespace, pod.Name, 137)
}

// behindFor is how long the DaemonSet controller is kept from its work: then it waits for longer than stuck_confirm until
// it tries again, and a nudge is quicker.
const behindFor = 6 * time.Second

// fallBehind lets the controller fail with a change of the DaemonSet until it tries rarely.
func (t *target) fallBehind(ctx context.Context) (func(context.Context) error, error) {
	allow, err := fault.RefuseRevisions(ctx, t.client, t.Namespace)
	if err != nil {
		return nil, err
	}
	change := fmt.Sprintf(`{"spec":{"template":{"metadata":{"annotations":{"sim/episode":"%d"}}}}}`, t.episode)
	set, err := t.client.AppsV1().DaemonSets(t.Namespace).Patch(ctx, t.DaemonSet, types.StrategicMergePatchType, []byte(change), metav1.PatchOptions{})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("change DaemonSet %s: %w", t.key(), err), allow(ctx))
	}
	pause(ctx, behindFor)
	now, err := t.client.AppsV1().DaemonSets(t.Namespace).Get(ctx, t.DaemonSet, metav1.GetOptions{})
	if err == nil && now.Status.ObservedGeneration >= set.Generation {
		err = errors.New("the controller took the change though its revision is refused")
	}
	return nothing, errors.Join(err, allow(ctx))
}

// mended waits until the target is as it was, for the next trouble.
func (t *target) mended(ctx context.Context, over func(context.Context) error) error {
	if err := over(ctx); err != nil {
		return err
	}
	if err := t.waitReady(ctx); err != nil {
		return err
	}
	return await.Until(ctx, "target "+t.key()+" to be as it was", func(ctx context.Context) error {
		wrong, err := t.wrong(ctx)
		if err == nil && len(wrong) > 0 {
			err = fmt.Errorf("%q", wrong)
		}
		return err
	})
}
