package controlplane

import (
	"context"
	"errors"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/drydock/drydock/testbed/await"
)

// MasterLabel and MasterTaint are on the nodes that [Options.Masters] asks for, as
// kubeadm puts them on the nodes of a control plane.
const (
	MasterLabel = "node-role.kubernetes.io/control-plane"
	MasterTaint = MasterLabel
)

// nodeCreators is how many nodes are created at a time: enough for thousands of
// nodes in some seconds, without crowding out the components that start.
const nodeCreators = 16

// NewNode is a node as the cluster's own are, to be created with
// [Cluster.AddNodes].
func (c *Cluster) NewNode(name string) *corev1.Node {
	resources := corev1.ResourceList{
		corev1.ResourceCPU:              resource.MustParse("64"),
		corev1.ResourceMemory:           resource.MustParse("256Gi"),
		corev1.ResourceEphemeralStorage: resource.MustParse("1Ti"),
		corev1.ResourcePods:             *resource.NewQuantity(int64(c.options.PodsPerNode), resource.DecimalSI),
	}
	healthy := func(kind corev1.NodeConditionType, reason, message string) corev1.NodeCondition {
		return corev1.NodeCondition{Type: kind, Status: corev1.ConditionFalse, Reason: reason, Message: message}
	}
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{
			Name: name,
			Labels: map[string]string{
				corev1.LabelHostname:   name,
				corev1.LabelOSStable:   "linux",
				corev1.LabelArchStable: "amd64",
			},
		},
		Status: corev1.NodeStatus{
			Capacity:    resources,
			Allocatable: resources,
			// Ready comes from kwok, see stages.yaml.
			Conditions: []corev1.NodeCondition{
				healthy(corev1.NodeMemoryPressure, "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
				healthy(corev1.NodeDiskPressure, "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
				healthy(corev1.NodePIDPressure, "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
			},
			NodeInfo: corev1.NodeSystemInfo{
				Architecture:            "amd64",
				OperatingSystem:         "linux",
				OSImage:                 "kwok",
				KernelVersion:           "kwok",
				ContainerRuntimeVersion: "kwok://0.8.0",
				KubeletVersion:          Version,
			},
		},
	}
}

func (c *Cluster) newMaster(name string) *corev1.Node {
	node := c.NewNode(name)
	node.Labels[MasterLabel] = ""
	node.Spec.Taints = append(node.Spec.Taints, corev1.Taint{Key: MasterTaint, Effect: corev1.TaintEffectNoSchedule})
	return node
}

// ownNodes are the nodes that the options ask for.
func (c *Cluster) ownNodes() []*corev1.Node {
	var nodes []*corev1.Node
	for i := range c.options.Masters {
		nodes = append(nodes, c.newMaster(c.masterName(i)))
	}
	for i := range c.options.Nodes {
		nodes = append(nodes, c.NewNode(c.options.NodePrefix+fmt.Sprintf("%02d", i+1)))
	}
	for _, node := range nodes {
		if c.options.EditNode != nil {
			c.options.EditNode(node)
		}
	}
	return nodes
}

func (c *Cluster) masterName(i int) string {
	return fmt.Sprintf("%s-master-%02d", c.options.Name, i+1)
}

// AddNodes creates nodes and waits until each is Ready and rid of the taints that
// Kubernetes puts on new nodes.
func (c *Cluster) AddNodes(ctx context.Context, nodes ...*corev1.Node) error {
	if err := c.createNodes(ctx, nodes); err != nil {
		return err
	}
	return c.waitForNodes(ctx, nodes)
}

func (c *Cluster) createNodes(ctx context.Context, nodes []*corev1.Node) error {
	queue := make(chan *corev1.Node)
	failures := make(chan error, nodeCreators)
	for range nodeCreators {
		go func() {
			var failed error
			for node := range queue {
				if _, err := c.client.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{}); err != nil {
					failed = fmt.Errorf("create node %s: %w", node.Name, err)
				}
			}
			failures <- failed
		}()
	}
	for _, node := range nodes {
		queue <- node
	}
	close(queue)
	var all error
	for range nodeCreators {
		all = errors.Join(all, <-failures)
	}
	return all
}

func (c *Cluster) waitForNodes(ctx context.Context, nodes []*corev1.Node) error {
	return await.Until(ctx, "nodes to be ready", func(ctx context.Context) error {
		list, err := c.client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		found := map[string]*corev1.Node{}
		for i := range list.Items {
			found[list.Items[i].Name] = &list.Items[i]
		}
		ready, example := 0, ""
		for _, node := range nodes {
			if problem := notUsable(found[node.Name]); problem != "" {
				example = node.Name + " " + problem
				continue
			}
			ready++
		}
		if ready < len(nodes) {
			return fmt.Errorf("%d of %d are, %s", ready, len(nodes), example)
		}
		return nil
	})
}

// notUsable says why a node is not ready for pods, or nothing if it is.
func notUsable(node *corev1.Node) string {
	if node == nil {
		return "is not there"
	}
	for _, taint := range node.Spec.Taints {
		if strings.HasPrefix(taint.Key, "node.kubernetes.io/") {
			return "has the taint " + taint.Key
		}
	}
	for _, condition := range node.Status.Conditions {
		if condition.Type == corev1.NodeReady && condition.Status == corev1.ConditionTrue {
			return ""
		}
	}
	return "is not Ready"
}
