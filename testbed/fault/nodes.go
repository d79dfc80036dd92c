package fault

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/drydock/drydock/testbed/await"
)

// SetDiskPressure lets a node's kubelet report disk pressure, or its end, and waits
// until the node has, or has lost, the taint that follows from it.
func SetDiskPressure(ctx context.Context, client kubernetes.Interface, node string, pressure bool) error {
	status, reason, message := corev1.ConditionFalse, "KubeletHasNoDiskPressure", "kubelet has no disk pressure"
	if pressure {
		status, reason, message = corev1.ConditionTrue, "KubeletHasDiskPressure", "kubelet has disk pressure"
	}
	now := metav1.Now()
	// Conditions merge by their type in a strategic merge patch, so Ready stays.
	condition := corev1.NodeCondition{
		Type: corev1.NodeDiskPressure, Status: status, Reason: reason, Message: message,
		LastHeartbeatTime: now, LastTransitionTime: now,
	}
	change := patch{"status": patch{"conditions": []corev1.NodeCondition{condition}}}
	if err := change.node(ctx, client, node, types.StrategicMergePatchType, "status"); err != nil {
		return err
	}
	return waitForTaint(ctx, client, node, corev1.TaintNodeDiskPressure, pressure)
}

// SetNotReady lets a node's kubelet report NotReady, or Ready again. The pods on it
// stay Ready, and a DaemonSet's numbers unchanged.
func SetNotReady(ctx context.Context, client kubernetes.Interface, node string, notReady bool) error {
	if err := labelNode(ctx, client, node, notReadyMark, notReady); err != nil {
		return err
	}
	return waitForTaint(ctx, client, node, corev1.TaintNodeNotReady, notReady)
}

// KillNode takes a node's kubelet away and waits until Kubernetes calls the node
// unreachable and its pods not Ready, which takes 1.25 leases. A DaemonSet then is
// ready on one node less. Whether it also desires one less depends on which its
// controller saw first, the taint or the pod: it looks again only at the next change.
func KillNode(ctx context.Context, client kubernetes.Interface, node string) error {
	if err := labelNode(ctx, client, node, deadMark, true); err != nil {
		return err
	}
	if err := waitForTaint(ctx, client, node, corev1.TaintNodeUnreachable, true); err != nil {
		return err
	}
	return await.Until(ctx, "the pods on node "+node+" not to be ready", func(ctx context.Context) error {
		pods, err := PodsOn(ctx, client, node)
		if err != nil {
			return err
		}
		for _, pod := range pods {
			if hasCondition(pod.Status.Conditions, corev1.PodReady, corev1.ConditionTrue) {
				return fmt.Errorf("pod %s/%s is", pod.Namespace, pod.Name)
			}
		}
		return nil
	})
}

// ReviveNode brings back a node that KillNode took away. A kubelet that is back
// reports its pods Ready again: this does that too.
func ReviveNode(ctx context.Context, client kubernetes.Interface, node string) error {
	if err := labelNode(ctx, client, node, deadMark, false); err != nil {
		return err
	}
	if err := waitForTaint(ctx, client, node, corev1.TaintNodeUnreachable, false); err != nil {
		return err
	}
	pods, err := PodsOn(ctx, client, node)
	if err != nil {
		return err
	}
	for _, pod := range pods {
		if !hasCondition(pod.Status.Conditions, corev1.ContainersReady, corev1.ConditionTrue) {
			continue
		}
		ready := corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now()}
		change := patch{"status": patch{"conditions": []corev1.PodCondition{ready}}}
		if err := change.pod(ctx, client, pod.Namespace, pod.Name, types.StrategicMergePatchType, "status"); err != nil {
			return err
		}
	}
	return nil
}

// Cordon makes a node unschedulable, or schedulable again, as a person would who
// knows nothing of Drydock.
func Cordon(ctx context.Context, client kubernetes.Interface, node string, cordoned bool) error {
	if err := (patch{"spec": patch{"unschedulable": cordoned}}).node(ctx, client, node, types.MergePatchType); err != nil {
		return err
	}
	return waitForTaint(ctx, client, node, corev1.TaintNodeUnschedulable, cordoned)
}

