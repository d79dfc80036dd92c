package scenario

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/drydock/drydock/playbook"
	"github.com/drydock/drydock/playbook/kube"
	"github.com/drydock/drydock/playbook/playbooktest/scenariofile"
	"github.com/drydock/drydock/testbed/await"
	"github.com/drydock/drydock/testbed/controlplane"
	"github.com/drydock/drydock/testbed/fault"
	"github.com/drydock/drydock/testbed/flags"
	"github.com/drydock/drydock/testbed/grant"
	"github.com/drydock/drydock/testbed/jenkins"
)

const (
	flagsToken   = "flags-token"
	jenkinsToken = "jenkins-token"
	component    = "armada-ops"
)

// controllerDeployment is what the restart driver restarts.
const controllerDeployment = "kube-controller-manager"

// scenarioLabel is on all nodes and objects of a scenario. Its DaemonSets and workloads select nodes by it.
const scenarioLabel = "sim/scenario"

// carrier is one scenario's part of a control plane, which Drydock takes for a carrier of its own.
type carrier struct {
	*scenariofile.Scenario
	Name       string // in titles and in drydock.yaml
	Namespace  string // of its DaemonSets
	Kubeconfig string // of the identity that looks
	// ActorKubeconfig is of the one that acts; empty in mode observe, where there is none.
	ActorKubeconfig string
	FlagsURL        string
	JenkinsURL      string

	cluster *controlplane.Cluster
	client  kubernetes.Interface // of the carrier's owner, who may do everything
	without string               // the right that is taken from it, see rights
	door    *door
	watch   *watch
	flags   *flags.Server
	jenkins *jenkins.Server
}

// daemonSetPolicy is what drydock.yaml says about a DaemonSet.
type daemonSetPolicy struct{ Name, Policy, Team string }

// Policies are the entries of the scenario's DaemonSets in drydock.yaml.
func (c *carrier) Policies() []daemonSetPolicy {
	var all []daemonSetPolicy
	for _, d := range c.DaemonSets {
		policy, team := scenariofile.EscalationPolicy(d.Name)
		all = append(all, daemonSetPolicy{d.Name, policy, team})
	}
	return all
}

// entry is one carrier of drydock.yaml: all entries of a scenario lead to the same part of the control plane.
type entry struct {
	Name, Kubeconfig, ActorKubeconfig string
	Mode                              playbook.Mode
}

// Entries are the scenario's carriers in drydock.yaml, and one that only watches (see watch).
func (c *carrier) Entries() []entry {
	all := []entry{{c.watch.name, c.watch.kubeconfig, "", playbook.ModeObserve}}
	for n := range c.Carriers() {
		all = append(all, entry{c.entryName(n + 1), c.Kubeconfig, c.ActorKubeconfig, c.Settings.Mode})
	}
	return all
}

// entryName is the name of the scenario's n-th carrier, from 1.
func (c *carrier) entryName(n int) string {
	if n == 1 {
		return c.Name
	}
	return fmt.Sprintf("%s-%d", c.Name, n)
}

