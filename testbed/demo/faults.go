package demo

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/drydock/drydock/testbed/controlplane"
	"github.com/drydock/drydock/testbed/fault"
)

// exitNoSpace is the exit code of an agent that can not write to its disk.
const exitNoSpace = 1

// breakCarriers makes the four faults at the same time and returns when each is
// there, as its alert says. Each is in a DaemonSet of its own: a full node would
// make the pod of every DaemonSet wait that has none there yet, so the others'
// pods are on the nodes before these are filled.
func breakCarriers(ctx context.Context, v *view, clusters map[string]*controlplane.Cluster) error {
	var faults []func(context.Context) error
	for _, a := range alerts() {
		faults = append(faults, func(ctx context.Context) error {
			return v.step(a.carrier+": "+a.broken, func() error { return a.breakIt(ctx, clusters[a.carrier]) })
		})
	}
	return together(ctx, faults...)
}

func (a alert) breakIt(ctx context.Context, cluster *controlplane.Cluster) error {
	client := cluster.Client()
	switch {
	case a.promoted:
		return fault.DeleteDaemonSet(ctx, client, a.namespace, a.daemonset, metav1.DeletePropagationBackground)
	case a.drained:
		_, err := fault.FillNode(ctx, client, fault.Full{
			Node: a.node, Displace: []types.NamespacedName{{Namespace: a.namespace, Name: a.daemonset}}, With: customerMaster(""),
		})
		return err
	default:
		return fillDisk(ctx, cluster, a)
	}
}

// fillDisk puts a node under disk pressure. An agent that buffers on disk then
// crashes; a kubelet under pressure would evict it, with the same effect.
func fillDisk(ctx context.Context, cluster *controlplane.Cluster, a alert) error {
	client := cluster.Client()
	pod, err := a.daemonPod(ctx, client)
	if err != nil {
		return err
	}
	if err := fault.SetDiskPressure(ctx, client, a.node, true); err != nil {
		return err
	}
	said := []string{"buffer flush took too long", "unexpected error error_class=Errno::ENOSPC error=\"No space left on device\""}
	if err := cluster.SetPodLog(ctx, pod.Namespace, pod.Name, said, said); err != nil {
		return err
	}
	return fault.CrashPod(ctx, client, pod.Namespace, pod.Name, exitNoSpace)
}

// freeDisk is the disk team's work. The agent runs again before the kubelet takes
// the pressure back, as on a real node, whose kubelet waits some minutes with it.
func freeDisk(ctx context.Context, client kubernetes.Interface, a alert) error {
	pod, err := a.daemonPod(ctx, client)
	if err != nil {
		return err
	}
	if err := fault.HealPod(ctx, client, pod.Namespace, pod.Name); err != nil {
		return err
	}
	return fault.SetDiskPressure(ctx, client, a.node, false)
}

// daemonPod is the alert's pod on the alert's node.
func (a alert) daemonPod(ctx context.Context, client kubernetes.Interface) (*corev1.Pod, error) {
	pod, err := fault.DaemonPod(ctx, client, a.namespace, a.daemonset, a.node)
	if err == nil && pod == nil {
		err = fmt.Errorf("there is no pod of DaemonSet %s on node %s", a.key(), a.node)
	}
	return pod, err
}
