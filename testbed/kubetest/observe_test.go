package kubetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/drydock/drydock/playbook"
	"github.com/drydock/drydock/testbed/controlplane/clustertest"
	"github.com/drydock/drydock/testbed/fault"
)

func TestObserveHealthy(t *testing.T) {
	ctx, _, c := setup(t)
	ds := agent(t, ctx, fault.Agent{Namespace: "healthy", Name: "node-exporter"})
	o := observe(ctx, c, playbook.Look{Target: target(ds)})

	seen := known(t, "DaemonSet", o.DaemonSet)
	if !seen.Exists || seen.UID != string(ds.UID) || seen.Desired != 12 || seen.Ready != 12 || seen.ObservedGeneration != 1 ||
		!seen.RollingUpdate || seen.EmptySelector || seen.GitOps != "" || seen.NewestPodAt.IsZero() {
		t.Errorf("DaemonSet = %+v", seen)
	}
	if ns := known(t, "namespace", o.Namespace); !ns.Exists || ns.Terminating {
		t.Errorf("namespace = %+v", ns)
	}
	if lease := known(t, "controller", o.Controller); lease.Holder == "" || lease.Duration != 4*time.Second || time.Since(lease.RenewedAt) > time.Minute {
		t.Errorf("controller = %+v", lease)
	}
	nodes := known(t, "nodes", o.Nodes)
	if len(nodes) != 13 {
		t.Fatalf("%d nodes, want 12 workers and a master", len(nodes))
	}
	for _, n := range nodes {
		if strings.Contains(n.Name, "master") {
			// A tainted master is not expected to run the agent, and keeps no healthy carrier from being resolved.
			if n.Expected || !strings.Contains(n.ExcludedBy, "taint node-role.kubernetes.io/control-plane") || len(n.Pods) != 0 {
				t.Errorf("master = %+v", n)
			}
			continue
		}
		if !n.Expected || !n.Ready || n.Unschedulable || n.Allocatable != 31 || len(n.Pods) != 1 || !n.Pods[0].Ready || !n.Pods[0].Owned {
			t.Errorf("node = %+v", n)
		}
	}
	d := playbook.Diagnose(playbook.Policy{Timing: playbook.DefaultTiming()}, o, nil)
	if d.Finding != playbook.FindingHealthy {
		t.Errorf("finding %s (%s), want healthy", d.Finding, d.Why)
	}
}

func TestObserveAbsentIsAFact(t *testing.T) {
	ctx, client, c := setup(t)
	if err := fault.Namespace(ctx, client, "absent"); err != nil {
		t.Fatal(err)
	}
	o := observe(ctx, c, playbook.Look{Target: playbook.Target{Carrier: carrierName, Namespace: "absent", DaemonSet: "node-exporter"}})
	if ds := known(t, "DaemonSet", o.DaemonSet); ds.Exists {
		t.Errorf("DaemonSet = %+v", ds)
	}
	for _, n := range known(t, "nodes", o.Nodes) {
		if n.Expected {
			t.Errorf("node %s is expected by a DaemonSet that does not exist", n.Name)
		}
	}
	o = observe(ctx, c, playbook.Look{Target: playbook.Target{Carrier: carrierName, Namespace: "no-such", DaemonSet: "node-exporter"}})
	if ns := known(t, "namespace", o.Namespace); ns.Exists {
		t.Errorf("namespace = %+v", ns)
	}
}

