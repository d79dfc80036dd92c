package kube

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/drydock/drydock/playbook"
)

func master(edit func(*corev1.Pod)) *corev1.Pod {
	yes := true
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "kubx-masters", Name: "master-1", UID: "u1", Labels: map[string]string{"app": "m"},
		OwnerReferences: []metav1.OwnerReference{{Kind: "ReplicaSet", Name: "m", UID: "rs", Controller: &yes}}}}
	if edit != nil {
		edit(pod)
	}
	return pod
}

func TestCandidateFilters(t *testing.T) {
	t.Parallel()
	now := metav1.Now()
	priority := int32(systemCritical)
	tests := map[string]struct {
		edit func(*corev1.Pod)
		want string
	}{
		"movable":            {nil, ""},
		"mirror":             {func(p *corev1.Pod) { p.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "x"} }, "mirror pod"},
		"daemon":             {func(p *corev1.Pod) { p.OwnerReferences[0].Kind = "DaemonSet" }, "DaemonSet"},
		"another namespace":  {func(p *corev1.Pod) { p.Namespace = "armada" }, "namespace armada is not in drain_namespaces"},
		"unmanaged":          {func(p *corev1.Pod) { p.OwnerReferences = nil }, "no controller"},
		"owned, not managed": {func(p *corev1.Pod) { p.OwnerReferences[0].Controller = nil }, "no controller"},
		"critical":           {func(p *corev1.Pod) { p.Spec.Priority = &priority }, "critical"},
		"terminating":        {func(p *corev1.Pod) { p.DeletionTimestamp = &now }, "terminating"},
		"local storage": {func(p *corev1.Pod) {
			p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
		}, "emptyDir"},
		"configuration mount": {func(p *corev1.Pod) {
			p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{}}}}
		}, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := candidateOf(master(tt.edit), []string{"kubx-masters"}).facts.NotMovable; !matches(got, tt.want) {
				t.Errorf("not movable: %q, want %q", got, tt.want)
			}
		})
	}
	if got := candidateOf(master(nil), nil).facts.NotMovable; got == "" {
		t.Error("a pod is movable though no namespace may be drained")
	}
}

func TestBudgets(t *testing.T) {
	t.Parallel()
	budget := func(app string, allowed int32, behind bool) policyv1.PodDisruptionBudget {
		b := policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Generation: 2}}
		b.Spec.MinAvailable = new(intstr.FromInt32(1))
		b.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"app": app}}
		b.Status = policyv1.PodDisruptionBudgetStatus{ObservedGeneration: 2, DisruptionsAllowed: allowed}
		if behind {
			b.Status.ObservedGeneration = 1
		}
		return b
	}
	everything := budget("m", 3, false)
	everything.Spec.Selector = &metav1.LabelSelector{}
	nothing := budget("m", 3, false)
	nothing.Spec.Selector = nil
	for name, tt := range map[string]struct {
		budgets           []policyv1.PodDisruptionBudget
		matching, allowed int
	}{
		"none":                {nil, 0, 0},
		"another's":           {[]policyv1.PodDisruptionBudget{budget("x", 1, false)}, 0, 0},
		"one":                 {[]policyv1.PodDisruptionBudget{budget("m", 2, false)}, 1, 2},
		"status is behind":    {[]policyv1.PodDisruptionBudget{budget("m", 2, true)}, 1, 0},
		"two, the tightest":   {[]policyv1.PodDisruptionBudget{budget("m", 2, false), budget("m", 1, false)}, 2, 1},
		"empty selects all":   {[]policyv1.PodDisruptionBudget{everything}, 1, 3},
		"absent selects none": {[]policyv1.PodDisruptionBudget{nothing}, 0, 0},
	} {
		matching, allowed, err := budgetsOf(master(nil), tt.budgets)
		if err != nil || matching != tt.matching || allowed != tt.allowed {
			t.Errorf("%s: %d matching, %d allowed, %v; want %d, %d", name, matching, allowed, err, tt.matching, tt.allowed)
		}
	}
	broken := budget("m", 1, false)
	broken.Spec.Selector.MatchExpressions = []metav1.LabelSelectorRequirement{{Key: "a", Operator: "Perhaps"}}
	if _, _, err := budgetsOf(master(nil), []policyv1.PodDisruptionBudget{broken}); err == nil {
		t.Error("a budget that can not be read selects nothing")
	}
}

func TestJudgeDisruption(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		facts playbook.Candidate
		want  string
	}{
		"two ready":                         {playbook.Candidate{OwnerReady: 2, OwnerWants: 2}, ""},
		"single replica, no budget":         {playbook.Candidate{Owner: "ReplicaSet/m", OwnerReady: 1, OwnerWants: 1}, "ReplicaSet/m has 1 ready of 1 and no budget"},
		"single replica, its budget allows": {playbook.Candidate{OwnerReady: 1, OwnerWants: 1, Budgets: 1, Allowed: 1}, ""},
		"budget is exhausted for now":       {playbook.Candidate{OwnerReady: 3, OwnerWants: 3, Budgets: 1}, ""}, // the core waits for it
		"two budgets":                       {playbook.Candidate{OwnerReady: 3, OwnerWants: 3, Budgets: 2, Allowed: 1}, "more than one budget"},
		"the first reason stays":            {playbook.Candidate{NotMovable: "mirror"}, "mirror"},
	} {
		c := candidate{facts: tt.facts}
		c.judgeDisruption()
		if !matches(c.facts.NotMovable, tt.want) {
			t.Errorf("%s: %q, want %q", name, c.facts.NotMovable, tt.want)
		}
	}
}

