package kubetest

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/drydock/drydock/playbook"
	"github.com/drydock/drydock/testbed/controlplane/clustertest"
	"github.com/drydock/drydock/testbed/fault"
)

// Which nodes are expected must be what the real DaemonSet controller says, for selectors, affinities, taints and
// tolerations of all kinds: "desired" is its own count.
func TestExpectedAgreesWithTheController(t *testing.T) {
	ctx, _, c := setup(t)
	dress(t, ctx, worker(1), map[string]string{"zone": "a", "disk": "ssd", "cpus": "8"}, nil)
	dress(t, ctx, worker(2), map[string]string{"zone": "a", "disk": "hdd", "cpus": "16"}, []corev1.Taint{{Key: "dedicated", Value: "db", Effect: corev1.TaintEffectNoSchedule}})
	dress(t, ctx, worker(3), map[string]string{"zone": "b", "cpus": "32"}, []corev1.Taint{{Key: "dedicated", Value: "web", Effect: corev1.TaintEffectPreferNoSchedule}})
	dress(t, ctx, worker(4), map[string]string{"zone": "b", "disk": "ssd"}, []corev1.Taint{{Key: "gpu", Effect: corev1.TaintEffectNoSchedule}, {Key: "dedicated", Value: "db", Effect: corev1.TaintEffectNoSchedule}})
	dress(t, ctx, worker(5), map[string]string{"zone": "c"}, nil)
	if err := fault.Cordon(ctx, cluster.Client(), worker(5), true); err != nil {
		t.Fatal(err)
	}
	clustertest.Cleanup(t, func(ctx context.Context) error { return fault.Cordon(ctx, cluster.Client(), worker(5), false) })

	affinity := func(key string, op corev1.NodeSelectorOperator, values ...string) *corev1.Affinity {
		return &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
			NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: key, Operator: op, Values: values}}}}}}}
	}
	tests := map[string]corev1.PodSpec{
		"plain":              {},
		"selector":           {NodeSelector: map[string]string{"zone": "a"}},
		"selectors":          {NodeSelector: map[string]string{"zone": "b", "disk": "ssd"}},
		"no such node":       {NodeSelector: map[string]string{"zone": "z"}},
		"in":                 {Affinity: affinity("zone", corev1.NodeSelectorOpIn, "a", "c")},
		"not-in":             {Affinity: affinity("zone", corev1.NodeSelectorOpNotIn, "a")},
		"exists":             {Affinity: affinity("disk", corev1.NodeSelectorOpExists)},
		"absent":             {Affinity: affinity("disk", corev1.NodeSelectorOpDoesNotExist)},
		"greater":            {Affinity: affinity("cpus", corev1.NodeSelectorOpGt, "8")},
		"both":               {NodeSelector: map[string]string{"zone": "a"}, Affinity: affinity("disk", corev1.NodeSelectorOpIn, "hdd")},
		"tolerates-all":      {Tolerations: []corev1.Toleration{{Operator: corev1.TolerationOpExists}}},
		"tolerates-key":      {Tolerations: []corev1.Toleration{{Key: "dedicated", Operator: corev1.TolerationOpExists}}},
		"tolerates-value":    {Tolerations: []corev1.Toleration{{Key: "dedicated", Value: "db", Effect: corev1.TaintEffectNoSchedule}}},
		"tolerates-another":  {Tolerations: []corev1.Toleration{{Key: "dedicated", Value: "web"}}},
		"tolerates-noexec":   {Tolerations: []corev1.Toleration{{Key: "gpu", Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute}}},
		"tolerates-masters":  {Tolerations: []corev1.Toleration{{Key: "node-role.kubernetes.io/control-plane", Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule}}},
		"tolerates-and-in-b": {NodeSelector: map[string]string{"zone": "b"}, Tolerations: []corev1.Toleration{{Operator: corev1.TolerationOpExists}}},
		"host-network":       {HostNetwork: true},
	}
	counts := map[int]bool{}
	for name, spec := range tests {
		ds, err := fault.CreateDaemonSet(ctx, cluster.Client(), fault.Agent{Namespace: "expected", Name: "agent-" + dns(name), Edit: func(ds *appsv1.DaemonSet) {
			s := &ds.Spec.Template.Spec
			s.NodeSelector, s.Affinity, s.Tolerations, s.HostNetwork = spec.NodeSelector, spec.Affinity, spec.Tolerations, spec.HostNetwork
		}})
		if err != nil {
			t.Fatal(err)
		}
		clustertest.Cleanup(t, func(ctx context.Context) error {
			return fault.DeleteDaemonSet(ctx, cluster.Client(), ds.Namespace, ds.Name, metav1.DeletePropagationBackground)
		})
		var expected int
		eventually(t, ctx, "the controller to agree about "+name, func(ctx context.Context) error {
			o := observe(ctx, c, playbook.Look{Target: target(ds)})
			expected = 0
			for _, n := range known(t, "nodes", o.Nodes) {
				if n.Expected {
					expected++
				}
			}
			if seen := known(t, "DaemonSet", o.DaemonSet); seen.ObservedGeneration != seen.Generation || seen.Desired != expected {
				return fmt.Errorf("%d nodes are expected, the controller desires %d (observed generation %d)", expected, seen.Desired, seen.ObservedGeneration)
			}
			return nil
		})
		counts[expected] = true
	}
	if len(counts) < 6 {
		t.Errorf("only %d different answers: the cases tell little", len(counts))
	}
}

// dns makes a name of a case.
func dns(name string) string {
	b := []byte(name)
	for i := range b {
		if b[i] == ' ' {
			b[i] = '-'
		}
	}
	return string(b)
}

// dress labels and taints a node for the length of a test.
func dress(t *testing.T, ctx context.Context, name string, labels map[string]string, taints []corev1.Taint) {
	t.Helper()
	set, unset := map[string]any{}, map[string]any{}
	for key, value := range labels {
		set[key], unset[key] = value, nil
	}
	patch := func(ctx context.Context, labels map[string]any, taints []corev1.Taint) error {
		body, err := json.Marshal(map[string]any{"metadata": map[string]any{"labels": labels}, "spec": map[string]any{"taints": taints}})
		if err != nil {
			return err
		}
		_, err = cluster.Client().CoreV1().Nodes().Patch(ctx, name, types.MergePatchType, body, metav1.PatchOptions{})
		return err
	}
	clustertest.Cleanup(t, func(ctx context.Context) error { return patch(ctx, unset, nil) })
	if err := patch(ctx, set, taints); err != nil {
		t.Fatal(err)
	}
}