// The proof of a full node: the Pending pod belongs to the node that it is pinned to, and the recount says how many must
// move and which may. The 2018 sign (desired == current, fewer than nodes) is not there at all.
func TestObserveFullNode(t *testing.T) {
	ctx, client, c := setup(t)
	ds := agent(t, ctx, fault.Agent{Namespace: "full", Name: "node-exporter"})
	node := worker(1)
	full(t, ctx, fault.Full{Node: node, Displace: []types.NamespacedName{{Namespace: "full", Name: "node-exporter"}},
		With: fault.Workload{Namespace: "kubx-full", Name: "master", Replicas: 3}})
	look := playbook.Look{Target: target(ds), Policy: playbook.Policy{DrainFrom: []string{"kubx-full"}},
		Wants: []playbook.Want{{Kind: playbook.WantNodePods, Node: node}}}
	o := observe(ctx, c, look)

	if seen := known(t, "DaemonSet", o.DaemonSet); seen.Desired != 12 || seen.Current != 12 {
		t.Errorf("desired %d, current %d; want 12 and 12: a Pending pod counts", seen.Desired, seen.Current)
	}
	n := nodeOf(t, o, node)
	if len(n.Pods) != 1 {
		t.Fatalf("node = %+v, want its pending pod", n)
	}
	if p := n.Pods[0]; p.Scheduled || p.Ready || p.Phase != "Pending" || !strings.Contains(p.Unschedulable, "Too many pods") {
		t.Errorf("pod = %+v", p)
	}
	pods := known(t, "node pods", o.NodePods[node])
	if pods.Count != 31 || pods.PendingDaemon != 1 || len(pods.Candidates) != 31 {
		t.Errorf("count %d, pending %d, %d candidates; want 31, 1, 31", pods.Count, pods.PendingDaemon, len(pods.Candidates))
	}
	movable := 0
	for _, k := range pods.Candidates {
		if k.NotMovable != "" {
			continue
		}
		movable++
		if k.Namespace != "kubx-full" || k.OwnerReady != 3 || k.OwnerWants != 3 || k.Budgets != 0 || !strings.HasPrefix(k.Owner, "ReplicaSet/") {
			t.Errorf("candidate = %+v", k)
		}
	}
	if movable < 20 {
		t.Errorf("%d movable candidates of 31: %+v", movable, pods.Candidates)
	}

	// A namespace that is not named is not drained.
	look.Policy.DrainFrom = nil
	for _, k := range known(t, "node pods", observe(ctx, c, look).NodePods[node]).Candidates {
		if k.NotMovable == "" {
			t.Errorf("%s/%s is movable though nothing may be drained", k.Namespace, k.Name)
		}
	}

	// With every other node closed there is nowhere to go.
	look.Policy.DrainFrom = []string{"kubx-full"}
	for i := 2; i <= 12; i++ {
		other := worker(i)
		if err := fault.Cordon(ctx, client, other, true); err != nil {
			t.Fatal(err)
		}
		clustertest.Cleanup(t, func(ctx context.Context) error { return fault.Cordon(ctx, client, other, false) })
	}
	for _, k := range known(t, "node pods", observe(ctx, c, look).NodePods[node]).Candidates {
		if k.NotMovable == "" {
			t.Errorf("%s/%s is movable though no other node takes pods", k.Namespace, k.Name)
		}
	}
}

// The 2018 sign, as today's Kubernetes makes it: a dead node lowers "desired", so that desired == current, and fewer than
// the nodes. That node is down; no node is full, and nobody is to be evicted for it.
func TestObserveDeadNodeIsStillExpected(t *testing.T) {
	ctx, client, c := setup(t)
	ds := agent(t, ctx, fault.Agent{Namespace: "dead", Name: "node-exporter"})
	node := worker(2)
	clustertest.Cleanup(t, func(ctx context.Context) error { return fault.ReviveNode(ctx, client, node) })
	if err := fault.KillNode(ctx, client, node); err != nil {
		t.Fatal(err)
	}
	// The DaemonSet controller may have seen the pod before the taint; it looks again only when the object changes.
	if ok, err := c.Touch(ctx, playbook.Ref{Kind: "DaemonSet", Namespace: ds.Namespace, Name: ds.Name}, "run-1", 1); err != nil || !ok {
		t.Fatalf("touch: %t, %v", ok, err)
	}
	var o playbook.Observation
	eventually(t, ctx, "the 2018 sign", func(ctx context.Context) error {
		o = observe(ctx, c, playbook.Look{Target: target(ds)})
		seen, ok := o.DaemonSet.Get()
		if !ok || seen.Desired != 11 || seen.Current != 11 {
			return fmt.Errorf("desired %d, current %d %s", seen.Desired, seen.Current, o.DaemonSet.Why())
		}
		return nil
	})
	isDown(t, o, node)
}

func TestObserveNotReadyNodeIsStillExpected(t *testing.T) {
	ctx, client, c := setup(t)
	ds := agent(t, ctx, fault.Agent{Namespace: "notready", Name: "node-exporter"})
	node := worker(7)
	clustertest.Cleanup(t, func(ctx context.Context) error { return fault.SetNotReady(ctx, client, node, false) })
	if err := fault.SetNotReady(ctx, client, node, true); err != nil {
		t.Fatal(err)
	}
	isDown(t, observe(ctx, c, playbook.Look{Target: target(ds)}), node)
}

