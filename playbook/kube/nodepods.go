package kube

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	schedulinghelpers "k8s.io/component-helpers/scheduling/corev1"

	"github.com/drydock/drydock/playbook"
)

// systemCritical is the lowest priority of Kubernetes' own critical classes (system-cluster-critical).
const systemCritical = 2_000_000_000

// nodePods recounts one node: the scheduler's count, not the DaemonSet's status, proves that a node is full.
func (l *looking) nodePods(ctx context.Context, name string) (playbook.NodePods, error) {
	pods, err := l.podsOn(ctx, name)
	if err != nil {
		return playbook.NodePods{}, err
	}
	waiting, err := l.podsOn(ctx, "")
	if err != nil {
		return playbook.NodePods{}, err
	}
	seen := playbook.NodePods{}
	for i := range waiting {
		pod := &waiting[i]
		if isDaemon(pod) && pod.Status.Phase == corev1.PodPending && pod.DeletionTimestamp == nil && pinnedTo(pod) == name {
			seen.PendingDaemon++
		}
	}
	var candidates []candidate
	for i := range pods {
		if !takesSlot(&pods[i]) {
			continue
		}
		seen.Count++
		candidates = append(candidates, candidateOf(&pods[i], l.look.Policy.DrainFrom))
	}
	if err := l.c.readOwners(ctx, candidates); err != nil {
		return playbook.NodePods{}, err
	}
	if err := l.c.readBudgets(ctx, candidates); err != nil {
		return playbook.NodePods{}, err
	}
	for i := range candidates {
		candidates[i].judgeDisruption()
	}
	if !l.c.readOnly && l.look.Policy.Mode != playbook.ModeObserve { // who only looks has no right to lack
		if err := l.c.judgeRights(ctx, candidates); err != nil {
			return playbook.NodePods{}, err
		}
	}
	slices.SortFunc(candidates, bestFirst)
	if err := l.findRoom(ctx, name, candidates); err != nil {
		return playbook.NodePods{}, err
	}
	slices.SortStableFunc(candidates, tellingFirst(l.look.Policy.DrainFrom))
	for _, c := range candidates {
		seen.Candidates = append(seen.Candidates, c.facts)
	}
	return seen, nil
}

// takesSlot reports whether the scheduler counts the pod: Terminating and mirror pods take a slot, finished ones do not.
func takesSlot(pod *corev1.Pod) bool {
	return pod.Status.Phase != corev1.PodSucceeded && pod.Status.Phase != corev1.PodFailed
}

func isDaemon(pod *corev1.Pod) bool {
	owner := metav1.GetControllerOf(pod)
	return owner != nil && owner.Kind == "DaemonSet"
}

// candidate is a pod on the node while its facts are put together.
type candidate struct {
	pod   *corev1.Pod
	facts playbook.Candidate
}

func (c *candidate) stays(why string) {
	if c.facts.NotMovable == "" {
		c.facts.NotMovable = why
	}
}

// candidateOf fills what the pod itself says. The reasons are those of kubectl drain, and ours: only namespaces that the
// configuration names are drained.
func candidateOf(pod *corev1.Pod, drainFrom []string) candidate {
	c := candidate{pod: pod, facts: playbook.Candidate{
		Namespace:   pod.Namespace,
		Name:        pod.Name,
		UID:         string(pod.UID),
		Priority:    schedulinghelpers.PodPriority(pod),
		Terminating: pod.DeletionTimestamp != nil,
		CreatedAt:   pod.CreationTimestamp.UTC(),
	}}
	owner := metav1.GetControllerOf(pod)
	if owner != nil {
		c.facts.Owner = owner.Kind + "/" + owner.Name
	}
	_, mirror := pod.Annotations[corev1.MirrorPodAnnotationKey]
	switch {
	case mirror:
		c.stays("mirror pod of a static pod")
	case isDaemon(pod):
		c.stays("pod of a DaemonSet")
	case !slices.Contains(drainFrom, pod.Namespace):
		c.stays("namespace " + pod.Namespace + " is not in drain_namespaces")
	case owner == nil:
		c.stays("no controller would make it again")
	case c.facts.Priority >= systemCritical:
		c.stays("system-critical priority")
	case c.facts.Terminating:
		c.stays("already terminating")
	case hasLocalStorage(pod):
		c.stays("local storage (emptyDir) would be lost")
	}
	return c
}

func hasLocalStorage(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Spec.Volumes, func(v corev1.Volume) bool { return v.EmptyDir != nil })
}

