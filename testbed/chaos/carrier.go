package chaos

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/drydock/drydock/playbook/kube"
	"github.com/drydock/drydock/testbed/fault"
	"github.com/drydock/drydock/testbed/jenkins"
)

const (
	podsPerNode   = 9
	nodesOfTarget = 3
	// targetLabel binds what belongs to a target to its own nodes, so that targets break apart from each other.
	targetLabel = "sim/target"
	deployed    = "2.41.0"
)

// carrier is a part of the control plane that Drydock takes for a carrier of its own: it reaches it through a proxy of its own.
// Two targets share it, and so its claim.
type carrier struct {
	Name, Kubeconfig string

	api     *apiServer
	targets []*target
}

// target is one DaemonSet with three nodes of its own: one that gets full, one where there is room, and one that a person has
// cordoned before all this and that must stay so.
type target struct {
	Carrier              string
	DaemonSet, Namespace string
	Reapply              string

	carrier *carrier
	client  kubernetes.Interface
	episode int
}

// companion is a second DaemonSet of a target, which nobody alerts about: a full node lacks two places then.
func (t *target) companion() string { return t.DaemonSet + "-companion" }

func (t *target) node(n int) string { return fmt.Sprintf("%s-%d", t.DaemonSet, n) }

// The nodes of a target, by their part.
func (t *target) fullNode() string    { return t.node(1) }
func (t *target) personsNode() string { return t.node(nodesOfTarget) }
func (t *target) key() string         { return t.Namespace + "/" + t.DaemonSet }
func (t *target) labels() labels      { return labels{targetLabel: t.DaemonSet} }
func (t *target) title(is string) string {
	if is == "absent" {
		return fmt.Sprintf("blumemix.containers-kubernetes.%s.%s_daemonset_absent.us-south", t.Carrier, t.DaemonSet)
	}
	return fmt.Sprintf("blumemix.containers-kubernetes.%s.not_running_all_%s_demonsets.us-south", t.Carrier, t.DaemonSet)
}

type labels = map[string]string

// newCarrier makes a carrier with the systems beside it; populate brings its nodes.
func (s *stage) newCarrier(number int) (*carrier, error) {
	c := &carrier{Name: fmt.Sprintf("prod-dal10-carrier%d", number)}
	c.Kubeconfig = filepath.Join(s.dir, c.Name+".kubeconfig")
	var err error
	if c.api, err = newAPIServer(s.ctx, s.cluster.RESTConfig(), s.seed+uint64(number)); err != nil {
		return nil, err
	}
	if err := c.api.kubeconfig(c.Kubeconfig); err != nil {
		return nil, err
	}
	for n, reapply := range []string{"if_needed", "always"} {
		// The names differ over the carriers: the same DaemonSet in trouble on three of them stops every repair.
		name := fmt.Sprintf("agent-%d%c", number, 'a'+n)
		t := &target{Carrier: c.Name, DaemonSet: name, Namespace: "monitoring-" + name, Reapply: reapply, carrier: c, client: s.cluster.Client()}
		c.targets = append(c.targets, t)
		s.flags.Set(c.Name, name, deployed)
		s.jenkins.AddJob(name, jenkins.Process{Name: c.Name})
		for _, version := range []string{"2.40.2", deployed, "2.42.0"} {
			build := jenkins.Build{DisplayName: version, Parameters: map[string]string{"VERSION": version}}
			if _, err := s.jenkins.AddBuild(name, build); err != nil {
				return nil, err
			}
		}
	}
	return c, nil
}

// populate makes the nodes and what runs on them, and waits until all is well.
func (s *stage) populate() error {
	var nodes []*corev1.Node
	for _, t := range s.targets() {
		for n := range nodesOfTarget {
			node := s.cluster.NewNode(t.node(n + 1))
			node.Labels[targetLabel] = t.DaemonSet
			nodes = append(nodes, node)
		}
	}
	if err := s.cluster.AddNodes(s.ctx, nodes...); err != nil {
		return err
	}
	for _, t := range s.targets() {
		if err := fault.Cordon(s.ctx, t.client, t.personsNode(), true); err != nil {
			return err
		}
		for _, name := range []string{t.DaemonSet, t.companion()} {
			if err := t.create(s.ctx, name); err != nil {
				return err
			}
		}
	}
	for _, t := range s.targets() {
		if err := t.waitReady(s.ctx); err != nil {
			return err
		}
	}
	return nil
}

// deploy is what a promotion does: the job's DaemonSet is there again.
func (s *stage) deploy(ctx context.Context, _, job string, _ jenkins.Build) error {
	for _, t := range s.targets() {
		if t.DaemonSet == job {
			return t.create(ctx, t.DaemonSet)
		}
	}
	return fmt.Errorf("no job %q is known", job)
}

// create creates a DaemonSet on the target's nodes, unless it is there.
func (t *target) create(ctx context.Context, name string) error {
	_, err := fault.CreateDaemonSet(ctx, t.client, fault.Agent{Namespace: t.Namespace, Name: name, Edit: func(set *appsv1.DaemonSet) {
		set.Spec.Template.Spec.NodeSelector = t.labels()
	}})
	if apierrors.IsAlreadyExists(errors.Unwrap(err)) {
		return nil
	}
	return err
}

// waitReady waits until both DaemonSets are ready on all nodes of the target.
func (t *target) waitReady(ctx context.Context) error {
	for _, name := range []string{t.DaemonSet, t.companion()} {
		if _, err := fault.WaitDaemonSetReady(ctx, t.client, t.Namespace, name); err != nil {
			return err
		}
	}
	return nil
}

// wrong lists what is not as it was before all this.
func (t *target) wrong(ctx context.Context) ([]string, error) {
	var wrong []string
	for n := range nodesOfTarget {
		node, err := t.client.CoreV1().Nodes().Get(ctx, t.node(n+1), metav1.GetOptions{})
		if err != nil {
			return nil, fmt.Errorf("look at the nodes: %w", err)
		}
		if persons := node.Name == t.personsNode(); node.Spec.Unschedulable != persons {
			wrong = append(wrong, fmt.Sprintf("node %s: unschedulable=%v, and that is not how it was", node.Name, node.Spec.Unschedulable))
		}
		if mark := node.Annotations[kube.CordonOwner]; mark != "" {
			wrong = append(wrong, fmt.Sprintf("node %s bears the mark %s", node.Name, mark))
		}
	}
	for _, name := range []string{t.DaemonSet, t.companion()} {
		set, err := t.client.AppsV1().DaemonSets(t.Namespace).Get(ctx, name, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err):
			wrong = append(wrong, fmt.Sprintf("DaemonSet %s/%s is not there", t.Namespace, name))
		case err != nil:
			return nil, fmt.Errorf("look at the DaemonSets: %w", err)
		case set.DeletionTimestamp != nil:
			wrong = append(wrong, fmt.Sprintf("DaemonSet %s/%s is being deleted", t.Namespace, name))
		}
	}
	return wrong, nil
}
