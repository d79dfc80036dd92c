package fault

import (
	"context"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"

	"github.com/drydock/drydock/testbed/await"
)

// Workload is what customers run on a carrier: pods that any node may take.
type Workload struct {
	Namespace, Name string
	Replicas        int32
	// Stateful makes it a StatefulSet, whose pods keep their names, instead of a
	// Deployment.
	Stateful bool
	// MinAvailable, if set, comes with a PodDisruptionBudget of the same name.
	MinAvailable *int
	// Prefer names a node to which its pods go as long as it takes them.
	Prefer string
	// NodeSelector binds its pods to nodes with these labels.
	NodeSelector map[string]string
	// PodAnnotations are put on each pod.
	PodAnnotations map[string]string
}

// CreateWorkload creates a workload, and its budget, without waiting for its pods.
func CreateWorkload(ctx context.Context, client kubernetes.Interface, w Workload) error {
	meta := metav1.ObjectMeta{Namespace: w.Namespace, Name: w.Name, Labels: map[string]string{"app": w.Name}}
	selector := &metav1.LabelSelector{MatchLabels: meta.Labels}
	template := w.podTemplate(meta.Labels)
	if w.MinAvailable != nil {
		// First, so that its numbers are there when the pods are.
		budget := &policyv1.PodDisruptionBudget{ObjectMeta: meta, Spec: policyv1.PodDisruptionBudgetSpec{
			MinAvailable: new(intstr.FromInt(*w.MinAvailable)),
			Selector:     selector,
		}}
		if _, err := client.PolicyV1().PodDisruptionBudgets(w.Namespace).Create(ctx, budget, metav1.CreateOptions{}); err != nil {
			return fmt.Errorf("create PodDisruptionBudget %s/%s: %w", w.Namespace, w.Name, err)
		}
	}
	if w.Stateful {
		set := &appsv1.StatefulSet{ObjectMeta: meta, Spec: appsv1.StatefulSetSpec{
			Replicas: &w.Replicas, Selector: selector, Template: template,
			PodManagementPolicy: appsv1.ParallelPodManagement,
		}}
		if _, err := client.AppsV1().StatefulSets(w.Namespace).Create(ctx, set, metav1.CreateOptions{}); err != nil {
			return fmt.Errorf("create StatefulSet %s/%s: %w", w.Namespace, w.Name, err)
		}
		return nil
	}
	deployment := &appsv1.Deployment{ObjectMeta: meta, Spec: appsv1.DeploymentSpec{
		Replicas: &w.Replicas, Selector: selector, Template: template,
	}}
	if _, err := client.AppsV1().Deployments(w.Namespace).Create(ctx, deployment, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("create Deployment %s/%s: %w", w.Namespace, w.Name, err)
	}
	return nil
}

func (w Workload) podTemplate(labels map[string]string) corev1.PodTemplateSpec {
	spec := corev1.PodSpec{
		NodeSelector: w.NodeSelector,
		Containers: []corev1.Container{{
			Name:  "master",
			Image: "registry.example.com/kubx-master:1.0",
			Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{
				corev1.ResourceCPU:    resource.MustParse("10m"),
				corev1.ResourceMemory: resource.MustParse("16Mi"),
			}},
		}},
	}
	if w.Prefer != "" {
		spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{
			PreferredDuringSchedulingIgnoredDuringExecution: []corev1.PreferredSchedulingTerm{{
				Weight: 100,
				Preference: corev1.NodeSelectorTerm{MatchExpressions: []corev1.NodeSelectorRequirement{{
					Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: []string{w.Prefer},
				}}},
			}},
		}}
		// The scheduler's default spreading over nodes weighs as much as the
		// preference. A constraint of the pod's own replaces it, and over a label
		// that no node has it spreads nothing.
		spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{
			MaxSkew: 1, TopologyKey: "sim/nowhere", WhenUnsatisfiable: corev1.ScheduleAnyway,
			LabelSelector: &metav1.LabelSelector{MatchLabels: labels},
		}}
		spec.Tolerations = []corev1.Toleration{{Key: holdTaint.Key, Operator: corev1.TolerationOpExists, Effect: holdTaint.Effect}}
	}
	return corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: labels, Annotations: w.PodAnnotations},
		Spec:       spec,
	}
}

// DeleteWorkload deletes a workload and its budget, and waits until its pods are gone.
func DeleteWorkload(ctx context.Context, client kubernetes.Interface, namespace, name string) error {
	background := metav1.DeleteOptions{PropagationPolicy: new(metav1.DeletePropagationBackground)}
	for _, remove := range []func(context.Context, string, metav1.DeleteOptions) error{
		client.AppsV1().Deployments(namespace).Delete,
		client.AppsV1().StatefulSets(namespace).Delete,
		client.PolicyV1().PodDisruptionBudgets(namespace).Delete,
	} {
		if err := remove(ctx, name, background); err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("delete workload %s/%s: %w", namespace, name, err)
		}
	}
	return await.Until(ctx, fmt.Sprintf("the pods of workload %s/%s to go", namespace, name), func(ctx context.Context) error {
		pods, err := podsBySelector(ctx, client, namespace, labels.SelectorFromSet(labels.Set{"app": name}))
		if err != nil {
			return err
		}
		if len(pods) > 0 {
			return fmt.Errorf("%d are there", len(pods))
		}
		return nil
	})
}

// WaitWorkload waits until all pods of a Deployment or StatefulSet are ready.
func WaitWorkload(ctx context.Context, client kubernetes.Interface, namespace, name string) error {
	return await.Until(ctx, fmt.Sprintf("the pods of workload %s/%s to be ready", namespace, name), func(ctx context.Context) error {
		want, ready, err := workloadReplicas(ctx, client, namespace, name)
		if err != nil {
			return err
		}
		if ready != want {
			return fmt.Errorf("%d of %d are", ready, want)
		}
		return nil
	})
}

func workloadReplicas(ctx context.Context, client kubernetes.Interface, namespace, name string) (want, ready int32, err error) {
	deployments, err := client.AppsV1().Deployments(namespace).List(ctx, byName(name))
	if err != nil {
		return 0, 0, err
	}
	for _, d := range deployments.Items {
		return *d.Spec.Replicas, d.Status.ReadyReplicas, nil
	}
	sets, err := client.AppsV1().StatefulSets(namespace).List(ctx, byName(name))
	if err != nil {
		return 0, 0, err
	}
	for _, s := range sets.Items {
		return *s.Spec.Replicas, s.Status.ReadyReplicas, nil
	}
	return 0, 0, fmt.Errorf("there is no Deployment or StatefulSet of that name")
}

func byName(name string) metav1.ListOptions {
	return metav1.ListOptions{FieldSelector: "metadata.name=" + name}
}
