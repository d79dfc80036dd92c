package scenario

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/drydock/drydock/playbook/playbooktest/scenariofile"
	"github.com/drydock/drydock/testbed/await"
	"github.com/drydock/drydock/testbed/fault"
)

// agentPort is the port that is taken where a worker is short of one.
const agentPort = 9100

func hostPort(port int32) []corev1.ContainerPort {
	return []corev1.ContainerPort{{ContainerPort: port, HostPort: port}}
}

// meta is the metadata of a customers' object.
func (c *carrier) meta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: scenariofile.CustomersNamespace, Name: name, Labels: map[string]string{"app": name, scenarioLabel: c.File}}
}

// createPod creates a pod that nothing would make again: a lone one, or that of a static pod.
func (c *carrier) createPod(ctx context.Context, name, node string) error {
	pod := &corev1.Pod{ObjectMeta: c.meta(name), Spec: corev1.PodSpec{
		NodeName: node, Containers: []corev1.Container{{Name: "master", Image: "registry.example.com/kubx-master:1.0"}},
	}}
	if c.Carrier.Customers.Kind == scenariofile.Mirror {
		pod.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: name}
	}
	if _, err := c.client.CoreV1().Pods(pod.Namespace).Create(ctx, pod, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("create pod %s: %w", name, err)
	}
	return nil
}

// createBudget creates a disruption budget of a workload.
func (c *carrier) createBudget(ctx context.Context, name, of string, minAvailable int) error {
	budget := &policyv1.PodDisruptionBudget{ObjectMeta: c.meta(name), Spec: policyv1.PodDisruptionBudgetSpec{
		MinAvailable: new(intstr.FromInt(minAvailable)), Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": of}},
	}}
	if _, err := c.client.PolicyV1().PodDisruptionBudgets(budget.Namespace).Create(ctx, budget, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("create PodDisruptionBudget %s: %w", name, err)
	}
	return nil
}

// addBudgets gives each of the customers' workloads a second budget, with which the Eviction API answers 500.
func (c *carrier) addBudgets(ctx context.Context) error {
	for _, w := range c.Carrier.Full {
		for n := range c.Carrier.PodLimit {
			of := c.customerName(w, n+1)
			if err := c.createBudget(ctx, of+"-second", of, 0); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *carrier) customerName(worker string, n int) string {
	return fmt.Sprintf("%s-master-%s-%d", c.File, worker, n)
}

// createClaim creates a volume that only a node can attach, and a claim that is bound to it.
func (c *carrier) createClaim(ctx context.Context, name, node string) error {
	size := corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}
	meta := c.meta(name)
	volume := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: meta.Labels}, Spec: corev1.PersistentVolumeSpec{
		Capacity: size, AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, StorageClassName: "local",
		PersistentVolumeSource: corev1.PersistentVolumeSource{Local: &corev1.LocalVolumeSource{Path: "/data"}},
		ClaimRef:               &corev1.ObjectReference{Namespace: meta.Namespace, Name: name},
		NodeAffinity: &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
			MatchExpressions: []corev1.NodeSelectorRequirement{{Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: []string{node}}},
		}}}},
	}}
	if _, err := c.client.CoreV1().PersistentVolumes().Create(ctx, volume, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("create PersistentVolume %s: %w", name, err)
	}
	claim := &corev1.PersistentVolumeClaim{ObjectMeta: meta, Spec: corev1.PersistentVolumeClaimSpec{
		AccessModes: volume.Spec.AccessModes, StorageClassName: &volume.Spec.StorageClassName, VolumeName: name,
		Resources: corev1.VolumeResourceRequirements{Requests: size},
	}}
	if _, err := c.client.CoreV1().PersistentVolumeClaims(claim.Namespace).Create(ctx, claim, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("create PersistentVolumeClaim %s: %w", name, err)
	}
	return nil
}

// hog takes what workers are to be short of.
func (c *carrier) hog(ctx context.Context) error {
	short := map[string]string{}
	for _, w := range c.Carrier.Cramped {
		short[w] = "room"
	}
	for w, of := range c.Carrier.Short {
		short[w] = of
	}
	for w, of := range short {
		node, err := c.client.CoreV1().Nodes().Get(ctx, c.node(w), metav1.GetOptions{})
		if err != nil {
			return fmt.Errorf("read node %s: %w", w, err)
		}
		left := node.Status.Allocatable.DeepCopy()
		container := corev1.Container{Name: "hog", Image: "registry.example.com/hog:1.0"}
		switch of {
		case "port":
			container.Ports = hostPort(agentPort)
		case "room":
			cpu := left[corev1.ResourceCPU]
			cpu.Sub(resource.MustParse("500m")) // enough for an agent, too little for a customers' master
			container.Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: cpu}
		default:
			container.Resources.Requests = corev1.ResourceList{corev1.ResourceName(of): left[corev1.ResourceName(of)]}
		}
		pod := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: c.node(w) + "-hog", Labels: map[string]string{scenarioLabel: c.File}},
			Spec:       corev1.PodSpec{NodeName: c.node(w), Containers: []corev1.Container{container}},
		}
		if _, err := c.client.CoreV1().Pods(pod.Namespace).Create(ctx, pod, metav1.CreateOptions{}); err != nil {
			return fmt.Errorf("create pod %s: %w", pod.Name, err)
		}
	}
	return nil
}