func isDown(t *testing.T, o playbook.Observation, node string) {
	t.Helper()
	if n := nodeOf(t, o, node); !n.Expected || n.Ready || n.NotReadyWhy == "" {
		t.Errorf("node = %+v, want it expected and not ready", n)
	}
	policy := playbook.Policy{Timing: playbook.DefaultTiming(), DrainFrom: []string{"kubx-masters"}}
	if d := playbook.Diagnose(policy, o, nil); d.Finding != playbook.FindingNodeDown {
		t.Errorf("finding %s (%s), want node_down", d.Finding, d.Why)
	}
}

func TestObserveDiskPressureAndSelectors(t *testing.T) {
	ctx, client, c := setup(t)
	ds := agent(t, ctx, fault.Agent{Namespace: "disk", Name: "node-exporter"})
	node := worker(3)
	if err := fault.SetDiskPressure(ctx, client, node, true); err != nil {
		t.Fatal(err)
	}
	clustertest.Cleanup(t, func(ctx context.Context) error { return fault.SetDiskPressure(ctx, client, node, false) })
	if n := nodeOf(t, observe(ctx, c, playbook.Look{Target: target(ds)}), node); !n.DiskPressure || !n.Expected {
		t.Errorf("node = %+v, want it expected and under disk pressure", n)
	}

	other, err := client.AppsV1().DaemonSets("disk").Patch(ctx, ds.Name, types.MergePatchType,
		[]byte(`{"spec":{"template":{"spec":{"nodeSelector":{"kubernetes.io/hostname":"`+worker(4)+`"}}}}}`), metav1.PatchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	o := observe(ctx, c, playbook.Look{Target: target(other)})
	var expected []string
	for _, n := range known(t, "nodes", o.Nodes) {
		if n.Expected {
			expected = append(expected, n.Name)
		} else if !strings.Contains(n.ExcludedBy, "kubernetes.io/hostname="+worker(4)) {
			t.Errorf("node %s is excluded by %q", n.Name, n.ExcludedBy)
		}
	}
	if !slices.Equal(expected, []string{worker(4)}) {
		t.Errorf("expected nodes = %v", expected)
	}
}

func TestObserveCrashLoopWithEvidence(t *testing.T) {
	ctx, client, c := setup(t)
	ds := agent(t, ctx, fault.Agent{Namespace: "crash", Name: "node-exporter"})
	node := worker(5)
	pod, err := fault.DaemonPod(ctx, client, "crash", "node-exporter", node)
	if err != nil || pod == nil {
		t.Fatalf("daemon pod: %v", err)
	}
	if err := cluster.SetPodLog(ctx, "crash", pod.Name, []string{"connecting with token=hunter2", "cannot bind :9100"},
		[]string{"the earlier life"}); err != nil {
		t.Fatal(err)
	}
	if err := fault.CrashPod(ctx, client, "crash", pod.Name, 137); err != nil {
		t.Fatal(err)
	}
	look := playbook.Look{Target: target(ds), Wants: []playbook.Want{{Kind: playbook.WantEvidence}}}
	var o playbook.Observation
	eventually(t, ctx, "a crash loop with a restart", func(ctx context.Context) error {
		o = observe(ctx, c, look)
		n := nodeOf(t, o, node)
		if len(n.Pods) != 1 || n.Pods[0].Waiting != "CrashLoopBackOff" || n.Pods[0].Restarts == 0 {
			return fmt.Errorf("pods = %+v", n.Pods)
		}
		return nil
	})
	if p := nodeOf(t, o, node).Pods[0]; !strings.Contains(p.LastExit, "exit code 137") {
		t.Errorf("last exit = %q", p.LastExit)
	}
	text := ""
	for _, piece := range known(t, "evidence", o.Evidence) {
		text += "== " + piece.Source + "\n" + piece.Text + "\n"
	}
	for _, want := range []string{"cannot bind :9100", "the earlier life", "CrashLoopBackOff", "exit code 137", "BackOff", "desired 12"} {
		if !strings.Contains(text, want) {
			t.Errorf("evidence lacks %q:\n%s", want, text)
		}
	}
	if strings.Contains(text, "hunter2") {
		t.Errorf("evidence shows a secret:\n%s", text)
	}
}

func TestObserveEventsOfRefusedPods(t *testing.T) {
	ctx, client, c := setup(t)
	if err := fault.Namespace(ctx, client, "refused"); err != nil {
		t.Fatal(err)
	}
	quota := &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Namespace: "refused", Name: "none"}}
	quota.Spec.Hard = corev1.ResourceList{corev1.ResourcePods: resource.MustParse("0")}
	if _, err := client.CoreV1().ResourceQuotas("refused").Create(ctx, quota, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, ctx, "the quota to count", func(ctx context.Context) error {
		q, err := client.CoreV1().ResourceQuotas("refused").Get(ctx, "none", metav1.GetOptions{})
		if err == nil && len(q.Status.Hard) == 0 {
			err = errors.New("no status yet")
		}
		return err
	})
	ds, err := fault.CreateDaemonSet(ctx, client, fault.Agent{Namespace: "refused", Name: "node-exporter"})
	if err != nil {
		t.Fatal(err)
	}
	clustertest.Cleanup(t, func(ctx context.Context) error {
		return client.AppsV1().DaemonSets("refused").Delete(ctx, ds.Name, metav1.DeleteOptions{})
	})
	look := playbook.Look{Target: target(ds), Wants: []playbook.Want{{Kind: playbook.WantEvents}}}
	eventually(t, ctx, "a FailedCreate", func(ctx context.Context) error {
		events, ok := observe(ctx, c, look).Events.Get()
		if !ok || !slices.ContainsFunc(events, func(e playbook.Event) bool {
			return e.Reason == "FailedCreate" && strings.Contains(e.Message, "exceeded quota") && !e.At.IsZero() && e.Count > 0
		}) {
			return fmt.Errorf("events = %+v", events)
		}
		return nil
	})
}