// newCarrier opens a scenario's door and starts its flag service and CI. Nodes and all that runs on them come with deploy.
func (st *stage) newCarrier(s *scenariofile.Scenario) (*carrier, error) {
	cluster, err := st.cluster(s)
	if err != nil {
		return nil, err
	}
	c := &carrier{Scenario: s, Name: "prod-" + s.File, Namespace: namespaceOf(s), cluster: cluster, client: cluster.Client(),
		without: st.without[s.File]}
	through := filepath.Join(st.dir, s.File+".kubeconfig")
	if c.door, err = newDoor(st.ctx, cluster.Kubeconfig(), through); err != nil {
		return nil, err
	}
	if c.Kubeconfig, err = impersonating(through, c.accounts().Reader); err != nil {
		return nil, err
	}
	if s.Settings.Mode != playbook.ModeObserve {
		if c.ActorKubeconfig, err = impersonating(through, c.accounts().Actor); err != nil {
			return nil, err
		}
	}
	st.atStop(func() error { c.door.shut(); return nil })
	if c.watch, err = newWatch(st.ctx, c.Name+"-watched", c.Kubeconfig); err != nil {
		return nil, err
	}
	c.flags = flags.New(flags.Options{Token: flagsToken})
	for _, e := range c.Entries() {
		c.flags.Set(e.Name, component, s.Carrier.Deployed)
	}
	if c.FlagsURL, err = c.flags.Start(st.ctx); err != nil {
		return nil, err
	}
	st.atStop(func() error { c.flags.Close(); return nil })
	c.jenkins = jenkins.New(jenkins.Options{
		Users:      []jenkins.User{{Name: "drydock", Token: jenkinsToken, MayPromote: true}},
		Apply:      c.promote,
		QueueDelay: cmp.Or(time.Duration(s.Carrier.CI.Queue), 100*time.Millisecond), RunDuration: time.Second,
	})
	c.jenkins.AddJob(component, jenkins.Process{Name: c.Name}, jenkins.Process{Name: c.watch.name})
	for _, version := range []string{"2.40.2", "2.41.0", "2.42.0"} {
		b := jenkins.Build{DisplayName: version, Parameters: map[string]string{"VERSION": version}}
		if _, err := c.jenkins.AddBuild(component, b); err != nil {
			return nil, err
		}
	}
	if c.JenkinsURL, err = c.jenkins.Start(st.ctx); err != nil {
		return nil, err
	}
	st.atStop(func() error { c.jenkins.Close(); return nil })
	return c, nil
}

// promote is what a promotion does to the carrier.
func (c *carrier) promote(ctx context.Context, _, _ string, _ jenkins.Build) error {
	if c.Carrier.CI.Fails {
		return errors.New("the deployment failed")
	}
	for _, d := range c.DaemonSets {
		if set, err := c.daemonSet(ctx, d.Name); err != nil || set != nil {
			return err
		}
		if err := c.create(ctx, d); err != nil {
			return err
		}
	}
	return nil
}

// node is the real name of a scenario's node.
func (c *carrier) node(name string) string { return c.File + "-" + name }

func (c *carrier) workers() []string {
	var names []string
	for n := range c.Carrier.Workers {
		names = append(names, scenariofile.Worker(n+1))
	}
	return names
}

// deploy makes the carrier as it was before the fault: nodes, customers' masters, then the DaemonSets.
func (c *carrier) deploy(ctx context.Context) error {
	var nodes []*corev1.Node
	add := func(name string) *corev1.Node {
		n := c.cluster.NewNode(c.node(name))
		n.Labels[scenarioLabel] = c.File
		pods := *resource.NewQuantity(int64(c.Carrier.PodLimit), resource.DecimalSI)
		// Capacity and allocatable are one map in NewNode's node.
		n.Status.Capacity[corev1.ResourcePods], n.Status.Allocatable[corev1.ResourcePods] = pods, pods
		nodes = append(nodes, n)
		return n
	}
	for n := range c.Carrier.Masters {
		master := add(fmt.Sprintf("master-%d", n+1))
		master.Labels[controlplane.MasterLabel] = ""
		master.Spec.Taints = append(master.Spec.Taints, corev1.Taint{Key: controlplane.MasterTaint, Effect: corev1.TaintEffectNoSchedule})
	}
	for _, w := range c.workers() {
		n := add(w)
		for k, v := range c.Carrier.Labels[w] {
			n.Labels[k] = v
		}
	}
	if err := c.cluster.AddNodes(ctx, nodes...); err != nil {
		return err
	}
	for _, ns := range []string{scenariofile.CustomersNamespace, c.Namespace} {
		if err := fault.Namespace(ctx, c.client, ns); err != nil {
			return err
		}
	}
	if err := grant.Rights(ctx, c.cluster.RESTConfig(), c.accounts(), c.rights()); err != nil {
		return err
	}
	if c.Settings.FlagSet {
		if err := c.createFlagSet(ctx); err != nil {
			return err
		}
	}
	if c.Settings.Restart == kube.DriverDeployment {
		w := fault.Workload{Namespace: c.Namespace, Name: controllerDeployment, Replicas: 1}
		if err := fault.CreateWorkload(ctx, c.client, w); err != nil {
			return err
		}
	}
	if err := c.hog(ctx); err != nil {
		return err
	}
	if err := c.fill(ctx); err != nil {
		return err
	}
	for _, d := range c.DaemonSets {
		if d.IsDeployed() {
			if err := c.create(ctx, d); err != nil {
				return err
			}
		}
	}
	return c.waitDeployed(ctx)
}

