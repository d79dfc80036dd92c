package fault

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"

	"github.com/drydock/drydock/testbed/await"
)

// Agent is a DaemonSet like those of the runbook: no priority class, rolling
// update, small requests.
type Agent struct {
	Namespace, Name string
	// Image is the container's. Default: registry.example.com/<Name>:1.0.
	Image string
	// Annotations are put on the DaemonSet.
	Annotations map[string]string
	// PodLabels are put on each pod, with its app label. A mark in them stays on
	// every pod that is made anew: {"sim/crash": "137"} never heals.
	PodLabels map[string]string
	// Edit, if set, may change the object before it is created.
	Edit func(*appsv1.DaemonSet)
}

// CreateDaemonSet creates an agent's DaemonSet, and its namespace if there is none,
// without waiting for its pods.
func CreateDaemonSet(ctx context.Context, client kubernetes.Interface, agent Agent) (*appsv1.DaemonSet, error) {
	if err := Namespace(ctx, client, agent.Namespace); err != nil {
		return nil, err
	}
	if agent.Image == "" {
		agent.Image = fmt.Sprintf("registry.example.com/%s:1.0", agent.Name)
	}
	app := map[string]string{"app": agent.Name}
	podLabels := map[string]string{"app": agent.Name}
	for key, value := range agent.PodLabels {
		podLabels[key] = value
	}
	set := &appsv1.DaemonSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: agent.Namespace, Name: agent.Name, Labels: app, Annotations: agent.Annotations},
		Spec: appsv1.DaemonSetSpec{
			Selector: &metav1.LabelSelector{MatchLabels: app},
			UpdateStrategy: appsv1.DaemonSetUpdateStrategy{
				Type:          appsv1.RollingUpdateDaemonSetStrategyType,
				RollingUpdate: &appsv1.RollingUpdateDaemonSet{MaxUnavailable: new(intstr.FromString("10%"))},
			},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: podLabels},
				Spec: corev1.PodSpec{Containers: []corev1.Container{{
					Name:  agent.Name,
					Image: agent.Image,
					Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{
						corev1.ResourceCPU:    resource.MustParse("10m"),
						corev1.ResourceMemory: resource.MustParse("32Mi"),
					}},
				}}},
			},
		},
	}
	if agent.Edit != nil {
		agent.Edit(set)
	}
	created, err := client.AppsV1().DaemonSets(agent.Namespace).Create(ctx, set, metav1.CreateOptions{})
	if err != nil {
		return nil, fmt.Errorf("create DaemonSet %s/%s: %w", agent.Namespace, agent.Name, err)
	}
	return created, nil
}

// RunDaemonSet creates an agent's DaemonSet and waits until it is ready on all the
// nodes that it desires.
func RunDaemonSet(ctx context.Context, client kubernetes.Interface, agent Agent) (*appsv1.DaemonSet, error) {
	if _, err := CreateDaemonSet(ctx, client, agent); err != nil {
		return nil, err
	}
	return WaitDaemonSetReady(ctx, client, agent.Namespace, agent.Name)
}

