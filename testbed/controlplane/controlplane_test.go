package controlplane_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/drydock/drydock/testbed/await"
	"github.com/drydock/drydock/testbed/controlplane"
	"github.com/drydock/drydock/testbed/controlplane/clustertest"
	"github.com/drydock/drydock/testbed/fault"
)

const (
	nodes   = 12
	masters = 1
)

// cluster is the one that all tests here share; each has its own namespace and
// breaks its own node.
var cluster *controlplane.Cluster

func TestMain(m *testing.M) {
	os.Exit(clustertest.Run(context.Background(), m, controlplane.Options{
		Name:    "prod-dal10-carrier3",
		Nodes:   nodes,
		Masters: masters,
		Log:     slog.New(slog.NewTextHandler(os.Stderr, nil)),
	}, &cluster))
}

// setup gives a test its deadline, its client, and a namespace that no other has.
func setup(t *testing.T) (ctx context.Context, client kubernetes.Interface, namespace string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx, cluster.Client(), fmt.Sprintf("%s-%d", strings.ToLower(t.Name()), namespaces.Add(1))
}

var namespaces atomic.Int64

func node(n int) string { return fmt.Sprintf("prod-dal10-carrier3-worker-%02d", n) }

// create creates an agent, and removes it after the test.
func create(t *testing.T, ctx context.Context, agent fault.Agent) {
	t.Helper()
	if _, err := fault.CreateDaemonSet(ctx, cluster.Client(), agent); err != nil {
		t.Fatal(err)
	}
	clustertest.Cleanup(t, func(ctx context.Context) error {
		err := fault.DeleteDaemonSet(ctx, cluster.Client(), agent.Namespace, agent.Name, metav1.DeletePropagationBackground)
		if apierrors.IsNotFound(err) {
			return nil
		}
		return err
	})
}

// run creates an agent, and waits until it is ready on all nodes.
func run(t *testing.T, ctx context.Context, agent fault.Agent) *appsv1.DaemonSet {
	t.Helper()
	create(t, ctx, agent)
	set, err := fault.WaitDaemonSetReady(ctx, cluster.Client(), agent.Namespace, agent.Name)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

type counts struct{ Desired, Current, Updated, Ready, Available, Unavailable, Misscheduled int32 }

func countsOf(set *appsv1.DaemonSet) counts {
	s := set.Status
	return counts{s.DesiredNumberScheduled, s.CurrentNumberScheduled, s.UpdatedNumberScheduled, s.NumberReady, s.NumberAvailable, s.NumberUnavailable, s.NumberMisscheduled}
}

// waitCounts waits for the numbers that a DaemonSet must come to.
func waitCounts(t *testing.T, ctx context.Context, namespace, name string, want counts) {
	t.Helper()
	_, err := fault.WaitDaemonSet(ctx, cluster.Client(), namespace, name, "to have the expected numbers", func(set *appsv1.DaemonSet) error {
		if diff := cmp.Diff(want, countsOf(set)); diff != "" {
			return errors.New(diff)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func daemonPod(t *testing.T, ctx context.Context, namespace, name, node string) *corev1.Pod {
	t.Helper()
	pod, err := fault.DaemonPod(ctx, cluster.Client(), namespace, name, node)
	if err != nil {
		t.Fatal(err)
	}
	if pod == nil {
		t.Fatalf("DaemonSet %s/%s has no pod for node %s", namespace, name, node)
	}
	return pod
}

func podUIDs(t *testing.T, ctx context.Context, namespace, app string) map[types.UID]bool {
	t.Helper()
	list, err := cluster.Client().CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: "app=" + app})
	if err != nil {
		t.Fatal(err)
	}
	uids := map[types.UID]bool{}
	for _, pod := range list.Items {
		uids[pod.UID] = true
	}
	return uids
}

func TestDaemonSetRunsOnWorkers(t *testing.T) {
	t.Parallel()
	ctx, _, namespace := setup(t)
	set := run(t, ctx, fault.Agent{Namespace: namespace, Name: "node-exporter"})
	// The tainted master is not among the desired.
	want := counts{Desired: nodes, Current: nodes, Updated: nodes, Ready: nodes, Available: nodes}
	if diff := cmp.Diff(want, countsOf(set)); diff != "" {
		t.Errorf("status (-want +got):\n%s", diff)
	}
}

func TestOrphanDeleteKeepsPods(t *testing.T) {
	t.Parallel()
	ctx, client, namespace := setup(t)
	set := run(t, ctx, fault.Agent{Namespace: namespace, Name: "agent"})
	before := podUIDs(t, ctx, namespace, "agent")

	if err := fault.DeleteDaemonSet(ctx, client, namespace, "agent", metav1.DeletePropagationOrphan); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, podUIDs(t, ctx, namespace, "agent")); diff != "" {
		t.Errorf("pods after the orphaning delete (-before +after):\n%s", diff)
	}
	again := &appsv1.DaemonSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: set.Namespace, Name: set.Name, Labels: set.Labels, Annotations: set.Annotations},
		Spec:       set.Spec,
	}
	if _, err := client.AppsV1().DaemonSets(namespace).Create(ctx, again, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := fault.WaitDaemonSetReady(ctx, client, namespace, "agent"); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, podUIDs(t, ctx, namespace, "agent")); diff != "" {
		t.Errorf("pods after the adoption (-before +after):\n%s", diff)
	}
}

