package kube

import (
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/drydock/drydock/playbook"
)

func TestRuleExcludes(t *testing.T) {
	t.Parallel()
	taint := func(key, value string, effect corev1.TaintEffect) corev1.Taint {
		return corev1.Taint{Key: key, Value: value, Effect: effect}
	}
	required := func(terms ...corev1.NodeSelectorTerm) *corev1.Affinity {
		return &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{
			RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{NodeSelectorTerms: terms}}}
	}
	expression := func(key string, op corev1.NodeSelectorOperator, values ...string) corev1.NodeSelectorTerm {
		return corev1.NodeSelectorTerm{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: key, Operator: op, Values: values}}}
	}
	const noSchedule, noExecute = corev1.TaintEffectNoSchedule, corev1.TaintEffectNoExecute
	tests := map[string]struct {
		spec    corev1.PodSpec
		taints  []corev1.Taint
		want    string // part of the reason; empty: expected
		blocked string // part of what keeps the pod away though the node is expected
	}{
		"plain":                                 {},
		"selector matches":                      {spec: corev1.PodSpec{NodeSelector: map[string]string{"zone": "a"}}},
		"selector differs":                      {spec: corev1.PodSpec{NodeSelector: map[string]string{"zone": "b"}}, want: "zone=b does not match: the node has zone=a"},
		"selector missing":                      {spec: corev1.PodSpec{NodeSelector: map[string]string{"gpu": "yes"}}, want: "the node has no such label"},
		"named node":                            {spec: corev1.PodSpec{NodeName: "node-1"}},
		"another named node":                    {spec: corev1.PodSpec{NodeName: "node-2"}, want: "names node node-2"},
		"affinity matches":                      {spec: corev1.PodSpec{Affinity: required(expression("zone", corev1.NodeSelectorOpIn, "a", "b"))}},
		"affinity terms are alternatives":       {spec: corev1.PodSpec{Affinity: required(expression("zone", corev1.NodeSelectorOpIn, "x"), expression("zone", corev1.NodeSelectorOpExists))}},
		"affinity differs":                      {spec: corev1.PodSpec{Affinity: required(expression("zone", corev1.NodeSelectorOpNotIn, "a"))}, want: "required node affinity"},
		"affinity that can not be parsed":       {spec: corev1.PodSpec{Affinity: required(expression("zone", "Sometimes"))}, want: "required node affinity"},
		"affinity without terms":                {spec: corev1.PodSpec{Affinity: required()}, want: "required node affinity"},
		"master":                                {taints: []corev1.Taint{taint("node-role.kubernetes.io/control-plane", "", noSchedule)}, want: "node-role.kubernetes.io/control-plane:NoSchedule is not tolerated"},
		"master tolerated":                      {spec: corev1.PodSpec{Tolerations: []corev1.Toleration{{Key: "node-role.kubernetes.io/control-plane", Operator: corev1.TolerationOpExists}}}, taints: []corev1.Taint{taint("node-role.kubernetes.io/control-plane", "", noSchedule)}},
		"everything tolerated":                  {spec: corev1.PodSpec{Tolerations: []corev1.Toleration{{Operator: corev1.TolerationOpExists}}}, taints: []corev1.Taint{taint("a", "b", noExecute)}},
		"another value tolerated":               {spec: corev1.PodSpec{Tolerations: []corev1.Toleration{{Key: "a", Value: "c"}}}, taints: []corev1.Taint{taint("a", "b", noSchedule)}, want: "a=b:NoSchedule"},
		"no execute":                            {taints: []corev1.Taint{taint("a", "b", noExecute)}, want: "a=b:NoExecute"},
		"preferred only":                        {taints: []corev1.Taint{taint("a", "b", corev1.TaintEffectPreferNoSchedule)}},
		"cordoned":                              {taints: []corev1.Taint{taint(corev1.TaintNodeUnschedulable, "", noSchedule)}},
		"disk pressure":                         {taints: []corev1.Taint{taint(corev1.TaintNodeDiskPressure, "", noSchedule)}},
		"memory pressure":                       {taints: []corev1.Taint{taint(corev1.TaintNodeMemoryPressure, "", noSchedule)}},
		"pid pressure":                          {taints: []corev1.Taint{taint(corev1.TaintNodePIDPressure, "", noSchedule)}},
		"dead":                                  {taints: []corev1.Taint{taint(corev1.TaintNodeUnreachable, "", noExecute)}},
		"dead, the taint that lowers desired":   {taints: []corev1.Taint{taint(corev1.TaintNodeUnreachable, "", noSchedule)}, blocked: "unreachable:NoSchedule"},
		"not ready":                             {taints: []corev1.Taint{taint(corev1.TaintNodeNotReady, "", noSchedule)}, blocked: "not-ready:NoSchedule"},
		"no network":                            {taints: []corev1.Taint{taint(corev1.TaintNodeNetworkUnavailable, "", noSchedule)}, blocked: "network-unavailable"},
		"no network, and the host's is used":    {spec: corev1.PodSpec{HostNetwork: true}, taints: []corev1.Taint{taint(corev1.TaintNodeNetworkUnavailable, "", noSchedule)}},
		"shut down by the cloud provider":       {taints: []corev1.Taint{taint(taintShutdown, "", noSchedule)}, blocked: "shutdown"},
		"not initialised by the cloud provider": {taints: []corev1.Taint{taint("node.cloudprovider.kubernetes.io/uninitialized", "true", noSchedule)}, want: "uninitialized=true:NoSchedule"},
		"a condition does not hide a taint":     {taints: []corev1.Taint{taint(corev1.TaintNodeNotReady, "", noSchedule), taint("a", "", noSchedule)}, want: "a:NoSchedule", blocked: "not-ready"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-1", Labels: map[string]string{"zone": "a"}},
				Spec: corev1.NodeSpec{Taints: tt.taints}}
			ds := &appsv1.DaemonSet{}
			ds.Spec.Template.Spec = tt.spec
			r := ruleOf(ds)
			if got := r.excludes(node); !matches(got, tt.want) {
				t.Errorf("excludes: %q, want %q", got, tt.want)
			}
			if got := r.blockedBy(node); !matches(got, tt.blocked) {
				t.Errorf("blocked by: %q, want %q", got, tt.blocked)
			}
		})
	}
}