// waitDeployed waits until each daemon pod that finds room is ready and the others have been told that there is none.
func (c *carrier) waitDeployed(ctx context.Context) error {
	for _, d := range c.DaemonSets {
		if !d.IsDeployed() {
			continue
		}
		full := 0
		for _, w := range c.Carrier.Full {
			if !c.Selects(d, w) {
				continue
			}
			if _, err := fault.WaitTooManyPods(ctx, c.client, c.Namespace, d.Name, c.node(w)); err != nil {
				return err
			}
			full++
		}
		for w := range c.Carrier.Short {
			if err := c.waitUnschedulable(ctx, d.Name, w); err != nil {
				return err
			}
			full++
		}
		_, err := fault.WaitDaemonSet(ctx, c.client, c.Namespace, d.Name, "to be ready where there is room", func(set *appsv1.DaemonSet) error {
			s := set.Status
			if s.ObservedGeneration != set.Generation || int(s.NumberReady) != int(s.DesiredNumberScheduled)-full {
				return fmt.Errorf("observed generation %d of %d, desired %d, ready %d", s.ObservedGeneration, set.Generation, s.DesiredNumberScheduled, s.NumberReady)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// create deploys a DaemonSet.
func (c *carrier) create(ctx context.Context, d scenariofile.DaemonSet) error {
	var owners []metav1.OwnerReference
	if d.Operator {
		// It has to exist: the garbage collector deletes what an absent owner owns.
		owner, err := c.client.CoreV1().ConfigMaps(c.Namespace).Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "operator"}}, metav1.CreateOptions{})
		if err != nil {
			return fmt.Errorf("create the owner of DaemonSet %s: %w", d.Name, err)
		}
		owners = []metav1.OwnerReference{{APIVersion: "v1", Kind: "ConfigMap", Name: owner.Name, UID: owner.UID}}
	}
	_, err := fault.CreateDaemonSet(ctx, c.client, fault.Agent{
		Namespace: c.Namespace, Name: d.Name, Annotations: d.Annotations,
		Edit: func(set *appsv1.DaemonSet) {
			selector := map[string]string{scenarioLabel: c.File}
			for k, v := range d.NodeSelector {
				selector[k] = v
			}
			set.Spec.Template.Spec.NodeSelector = selector
			set.Labels = maps.Clone(set.Labels) // its selector has the same map
			maps.Copy(set.Labels, d.Labels)
			if d.OnMasters {
				set.Spec.Template.Spec.Tolerations = []corev1.Toleration{{Key: controlplane.MasterTaint, Operator: corev1.TolerationOpExists}}
			}
			if d.HostPort != 0 {
				set.Spec.Template.Spec.Containers[0].Ports = hostPort(d.HostPort)
			}
			set.OwnerReferences = owners
			if d.OnDelete {
				set.Spec.UpdateStrategy = appsv1.DaemonSetUpdateStrategy{Type: appsv1.OnDeleteDaemonSetStrategyType}
			}
		},
	})
	return err
}

// fill fills workers with customers' masters: as many workloads as a worker takes pods, of which each has one pod there.
func (c *carrier) fill(ctx context.Context) error {
	var names []string
	for _, w := range c.Carrier.Full {
		for n := range c.Carrier.PodLimit {
			name := c.customerName(w, n+1)
			if k := c.Carrier.Customers.Kind; k == scenariofile.Bare || k == scenariofile.Mirror {
				if err := c.createPod(ctx, name, c.node(w)); err != nil {
					return err
				}
				continue
			}
			if err := c.createCustomer(ctx, name, c.node(w)); err != nil {
				return err
			}
			names = append(names, name)
		}
		for _, name := range names {
			if err := fault.WaitWorkload(ctx, c.client, scenariofile.CustomersNamespace, name); err != nil {
				return err
			}
		}
		pods, err := fault.PodsOn(ctx, c.client, c.node(w))
		if err != nil {
			return err
		}
		if len(pods) != c.Carrier.PodLimit {
			return fmt.Errorf("%s holds %d pods, want %d", c.node(w), len(pods), c.Carrier.PodLimit)
		}
	}
	return nil
}

// createCustomer creates a workload whose first pod goes to a node as long as it takes it, and whose others go elsewhere.
func (c *carrier) createCustomer(ctx context.Context, name, node string) error {
	customers := c.Carrier.Customers
	replicas := int32(customers.Replicas)
	labels := map[string]string{"app": name, scenarioLabel: c.File}
	meta := metav1.ObjectMeta{Namespace: scenariofile.CustomersNamespace, Name: name, Labels: labels}
	selector := &metav1.LabelSelector{MatchLabels: map[string]string{"app": name}}
	template := corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{
		NodeSelector: map[string]string{scenarioLabel: c.File},
		Containers: []corev1.Container{{
			Name: "master", Image: "registry.example.com/kubx-master:1.0",
			// Enough for the scheduler to take the emptiest of the other workers: without a request all are the same to it, and it
			// may fill another one.
			Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1")}},
		}},
		Affinity: &corev1.Affinity{
			NodeAffinity: c.affinity(node),
			PodAntiAffinity: &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{
				LabelSelector: selector, TopologyKey: corev1.LabelHostname,
			}}},
		},
		// A constraint of the pod's own takes the place of the default spreading, which weighs as much as the preference.
		TopologySpreadConstraints: []corev1.TopologySpreadConstraint{{
			MaxSkew: 1, TopologyKey: "sim/nowhere", WhenUnsatisfiable: corev1.ScheduleAnyway, LabelSelector: selector,
		}},
	}}
	if customers.Critical {
		template.Spec.PriorityClassName = "system-cluster-critical"
	}
	if customers.LocalStorage {
		template.Spec.Volumes = append(template.Spec.Volumes, corev1.Volume{Name: "scratch", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}})
	}
	switch customers.Bound {
	case "selector":
		template.Spec.NodeSelector[corev1.LabelHostname] = node
	case "volume":
		if err := c.createClaim(ctx, name, node); err != nil {
			return err
		}
		template.Spec.Volumes = append(template.Spec.Volumes, corev1.Volume{Name: "data", VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: name}}})
	}
	if customers.MinAvailable != nil {
		if err := c.createBudget(ctx, name, name, *customers.MinAvailable); err != nil {
			return err
		}
	}
	var err error
	if customers.Kind == "StatefulSet" {
		_, err = c.client.AppsV1().StatefulSets(meta.Namespace).Create(ctx, &appsv1.StatefulSet{ObjectMeta: meta, Spec: appsv1.StatefulSetSpec{
			Replicas: &replicas, Selector: selector, Template: template, PodManagementPolicy: appsv1.ParallelPodManagement,
		}}, metav1.CreateOptions{})
	} else {
		_, err = c.client.AppsV1().Deployments(meta.Namespace).Create(ctx, &appsv1.Deployment{ObjectMeta: meta, Spec: appsv1.DeploymentSpec{
			Replicas: &replicas, Selector: selector, Template: template,
		}}, metav1.CreateOptions{})
	}
	if err != nil {
		return fmt.Errorf("create %s %s: %w", customers.Kind, name, err)
	}
	return nil
}