// A second round adds only what was newly wanted.
func TestObserveKeepsWhatIsKnown(t *testing.T) {
	ctx, _, c := setup(t)
	ds := agent(t, ctx, fault.Agent{Namespace: "rounds", Name: "node-exporter"})
	o := observe(ctx, c, playbook.Look{Target: target(ds)})
	before := known(t, "DaemonSet", o.DaemonSet)
	if err := fault.CrashPod(ctx, cluster.Client(), "rounds", nodeOf(t, o, worker(6)).Pods[0].Name, 1); err != nil {
		t.Fatal(err)
	}
	c.Observe(ctx, playbook.Look{Target: target(ds), Wants: []playbook.Want{{Kind: playbook.WantEvents}}}, &o)
	if after := known(t, "DaemonSet", o.DaemonSet); after.ResourceVersion != before.ResourceVersion || after.Ready != before.Ready {
		t.Errorf("the second round read the DaemonSet again: %+v", after)
	}
	known(t, "events", o.Events)
}

// A normal rolling update is waited for: at no look is it anything that would be repaired or handed over.
func TestRollingUpdateIsWaitedFor(t *testing.T) {
	ctx, _, c := setup(t)
	ds := agent(t, ctx, fault.Agent{Namespace: "rolling", Name: "node-exporter"})
	image := "registry.example.com/node-exporter:2.0"
	setImage(t, ctx, ds, image)
	policy := playbook.Policy{Timing: playbook.DefaultTiming(), DrainFrom: []string{"kubx-masters"}}
	var sightings playbook.Sightings
	seen := map[playbook.Finding]int{}
	eventually(t, ctx, "the rollout to end", func(ctx context.Context) error {
		o := observe(ctx, c, playbook.Look{Target: target(ds), Policy: policy})
		d := playbook.Diagnose(policy, o, sightings)
		if len(d.Wants) > 0 { // a second round, as a tick makes it
			c.Observe(ctx, playbook.Look{Target: target(ds), Policy: policy, Wants: d.Wants}, &o)
			d = playbook.Diagnose(policy, o, sightings)
		}
		sightings = d.Sightings
		seen[d.Finding]++
		switch {
		case d.Finding == playbook.FindingRollingOut, d.Finding == playbook.FindingHealthy:
		case d.Confirmed, d.Finding != playbook.FindingControllerStuck && d.Finding != playbook.FindingUncovered:
			// Between two steps the controller is behind for a moment, or a node has no pod: claims that are never confirmed.
			t.Errorf("finding %s, confirmed %t: %s", d.Finding, d.Confirmed, d.Why)
		}
		if have := images(t, ctx, ds); len(have) != 1 || have[image] != 12 || d.Finding != playbook.FindingHealthy {
			return fmt.Errorf("images %v, finding %s", have, d.Finding)
		}
		return nil
	})
	if seen[playbook.FindingRollingOut] == 0 {
		t.Errorf("findings = %v: the rollout was never seen", seen)
	}
}
