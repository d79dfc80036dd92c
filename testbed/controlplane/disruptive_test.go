package controlplane_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/drydock/drydock/testbed/await"
	"github.com/drydock/drydock/testbed/controlplane"
	"github.com/drydock/drydock/testbed/controlplane/clustertest"
	"github.com/drydock/drydock/testbed/fault"
)

// The tests of this file change the number of nodes that a daemon pod can run on, or
// stop what all nodes share. They are not parallel, so they have the cluster to
// themselves: the parallel tests go on after them.

func evict(ctx context.Context, client kubernetes.Interface, pod *corev1.Pod) error {
	return client.PolicyV1().Evictions(pod.Namespace).Evict(ctx, &policyv1.Eviction{
		ObjectMeta:    metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name},
		DeleteOptions: &metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(pod.UID))},
	})
}

func TestFullNode(t *testing.T) {
	ctx, client, namespace := setup(t)
	run(t, ctx, fault.Agent{Namespace: namespace, Name: "node-exporter"})
	full := node(2)
	names := fill(t, ctx, fault.Full{
		Node:     full,
		Displace: []types.NamespacedName{{Namespace: namespace, Name: "node-exporter"}},
		With:     fault.Workload{MinAvailable: new(1)},
	})
	waitCounts(t, ctx, namespace, "node-exporter", counts{Desired: nodes, Current: nodes, Updated: nodes, Ready: nodes - 1, Available: nodes - 1, Unavailable: 1})

	// An evicted master comes up on another node, and the daemon pod in its place.
	if err := fault.Cordon(ctx, client, full, true); err != nil {
		t.Fatal(err)
	}
	victims, err := client.CoreV1().Pods("kubx-masters").List(ctx, metav1.ListOptions{LabelSelector: "app=" + names[0]})
	if err != nil {
		t.Fatal(err)
	}
	if len(victims.Items) != 3 {
		t.Fatalf("workload %s has %d pods, want 3", names[0], len(victims.Items))
	}
	if err := evict(ctx, client, &victims.Items[0]); err != nil {
		t.Fatal(err)
	}
	if _, err := fault.WaitDaemonSetReady(ctx, client, namespace, "node-exporter"); err != nil {
		t.Fatal(err)
	}
	if err := fault.WaitWorkload(ctx, client, "kubx-masters", names[0]); err != nil {
		t.Fatal(err)
	}
	if err := fault.Cordon(ctx, client, full, false); err != nil {
		t.Fatal(err)
	}
}

func TestFullNodeBeforeTheDaemonSet(t *testing.T) {
	ctx, client, namespace := setup(t)
	full := node(2)
	fill(t, ctx, fault.Full{
		Node: full,
		With: fault.Workload{Namespace: "etcds", Name: "etcd", Replicas: 20, Stateful: true, MinAvailable: new(20)},
	})
	create(t, ctx, fault.Agent{Namespace: namespace, Name: "agent"})
	if _, err := fault.WaitTooManyPods(ctx, client, namespace, "agent", full); err != nil {
		t.Fatal(err)
	}
	waitCounts(t, ctx, namespace, "agent", counts{Desired: nodes, Current: nodes, Updated: nodes, Ready: nodes - 1, Available: nodes - 1, Unavailable: 1})

	pods, err := client.CoreV1().Pods("etcds").List(ctx, metav1.ListOptions{LabelSelector: "app=etcd-1"})
	if err != nil {
		t.Fatal(err)
	}
	if err := evict(ctx, client, &pods.Items[0]); !apierrors.IsTooManyRequests(err) {
		t.Errorf("eviction against the budget: %v, want TooManyRequests", err)
	}
}

// fill fills a node to its limit, and empties it again after the test.
func fill(t *testing.T, ctx context.Context, full fault.Full) []string {
	t.Helper()
	client := cluster.Client()
	names, err := fault.FillNode(ctx, client, full)
	if err != nil {
		t.Fatal(err)
	}
	namespace := cmp.Or(full.With.Namespace, "kubx-masters")
	clustertest.Cleanup(t, func(ctx context.Context) error {
		var all error
		for _, name := range names {
			all = errors.Join(all, fault.DeleteWorkload(ctx, client, namespace, name))
		}
		return all
	})
	pods, err := fault.PodsOn(ctx, client, full.Node)
	if err != nil {
		t.Fatal(err)
	}
	if len(pods) != 31 {
		t.Errorf("node %s has %d pods, want 31", full.Node, len(pods))
	}
	return names
}

func TestNodeNotReady(t *testing.T) {
	ctx, client, namespace := setup(t)
	run(t, ctx, fault.Agent{Namespace: namespace, Name: "agent"})
	if err := fault.SetNotReady(ctx, client, node(1), true); err != nil {
		t.Fatal(err)
	}
	pod := daemonPod(t, ctx, namespace, "agent", node(1))
	if pod.Status.Phase != corev1.PodRunning {
		t.Errorf("the pod on a NotReady node is %s, want Running", pod.Status.Phase)
	}
	if err := fault.SetNotReady(ctx, client, node(1), false); err != nil {
		t.Fatal(err)
	}
	waitCounts(t, ctx, namespace, "agent", counts{Desired: nodes, Current: nodes, Updated: nodes, Ready: nodes, Available: nodes})
}

