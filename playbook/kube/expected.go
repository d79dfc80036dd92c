package kube

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	schedulinghelpers "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
	"k8s.io/klog/v2"
)

// Taints of cloud providers and autoscalers, which no Kubernetes library names for us.
const (
	taintShutdown        = "node.cloudprovider.kubernetes.io/shutdown"
	taintToBeDeleted     = "ToBeDeletedByClusterAutoscaler"
	taintKarpenterLeaves = "karpenter.sh/disrupted"
)

// conditionTaints are those that Kubernetes' own controllers put on a node because of its condition. They say that
// something is the matter with the node, not that the DaemonSet should stay away: the DaemonSet controller lowers
// "desired" for them, which is how a dead node hides (kubernetes.md, fact 1 and part two A). A node that the cloud
// provider has not initialised yet is another matter: it is not a member yet, and no pod is expected there.
var conditionTaints = []string{
	corev1.TaintNodeNotReady, corev1.TaintNodeUnreachable, corev1.TaintNodeDiskPressure, corev1.TaintNodeMemoryPressure,
	corev1.TaintNodePIDPressure, corev1.TaintNodeUnschedulable, corev1.TaintNodeNetworkUnavailable, taintShutdown,
}

// rule is which nodes a DaemonSet's pods run on, by Kubernetes' own rules: nodeName, nodeSelector with required affinity,
// and taints against the template's tolerations plus those that every daemon pod gets.
type rule struct {
	nodeName     string
	nodeSelector map[string]string
	affinity     nodeaffinity.RequiredNodeAffinity
	hasAffinity  bool
	tolerations  []corev1.Toleration
}

func ruleOf(ds *appsv1.DaemonSet) rule {
	spec := ds.Spec.Template.Spec
	return rule{
		nodeName:     spec.NodeName,
		nodeSelector: spec.NodeSelector,
		affinity:     nodeaffinity.NewRequiredNodeAffinity(spec.NodeSelector, spec.Affinity),
		hasAffinity: spec.Affinity != nil && spec.Affinity.NodeAffinity != nil &&
			spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution != nil,
		tolerations: append(slices.Clone(spec.Tolerations), daemonTolerations(spec.HostNetwork)...),
	}
}

// Expected reports whether a ready pod of the DaemonSet is expected on the node. When not, why says what excludes the
// node; when expected, why names the condition taint that keeps the pod away all the same, or is "". Expected with
// nothing in its way is the DaemonSet controller's own answer: testbed/eligibility compares the two.
func Expected(ds *appsv1.DaemonSet, node *corev1.Node) (expected bool, why string) {
	r := ruleOf(ds)
	if why = r.excludes(node); why != "" {
		return false, why
	}
	return true, r.blockedBy(node)
}

// daemonTolerations are those that the DaemonSet controller adds to every pod.
func daemonTolerations(hostNetwork bool) []corev1.Toleration {
	added := []corev1.Toleration{
		{Key: corev1.TaintNodeNotReady, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute},
		{Key: corev1.TaintNodeUnreachable, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute},
		{Key: corev1.TaintNodeDiskPressure, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule},
		{Key: corev1.TaintNodeMemoryPressure, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule},
		{Key: corev1.TaintNodePIDPressure, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule},
		{Key: corev1.TaintNodeUnschedulable, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule},
	}
	if hostNetwork {
		added = append(added, corev1.Toleration{Key: corev1.TaintNodeNetworkUnavailable, Operator: corev1.TolerationOpExists,
			Effect: corev1.TaintEffectNoSchedule})
	}
	return added
}

// excludes says in words why no pod is expected on the node, or "" when one is. Condition taints exclude nothing.
func (r rule) excludes(node *corev1.Node) string {
	if r.nodeName != "" && r.nodeName != node.Name {
		return "the template names node " + r.nodeName
	}
	// An affinity that can not be parsed matches no node, as upstream.
	if fits, err := r.affinity.Match(node); err != nil || !fits {
		if why := missingLabels(r.nodeSelector, node.Labels); why != "" {
			return why
		}
		return "the template's required node affinity does not match"
	}
	if taint, found := untolerated(node.Spec.Taints, r.tolerations, func(t *corev1.Taint) bool {
		return placementTaint(t) && !slices.Contains(conditionTaints, t.Key)
	}); found {
		return "taint " + taint.ToString() + " is not tolerated"
	}
	return ""
}

// blockedBy names a condition taint that keeps this DaemonSet's pods away, or "".
func (r rule) blockedBy(node *corev1.Node) string {
	taint, found := untolerated(node.Spec.Taints, r.tolerations, func(t *corev1.Taint) bool {
		return placementTaint(t) && slices.Contains(conditionTaints, t.Key)
	})
	if !found {
		return ""
	}
	return "taint " + taint.ToString()
}

func placementTaint(t *corev1.Taint) bool {
	return t.Effect == corev1.TaintEffectNoSchedule || t.Effect == corev1.TaintEffectNoExecute
}

// untolerated is the first of the chosen taints that no toleration covers. The comparison operators of tolerations
// (Gt, Lt) are off, as they are by default in the API server.
func untolerated(taints []corev1.Taint, tolerations []corev1.Toleration, chosen func(*corev1.Taint) bool) (corev1.Taint, bool) {
	return schedulinghelpers.FindMatchingUntoleratedTaint(klog.Logger{}, taints, tolerations, chosen, false)
}

func missingLabels(selector, labels map[string]string) string {
	for _, key := range slices.Sorted(maps.Keys(selector)) {
		if value, ok := labels[key]; !ok {
			return fmt.Sprintf("node selector %s=%s does not match: the node has no such label", key, selector[key])
		} else if value != selector[key] {
			return fmt.Sprintf("node selector %s=%s does not match: the node has %s=%s", key, selector[key], key, value)
		}
	}
	return ""
}

// summary is the rule in words, for people who wonder why a node is not selected.
func (r rule) summary() string {
	var parts []string
	if r.nodeName != "" {
		parts = append(parts, "node "+r.nodeName)
	}
	for _, key := range slices.Sorted(maps.Keys(r.nodeSelector)) {
		parts = append(parts, key+"="+r.nodeSelector[key])
	}
	if r.hasAffinity {
		parts = append(parts, "required node affinity")
	}
	if len(parts) == 0 {
		return "all nodes whose taints are tolerated"
	}
	return "nodes with " + strings.Join(parts, ", ") + " whose taints are tolerated"
}

// leaving reports whether the node is on its way out: deleted, or chosen by an autoscaler.
func leaving(node *corev1.Node) bool {
	return node.DeletionTimestamp != nil || slices.ContainsFunc(node.Spec.Taints, func(t corev1.Taint) bool {
		return t.Key == taintToBeDeleted || t.Key == taintKarpenterLeaves
	})
}

// pinnedTo is the node that a pod runs on or, before it is scheduled, the one that the DaemonSet controller made it for;
// "" when there is none.
func pinnedTo(pod *corev1.Pod) string {
	if pod.Spec.NodeName != "" {
		return pod.Spec.NodeName
	}
	affinity := pod.Spec.Affinity
	if affinity == nil || affinity.NodeAffinity == nil || affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution == nil {
		return ""
	}
	for _, term := range affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms {
		for _, field := range term.MatchFields {
			if field.Key == "metadata.name" && field.Operator == corev1.NodeSelectorOpIn && len(field.Values) == 1 {
				return field.Values[0]
			}
		}
	}
	return ""
}
