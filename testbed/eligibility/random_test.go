package eligibility

import (
	"math/rand/v2"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The words are few, so that a DaemonSet and a node that were made apart have something to do with each other.
var (
	nodeNames   = []string{"node-1", "node-2", "node-3"}
	labelKeys   = []string{"zone", "disk", "cores", "gpu"}
	labelValues = []string{"", "a", "b", "4", "16", "-1"}
	taintValues = []string{"", "a", "4", "16"}
	effects     = []corev1.TaintEffect{corev1.TaintEffectNoSchedule, corev1.TaintEffectNoExecute, corev1.TaintEffectPreferNoSchedule}

	// otherTaints mean what they say: an untolerated one keeps the pod away, by our rule as well. They hold neighbours of
	// the condition taints that are none.
	otherTaints = []string{"dedicated", "gpu", "node-role.kubernetes.io/control-plane", "node.cloudprovider.kubernetes.io/uninitialized",
		"ToBeDeletedByClusterAutoscaler", "karpenter.sh/disrupted", "node.kubernetes.io/out-of-service"}

	// tolerated are the keys of tolerations.
	tolerated = slices.Concat(conditionTaints, otherTaints, otherTaints)

	operators = []corev1.NodeSelectorOperator{corev1.NodeSelectorOpIn, corev1.NodeSelectorOpNotIn, corev1.NodeSelectorOpExists,
		corev1.NodeSelectorOpDoesNotExist, corev1.NodeSelectorOpGt, corev1.NodeSelectorOpLt}
)

// dice makes one DaemonSet and one node. The chances are chosen so that about a third of the pairs fits altogether.
type dice struct{ *rand.Rand }

// chance is true in percent of all cases.
func (d dice) chance(percent int) bool { return d.IntN(100) < percent }

func one[T any](d dice, of []T) T { return of[d.IntN(len(of))] }

func several[T any](d dice, most int, roll func() T) []T {
	var all []T
	for range d.IntN(most + 1) {
		all = append(all, roll())
	}
	return all
}

func (d dice) node() *corev1.Node {
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: one(d, nodeNames), Labels: map[string]string{}}}
	for _, key := range labelKeys {
		if d.chance(60) {
			node.Labels[key] = one(d, labelValues)
		}
	}
	if d.chance(35) {
		node.Spec.Taints = append(node.Spec.Taints, several(d, 2, func() corev1.Taint { return d.taint(otherTaints) })...)
	}
	if d.chance(50) {
		node.Spec.Taints = append(node.Spec.Taints, several(d, 3, func() corev1.Taint { return d.taint(conditionTaints) })...)
	}
	if d.chance(15) {
		node.Spec.Unschedulable = true
		// The taint follows the field, some milliseconds later.
		if d.chance(80) {
			node.Spec.Taints = append(node.Spec.Taints, corev1.Taint{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule})
		}
	}
	d.Shuffle(len(node.Spec.Taints), func(i, j int) {
		node.Spec.Taints[i], node.Spec.Taints[j] = node.Spec.Taints[j], node.Spec.Taints[i]
	})
	return node
}

func (d dice) taint(keys []string) corev1.Taint {
	return corev1.Taint{Key: one(d, keys), Value: one(d, taintValues), Effect: one(d, effects)}
}

func (d dice) daemonSet() *appsv1.DaemonSet {
	ds := &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Name: "agent", Namespace: "kube-system"}}
	spec := &ds.Spec.Template.Spec
	spec.HostNetwork = d.chance(30)
	if d.chance(8) {
		spec.NodeName = one(d, nodeNames)
	}
	if d.chance(15) {
		spec.NodeSelector = map[string]string{one(d, labelKeys): one(d, labelValues)}
		if d.chance(20) {
			spec.NodeSelector[one(d, labelKeys)] = one(d, slices.Concat(labelValues, []string{"no value of a label"}))
		}
	}
	spec.Affinity = d.affinity()
	if d.chance(60) {
		spec.Tolerations = several(d, 3, d.toleration)
	}
	return ds
}

