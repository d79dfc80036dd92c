package kube

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"

	"github.com/drydock/drydock/playbook"
)

// State reads one object afresh, see playbook.Carrier. A Lease stands for the controller-manager that holds it.
func (c *Carrier) State(ctx context.Context, ref playbook.Ref) (playbook.ObjectState, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	switch ref.Kind {
	case "Node":
		node, err := c.node(ctx, ref.Name)
		if err != nil || node == nil {
			return playbook.ObjectState{}, err
		}
		return playbook.ObjectState{Exists: true, UID: string(node.UID), ResourceVersion: node.ResourceVersion,
			Deleting: node.DeletionTimestamp != nil, Unschedulable: node.Spec.Unschedulable, Mark: markOf(node)}, nil
	case "Pod":
		return c.podState(ctx, ref)
	case "DaemonSet":
		return c.daemonSetState(ctx, ref)
	case "Lease":
		return c.managerState(ctx, ref)
	}
	return playbook.ObjectState{}, fmt.Errorf("read %s: a carrier has no state for that kind", ref)
}

// podState reads the pod by a list of one: no other read needs the right to get pods.
func (c *Carrier) podState(ctx context.Context, ref playbook.Ref) (playbook.ObjectState, error) {
	pods, err := c.listPods(ctx, ref.Namespace, metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector(metav1.ObjectNameField, ref.Name).String()})
	if err != nil || len(pods) == 0 {
		return playbook.ObjectState{}, err
	}
	return playbook.ObjectState{Exists: true, UID: string(pods[0].UID), ResourceVersion: pods[0].ResourceVersion,
		Deleting: pods[0].DeletionTimestamp != nil}, nil
}

func (c *Carrier) daemonSetState(ctx context.Context, ref playbook.Ref) (playbook.ObjectState, error) {
	live, err := c.liveDaemonSet(ctx, ref.Namespace, ref.Name)
	if err != nil || live.typed == nil {
		return playbook.ObjectState{}, err
	}
	_, hash, err := sanitize(live.raw)
	if err != nil {
		return playbook.ObjectState{}, err
	}
	return playbook.ObjectState{Exists: true, UID: string(live.typed.UID), ResourceVersion: live.typed.ResourceVersion,
		Deleting: live.typed.DeletionTimestamp != nil, NudgedByRun: live.typed.Annotations[NudgedByRun], BackupSHA256: hash}, nil
}

// touchTries bounds how often a touch reads and writes again after somebody else's write came between.
const touchTries = 5

// Touch changes the object's resourceVersion, see playbook.Carrier. Each touch writes another value: the same one again
// would change nothing, and a call that hangs from before would still find its resourceVersion. On a node with the run's
// cordon the mark's generation rises as well, so that an uncordon from before the touch leaves it alone.
func (c *Carrier) Touch(ctx context.Context, ref playbook.Ref, run string, generation int64) (bool, error) {
	switch ref.Kind {
	case "Node", "DaemonSet", "Lease":
	default:
		return false, nil
	}
	for try := 1; ; try++ {
		touched, err := c.touchOnce(ctx, ref, run, generation)
		if err == nil {
			return touched, nil
		}
		if !apierrors.IsConflict(err) || try == touchTries {
			return false, fmt.Errorf("touch %s: %w", ref, err)
		}
	}
}

func (c *Carrier) touchOnce(ctx context.Context, ref playbook.Ref, run string, generation int64) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	annotations := map[string]any{Generation: fmt.Sprintf("%s/%d/%s", run, generation, rand.Text())}
	switch ref.Kind {
	case "Lease":
		return c.touchManager(ctx, run, annotations)
	case "DaemonSet":
		live, err := c.liveDaemonSet(ctx, ref.Namespace, ref.Name)
		if err != nil || live.typed == nil || ref.UID != "" && string(live.typed.UID) != ref.UID {
			return false, err
		}
		err = c.patchDaemonSet(ctx, run, ref.Namespace, ref.Name, string(live.typed.UID), live.typed.ResourceVersion, annotations)
		return wasTouched(err, "daemonsets", ref.Name)
	}
	node, err := c.node(ctx, ref.Name)
	if err != nil || node == nil || ref.UID != "" && string(node.UID) != ref.UID {
		return false, err
	}
	if mark := markOf(node); mark != nil && mark.Run == run {
		mark.Generation = max(mark.Generation, generation)
		text, err := json.Marshal(mark)
		if err != nil {
			return false, fmt.Errorf("encode cordon mark: %w", err)
		}
		annotations[CordonOwner] = string(text)
	}
	err = c.patchNode(ctx, run, ref.Name, node.ResourceVersion, annotations, nil)
	return wasTouched(err, "nodes", ref.Name)
}

func wasTouched(err error, resource, name string) (bool, error) {
	if saidNotFound(err, resource, name) {
		return false, nil
	}
	return err == nil, err
}
