package demo

import (
	"context"
	"fmt"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/drydock/drydock/testbed/fault"
)

// markPrefix begins every mark that Drydock leaves on objects of a carrier.
const markPrefix = "drydock.dev/"

// census is what is on a carrier at one moment, as far as the verdict needs it.
type census struct {
	nodes      map[string]nodeFacts      // By name.
	pods       map[string]podFacts       // By uid; those that have ended are left out.
	daemonSets map[string]daemonSetFacts // By namespace/name.
}

type nodeFacts struct {
	master bool // A node that no DaemonSet of the runbook expects.
	limit  int  // allocatable.pods.
	pods   int  // Those that are bound to it.
	// waiting are daemon pods that are for this node and not bound yet.
	waiting  int
	cordoned bool
	marks    []string // Annotations and labels of Drydock.
}

// need is how many pods must leave so that every daemon pod that waits finds a place.
func (n nodeFacts) need() int { return max(0, n.pods+n.waiting-n.limit) }

type podFacts struct {
	namespace, name string
	node            string // Where it runs, or the one that it is for.
	owner           string // Kind/name.
	ownerUID        string
	bound, ready    bool
	leaving         bool
	restarts        int
}

// daemon tells a DaemonSet's pod.
func (p podFacts) daemon() bool { return strings.HasPrefix(p.owner, "DaemonSet/") }

// set is the DaemonSet of a daemon pod as namespace/name.
func (p podFacts) set() string {
	return p.namespace + "/" + strings.TrimPrefix(p.owner, "DaemonSet/")
}

type daemonSetFacts struct {
	uid, image     string
	desired, ready int
}

// count takes a census.
func count(ctx context.Context, client kubernetes.Interface) (census, error) {
	c := census{nodes: map[string]nodeFacts{}, pods: map[string]podFacts{}, daemonSets: map[string]daemonSetFacts{}}
	nodes, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return c, fmt.Errorf("list nodes: %w", err)
	}
	for i := range nodes.Items {
		c.nodes[nodes.Items[i].Name] = factsOfNode(&nodes.Items[i])
	}
	sets, err := client.AppsV1().DaemonSets(metav1.NamespaceAll).List(ctx, metav1.ListOptions{})
	if err != nil {
		return c, fmt.Errorf("list DaemonSets: %w", err)
	}
	for i := range sets.Items {
		c.daemonSets[sets.Items[i].Namespace+"/"+sets.Items[i].Name] = factsOfDaemonSet(&sets.Items[i])
	}
	pods, err := client.CoreV1().Pods(metav1.NamespaceAll).List(ctx, metav1.ListOptions{})
	if err != nil {
		return c, fmt.Errorf("list pods: %w", err)
	}
	for i := range pods.Items {
		c.add(&pods.Items[i])
	}
	return c, nil
}

func (c census) add(pod *corev1.Pod) {
	if pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
		return
	}
	f := factsOfPod(pod)
	c.pods[string(pod.UID)] = f
	node := c.nodes[f.node]
	switch {
	case f.bound:
		node.pods++
	case f.daemon():
		node.waiting++
	default:
		return
	}
	c.nodes[f.node] = node
}

func factsOfNode(node *corev1.Node) nodeFacts {
	f := nodeFacts{limit: int(node.Status.Allocatable.Pods().Value()), cordoned: node.Spec.Unschedulable}
	for _, taint := range node.Spec.Taints {
		f.master = f.master || strings.HasPrefix(taint.Key, "node-role.kubernetes.io/")
	}
	for _, marks := range []map[string]string{node.Annotations, node.Labels} {
		for key := range marks {
			if strings.HasPrefix(key, markPrefix) {
				f.marks = append(f.marks, key)
			}
		}
	}
	return f
}

func factsOfPod(pod *corev1.Pod) podFacts {
	f := podFacts{
		namespace: pod.Namespace, name: pod.Name, node: fault.TargetNode(pod),
		bound: pod.Spec.NodeName != "", leaving: pod.DeletionTimestamp != nil,
	}
	if owner := metav1.GetControllerOf(pod); owner != nil {
		f.owner, f.ownerUID = owner.Kind+"/"+owner.Name, string(owner.UID)
	}
	for _, condition := range pod.Status.Conditions {
		f.ready = f.ready || condition.Type == corev1.PodReady && condition.Status == corev1.ConditionTrue
	}
	for _, container := range pod.Status.ContainerStatuses {
		f.restarts += int(container.RestartCount)
	}
	return f
}

func factsOfDaemonSet(set *appsv1.DaemonSet) daemonSetFacts {
	f := daemonSetFacts{uid: string(set.UID), desired: int(set.Status.DesiredNumberScheduled), ready: int(set.Status.NumberReady)}
	for _, container := range set.Spec.Template.Spec.Containers {
		f.image = container.Image
	}
	return f
}