func waitForTaint(ctx context.Context, client kubernetes.Interface, node, taint string, want bool) error {
	what := fmt.Sprintf("node %s to have the taint %s", node, taint)
	if !want {
		what = fmt.Sprintf("node %s to lose the taint %s", node, taint)
	}
	return await.Until(ctx, what, func(ctx context.Context) error {
		object, err := client.CoreV1().Nodes().Get(ctx, node, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if hasTaint(object, taint) != want {
			return fmt.Errorf("its taints are %v", object.Spec.Taints)
		}
		return nil
	})
}

func hasTaint(node *corev1.Node, key string) bool {
	for _, taint := range node.Spec.Taints {
		if taint.Key == key {
			return true
		}
	}
	return false
}

// holdTaint keeps daemon pods off a node while it is filled. The pods that fill it
// tolerate it.
var holdTaint = corev1.Taint{Key: "sim/filling", Effect: corev1.TaintEffectNoSchedule}

// Full says how [FillNode] fills a node.
type Full struct {
	// Node is the node to fill.
	Node string
	// Displace names the DaemonSets, as namespace/name, whose pods are to find no
	// room on the node. They may run there before, and must not tolerate all
	// taints. DaemonSets that are created afterwards find no room either.
	Displace []types.NamespacedName
	// With is the pattern of the workloads that take the places: one Deployment
	// or StatefulSet after the other, named <Name>-<number>, of With.Replicas
	// pods each, until the node is at its limit. Default: Deployments of three in
	// kubx-masters.
	With Workload
}

// FillNode fills a node to its limit of pods, as the runbook describes it: customers'
// masters took the room while the daemon pods were away. When it returns, the node
// runs allocatable.pods pods, and for each DaemonSet of Displace a pod waits that
// finds "Too many pods". The workloads are bound to the node by nothing but a
// preference, so an evicted pod comes up elsewhere if the node is cordoned or full.
// Other pods must not come to the node meanwhile. It returns the workloads' names.
func FillNode(ctx context.Context, client kubernetes.Interface, full Full) (names []string, err error) {
	node, err := client.CoreV1().Nodes().Get(ctx, full.Node, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("fill node %s: %w", full.Node, err)
	}
	if full.With.Namespace == "" {
		full.With.Namespace = "kubx-masters"
	}
	if full.With.Name == "" {
		full.With.Name = "master-" + full.Node
	}
	if full.With.Replicas == 0 {
		full.With.Replicas = 3
	}
	full.With.Prefer = full.Node
	if err := Namespace(ctx, client, full.With.Namespace); err != nil {
		return nil, err
	}

	if err := setHoldTaint(ctx, client, full.Node, true); err != nil {
		return nil, err
	}
	names, err = fillHeldNode(ctx, client, full, node.Status.Allocatable.Pods().Value())
	// The taint goes also when the filling failed; it is our own mess.
	if err := errors.Join(err, setHoldTaint(ctx, client, full.Node, false)); err != nil {
		return nil, fmt.Errorf("fill node %s: %w", full.Node, err)
	}
	for _, set := range full.Displace {
		if _, err := WaitTooManyPods(ctx, client, set.Namespace, set.Name, full.Node); err != nil {
			return nil, err
		}
	}
	return names, nil
}

func setHoldTaint(ctx context.Context, client kubernetes.Interface, node string, held bool) error {
	return await.Until(ctx, "the hold taint on node "+node+" to change", func(ctx context.Context) error {
		object, err := client.CoreV1().Nodes().Get(ctx, node, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if hasTaint(object, holdTaint.Key) == held {
			return nil
		}
		var taints []corev1.Taint
		for _, taint := range object.Spec.Taints {
			if taint.Key != holdTaint.Key {
				taints = append(taints, taint)
			}
		}
		if held {
			taints = append(taints, holdTaint)
		}
		object.Spec.Taints = taints
		// An update, for its conflict when another changed the taints meanwhile.
		_, err = client.CoreV1().Nodes().Update(ctx, object, metav1.UpdateOptions{})
		return err
	})
}

// fillHeldNode fills a node that daemon pods can not come to.
func fillHeldNode(ctx context.Context, client kubernetes.Interface, full Full, limit int64) ([]string, error) {
	for _, set := range full.Displace {
		if err := removeDaemonPod(ctx, client, set, full.Node); err != nil {
			return nil, err
		}
	}
	present, err := PodsOn(ctx, client, full.Node)
	if err != nil {
		return nil, err
	}
	var names []string
	for room := int32(limit) - int32(len(present)); room > 0; room -= full.With.Replicas {
		workload := full.With
		workload.Name = fmt.Sprintf("%s-%d", full.With.Name, len(names)+1)
		workload.Replicas = min(workload.Replicas, room)
		if err := CreateWorkload(ctx, client, workload); err != nil {
			return nil, err
		}
		names = append(names, workload.Name)
	}
	for _, name := range names {
		if err := WaitWorkload(ctx, client, full.With.Namespace, name); err != nil {
			return nil, err
		}
	}
	pods, err := PodsOn(ctx, client, full.Node)
	if err != nil {
		return nil, err
	}
	if int64(len(pods)) != limit {
		return nil, fmt.Errorf("it has %d pods, want %d: pods of others came, went or were preferred elsewhere", len(pods), limit)
	}
	return names, nil
}

// removeDaemonPod deletes the pod of a DaemonSet on a node that holds new ones off.
func removeDaemonPod(ctx context.Context, client kubernetes.Interface, set types.NamespacedName, node string) error {
	daemonSet, err := client.AppsV1().DaemonSets(set.Namespace).Get(ctx, set.Name, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("displace DaemonSet %s: %w", set, err)
	}
	for _, toleration := range daemonSet.Spec.Template.Spec.Tolerations {
		if toleration.Key == "" && (toleration.Effect == "" || toleration.Effect == holdTaint.Effect) {
			return fmt.Errorf("displace DaemonSet %s: it tolerates all taints, so nothing holds its pods off the node", set)
		}
	}
	return await.Until(ctx, fmt.Sprintf("the pod of DaemonSet %s on node %s to go", set, node), func(ctx context.Context) error {
		pods, err := daemonPods(ctx, client, set.Namespace, set.Name)
		if err != nil {
			return err
		}
		for _, pod := range pods {
			if TargetNode(&pod) != node {
				continue
			}
			if pod.DeletionTimestamp == nil {
				if err := client.CoreV1().Pods(pod.Namespace).Delete(ctx, pod.Name, metav1.DeleteOptions{}); err != nil {
					return err
				}
			}
			return fmt.Errorf("pod %s is there", pod.Name)
		}
		return nil
	})
}
