// Package fault builds the situations of the runbook on a real control plane:
// carriers with agents and customers' masters, full nodes, dead nodes, disk
// pressure, crash loops, a DaemonSet controller without its rights.
//
// Every function returns when the situation is there as Kubernetes sees it, or
// with an error that says what was still missing when ctx ended. The marks by which
// kwok plays a broken kubelet are described in package controlplane. All of it
// goes through the client given: nothing here knows how the control plane runs.
package fault

import (
	"context"
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/drydock/drydock/testbed/await"
)

// The marks that stages.yaml of package controlplane reads.
const (
	crashMark    = "sim/crash"
	stuckMark    = "sim/stuck"
	notReadyMark = "sim/notready"
	deadMark     = "sim/dead"
)

// Namespace creates a namespace and waits for its default service account, without
// which no pod can be created in it. One that exists already is fine.
func Namespace(ctx context.Context, client kubernetes.Interface, name string) error {
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if _, err := client.CoreV1().Namespaces().Create(ctx, namespace, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create namespace %s: %w", name, err)
	}
	return await.Until(ctx, "the default service account of namespace "+name, func(ctx context.Context) error {
		_, err := client.CoreV1().ServiceAccounts(name).Get(ctx, "default", metav1.GetOptions{})
		return err
	})
}

// PodsOn lists the pods that take a place on a node: all that are bound to it and
// have not ended, those that are terminating included. It is what the scheduler
// counts against allocatable.pods.
func PodsOn(ctx context.Context, client kubernetes.Interface, node string) ([]corev1.Pod, error) {
	selector := fields.AndSelectors(
		fields.OneTermEqualSelector("spec.nodeName", node),
		fields.OneTermNotEqualSelector("status.phase", string(corev1.PodSucceeded)),
		fields.OneTermNotEqualSelector("status.phase", string(corev1.PodFailed)),
	)
	list, err := client.CoreV1().Pods(metav1.NamespaceAll).List(ctx, metav1.ListOptions{FieldSelector: selector.String()})
	if err != nil {
		return nil, fmt.Errorf("list pods on node %s: %w", node, err)
	}
	return list.Items, nil
}

// patch is a JSON object that is merged into an object; nil values remove.
type patch map[string]any

func (p patch) node(ctx context.Context, client kubernetes.Interface, name string, kind types.PatchType, subresources ...string) error {
	body, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("encode patch of node %s: %w", name, err)
	}
	if _, err := client.CoreV1().Nodes().Patch(ctx, name, kind, body, metav1.PatchOptions{}, subresources...); err != nil {
		return fmt.Errorf("patch node %s: %w", name, err)
	}
	return nil
}

func (p patch) pod(ctx context.Context, client kubernetes.Interface, namespace, name string, kind types.PatchType, subresources ...string) error {
	body, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("encode patch of pod %s/%s: %w", namespace, name, err)
	}
	if _, err := client.CoreV1().Pods(namespace).Patch(ctx, name, kind, body, metav1.PatchOptions{}, subresources...); err != nil {
		return fmt.Errorf("patch pod %s/%s: %w", namespace, name, err)
	}
	return nil
}

func labelNode(ctx context.Context, client kubernetes.Interface, node, label string, set bool) error {
	var value any
	if set {
		value = "true"
	}
	return patch{"metadata": patch{"labels": patch{label: value}}}.node(ctx, client, node, types.MergePatchType)
}