// affinity prefers a node, and keeps off the other workers that are to be full of pods of their own.
func (c *carrier) affinity(node string) *corev1.NodeAffinity {
	hostname := func(operator corev1.NodeSelectorOperator, names ...string) corev1.NodeSelectorTerm {
		return corev1.NodeSelectorTerm{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: corev1.LabelHostname, Operator: operator, Values: names}}}
	}
	affinity := &corev1.NodeAffinity{PreferredDuringSchedulingIgnoredDuringExecution: []corev1.PreferredSchedulingTerm{
		{Weight: 100, Preference: hostname(corev1.NodeSelectorOpIn, node)},
	}}
	var others []string
	for _, w := range c.Carrier.Full {
		if name := c.node(w); name != node {
			others = append(others, name)
		}
	}
	if len(others) > 0 {
		affinity.RequiredDuringSchedulingIgnoredDuringExecution = &corev1.NodeSelector{
			NodeSelectorTerms: []corev1.NodeSelectorTerm{hostname(corev1.NodeSelectorOpNotIn, others...)},
		}
	}
	return affinity
}

// clear removes what the scenario left, so that the control plane does not slow down the others.
func (c *carrier) clear(ctx context.Context) error {
	background := metav1.DeleteOptions{PropagationPolicy: new(metav1.DeletePropagationBackground)}
	ours := metav1.ListOptions{LabelSelector: scenarioLabel + "=" + c.File}
	customers := scenariofile.CustomersNamespace
	if c.Settings.Restart == kube.DriverDeployment {
		if err := fault.DeleteWorkload(ctx, c.client, c.Namespace, controllerDeployment); err != nil {
			return err
		}
	}
	remaining := c.client.CoreV1().Pods(customers).DeleteCollection(ctx, metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))}, ours)
	err := errors.Join(
		remaining,
		c.client.CoreV1().Pods(metav1.NamespaceSystem).DeleteCollection(ctx, metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))}, ours),
		c.letGo(ctx),
		c.client.AppsV1().Deployments(customers).DeleteCollection(ctx, background, ours),
		c.client.AppsV1().StatefulSets(customers).DeleteCollection(ctx, background, ours),
		c.client.PolicyV1().PodDisruptionBudgets(customers).DeleteCollection(ctx, background, ours),
		c.client.AppsV1().DaemonSets(c.Namespace).DeleteCollection(ctx, background, metav1.ListOptions{}),
	)
	if err != nil {
		return fmt.Errorf("clear up after %s: %w", c.File, err)
	}
	err = await.Until(ctx, "the pods of "+c.File+" to go", func(ctx context.Context) error {
		for _, n := range c.workers() {
			pods, err := fault.PodsOn(ctx, c.client, c.node(n))
			if err != nil {
				return err
			}
			if len(pods) > 0 {
				return fmt.Errorf("%d are on %s", len(pods), n)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := c.client.CoreV1().Nodes().DeleteCollection(ctx, metav1.DeleteOptions{}, ours); err != nil {
		return fmt.Errorf("clear up after %s: %w", c.File, err)
	}
	return nil
}

// restarted reports whether the Deployment that stands for the controller-manager was ordered to restart. Nothing runs in it:
// the controller-manager itself comes back by the act start-controller.
func (c *carrier) restarted(ctx context.Context) error {
	d, err := c.client.AppsV1().Deployments(c.Namespace).Get(ctx, controllerDeployment, metav1.GetOptions{})
	if err == nil && d.Spec.Template.Annotations["kubectl.kubernetes.io/restartedAt"] == "" {
		err = errNotYet
	}
	return err
}

// declared is the scenario's description of a DaemonSet.
func (c *carrier) declared(name string) scenariofile.DaemonSet {
	i := slices.IndexFunc(c.DaemonSets, func(d scenariofile.DaemonSet) bool { return d.Name == name })
	return c.DaemonSets[i] // the file was checked
}