// waitUnschedulable waits until the scheduler has said why a daemon pod does not fit a worker.
func (c *carrier) waitUnschedulable(ctx context.Context, daemonSet, worker string) error {
	return await.Until(ctx, "the pod of "+daemonSet+" not to fit "+worker, func(ctx context.Context) error {
		pod, err := fault.DaemonPod(ctx, c.client, c.Namespace, daemonSet, c.node(worker))
		switch {
		case err != nil:
			return err
		case pod == nil:
			return errors.New("there is no such pod")
		case pod.Spec.NodeName != "":
			return await.Never(errors.New("it fits"))
		}
		for _, cond := range pod.Status.Conditions {
			if cond.Type == corev1.PodScheduled && cond.Status == corev1.ConditionFalse && strings.Contains(cond.Message, "available") {
				return nil
			}
		}
		return errNotYet
	})
}

// holder is what keeps a namespace terminating.
const holder = "held"

// endNamespace deletes the scenario's namespace, which a finalizer on something in it keeps terminating.
func (c *carrier) endNamespace(ctx context.Context) error {
	config := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: holder, Finalizers: []string{scenariofile.Finalizer}}}
	if _, err := c.client.CoreV1().ConfigMaps(c.Namespace).Create(ctx, config, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("create ConfigMap %s: %w", holder, err)
	}
	if err := c.client.CoreV1().Namespaces().Delete(ctx, c.Namespace, metav1.DeleteOptions{}); err != nil {
		return fmt.Errorf("delete namespace %s: %w", c.Namespace, err)
	}
	// The namespace controller would delete their pods first, on some nights.
	background := metav1.DeleteOptions{PropagationPolicy: new(metav1.DeletePropagationBackground)}
	if err := c.client.AppsV1().DaemonSets(c.Namespace).DeleteCollection(ctx, background, metav1.ListOptions{}); err != nil {
		return fmt.Errorf("delete the DaemonSets of %s: %w", c.Namespace, err)
	}
	return await.Until(ctx, "the namespace to be terminating and empty of DaemonSets", func(ctx context.Context) error {
		ns, err := c.client.CoreV1().Namespaces().Get(ctx, c.Namespace, metav1.GetOptions{})
		if err != nil {
			return err
		}
		sets, err := c.client.AppsV1().DaemonSets(c.Namespace).List(ctx, metav1.ListOptions{})
		if err == nil && (ns.Status.Phase != corev1.NamespaceTerminating || len(sets.Items) > 0) {
			err = errNotYet
		}
		return err
	})
}

// stickSet deletes a DaemonSet that a finalizer holds.
func (c *carrier) stickSet(ctx context.Context, name string) error {
	if err := c.patchFinalizers(ctx, name, []string{scenariofile.Finalizer}); err != nil {
		return err
	}
	background := metav1.DeletePropagationBackground
	if err := c.client.AppsV1().DaemonSets(c.Namespace).Delete(ctx, name, metav1.DeleteOptions{PropagationPolicy: &background}); err != nil {
		return fmt.Errorf("delete DaemonSet %s: %w", name, err)
	}
	return nil
}

func (c *carrier) patchFinalizers(ctx context.Context, name string, finalizers []string) error {
	quoted := make([]string, 0, len(finalizers))
	for _, f := range finalizers {
		quoted = append(quoted, fmt.Sprintf("%q", f))
	}
	body := fmt.Sprintf(`{"metadata":{"finalizers":[%s]}}`, strings.Join(quoted, ","))
	if _, err := c.client.AppsV1().DaemonSets(c.Namespace).Patch(ctx, name, types.MergePatchType, []byte(body), metav1.PatchOptions{}); err != nil {
		return fmt.Errorf("set the finalizers of DaemonSet %s: %w", name, err)
	}
	return nil
}

// letGo takes away the finalizers that the scenario set, so that what it left can go.
func (c *carrier) letGo(ctx context.Context) error {
	sets, err := c.client.AppsV1().DaemonSets(c.Namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("list DaemonSets: %w", err)
	}
	for _, set := range sets.Items {
		if slices.Contains(set.Finalizers, scenariofile.Finalizer) {
			if err := c.patchFinalizers(ctx, set.Name, nil); err != nil {
				return err
			}
		}
	}
	held, err := c.client.CoreV1().ConfigMaps(c.Namespace).List(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + holder})
	if err != nil || len(held.Items) == 0 {
		return err
	}
	_, err = c.client.CoreV1().ConfigMaps(c.Namespace).Patch(ctx, holder, types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{})
	return err
}
