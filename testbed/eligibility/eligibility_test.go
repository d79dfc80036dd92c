// Package eligibility compares the product's rule for the nodes that a DaemonSet's pods belong on ([kube.Expected]) with
// the rule that decides it in the DaemonSet controller ([daemon.NodeShouldRunDaemonPod]).
//
// The product has its own copy of the rule because k8s.io/kubernetes is no library: it takes a replace for each of its
// staging modules, which no importer of ours should have to write. A copy that is wrong for one kind of node hides a
// missing pod or drains a node for nothing, so this module, which may import both, asks both about a million pairs.
//
// They differ on purpose in one point. A node that is dead, full or cut off gets taints for it, and the controller then
// stops wanting a pod there, which hides the very nodes that an alert is about. Our rule looks through these taints:
// its answer is the controller's for the node without them. The taint is not forgotten: [kube.Expected] names it when
// the DaemonSet does not tolerate it, and with that our answer is the controller's for the node as it is.
package eligibility

import (
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/pkg/controller/daemon"

	"github.com/drydock/drydock/playbook/kube"
)

var seed = flag.Uint64("seed", 1, "chooses the random pairs; a failure prints it")

// pairs is how many pairs are compared, in about 20 s of processor time.
const pairs = 1_000_000

// conditionTaints are the taints that our rule looks through. It is a list of its own, not the product's, so that a key
// added there or lost there is seen here.
var conditionTaints = []string{
	"node.kubernetes.io/not-ready",
	"node.kubernetes.io/unreachable",
	"node.kubernetes.io/disk-pressure",
	"node.kubernetes.io/memory-pressure",
	"node.kubernetes.io/pid-pressure",
	"node.kubernetes.io/unschedulable",
	"node.kubernetes.io/network-unavailable",
	"node.cloudprovider.kubernetes.io/shutdown",
}

func hasConditionTaint(node *corev1.Node) bool {
	return slices.ContainsFunc(node.Spec.Taints, isCondition)
}

func isCondition(t corev1.Taint) bool { return slices.Contains(conditionTaints, t.Key) }

// healthy is the node without its condition taints.
func healthy(node *corev1.Node) *corev1.Node {
	stripped := *node
	stripped.Spec.Taints = slices.DeleteFunc(slices.Clone(node.Spec.Taints), isCondition)
	return &stripped
}

// answers are what both rules say of one pair.
type answers struct {
	Expected bool   // ours
	Why      string // ours
	Healthy  bool   // the controller's, for the node without its condition taints
	AsItIs   bool   // the controller's, for the node as it is
}

func ask(ds *appsv1.DaemonSet, node *corev1.Node) answers {
	var a answers
	a.Expected, a.Why = kube.Expected(ds, node)
	a.AsItIs, _ = daemon.NodeShouldRunDaemonPod(klog.Logger{}, node, ds)
	a.Healthy = a.AsItIs
	if hasConditionTaint(node) {
		a.Healthy, _ = daemon.NodeShouldRunDaemonPod(klog.Logger{}, healthy(node), ds)
	}
	return a
}

// disagreement says how the two rules differ, or "" when they agree.
func (a answers) disagreement() string {
	switch {
	case a.Expected != a.Healthy:
		return fmt.Sprintf("expected %t (why: %q), but the controller says %t of the node without its condition taints", a.Expected, a.Why, a.Healthy)
	case (a.Expected && a.Why == "") != a.AsItIs:
		return fmt.Sprintf("expected %t with %q in the way, but the controller says %t of the node as it is", a.Expected, a.Why, a.AsItIs)
	case !a.Expected && a.Why == "":
		return "not expected, and no reason is given"
	}
	return ""
}

func TestRandomPairsAgreeWithTheController(t *testing.T) {
	t.Parallel()
	const enough = 5 // differences to show; more say nothing new
	var (
		workers  = uint64(runtime.GOMAXPROCS(0))
		wait     sync.WaitGroup
		mu       sync.Mutex
		wrong    []uint64
		outcomes = map[answers]int{}
	)
	for first := range workers {
		wait.Go(func() {
			var differ []uint64
			seen := map[answers]int{}
			for i := first; i < pairs && len(differ) < enough; i += workers {
				a := ask(randomPair(*seed, i))
				if a.disagreement() != "" {
					differ = append(differ, i)
				}
				a.Why = "" // An outcome is counted whatever its words.
				seen[a]++
			}
			mu.Lock()
			defer mu.Unlock()
			wrong = append(wrong, differ...)
			for a, n := range seen {
				outcomes[a] += n
			}
		})
	}
	wait.Wait()

	slices.Sort(wrong)
	for _, i := range wrong[:min(len(wrong), enough)] {
		ds, node := randomPair(*seed, i)
		t.Errorf("pair %d of -seed=%d: %s\n%s", i, *seed, ask(ds, node).disagreement(), inWords(t, ds, node))
	}
	if t.Failed() {
		return
	}
	// Agreement proves nothing when nearly every answer is the same.
	for name, outcome := range map[string]answers{
		"expected and wanted":                    {Expected: true, Healthy: true, AsItIs: true},
		"expected, but for a condition unwanted": {Expected: true, Healthy: true},
		"neither expected nor wanted":            {},
	} {
		share := 100 * float64(outcomes[outcome]) / pairs
		t.Logf("%s: %.1f %% of %d pairs", name, share, pairs)
		if share < 5 {
			t.Errorf("-seed=%d: %s: %.1f %% of the pairs, want 5 %% or more: the random pairs are too much alike", *seed, name, share)
		}
	}
}