// matches reports whether text has the wanted part, and is empty when nothing is wanted.
func matches(text, want string) bool {
	if want == "" {
		return text == ""
	}
	return strings.Contains(text, want)
}

func TestRuleSummary(t *testing.T) {
	t.Parallel()
	ds := &appsv1.DaemonSet{}
	if got := ruleOf(ds).summary(); got != "all nodes whose taints are tolerated" {
		t.Errorf("summary = %q", got)
	}
	ds.Spec.Template.Spec.NodeSelector = map[string]string{"b": "2", "a": "1"}
	if got := ruleOf(ds).summary(); got != "nodes with a=1, b=2 whose taints are tolerated" {
		t.Errorf("summary = %q", got)
	}
}

func TestPinnedTo(t *testing.T) {
	t.Parallel()
	pinned := func(values ...string) *corev1.Affinity {
		return &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
			NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchFields: []corev1.NodeSelectorRequirement{
				{Key: "metadata.name", Operator: corev1.NodeSelectorOpIn, Values: values}}}}}}}
	}
	for name, tt := range map[string]struct {
		spec corev1.PodSpec
		want string
	}{
		"scheduled":   {corev1.PodSpec{NodeName: "a", Affinity: pinned("b")}, "a"},
		"pending":     {corev1.PodSpec{Affinity: pinned("b")}, "b"},
		"two nodes":   {corev1.PodSpec{Affinity: pinned("b", "c")}, ""},
		"no affinity": {corev1.PodSpec{Affinity: &corev1.Affinity{}}, ""},
		"nothing":     {corev1.PodSpec{}, ""},
	} {
		if got := pinnedTo(&corev1.Pod{Spec: tt.spec}); got != tt.want {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}

func TestNodeFacts(t *testing.T) {
	t.Parallel()
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n", Annotations: map[string]string{
		CordonOwner: `{"installation":"i","run":"r","generation":3,"since":"2026-11-22T00:00:00Z","reason":"x"}`, KeepCordoned: "true"}}}
	node.Spec.Taints = []corev1.Taint{{Key: taintToBeDeleted}, {Key: corev1.TaintNodeDiskPressure}}
	node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionUnknown, Reason: "NodeStatusUnknown", Message: "Kubelet stopped posting node status."}}
	n := nodeFacts(node, 0)
	if n.Ready || !strings.Contains(n.NotReadyWhy, "Kubelet stopped") || !n.Leaving || !n.DiskPressure || !n.KeepCordoned || n.CordonedBy == nil || n.CordonedBy.Run != "r" {
		t.Errorf("facts = %+v", n)
	}
	node.Annotations[CordonOwner] = "{"
	if n := nodeFacts(node, 0); n.CordonedBy == nil || n.CordonedBy.Run != "" || n.CordonedBy.Installation != "" {
		t.Errorf("an unreadable mark became %+v; it must stay a stranger's", n.CordonedBy)
	}
	node.Status.Conditions = nil
	if n := nodeFacts(node, 0); n.Ready || n.NotReadyWhy == "" {
		t.Errorf("a node without conditions became %+v", n)
	}
}