func (d dice) affinity() *corev1.Affinity {
	switch {
	case d.chance(45):
		return nil
	case d.chance(2):
		return &corev1.Affinity{}
	case d.chance(10):
		// Preferred only: it ranks nodes, and excludes none.
		return &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{
			PreferredDuringSchedulingIgnoredDuringExecution: []corev1.PreferredSchedulingTerm{{Weight: 1, Preference: d.term()}}}}
	case d.chance(2):
		return required()
	}
	return required(append(several(d, 3, d.term), d.term())...)
}

func (d dice) term() corev1.NodeSelectorTerm {
	var term corev1.NodeSelectorTerm
	if d.chance(85) {
		term.MatchExpressions = append(several(d, 1, d.expression), d.expression())
	}
	if d.chance(20) {
		term.MatchFields = append(several(d, 1, d.field), d.field())
	}
	return term // The empty one, at times: it matches nothing.
}

func (d dice) expression() corev1.NodeSelectorRequirement {
	r := corev1.NodeSelectorRequirement{Key: one(d, labelKeys), Operator: one(d, operators)}
	switch r.Operator {
	case corev1.NodeSelectorOpIn, corev1.NodeSelectorOpNotIn:
		r.Values = append(several(d, 2, d.labelValue), d.labelValue())
	case corev1.NodeSelectorOpGt, corev1.NodeSelectorOpLt:
		r.Values = []string{one(d, []string{"-2", "3", "4", "15"})}
	case corev1.NodeSelectorOpExists, corev1.NodeSelectorOpDoesNotExist:
	}
	if d.chance(5) {
		d.spoil(&r)
	}
	return r
}

func (d dice) labelValue() string { return one(d, labelValues) }

// spoil breaks the requirement in one of the ways that the API server would refuse today, and that a DaemonSet which
// an older one let in can still have.
func (d dice) spoil(r *corev1.NodeSelectorRequirement) {
	switch d.IntN(5) {
	case 0:
		r.Operator = one(d, []corev1.NodeSelectorOperator{"", "Sometimes", "in"})
	case 1:
		r.Values = nil
	case 2:
		r.Values = append(r.Values, "a", "b")
	case 3:
		r.Key = one(d, []string{"", "two words", "a/b/c"})
	case 4:
		r.Values = []string{"no value of a label"}
	}
}

func (d dice) field() corev1.NodeSelectorRequirement {
	r := corev1.NodeSelectorRequirement{Key: "metadata.name", Operator: one(d, operators[:2]), Values: []string{one(d, nodeNames)}}
	switch {
	case d.chance(5):
		r.Values = slices.Clone(nodeNames)
	case d.chance(5):
		r.Operator = one(d, operators[2:])
	case d.chance(5):
		r.Key = "metadata.namespace"
	}
	return r
}

func (d dice) toleration() corev1.Toleration {
	t := corev1.Toleration{
		Key:      one(d, tolerated),
		Operator: one(d, []corev1.TolerationOperator{"", corev1.TolerationOpEqual, corev1.TolerationOpExists, corev1.TolerationOpExists}),
		Effect:   one(d, slices.Concat(effects, []corev1.TaintEffect{"", ""})),
	}
	if t.Operator != corev1.TolerationOpExists {
		t.Value = one(d, taintValues)
	}
	switch {
	case d.chance(10):
		t.Key = ""
	case d.chance(5):
		// Off by default in the API server, and therefore in our rule.
		t.Operator, t.Value = one(d, []corev1.TolerationOperator{corev1.TolerationOpGt, corev1.TolerationOpLt}), one(d, taintValues)
	case d.chance(2):
		t.Operator = "Always"
	}
	if d.chance(20) {
		t.TolerationSeconds = new(int64(d.IntN(300)))
	}
	return t
}