func TestCandidateOrder(t *testing.T) {
	t.Parallel()
	list := []candidate{
		{facts: playbook.Candidate{Name: "daemon", Namespace: "monitoring", NotMovable: "pod of a DaemonSet"}},
		{facts: playbook.Candidate{Name: "stays", Namespace: "kubx-masters", NotMovable: "no room"}},
		{facts: playbook.Candidate{Name: "important", Namespace: "kubx-masters", Priority: 5}},
		{facts: playbook.Candidate{Name: "guarded", Namespace: "kubx-masters", Budgets: 1}},
		{facts: playbook.Candidate{Name: "free", Namespace: "kubx-masters", OwnerReady: 3}},
	}
	slices.SortFunc(list, bestFirst)
	slices.SortStableFunc(list, tellingFirst([]string{"kubx-masters"}))
	var names []string
	for _, c := range list {
		names = append(names, c.facts.Name)
	}
	if want := []string{"free", "guarded", "important", "stays", "daemon"}; !slices.Equal(names, want) {
		t.Errorf("order = %v, want %v", names, want)
	}
}

func TestSpace(t *testing.T) {
	t.Parallel()
	node := &corev1.Node{Status: corev1.NodeStatus{Allocatable: corev1.ResourceList{
		corev1.ResourcePods: quantity("3"), corev1.ResourceCPU: quantity("1"), corev1.ResourceMemory: quantity("1Gi")}}}
	asks := func(cpu string, port int32) *corev1.Pod {
		return master(func(p *corev1.Pod) {
			p.Spec.Containers = []corev1.Container{{Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: quantity(cpu)}}}}
			if port > 0 {
				p.Spec.Containers[0].Ports = []corev1.ContainerPort{{HostPort: port}}
			}
		})
	}
	ended := asks("900m", 0)
	ended.Status.Phase = corev1.PodSucceeded
	s := spaceOn(node, []corev1.Pod{*asks("500m", 9100), *ended}, 0)
	for name, tt := range map[string]struct {
		pod  *corev1.Pod
		want bool
	}{
		"fits":             {asks("500m", 0), true},
		"too much":         {asks("501m", 0), false},
		"port is taken":    {asks("1m", 9100), false},
		"another port":     {asks("1m", 9101), true},
		"asks for nothing": {master(nil), true},
		"asks for devices": {master(func(p *corev1.Pod) {
			p.Spec.Containers = []corev1.Container{{Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{"example.com/gpu": quantity("1")}}}}
		}), false},
	} {
		if got := s.fits(tt.pod); got != tt.want {
			t.Errorf("%s: fits %t", name, got)
		}
	}
	s.take(master(nil))
	s.take(master(nil))
	if s.fits(master(nil)) {
		t.Error("a fourth pod fits where three may be")
	}
}

func TestNotChecked(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		edit func(*corev1.Pod)
		want string
	}{
		"plain": {nil, ""},
		"claim": {func(p *corev1.Pod) {
			p.Spec.Volumes = []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{}}}}
		}, "volume data is a claim"},
		"soft spread": {func(p *corev1.Pod) {
			p.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{TopologyKey: "zone", WhenUnsatisfiable: corev1.ScheduleAnyway}}
		}, ""},
		"hard spread": {func(p *corev1.Pod) {
			p.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{TopologyKey: "zone", WhenUnsatisfiable: corev1.DoNotSchedule}}
		}, "topology spread constraint over zone"},
		"affinity": {func(p *corev1.Pod) {
			p.Spec.Affinity = &corev1.Affinity{PodAffinity: &corev1.PodAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{TopologyKey: "zone"}}}}
		}, "next to other pods"},
		"devices": {func(p *corev1.Pod) { p.Spec.ResourceClaims = []corev1.PodResourceClaim{{Name: "gpu"}} }, "devices"},
	} {
		if got := notChecked(master(tt.edit)); !matches(got, tt.want) {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}

// The order differs from node to node, and is the same each time for one.
func TestOtherNodes(t *testing.T) {
	t.Parallel()
	var nodes []corev1.Node
	for _, name := range strings.Split("a b c d e f g h", " ") {
		n := corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
		n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
		nodes = append(nodes, n)
	}
	nodes[1].Spec.Unschedulable = true
	nodes[2].Status.Conditions[0].Status = corev1.ConditionUnknown
	nodes[3].Spec.Taints = []corev1.Taint{{Key: taintToBeDeleted}}
	order := func(from string) string {
		var names []string
		for _, n := range otherNodes(nodes, from) {
			names = append(names, n.Name)
		}
		return strings.Join(names, "")
	}
	first := order("a")
	if sorted := strings.Split(first, ""); first != order("a") || len(sorted) != 4 || strings.ContainsAny(first, "abcd") {
		t.Errorf("order from a = %q, then %q", first, order("a"))
	}
	if strings.ReplaceAll(first, "h", "") == strings.ReplaceAll(order("h"), "a", "") {
		t.Errorf("the order from h is that from a: %q", first)
	}
}