// WaitDaemonSet waits until check finds nothing missing in a DaemonSet.
func WaitDaemonSet(ctx context.Context, client kubernetes.Interface, namespace, name, what string, check func(*appsv1.DaemonSet) error) (*appsv1.DaemonSet, error) {
	var found *appsv1.DaemonSet
	err := await.Until(ctx, fmt.Sprintf("DaemonSet %s/%s %s", namespace, name, what), func(ctx context.Context) error {
		set, err := client.AppsV1().DaemonSets(namespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		found = set
		return check(set)
	})
	if err != nil {
		return nil, err
	}
	return found, nil
}

// WaitDaemonSetReady waits until a DaemonSet, as its controller has last seen it,
// is ready and up to date on all the nodes that it desires, at least one.
func WaitDaemonSetReady(ctx context.Context, client kubernetes.Interface, namespace, name string) (*appsv1.DaemonSet, error) {
	return WaitDaemonSet(ctx, client, namespace, name, "to be ready everywhere", func(set *appsv1.DaemonSet) error {
		s := set.Status
		if s.ObservedGeneration != set.Generation || s.DesiredNumberScheduled == 0 ||
			s.NumberReady != s.DesiredNumberScheduled || s.UpdatedNumberScheduled != s.DesiredNumberScheduled {
			return fmt.Errorf("generation %d, observed %d, desired %d, ready %d, updated %d",
				set.Generation, s.ObservedGeneration, s.DesiredNumberScheduled, s.NumberReady, s.UpdatedNumberScheduled)
		}
		return nil
	})
}

// DeleteDaemonSet deletes a DaemonSet by the given policy and waits until it is gone,
// and its pods too unless the policy orphans them.
func DeleteDaemonSet(ctx context.Context, client kubernetes.Interface, namespace, name string, policy metav1.DeletionPropagation) error {
	set, err := client.AppsV1().DaemonSets(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("delete DaemonSet %s/%s: %w", namespace, name, err)
	}
	selector, err := metav1.LabelSelectorAsSelector(set.Spec.Selector)
	if err != nil {
		return fmt.Errorf("delete DaemonSet %s/%s: %w", namespace, name, err)
	}
	if err := client.AppsV1().DaemonSets(namespace).Delete(ctx, name, metav1.DeleteOptions{PropagationPolicy: &policy}); err != nil {
		return fmt.Errorf("delete DaemonSet %s/%s: %w", namespace, name, err)
	}
	return await.Until(ctx, fmt.Sprintf("DaemonSet %s/%s to be gone", namespace, name), func(ctx context.Context) error {
		_, err := client.AppsV1().DaemonSets(namespace).Get(ctx, name, metav1.GetOptions{})
		if err == nil {
			return errors.New("it is there")
		}
		if !apierrors.IsNotFound(err) {
			return err
		}
		if policy == metav1.DeletePropagationOrphan {
			return nil
		}
		pods, err := podsBySelector(ctx, client, namespace, selector)
		if err != nil {
			return err
		}
		if len(pods) > 0 {
			return fmt.Errorf("%d of its pods are there", len(pods))
		}
		return nil
	})
}

// DaemonPod finds a DaemonSet's pod on, or waiting for, a node. Nil and no error:
// there is none.
func DaemonPod(ctx context.Context, client kubernetes.Interface, namespace, name, node string) (*corev1.Pod, error) {
	pods, err := daemonPods(ctx, client, namespace, name)
	if err != nil {
		return nil, err
	}
	for _, pod := range pods {
		if TargetNode(&pod) == node {
			return &pod, nil
		}
	}
	return nil, nil
}

// WaitTooManyPods waits until a DaemonSet's pod for a node finds it at its limit of
// pods, and returns that pod.
func WaitTooManyPods(ctx context.Context, client kubernetes.Interface, namespace, name, node string) (*corev1.Pod, error) {
	var found *corev1.Pod
	what := fmt.Sprintf("the pod of DaemonSet %s/%s to find too many pods on node %s", namespace, name, node)
	err := await.Until(ctx, what, func(ctx context.Context) error {
		pod, err := DaemonPod(ctx, client, namespace, name, node)
		if err != nil {
			return err
		}
		if pod == nil {
			return errors.New("there is no such pod")
		}
		if pod.Spec.NodeName != "" {
			return fmt.Errorf("pod %s has found room", pod.Name)
		}
		for _, condition := range pod.Status.Conditions {
			// The scheduler tells why in words alone.
			if condition.Type == corev1.PodScheduled && condition.Status == corev1.ConditionFalse && strings.Contains(condition.Message, "Too many pods") {
				found = pod
				return nil
			}
		}
		return fmt.Errorf("pod %s says %v", pod.Name, pod.Status.Conditions)
	})
	return found, err
}

// CrashPod puts a pod into a crash loop with the given exit code, until the pod is
// deleted or HealPod is called.
func CrashPod(ctx context.Context, client kubernetes.Interface, namespace, pod string, exitCode int) error {
	return markCrash(ctx, client, namespace, pod, strconv.Itoa(exitCode), corev1.ConditionFalse)
}

// HealPod ends what CrashPod began.
func HealPod(ctx context.Context, client kubernetes.Interface, namespace, pod string) error {
	return markCrash(ctx, client, namespace, pod, nil, corev1.ConditionTrue)
}

func markCrash(ctx context.Context, client kubernetes.Interface, namespace, pod string, mark any, ready corev1.ConditionStatus) error {
	if err := annotatePod(ctx, client, namespace, pod, crashMark, mark); err != nil {
		return err
	}
	return await.Until(ctx, fmt.Sprintf("pod %s/%s to be Ready=%s", namespace, pod, ready), func(ctx context.Context) error {
		object, err := client.CoreV1().Pods(namespace).Get(ctx, pod, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if !hasCondition(object.Status.Conditions, corev1.PodReady, ready) {
			return fmt.Errorf("its conditions are %v", object.Status.Conditions)
		}
		return nil
	})
}

// StickPod lets a pod hang in Terminating once it is deleted. Only a delete with a
// grace period of zero removes it then.
func StickPod(ctx context.Context, client kubernetes.Interface, namespace, pod string) error {
	return annotatePod(ctx, client, namespace, pod, stuckMark, "true")
}

func annotatePod(ctx context.Context, client kubernetes.Interface, namespace, pod, key string, value any) error {
	return patch{"metadata": patch{"annotations": patch{key: value}}}.pod(ctx, client, namespace, pod, types.MergePatchType)
}

// daemonPods lists the pods that a DaemonSet selects.
func daemonPods(ctx context.Context, client kubernetes.Interface, namespace, name string) ([]corev1.Pod, error) {
	set, err := client.AppsV1().DaemonSets(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("find DaemonSet %s/%s: %w", namespace, name, err)
	}
	selector, err := metav1.LabelSelectorAsSelector(set.Spec.Selector)
	if err != nil {
		return nil, fmt.Errorf("read selector of DaemonSet %s/%s: %w", namespace, name, err)
	}
	return podsBySelector(ctx, client, namespace, selector)
}

func podsBySelector(ctx context.Context, client kubernetes.Interface, namespace string, selector labels.Selector) ([]corev1.Pod, error) {
	list, err := client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: selector.String()})
	if err != nil {
		return nil, fmt.Errorf("list pods in %s: %w", namespace, err)
	}
	return list.Items, nil
}

// TargetNode is the node of a daemon pod: where it runs or, before it is bound, the
// only one that its affinity admits.
func TargetNode(pod *corev1.Pod) string {
	if pod.Spec.NodeName != "" {
		return pod.Spec.NodeName
	}
	affinity := pod.Spec.Affinity
	if affinity == nil || affinity.NodeAffinity == nil || affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution == nil {
		return ""
	}
	for _, term := range affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms {
		for _, field := range term.MatchFields {
			if field.Key == metav1.ObjectNameField && field.Operator == corev1.NodeSelectorOpIn && len(field.Values) == 1 {
				return field.Values[0]
			}
		}
	}
	return ""
}

func hasCondition(conditions []corev1.PodCondition, kind corev1.PodConditionType, status corev1.ConditionStatus) bool {
	for _, condition := range conditions {
		if condition.Type == kind {
			return condition.Status == status
		}
	}
	return false
}
