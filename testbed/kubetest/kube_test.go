package kubetest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/drydock/drydock/playbook"
	"github.com/drydock/drydock/playbook/kube"
	"github.com/drydock/drydock/testbed/await"
	"github.com/drydock/drydock/testbed/controlplane"
	"github.com/drydock/drydock/testbed/controlplane/clustertest"
	"github.com/drydock/drydock/testbed/fault"
)

// carrierName is the carrier's name in the registry.
const carrierName = "prod-dal10-carrier3"

// cluster is the one that all tests here share. Each test has its own namespaces, and its own node when it breaks one.
var cluster *controlplane.Cluster

func TestMain(m *testing.M) {
	os.Exit(clustertest.Run(context.Background(), m, controlplane.Options{
		Name: carrierName, Nodes: 12, Masters: 1, Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	}, &cluster))
}

// worker is the name of the n-th node, from 1.
func worker(n int) string { return fmt.Sprintf("%s-worker-%02d", carrierName, n) }

// setup gives a test its deadline, the cluster's own client and the carrier under test.
func setup(t *testing.T) (context.Context, kubernetes.Interface, *kube.Carrier) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx, cluster.Client(), carrier(t, kube.Options{Version: "test"})
}

func carrier(t *testing.T, opts kube.Options) *kube.Carrier {
	t.Helper()
	registry, err := kube.NewRegistry([]kube.Entry{{Name: carrierName, Kubeconfig: cluster.Kubeconfig()}}, "", opts)
	if err != nil {
		t.Fatal(err)
	}
	c, err := registry.Carrier(carrierName)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// agent runs a DaemonSet, ready everywhere, for the length of the test.
func agent(t *testing.T, ctx context.Context, a fault.Agent) *appsv1.DaemonSet {
	t.Helper()
	client := cluster.Client()
	ds, err := fault.RunDaemonSet(ctx, client, a)
	if err != nil {
		t.Fatal(err)
	}
	clustertest.Cleanup(t, func(ctx context.Context) error {
		err := fault.DeleteDaemonSet(ctx, client, a.Namespace, a.Name, metav1.DeletePropagationBackground)
		return err
	})
	return get(t, ctx, ds)
}

// get reads a DaemonSet afresh.
func get(t *testing.T, ctx context.Context, ds *appsv1.DaemonSet) *appsv1.DaemonSet {
	t.Helper()
	fresh, err := cluster.Client().AppsV1().DaemonSets(ds.Namespace).Get(ctx, ds.Name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return fresh
}

// full fills a node with customers' masters for the length of the test.
func full(t *testing.T, ctx context.Context, f fault.Full) {
	t.Helper()
	names, err := fault.FillNode(ctx, cluster.Client(), f)
	clustertest.Cleanup(t, func(ctx context.Context) error {
		var errs []error
		for _, name := range names {
			errs = append(errs, fault.DeleteWorkload(ctx, cluster.Client(), f.With.Namespace, name))
		}
		return errors.Join(errs...)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// workload runs pods for the length of the test, and returns them.
func workload(t *testing.T, ctx context.Context, w fault.Workload) []corev1.Pod {
	t.Helper()
	if err := fault.Namespace(ctx, cluster.Client(), w.Namespace); err != nil {
		t.Fatal(err)
	}
	if err := fault.CreateWorkload(ctx, cluster.Client(), w); err != nil {
		t.Fatal(err)
	}
	clustertest.Cleanup(t, func(ctx context.Context) error {
		return fault.DeleteWorkload(ctx, cluster.Client(), w.Namespace, w.Name)
	})
	if err := fault.WaitWorkload(ctx, cluster.Client(), w.Namespace, w.Name); err != nil {
		t.Fatal(err)
	}
	return podsOf(t, ctx, w.Namespace, w.Name)
}

func podsOf(t *testing.T, ctx context.Context, namespace, app string) []corev1.Pod {
	t.Helper()
	list, err := cluster.Client().CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: "app=" + app})
	if err != nil {
		t.Fatal(err)
	}
	return list.Items
}

func target(ds *appsv1.DaemonSet) playbook.Target {
	return playbook.Target{Carrier: carrierName, Namespace: ds.Namespace, DaemonSet: ds.Name}
}

func observe(ctx context.Context, c *kube.Carrier, look playbook.Look) playbook.Observation {
	o := playbook.Observation{At: time.Now(), Target: look.Target}
	c.Observe(ctx, look, &o)
	return o
}

// known is a reading's value; a test fails when there is none.
func known[T any](t *testing.T, what string, r playbook.Reading[T]) T {
	t.Helper()
	value, ok := r.Get()
	if !ok {
		t.Fatalf("%s is not known: asked %t, %s", what, r.Asked(), r.Why())
	}
	return value
}

func nodeOf(t *testing.T, o playbook.Observation, name string) playbook.Node {
	t.Helper()
	for _, n := range known(t, "nodes", o.Nodes) {
		if n.Name == name {
			return n
		}
	}
	t.Fatalf("node %s was not observed", name)
	return playbook.Node{}
}

// do makes a call and requires its result.
func do(t *testing.T, ctx context.Context, c *kube.Carrier, a playbook.Action, want playbook.Result) playbook.Settlement {
	t.Helper()
	return doCall(t, ctx, c, playbook.Call{Run: "run-1", Generation: 1, Action: a}, want)
}

func doCall(t *testing.T, ctx context.Context, c *kube.Carrier, call playbook.Call, want playbook.Result) playbook.Settlement {
	t.Helper()
	s, err := c.Do(ctx, call)
	if err != nil {
		t.Fatalf("%s: %v", call.Action.Kind(), err)
	}
	if s.Result != want {
		t.Fatalf("%s: result %s (%s), want %s", call.Action.Kind(), s.Result, s.Detail, want)
	}
	return s
}

// eventually waits for a condition.
func eventually(t *testing.T, ctx context.Context, what string, check func(context.Context) error) {
	t.Helper()
	if err := await.Until(ctx, what, check); err != nil {
		t.Fatal(err)
	}
}