// readBudgets fills which budgets select each candidate and what they still allow. Each namespace is listed once.
func (c *Carrier) readBudgets(ctx context.Context, candidates []candidate) error {
	read := map[string][]policyv1.PodDisruptionBudget{}
	for i := range candidates {
		at := &candidates[i]
		if at.facts.NotMovable != "" {
			continue
		}
		budgets, ok := read[at.facts.Namespace]
		if !ok {
			var err error
			if budgets, err = c.listBudgets(ctx, at.facts.Namespace); err != nil {
				return err
			}
			read[at.facts.Namespace] = budgets
		}
		var err error
		if at.facts.Budgets, at.facts.Allowed, err = budgetsOf(at.pod, budgets); err != nil {
			return err
		}
	}
	return nil
}

func (c *Carrier) listBudgets(ctx context.Context, namespace string) ([]policyv1.PodDisruptionBudget, error) {
	budgets, err := listAll(ctx, metav1.ListOptions{},
		func(ctx context.Context, opts metav1.ListOptions) ([]policyv1.PodDisruptionBudget, string, error) {
			list, err := c.reader.PolicyV1().PodDisruptionBudgets(namespace).List(ctx, opts)
			if err != nil {
				return nil, "", err
			}
			return list.Items, list.Continue, nil
		})
	if err != nil {
		return nil, fmt.Errorf("list PodDisruptionBudgets of %s: %w", namespace, err)
	}
	return budgets, nil
}

// budgetsOf counts the budgets that select the pod and the disruptions that the tightest of them allows. A budget whose
// status is behind its spec allows none: the Eviction API answers 429 until it has caught up.
func budgetsOf(pod *corev1.Pod, budgets []policyv1.PodDisruptionBudget) (matching, allowed int, err error) {
	for i := range budgets {
		budget := &budgets[i]
		selector, err := metav1.LabelSelectorAsSelector(budget.Spec.Selector)
		if err != nil {
			return 0, 0, fmt.Errorf("read selector of PodDisruptionBudget %s/%s: %w", budget.Namespace, budget.Name, err)
		}
		if !selector.Matches(labels.Set(pod.Labels)) {
			continue
		}
		allows := int(budget.Status.DisruptionsAllowed)
		if budget.Status.ObservedGeneration < budget.Generation {
			allows = 0
		}
		if matching == 0 || allows < allowed {
			allowed = allows
		}
		matching++
	}
	return matching, allowed, nil
}

// judgeDisruption adds the reasons that owner and budgets give.
func (c *candidate) judgeDisruption() {
	f := c.facts
	switch {
	case f.NotMovable != "":
	case f.Budgets > 1:
		// The Eviction API answers 500 to that, for good (kubernetes.md 1.6).
		c.stays("more than one budget selects it: the Eviction API refuses that")
	case f.Budgets == 0 && f.OwnerReady < 2:
		c.stays(fmt.Sprintf("%s has %d ready of %d and no budget: nothing would serve meanwhile", f.Owner, f.OwnerReady, f.OwnerWants))
	}
}

// judgeRights keeps those that Drydock may not evict: a node is not cordoned for a drain that the API server will refuse.
func (c *Carrier) judgeRights(ctx context.Context, candidates []candidate) error {
	lacking := map[string]bool{}
	for i := range candidates {
		at := &candidates[i]
		if at.facts.NotMovable != "" {
			continue
		}
		right := evictPods(at.facts.Namespace)
		lacks, asked := lacking[at.facts.Namespace]
		if !asked {
			var err error
			if lacks, err = c.lacks(ctx, right); err != nil {
				return err
			}
			lacking[at.facts.Namespace] = lacks
		}
		if lacks {
			at.stays(playbook.NotGranted(c.name, right.String()))
		}
	}
	return nil
}

// bestFirst orders candidates as the core will pick victims, so that room elsewhere is given to those first.
func bestFirst(a, b candidate) int {
	return cmp.Or(
		cmp.Compare(a.facts.Priority, b.facts.Priority),
		cmp.Compare(slack(b.facts), slack(a.facts)),
		cmp.Compare(b.facts.OwnerReady, a.facts.OwnerReady),
		b.facts.CreatedAt.Compare(a.facts.CreatedAt),
		strings.Compare(a.facts.Namespace+"/"+a.facts.Name, b.facts.Namespace+"/"+b.facts.Name),
	)
}

// slack is how many more disruptions a pod's budget allows; a pod without one is between those that are blocked and those
// that are free.
func slack(c playbook.Candidate) int {
	if c.Budgets == 0 {
		return 1
	}
	return c.Allowed
}

// tellingFirst puts movable candidates first and those that we never drain last: people are shown the first reasons.
func tellingFirst(drainFrom []string) func(a, b candidate) int {
	rank := func(c candidate) int {
		switch {
		case c.facts.NotMovable == "":
			return 0
		case slices.Contains(drainFrom, c.facts.Namespace):
			return 1
		}
		return 2
	}
	return func(a, b candidate) int { return cmp.Compare(rank(a), rank(b)) }
}