func TestDeletedDaemonSetTakesItsPods(t *testing.T) {
	t.Parallel()
	ctx, client, namespace := setup(t)
	run(t, ctx, fault.Agent{Namespace: namespace, Name: "agent"})
	if err := fault.DeleteDaemonSet(ctx, client, namespace, "agent", metav1.DeletePropagationBackground); err != nil {
		t.Fatal(err)
	}
	if left := podUIDs(t, ctx, namespace, "agent"); len(left) != 0 {
		t.Errorf("%d pods are left", len(left))
	}
}

func TestDiskPressureStays(t *testing.T) {
	t.Parallel()
	ctx, client, namespace := setup(t)
	run(t, ctx, fault.Agent{Namespace: namespace, Name: "agent"})
	pressed := node(3)
	if err := fault.SetDiskPressure(ctx, client, pressed, true); err != nil {
		t.Fatal(err)
	}
	// A daemon pod tolerates it and comes back under it.
	pod := daemonPod(t, ctx, namespace, "agent", pressed)
	if err := client.CoreV1().Pods(namespace).Delete(ctx, pod.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	waitCounts(t, ctx, namespace, "agent", counts{Desired: nodes, Current: nodes, Updated: nodes, Ready: nodes, Available: nodes})
	// The lease is renewed all the while, which must not wipe the condition.
	waitForRenewal(t, ctx, pressed)
	object, err := client.CoreV1().Nodes().Get(ctx, pressed, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, condition := range object.Status.Conditions {
		if condition.Type == corev1.NodeDiskPressure && condition.Status != corev1.ConditionTrue {
			t.Errorf("DiskPressure has become %s", condition.Status)
		}
	}
	if err := fault.SetDiskPressure(ctx, client, pressed, false); err != nil {
		t.Fatal(err)
	}
}

func waitForRenewal(t *testing.T, ctx context.Context, node string) {
	t.Helper()
	leases := cluster.Client().CoordinationV1().Leases(corev1.NamespaceNodeLease)
	first, err := leases.Get(ctx, node, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	err = await.Until(ctx, "the lease of node "+node+" to be renewed", func(ctx context.Context) error {
		lease, err := leases.Get(ctx, node, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if lease.Spec.RenewTime.Equal(first.Spec.RenewTime) {
			return fmt.Errorf("it is of %v", lease.Spec.RenewTime)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestCrashLoop(t *testing.T) {
	t.Parallel()
	ctx, client, namespace := setup(t)
	run(t, ctx, fault.Agent{Namespace: namespace, Name: "agent"})
	pod := daemonPod(t, ctx, namespace, "agent", node(4))
	if err := fault.CrashPod(ctx, client, namespace, pod.Name, 137); err != nil {
		t.Fatal(err)
	}
	waitCounts(t, ctx, namespace, "agent", counts{Desired: nodes, Current: nodes, Updated: nodes, Ready: nodes - 1, Available: nodes - 1, Unavailable: 1})
	err := await.Until(ctx, "a third restart", func(ctx context.Context) error {
		got, err := client.CoreV1().Pods(namespace).Get(ctx, pod.Name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if len(got.Status.ContainerStatuses) != 1 {
			return fmt.Errorf("it has %d container statuses", len(got.Status.ContainerStatuses))
		}
		status := got.Status.ContainerStatuses[0]
		if got.Status.Phase != corev1.PodRunning || status.State.Waiting == nil || status.State.Waiting.Reason != "CrashLoopBackOff" ||
			status.LastTerminationState.Terminated == nil || status.LastTerminationState.Terminated.ExitCode != 137 || status.RestartCount < 3 {
			return fmt.Errorf("phase %s, container %+v", got.Status.Phase, status)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if err := fault.HealPod(ctx, client, namespace, pod.Name); err != nil {
		t.Fatal(err)
	}
	waitCounts(t, ctx, namespace, "agent", counts{Desired: nodes, Current: nodes, Updated: nodes, Ready: nodes, Available: nodes})
}

func TestCrashLoopInTemplate(t *testing.T) {
	t.Parallel()
	ctx, client, namespace := setup(t)
	create(t, ctx, fault.Agent{Namespace: namespace, Name: "agent", PodLabels: map[string]string{"sim/crash": "1"}})
	waitCounts(t, ctx, namespace, "agent", counts{Desired: nodes, Current: nodes, Updated: nodes, Unavailable: nodes})
	if err := fault.DeleteDaemonSet(ctx, client, namespace, "agent", metav1.DeletePropagationBackground); err != nil {
		t.Fatal(err)
	}
}

func TestRefusedPods(t *testing.T) {
	t.Parallel()
	ctx, client, namespace := setup(t)
	restore, err := fault.RefusePods(ctx, client, namespace)
	if err != nil {
		t.Fatal(err)
	}
	create(t, ctx, fault.Agent{Namespace: namespace, Name: "agent"})
	err = await.Until(ctx, "an event about the quota", func(ctx context.Context) error {
		events, err := client.CoreV1().Events(namespace).List(ctx, metav1.ListOptions{FieldSelector: "reason=FailedCreate,involvedObject.name=agent"})
		if err != nil {
			return err
		}
		for _, event := range events.Items {
			if strings.Contains(event.Message, "exceeded quota") {
				return nil
			}
		}
		return fmt.Errorf("%d events, none about it", len(events.Items))
	})
	if err != nil {
		t.Error(err)
	}
	waitCounts(t, ctx, namespace, "agent", counts{Desired: nodes, Unavailable: nodes})
	if err := restore(ctx); err != nil {
		t.Fatal(err)
	}
}

func TestStuckPodHangs(t *testing.T) {
	t.Parallel()
	ctx, client, namespace := setup(t)
	run(t, ctx, fault.Agent{Namespace: namespace, Name: "agent"})
	pod := daemonPod(t, ctx, namespace, "agent", node(5))
	if err := fault.StickPod(ctx, client, namespace, pod.Name); err != nil {
		t.Fatal(err)
	}
	pods := client.CoreV1().Pods(namespace)
	if err := pods.Delete(ctx, pod.Name, metav1.DeleteOptions{GracePeriodSeconds: new(int64(1))}); err != nil {
		t.Fatal(err)
	}
	// Another pod that is deleted after it is gone; this one is not.
	other := daemonPod(t, ctx, namespace, "agent", node(6))
	if err := pods.Delete(ctx, other.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	waitGone(t, ctx, other)
	got, err := pods.Get(ctx, pod.Name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got.DeletionTimestamp == nil {
		t.Error("the stuck pod is not terminating")
	}
	if err := pods.Delete(ctx, pod.Name, metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))}); err != nil {
		t.Fatal(err)
	}
	waitGone(t, ctx, pod)
}

func waitGone(t *testing.T, ctx context.Context, pod *corev1.Pod) {
	t.Helper()
	err := await.Until(ctx, "pod "+pod.Name+" to be gone", func(ctx context.Context) error {
		got, err := cluster.Client().CoreV1().Pods(pod.Namespace).Get(ctx, pod.Name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		if err != nil {
			return err
		}
		return fmt.Errorf("it is there, deleted at %v", got.DeletionTimestamp)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestPodLogs(t *testing.T) {
	t.Parallel()
	ctx, client, namespace := setup(t)
	run(t, ctx, fault.Agent{Namespace: namespace, Name: "agent"})
	pod := daemonPod(t, ctx, namespace, "agent", node(7))
	if err := cluster.SetPodLog(ctx, namespace, pod.Name, []string{"second life"}, []string{"out of memory"}); err != nil {
		t.Fatal(err)
	}
	other := daemonPod(t, ctx, namespace, "agent", node(8))
	tests := []struct {
		pod      string
		previous bool
		want     string
	}{
		{pod.Name, false, "second life\n"},
		{pod.Name, true, "out of memory\n"},
		{other.Name, false, "starting\nlistening on :9100\n"},
	}
	for _, test := range tests {
		// kwok learns of a log by a watch.
		err := await.Until(ctx, "the pod's log", func(ctx context.Context) error {
			got, err := client.CoreV1().Pods(namespace).GetLogs(test.pod, &corev1.PodLogOptions{Previous: test.previous}).DoRaw(ctx)
			if err != nil {
				return err
			}
			if string(got) != test.want {
				return fmt.Errorf("got %q, want %q", got, test.want)
			}
			return nil
		})
		if err != nil {
			t.Errorf("pod %s, previous %v: %v", test.pod, test.previous, err)
		}
	}
}

func TestKubeconfigOfAUser(t *testing.T) {
	t.Parallel()
	path, err := cluster.IssueKubeconfig("reader", "auditors")
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(content), "current-context: prod-dal10-carrier3") {
		t.Errorf("kubeconfig without the cluster's context:\n%s", content)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if mode := info.Mode().Perm(); mode != 0o600 {
		t.Errorf("kubeconfig has mode %o, want 600", mode)
	}
}

func TestTwoClustersAtOnce(t *testing.T) {
	t.Parallel()
	ctx, _, _ := setup(t)
	second, err := controlplane.Start(ctx, controlplane.Options{Name: "second", Nodes: 2, Progress: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	dir := second.LogPath(controlplane.APIServer)
	list, err := second.Client().CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(list.Items) != 2 {
		t.Errorf("the second cluster has %d nodes, want 2", len(list.Items))
	}
	if err := second.Stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("the second cluster's log is there after Stop: %v", err)
	}
}