func TestPodSlots(t *testing.T) {
	t.Parallel()
	node := &corev1.Node{Status: corev1.NodeStatus{Allocatable: corev1.ResourceList{corev1.ResourcePods: quantity("110")}}}
	for limit, want := range map[int]int{0: 110, 31: 31, 200: 110} {
		if got := podSlots(node, limit); got != want {
			t.Errorf("limit %d: %d slots, want %d", limit, got, want)
		}
	}
}

func TestGitOps(t *testing.T) {
	t.Parallel()
	for want, meta := range map[string]metav1.ObjectMeta{
		"":                                          {Annotations: map[string]string{"kubectl.kubernetes.io/last-applied-configuration": "{}"}, Labels: map[string]string{"app.kubernetes.io/instance": "x"}},
		"Helm release monitoring/exporters":         {Annotations: map[string]string{"meta.helm.sh/release-name": "exporters", "meta.helm.sh/release-namespace": "monitoring"}},
		"Argo CD application ops":                   {Annotations: map[string]string{"argocd.argoproj.io/tracking-id": "ops:apps/DaemonSet:monitoring/node-exporter"}},
		"Flux Kustomization flux-system/infra":      {Labels: map[string]string{"kustomize.toolkit.fluxcd.io/name": "infra", "kustomize.toolkit.fluxcd.io/namespace": "flux-system"}},
		"Flux HelmRelease flux-system/hr":           {Labels: map[string]string{"helm.toolkit.fluxcd.io/name": "hr", "helm.toolkit.fluxcd.io/namespace": "flux-system", "app.kubernetes.io/managed-by": "Helm"}},
		"Helm (label app.kubernetes.io/managed-by)": {Labels: map[string]string{"app.kubernetes.io/managed-by": "Helm"}},
	} {
		if got := gitOps(&appsv1.DaemonSet{ObjectMeta: meta}); got != want {
			t.Errorf("%+v: %q, want %q", meta, got, want)
		}
	}
}

// A pod that waits for its image shows why; one that is only starting shows nothing.
func TestPodFacts(t *testing.T) {
	t.Parallel()
	ds := &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{UID: "ds"}}
	yes := true
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", OwnerReferences: []metav1.OwnerReference{{UID: "ds", Controller: &yes}}}}
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{
		{Name: "a", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "PodInitializing"}}},
		{Name: "b", RestartCount: 3, State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff", Message: "token=hunter2"}},
			LastTerminationState: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Reason: "OOMKilled", ExitCode: 137}}},
	}
	got := podFacts(ds, pod)
	want := playbook.Pod{Name: "p", Owned: true, Waiting: "ImagePullBackOff", Message: "token=[redacted]", Restarts: 3, LastExit: "b: OOMKilled, exit code 137"}
	got.CreatedAt = want.CreatedAt
	if got != want {
		t.Errorf("facts = %+v, want %+v", got, want)
	}
}
