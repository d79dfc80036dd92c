package kubetest

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/drydock/drydock/playbook"
	"github.com/drydock/drydock/playbook/kube"
	"github.com/drydock/drydock/testbed/controlplane/clustertest"
	"github.com/drydock/drydock/testbed/fault"
)

func node(t *testing.T, ctx context.Context, name string) *corev1.Node {
	t.Helper()
	n, err := cluster.Client().CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func cordonOf(n *corev1.Node, run string) playbook.Cordon {
	return playbook.Cordon{Node: n.Name, UID: string(n.UID), ResourceVersion: n.ResourceVersion, Mark: playbook.Mark{
		Installation: "test", Run: run, Since: time.Now().UTC().Truncate(time.Second), Reason: "make room"}}
}

func uncordonOf(n *corev1.Node, run string) playbook.Uncordon {
	return playbook.Uncordon{Node: n.Name, UID: string(n.UID), Run: run}
}

// bare leaves a node without cordon and marks after a test.
func bare(t *testing.T, name string) {
	t.Helper()
	clustertest.Cleanup(t, func(ctx context.Context) error {
		_, err := cluster.Client().CoreV1().Nodes().Patch(ctx, name, types.MergePatchType, []byte(`{"metadata":{"annotations":{"`+
			kube.CordonOwner+`":null,"`+kube.Generation+`":null,"`+kube.KeepCordoned+`":null}},"spec":{"unschedulable":null}}`), metav1.PatchOptions{})
		return err
	})
}

func TestCordonIsOursAndUndone(t *testing.T) {
	ctx, _, c := setup(t)
	name := worker(1)
	bare(t, name)
	before := node(t, ctx, name)
	a := cordonOf(before, "run-1")
	do(t, ctx, c, a, playbook.Happened)
	n := node(t, ctx, name)
	if !n.Spec.Unschedulable || n.Annotations[kube.CordonOwner] == "" {
		t.Fatalf("node is not cordoned with our mark: %v %v", n.Spec.Unschedulable, n.Annotations)
	}
	st, err := c.State(ctx, a.Target())
	if err != nil || !st.Exists || !st.Unschedulable || st.Mark == nil || !cmp.Equal(*st.Mark, a.Mark) {
		t.Errorf("state = %+v, %v", st, err)
	}
	marked, err := c.Marked(ctx)
	if err != nil || len(marked) != 1 || marked[0].Name != name || marked[0].Mark.Run != "run-1" || !marked[0].Unschedulable {
		t.Errorf("marked = %+v, %v", marked, err)
	}
	// The same call again finds its own work.
	do(t, ctx, c, a, playbook.Happened)
	// Another run's cordon is a stranger's to it, and so is its uncordon.
	do(t, ctx, c, cordonOf(n, "run-2"), playbook.Refused)
	do(t, ctx, c, uncordonOf(n, "run-2"), playbook.Superseded)

	do(t, ctx, c, uncordonOf(n, "run-1"), playbook.Happened)
	n = node(t, ctx, name)
	if n.Spec.Unschedulable || n.Annotations[kube.CordonOwner] != "" {
		t.Errorf("node is still cordoned or marked: %v %v", n.Spec.Unschedulable, n.Annotations)
	}
	if diff := cmp.Diff(before.Annotations, n.Annotations); diff != "" {
		t.Errorf("annotations are not as before:\n%s", diff)
	}
	do(t, ctx, c, uncordonOf(n, "run-1"), playbook.Superseded)
}

func TestCordonReliesOnWhatWasSeen(t *testing.T) {
	ctx, client, c := setup(t)
	name := worker(2)
	bare(t, name)
	stale := node(t, ctx, name)
	if _, err := client.CoreV1().Nodes().Patch(ctx, name, types.MergePatchType, []byte(`{"metadata":{"annotations":{"kubetest/edit":"`+
		time.Now().String()+`"}}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	do(t, ctx, c, cordonOf(stale, "run-1"), playbook.NotHappened)
	a := cordonOf(node(t, ctx, name), "run-1")
	a.UID = "another-node"
	do(t, ctx, c, a, playbook.Superseded)
	a = cordonOf(node(t, ctx, name), "run-1")
	a.Node = "no-such-node"
	do(t, ctx, c, a, playbook.Superseded)
	if node(t, ctx, name).Spec.Unschedulable {
		t.Error("the node was cordoned")
	}
}

func TestForeignCordonIsNeverAdoptedNorRemoved(t *testing.T) {
	ctx, client, c := setup(t)
	name := worker(3)
	bare(t, name)
	if err := fault.Cordon(ctx, client, name, true); err != nil {
		t.Fatal(err)
	}
	n := node(t, ctx, name)
	do(t, ctx, c, cordonOf(n, "run-1"), playbook.Refused)
	do(t, ctx, c, uncordonOf(n, "run-1"), playbook.Superseded)
	if n := node(t, ctx, name); !n.Spec.Unschedulable || n.Annotations[kube.CordonOwner] != "" {
		t.Errorf("the foreign cordon was changed: %v %v", n.Spec.Unschedulable, n.Annotations)
	}
}

func TestKeepCordonedIsHonoured(t *testing.T) {
	ctx, client, c := setup(t)
	name := worker(4)
	bare(t, name)
	do(t, ctx, c, cordonOf(node(t, ctx, name), "run-1"), playbook.Happened)
	if _, err := client.CoreV1().Nodes().Patch(ctx, name, types.MergePatchType,
		[]byte(`{"metadata":{"annotations":{"`+kube.KeepCordoned+`":"true"}}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	s := do(t, ctx, c, uncordonOf(node(t, ctx, name), "run-1"), playbook.Happened)
	if !strings.Contains(s.Detail, kube.KeepCordoned) {
		t.Errorf("detail = %q", s.Detail)
	}
	if n := node(t, ctx, name); !n.Spec.Unschedulable || n.Annotations[kube.CordonOwner] != "" {
		t.Errorf("unschedulable %t, annotations %v; want the cordon kept and the mark gone", n.Spec.Unschedulable, n.Annotations)
	}
}

// A touch makes a paused worker's precondition stale, also the second touch of one generation.
func TestTouchOutdatesAPausedWorker(t *testing.T) {
	ctx, _, c := setup(t)
	name := worker(5)
	bare(t, name)
	for range 2 {
		paused := cordonOf(node(t, ctx, name), "run-1")
		if ok, err := c.Touch(ctx, paused.Target(), "run-1", 7); err != nil || !ok {
			t.Fatalf("touch: %t, %v", ok, err)
		}
		do(t, ctx, c, paused, playbook.NotHappened)
	}
	do(t, ctx, c, cordonOf(node(t, ctx, name), "run-1"), playbook.Happened)
	n := node(t, ctx, name)
	if ok, err := c.Touch(ctx, uncordonOf(n, "run-1").Target(), "run-1", 9); err != nil || !ok {
		t.Fatalf("touch: %t, %v", ok, err)
	}
	doCall(t, ctx, c, playbook.Call{Run: "run-1", Generation: 8, Action: uncordonOf(n, "run-1")}, playbook.NotHappened)
	doCall(t, ctx, c, playbook.Call{Run: "run-1", Generation: 9, Action: uncordonOf(n, "run-1")}, playbook.Happened)

	for _, ref := range []playbook.Ref{{Kind: "Node", Name: "no-such-node"}, {Kind: "Node", Name: name, UID: "another"},
		{Kind: "Pod", Namespace: "default", Name: "p"}, {Kind: "DaemonSet", Namespace: "default", Name: "no-such"}} {
		if ok, err := c.Touch(ctx, ref, "run-1", 1); err != nil || ok {
			t.Errorf("touch %s = %t, %v; want false", ref, ok, err)
		}
	}
}

func evictOf(p corev1.Pod) playbook.Evict {
	return playbook.Evict{Node: p.Spec.NodeName, Namespace: p.Namespace, Pod: p.Name, UID: string(p.UID)}
}

func TestEvictOnePodByUID(t *testing.T) {
	ctx, client, c := setup(t)
	pods := workload(t, ctx, fault.Workload{Namespace: "evict", Name: "master", Replicas: 2, Stateful: true})
	a := evictOf(pods[0])
	wrong := a
	wrong.UID = "00000000-0000-0000-0000-000000000000"
	do(t, ctx, c, wrong, playbook.Superseded)
	wrong.UID = ""
	do(t, ctx, c, wrong, playbook.Refused)
	if p, err := client.CoreV1().Pods(a.Namespace).Get(ctx, a.Pod, metav1.GetOptions{}); err != nil || string(p.UID) != a.UID || p.DeletionTimestamp != nil {
		t.Fatalf("the pod was evicted by another uid: %v", err)
	}
	do(t, ctx, c, a, playbook.Happened)
	eventually(t, ctx, "a successor of the same name", func(ctx context.Context) error {
		p, err := client.CoreV1().Pods(a.Namespace).Get(ctx, a.Pod, metav1.GetOptions{})
		if err == nil && string(p.UID) == a.UID {
			err = errors.New("it is still the old one")
		}
		return err
	})
	// The StatefulSet's new pod has the old name: the old eviction, sent again, must not hit it.
	do(t, ctx, c, a, playbook.Superseded)
	gone := a
	gone.Pod = "no-such-pod"
	do(t, ctx, c, gone, playbook.Superseded)
}

func TestEvictRespectsBudgets(t *testing.T) {
	ctx, client, c := setup(t)
	pods := workload(t, ctx, fault.Workload{Namespace: "budget", Name: "master", Replicas: 2, MinAvailable: new(2)})
	began := time.Now()
	s := do(t, ctx, c, evictOf(pods[0]), playbook.Refused)
	if !strings.HasPrefix(s.Detail, "budget") {
		t.Errorf("detail = %q", s.Detail)
	}
	// client-go by itself would have tried for up to 100 s.
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("the refusal took %s: a hidden retry", took)
	}

	second, err := client.PolicyV1().PodDisruptionBudgets("budget").Get(ctx, "master", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	second.ObjectMeta = metav1.ObjectMeta{Namespace: "budget", Name: "second"}
	if _, err := client.PolicyV1().PodDisruptionBudgets("budget").Create(ctx, second, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	clustertest.Cleanup(t, func(ctx context.Context) error {
		return client.PolicyV1().PodDisruptionBudgets("budget").Delete(ctx, "second", metav1.DeleteOptions{})
	})
	s = do(t, ctx, c, evictOf(pods[0]), playbook.Refused)
	if !strings.HasPrefix(s.Detail, "permanent") {
		t.Errorf("detail = %q", s.Detail)
	}
}

func TestReadOnlyRefusesEveryChange(t *testing.T) {
	ctx, _, _ := setup(t)
	c := carrier(t, kube.Options{Version: "test", ReadOnly: true})
	ds := agent(t, ctx, fault.Agent{Namespace: "readonly", Name: "node-exporter"})
	pods := workload(t, ctx, fault.Workload{Namespace: "readonly", Name: "master", Replicas: 2})
	check := reapplyCheck(t, ctx, c, ds) // dry runs and access reviews are reads
	n := node(t, ctx, worker(8))
	for _, a := range []playbook.Action{cordonOf(n, "run-1"), evictOf(pods[0]), deleteOf(ds, check),
		playbook.Nudge{Namespace: ds.Namespace, Name: ds.Name, UID: string(ds.UID), ResourceVersion: ds.ResourceVersion, Run: "run-1"}} {
		if s := do(t, ctx, c, a, playbook.NotHappened); !strings.Contains(s.Detail, "read-only") {
			t.Errorf("%s: detail = %q", a.Kind(), s.Detail)
		}
	}
	if _, err := c.Touch(ctx, playbook.Ref{Kind: "Node", Name: n.Name}, "run-1", 1); err == nil {
		t.Error("touch went through")
	}
	if get(t, ctx, ds).ResourceVersion != ds.ResourceVersion {
		t.Error("the DaemonSet was changed")
	}
}

func TestWritesBearTheRunInTheirUserAgent(t *testing.T) {
	ctx, _, c := setup(t)
	ds := agent(t, ctx, fault.Agent{Namespace: "agentname", Name: "node-exporter"})
	do(t, ctx, c, playbook.Nudge{Namespace: ds.Namespace, Name: ds.Name, UID: string(ds.UID), ResourceVersion: ds.ResourceVersion, Run: "run-1"}, playbook.Happened)
	managers, err := json.Marshal(get(t, ctx, ds).ManagedFields)
	if err != nil || !strings.Contains(string(managers), `"manager":"drydock"`) {
		t.Errorf("managed fields = %s, %v", managers, err)
	}
}