// inWords is the pair as JSON, as far as the rules look at it.
func inWords(t *testing.T, ds *appsv1.DaemonSet, node *corev1.Node) string {
	t.Helper()
	var text string
	for _, part := range []any{ds.Spec.Template.Spec, node.ObjectMeta, node.Spec} {
		encoded, err := json.Marshal(part)
		if err != nil {
			t.Fatalf("encode the pair: %v", err)
		}
		text += "\t" + string(encoded) + "\n"
	}
	return text
}

// TestPairsForReaders shows the agreement, and the one difference, on pairs that a person can check.
func TestPairsForReaders(t *testing.T) {
	t.Parallel()
	const noSchedule, noExecute = corev1.TaintEffectNoSchedule, corev1.TaintEffectNoExecute
	taint := func(key string, effect corev1.TaintEffect) []corev1.Taint {
		return []corev1.Taint{{Key: key, Effect: effect}}
	}
	inZone := func(op corev1.NodeSelectorOperator, values ...string) corev1.PodSpec {
		term := corev1.NodeSelectorTerm{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "zone", Operator: op, Values: values}}}
		return corev1.PodSpec{Affinity: required(term)}
	}
	tests := map[string]struct {
		spec   corev1.PodSpec
		taints []corev1.Taint
		want   answers
	}{
		"every node": {
			want: answers{Expected: true, Healthy: true, AsItIs: true}},
		"the selector differs": {
			spec: corev1.PodSpec{NodeSelector: map[string]string{"zone": "b"}},
			want: answers{Why: "node selector zone=b does not match: the node has zone=a"}},
		"the affinity matches": {
			spec: inZone(corev1.NodeSelectorOpIn, "a", "b"),
			want: answers{Expected: true, Healthy: true, AsItIs: true}},
		"an affinity that can not be parsed matches nothing": {
			spec: inZone(corev1.NodeSelectorOpExists, "a"),
			want: answers{Why: "the template's required node affinity does not match"}},
		"a taint is not tolerated": {
			taints: taint("dedicated", noSchedule),
			want:   answers{Why: "taint dedicated:NoSchedule is not tolerated"}},
		"the cloud provider has not initialised the node: it is no member yet": {
			taints: taint("node.cloudprovider.kubernetes.io/uninitialized", noSchedule),
			want:   answers{Why: "taint node.cloudprovider.kubernetes.io/uninitialized:NoSchedule is not tolerated"}},
		"cordoned: every daemon pod tolerates it": {
			taints: taint("node.kubernetes.io/unschedulable", noSchedule),
			want:   answers{Expected: true, Healthy: true, AsItIs: true}},
		"unreachable, the taint that evicts: every daemon pod tolerates it": {
			taints: taint("node.kubernetes.io/unreachable", noExecute),
			want:   answers{Expected: true, Healthy: true, AsItIs: true}},
		"unreachable, the taint that hides a dead node from the controller's count": {
			taints: taint("node.kubernetes.io/unreachable", noSchedule),
			want:   answers{Expected: true, Why: "taint node.kubernetes.io/unreachable:NoSchedule", Healthy: true}},
		"no network": {
			taints: taint("node.kubernetes.io/network-unavailable", noSchedule),
			want:   answers{Expected: true, Why: "taint node.kubernetes.io/network-unavailable:NoSchedule", Healthy: true}},
		"no network, and the pod uses the host's": {
			spec:   corev1.PodSpec{HostNetwork: true},
			taints: taint("node.kubernetes.io/network-unavailable", noSchedule),
			want:   answers{Expected: true, Healthy: true, AsItIs: true}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ds := &appsv1.DaemonSet{}
			ds.Spec.Template.Spec = tt.spec
			node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-1", Labels: map[string]string{"zone": "a"}}, Spec: corev1.NodeSpec{Taints: tt.taints}}
			got := ask(ds, node)
			if got != tt.want {
				t.Errorf("answers %+v, want %+v", got, tt.want)
			}
			if differs := got.disagreement(); differs != "" {
				t.Error(differs)
			}
		})
	}
}

func required(terms ...corev1.NodeSelectorTerm) *corev1.Affinity {
	return &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{
		RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{NodeSelectorTerms: terms}}}
}

// randomPair is pair number i of a seed; the same two numbers always give the same pair.
func randomPair(seed, i uint64) (*appsv1.DaemonSet, *corev1.Node) {
	d := dice{rand.New(rand.NewPCG(seed, i))}
	return d.daemonSet(), d.node()
}