func TestNodeDeadAndBack(t *testing.T) {
	ctx, client, namespace := setup(t)
	run(t, ctx, fault.Agent{Namespace: namespace, Name: "agent"})
	if err := fault.KillNode(ctx, client, node(1)); err != nil {
		t.Fatal(err)
	}
	// A dead node lowers desired and counts as misscheduled, once the controller
	// looks at the DaemonSet. A taint alone does not make it look (syncNodeUpdate
	// of Kubernetes v1.37.2), only the pod's becoming unready does: what it saw
	// of the taint then, it keeps saying.
	noticed := counts{Desired: nodes - 1, Current: nodes - 1, Updated: nodes - 1, Ready: nodes - 1, Available: nodes - 1, Misscheduled: 1}
	stale := counts{Desired: nodes, Current: nodes, Updated: nodes, Ready: nodes - 1, Available: nodes - 1, Unavailable: 1}
	_, err := fault.WaitDaemonSet(ctx, client, namespace, "agent", "to be ready on one node less", func(set *appsv1.DaemonSet) error {
		if got := countsOf(set); got != noticed && got != stale {
			return fmt.Errorf("it is %+v", got)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if err := fault.ReviveNode(ctx, client, node(1)); err != nil {
		t.Fatal(err)
	}
	waitCounts(t, ctx, namespace, "agent", counts{Desired: nodes, Current: nodes, Updated: nodes, Ready: nodes, Available: nodes})
}

func TestForbiddenControllerRevisions(t *testing.T) {
	ctx, client, namespace := setup(t)
	run(t, ctx, fault.Agent{Namespace: namespace, Name: "old"})
	restore, err := fault.ForbidControllerRevisions(ctx, client)
	if err != nil {
		t.Fatal(err)
	}
	create(t, ctx, fault.Agent{Namespace: namespace, Name: "new"})
	mirror := controlplane.ControllerManager + "-prod-dal10-carrier3-master-01"
	err = await.Until(ctx, "the controller manager's log to name the DaemonSet", func(ctx context.Context) error {
		log, err := client.CoreV1().Pods(metav1.NamespaceSystem).GetLogs(mirror, &corev1.PodLogOptions{}).DoRaw(ctx)
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(log)) {
			if strings.Contains(line, namespace+"/new failed with : failed to construct revisions of DaemonSet: controllerrevisions.apps") && strings.Contains(line, "is forbidden") {
				return nil
			}
		}
		return fmt.Errorf("%d bytes without it", len(log))
	})
	if err != nil {
		t.Error(err)
	}
	set, err := client.AppsV1().DaemonSets(namespace).Get(ctx, "new", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if set.Status.ObservedGeneration != 0 || countsOf(set) != (counts{}) {
		t.Errorf("status is %+v, want none at all", set.Status)
	}
	if err := restore(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := fault.WaitDaemonSetReady(ctx, client, namespace, "new"); err != nil {
		t.Fatal(err)
	}
}

func TestControllerManagerDownAndUp(t *testing.T) {
	ctx, client, namespace := setup(t)
	run(t, ctx, fault.Agent{Namespace: namespace, Name: "agent"})
	before := leader(t, ctx)
	if err := cluster.KillComponent(controlplane.ControllerManager); err != nil {
		t.Fatal(err)
	}
	create(t, ctx, fault.Agent{Namespace: namespace, Name: "late"})
	if err := cluster.StartComponent(controlplane.ControllerManager); err != nil {
		t.Fatal(err)
	}
	if _, err := fault.WaitDaemonSet(ctx, client, namespace, "late", "to be seen", func(set *appsv1.DaemonSet) error {
		if set.Status.ObservedGeneration == 0 {
			return errors.New("it is not")
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if after := leader(t, ctx); *after.Spec.HolderIdentity == *before.Spec.HolderIdentity {
		t.Errorf("the leader is still %s", *after.Spec.HolderIdentity)
	}
}

func leader(t *testing.T, ctx context.Context) *coordinationv1.Lease {
	t.Helper()
	lease, err := cluster.Client().CoordinationV1().Leases(metav1.NamespaceSystem).Get(ctx, controlplane.ControllerManager, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if lease.Spec.HolderIdentity == nil {
		t.Fatal("nobody leads")
	}
	return lease
}

func TestAPIServerDownAndUp(t *testing.T) {
	ctx, client, namespace := setup(t)
	if err := cluster.KillComponent(controlplane.APIServer); err != nil {
		t.Fatal(err)
	}
	if _, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{}); err == nil {
		t.Error("a killed API server answers")
	}
	if err := cluster.StartComponent(controlplane.APIServer); err != nil {
		t.Fatal(err)
	}
	if err := cluster.WaitForAPIServer(ctx); err != nil {
		t.Fatal(err)
	}
	run(t, ctx, fault.Agent{Namespace: namespace, Name: "agent"})
}

func TestNewNodeGetsItsPod(t *testing.T) {
	ctx, client, namespace := setup(t)
	name := "prod-dal10-carrier3-worker-new"
	// Registered before run, so done after it: the pods of a node that is gone are
	// collected only after a minute.
	clustertest.Cleanup(t, func(ctx context.Context) error {
		return client.CoreV1().Nodes().Delete(ctx, name, metav1.DeleteOptions{})
	})
	run(t, ctx, fault.Agent{Namespace: namespace, Name: "agent"})
	if err := cluster.AddNodes(ctx, cluster.NewNode(name)); err != nil {
		t.Fatal(err)
	}
	waitCounts(t, ctx, namespace, "agent", counts{Desired: nodes + 1, Current: nodes + 1, Updated: nodes + 1, Ready: nodes + 1, Available: nodes + 1})
}

func TestUnknownComponent(t *testing.T) {
	for name, call := range map[string]func(string) error{"KillComponent": cluster.KillComponent, "StartComponent": cluster.StartComponent} {
		if err := call("kubelet"); err == nil || !strings.Contains(err.Error(), `"kubelet"`) {
			t.Errorf("%s(kubelet) = %v, want an error that names it", name, err)
		}
	}
}
