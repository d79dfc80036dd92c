package kube

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/drydock/drydock/playbook"
)

// Observe fills the carrier's part of o, see playbook.Carrier. The readings are independent: each call has its own
// timeout, and one that failed leaves the others as they are.
func (c *Carrier) Observe(ctx context.Context, look playbook.Look, o *playbook.Observation) {
	l := &looking{c: c, look: look}
	var all sync.WaitGroup
	ask(ctx, &all, &o.Namespace, l.namespace)
	ask(ctx, &all, &o.Controller, c.controller)
	ask(ctx, &all, &o.DaemonSet, l.daemonSet)
	ask(ctx, &all, &o.Nodes, l.nodes)
	nodePods := map[string]*playbook.Reading[playbook.NodePods]{}
	for _, want := range look.Wants {
		switch want.Kind {
		case playbook.WantNodePods:
			reading := o.NodePods[want.Node]
			if nodePods[want.Node] == nil {
				nodePods[want.Node] = &reading
				ask(ctx, &all, &reading, func(ctx context.Context) (playbook.NodePods, error) { return l.nodePods(ctx, want.Node) })
			}
		case playbook.WantEvents:
			ask(ctx, &all, &o.Events, l.events)
		case playbook.WantReapply:
			ask(ctx, &all, &o.Reapply, l.reapply)
		case playbook.WantAdoption:
			ask(ctx, &all, &o.Adoption, func(ctx context.Context) (playbook.Adoption, error) { return l.adoption(ctx, want.UIDs) })
		case playbook.WantEvidence:
			ask(ctx, &all, &o.Evidence, l.evidence)
		case playbook.WantManagerLog:
			ask(ctx, &all, &o.ManagerLog, l.managerLog)
			ask(ctx, &all, &o.MissingRights, l.missingRights)
		case playbook.WantPromotion, playbook.WantDiskIncidents: // not the carrier's
		}
	}
	all.Wait()
	for name, reading := range nodePods {
		if o.NodePods == nil {
			o.NodePods = map[string]playbook.Reading[playbook.NodePods]{}
		}
		o.NodePods[name] = *reading
	}
	if ds, ok := o.DaemonSet.Get(); ok {
		ds.NewestPodAt = newestOwned(o.Nodes)
		o.DaemonSet = playbook.Known(ds)
	}
}

// ask fills a reading in the background, unless an earlier round did.
func ask[T any](ctx context.Context, all *sync.WaitGroup, reading *playbook.Reading[T], read func(context.Context) (T, error)) {
	if reading.IsKnown() {
		return
	}
	all.Go(func() {
		// A panic here would end the process and with it every run: a reading that panics is a reading that failed.
		defer func() {
			if p := recover(); p != nil {
				*reading = playbook.Unknown[T](fmt.Sprintf("reading it panicked: %v", p))
			}
		}()
		value, err := read(ctx)
		if err != nil {
			*reading = playbook.Unknown[T](redact(err.Error()))
			return
		}
		*reading = playbook.Known(value)
	})
}

// looking is one Observe. What several readings need is read once.
type looking struct {
	c    *Carrier
	look playbook.Look

	dsOnce sync.Once
	ds     liveDaemonSet
	dsErr  error

	nodesOnce sync.Once
	nodeList  []corev1.Node
	nodesErr  error

	podsOnce sync.Once
	podList  []corev1.Pod
	podsErr  error

	pods podsRead // of whole nodes
}

// liveDaemonSet is the object as sent and as client-go's struct; typed is nil when the API server said that there is none.
type liveDaemonSet struct {
	raw   []byte
	typed *appsv1.DaemonSet
}

func (l *looking) live(ctx context.Context) (liveDaemonSet, error) {
	l.dsOnce.Do(func() { l.ds, l.dsErr = l.c.liveDaemonSet(ctx, l.look.Target.Namespace, l.look.Target.DaemonSet) })
	return l.ds, l.dsErr
}

func (c *Carrier) liveDaemonSet(ctx context.Context, namespace, name string) (liveDaemonSet, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	raw, err := result(c.reader.AppsV1().RESTClient().Get().Namespace(namespace).Resource("daemonsets").Name(name).
		SetHeader("Accept", "application/json").Do(ctx))
	if saidNotFound(err, "daemonsets", name) {
		return liveDaemonSet{}, nil
	}
	if err != nil {
		return liveDaemonSet{}, fmt.Errorf("get DaemonSet %s/%s: %w", namespace, name, err)
	}
	var ds appsv1.DaemonSet
	if err := json.Unmarshal(raw, &ds); err != nil {
		return liveDaemonSet{}, fmt.Errorf("read DaemonSet %s/%s: %w", namespace, name, err)
	}
	if ds.Name != name || ds.UID == "" {
		return liveDaemonSet{}, fmt.Errorf("read DaemonSet %s/%s: the answer is not that object", namespace, name)
	}
	return liveDaemonSet{raw: raw, typed: &ds}, nil
}

func (l *looking) allNodes(ctx context.Context) ([]corev1.Node, error) {
	l.nodesOnce.Do(func() { l.nodeList, l.nodesErr = l.c.listNodes(ctx) })
	return l.nodeList, l.nodesErr
}

func (c *Carrier) listNodes(ctx context.Context) ([]corev1.Node, error) {
	nodes, err := listAll(ctx, metav1.ListOptions{}, func(ctx context.Context, opts metav1.ListOptions) ([]corev1.Node, string, error) {
		list, err := c.reader.CoreV1().Nodes().List(ctx, opts)
		if err != nil {
			return nil, "", err
		}
		return list.Items, list.Continue, nil
	})
	if err != nil {
		return nil, fmt.Errorf("list nodes: %w", err)
	}
	return nodes, nil
}

// daemonPods are the pods that the DaemonSet's selector matches, whoever controls them.
func (l *looking) daemonPods(ctx context.Context, ds *appsv1.DaemonSet) ([]corev1.Pod, error) {
	l.podsOnce.Do(func() {
		selector, err := metav1.LabelSelectorAsSelector(ds.Spec.Selector)
		if err != nil {
			l.podsErr = fmt.Errorf("read selector of DaemonSet %s/%s: %w", ds.Namespace, ds.Name, err)
			return
		}
		if selector.Empty() {
			return // it would match every pod of the namespace; DaemonSet.EmptySelector says so
		}
		l.podList, l.podsErr = l.c.listPods(ctx, ds.Namespace, metav1.ListOptions{LabelSelector: selector.String()})
	})
	return l.podList, l.podsErr
}

func (c *Carrier) listPods(ctx context.Context, namespace string, opts metav1.ListOptions) ([]corev1.Pod, error) {
	pods, err := listAll(ctx, opts, func(ctx context.Context, opts metav1.ListOptions) ([]corev1.Pod, string, error) {
		list, err := c.reader.CoreV1().Pods(namespace).List(ctx, opts)
		if err != nil {
			return nil, "", err
		}
		return list.Items, list.Continue, nil
	})
	if err != nil {
		return nil, fmt.Errorf("list pods: %w", err)
	}
	return pods, nil
}

func (l *looking) namespace(ctx context.Context) (playbook.Namespace, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	name := l.look.Target.Namespace
	ns, err := l.c.reader.CoreV1().Namespaces().Get(ctx, name, metav1.GetOptions{})
	if saidNotFound(err, "namespaces", name) {
		return playbook.Namespace{}, nil
	}
	if err != nil {
		return playbook.Namespace{}, fmt.Errorf("get namespace %s: %w", name, err)
	}
	return playbook.Namespace{Exists: true,
		Terminating: ns.DeletionTimestamp != nil || ns.Status.Phase == corev1.NamespaceTerminating}, nil
}

// The controller-manager's lease.
const (
	controllerNamespace = "kube-system"
	controllerLease     = "kube-controller-manager"
)

func (c *Carrier) controller(ctx context.Context) (playbook.Controller, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	lease, err := c.reader.CoordinationV1().Leases(controllerNamespace).Get(ctx, controllerLease, metav1.GetOptions{})
	if err != nil {
		return playbook.Controller{}, fmt.Errorf("get Lease %s/%s: %w", controllerNamespace, controllerLease, err)
	}
	if lease.Spec.RenewTime == nil || lease.Spec.LeaseDurationSeconds == nil {
		return playbook.Controller{}, fmt.Errorf("read Lease %s/%s: it has no renewTime or no duration", controllerNamespace, controllerLease)
	}
	seen := playbook.Controller{RenewedAt: lease.Spec.RenewTime.UTC(),
		Duration: time.Duration(*lease.Spec.LeaseDurationSeconds) * time.Second}
	if lease.Spec.HolderIdentity != nil {
		seen.Holder = *lease.Spec.HolderIdentity
	}
	return seen, nil
}

func (l *looking) daemonSet(ctx context.Context) (playbook.DaemonSet, error) {
	live, err := l.live(ctx)
	if err != nil || live.typed == nil {
		return playbook.DaemonSet{}, err
	}
	return factsOf(live)
}

func factsOf(live liveDaemonSet) (playbook.DaemonSet, error) {
	ds := live.typed
	hash, err := specHash(live.raw)
	if err != nil {
		return playbook.DaemonSet{}, err
	}
	facts := playbook.DaemonSet{
		Exists:             true,
		UID:                string(ds.UID),
		ResourceVersion:    ds.ResourceVersion,
		Generation:         ds.Generation,
		ObservedGeneration: ds.Status.ObservedGeneration,
		Finalizers:         ds.Finalizers,
		GitOps:             gitOps(ds),
		CreatedAt:          ds.CreationTimestamp.UTC(),
		RollingUpdate:      ds.Spec.UpdateStrategy.Type == appsv1.RollingUpdateDaemonSetStrategyType,
		Desired:            int(ds.Status.DesiredNumberScheduled),
		Current:            int(ds.Status.CurrentNumberScheduled),
		Ready:              int(ds.Status.NumberReady),
		Updated:            int(ds.Status.UpdatedNumberScheduled),
		Available:          int(ds.Status.NumberAvailable),
		Misscheduled:       int(ds.Status.NumberMisscheduled),
		EmptySelector:      emptySelector(ds.Spec.Selector),
		PriorityClass:      ds.Spec.Template.Spec.PriorityClassName,
		SpecHash:           hash,
		NudgedByRun:        ds.Annotations[NudgedByRun],
		SelectorSummary:    ruleOf(ds).summary(),
	}
	if ds.DeletionTimestamp != nil {
		at := ds.DeletionTimestamp.UTC()
		facts.DeletedAt = &at
	}
	for _, owner := range ds.OwnerReferences {
		facts.Owners = append(facts.Owners, owner.Kind+"/"+owner.Name)
	}
	return facts, nil
}

func emptySelector(s *metav1.LabelSelector) bool {
	return s == nil || len(s.MatchLabels) == 0 && len(s.MatchExpressions) == 0
}

// gitOps names the tool whose marks the object bears. Such a tool would fight a re-creation, or lose track of the object.
func gitOps(ds *appsv1.DaemonSet) string {
	a, l := ds.Annotations, ds.Labels
	switch {
	case a["argocd.argoproj.io/tracking-id"] != "":
		app, _, _ := strings.Cut(a["argocd.argoproj.io/tracking-id"], ":")
		return "Argo CD application " + app
	case l["argocd.argoproj.io/instance"] != "":
		return "Argo CD application " + l["argocd.argoproj.io/instance"]
	case l["kustomize.toolkit.fluxcd.io/name"] != "":
		return "Flux Kustomization " + l["kustomize.toolkit.fluxcd.io/namespace"] + "/" + l["kustomize.toolkit.fluxcd.io/name"]
	case l["helm.toolkit.fluxcd.io/name"] != "":
		return "Flux HelmRelease " + l["helm.toolkit.fluxcd.io/namespace"] + "/" + l["helm.toolkit.fluxcd.io/name"]
	case a["meta.helm.sh/release-name"] != "":
		return "Helm release " + a["meta.helm.sh/release-namespace"] + "/" + a["meta.helm.sh/release-name"]
	case l["app.kubernetes.io/managed-by"] == "Helm":
		return "Helm (label app.kubernetes.io/managed-by)"
	}
	return ""
}

func (l *looking) nodes(ctx context.Context) ([]playbook.Node, error) {
	// The DaemonSet first and its pods after it: a pod that is seen belongs to the object that was seen, or to a later one.
	live, err := l.live(ctx)
	if err != nil {
		return nil, fmt.Errorf("which nodes are expected is not known: %w", err)
	}
	nodes, err := l.allNodes(ctx)
	if err != nil {
		return nil, err
	}
	var pods map[string][]playbook.Pod
	if live.typed != nil {
		list, err := l.daemonPods(ctx, live.typed)
		if err != nil {
			return nil, err
		}
		pods = podsByNode(live.typed, list)
	}
	facts := make([]playbook.Node, 0, len(nodes))
	var which rule
	if live.typed != nil {
		which = ruleOf(live.typed)
	}
	for i := range nodes {
		n := nodeFacts(&nodes[i], l.look.Policy.PodLimit)
		if live.typed == nil {
			n.ExcludedBy = "the DaemonSet does not exist"
		} else {
			n.ExcludedBy = which.excludes(&nodes[i])
			n.Expected = n.ExcludedBy == ""
			// A taint of a condition that this DaemonSet does not tolerate: its pod can not come, whatever the Ready condition says.
			if by := which.blockedBy(&nodes[i]); by != "" && n.Ready {
				n.Ready, n.NotReadyWhy = false, by
			}
		}
		n.Pods = pods[n.Name]
		facts = append(facts, n)
	}
	slices.SortFunc(facts, func(a, b playbook.Node) int { return cmp.Compare(a.Name, b.Name) })
	return facts, nil
}

func nodeFacts(node *corev1.Node, podLimit int) playbook.Node {
	n := playbook.Node{
		Name:            node.Name,
		UID:             string(node.UID),
		ResourceVersion: node.ResourceVersion,
		NotReadyWhy:     "no Ready condition",
		Unschedulable:   node.Spec.Unschedulable,
		CordonedBy:      markOf(node),
		KeepCordoned:    node.Annotations[KeepCordoned] == "true",
		Leaving:         leaving(node),
		Allocatable:     podSlots(node, podLimit),
	}
	for _, condition := range node.Status.Conditions {
		switch condition.Type {
		case corev1.NodeReady:
			n.Ready = condition.Status == corev1.ConditionTrue
			n.NotReadyWhy = ""
			if !n.Ready {
				n.NotReadyWhy = short(fmt.Sprintf("Ready is %s: %s: %s", condition.Status, condition.Reason, condition.Message))
			}
		case corev1.NodeDiskPressure:
			n.DiskPressure = condition.Status == corev1.ConditionTrue
		}
	}
	if slices.ContainsFunc(node.Spec.Taints, func(t corev1.Taint) bool { return t.Key == corev1.TaintNodeDiskPressure }) {
		n.DiskPressure = true
	}
	return n
}

// podSlots is how many pods a node takes: allocatable.pods, or the carrier's own limit where that is lower.
func podSlots(node *corev1.Node, podLimit int) int {
	slots := int(node.Status.Allocatable.Pods().Value())
	if podLimit > 0 {
		slots = min(slots, podLimit)
	}
	return slots
}

// markOf is the ownership mark of a cordon, nil when there is none. A mark that can not be read is still a mark: nobody's
// that we know.
func markOf(node *corev1.Node) *playbook.Mark {
	text, ok := node.Annotations[CordonOwner]
	if !ok {
		return nil
	}
	var mark playbook.Mark
	if err := json.Unmarshal([]byte(text), &mark); err != nil {
		return &playbook.Mark{Reason: "unreadable mark"}
	}
	return &mark
}

func podsByNode(ds *appsv1.DaemonSet, list []corev1.Pod) map[string][]playbook.Pod {
	pods := map[string][]playbook.Pod{}
	for i := range list {
		if name := pinnedTo(&list[i]); name != "" {
			pods[name] = append(pods[name], podFacts(ds, &list[i]))
		}
	}
	for _, of := range pods {
		slices.SortFunc(of, func(a, b playbook.Pod) int {
			return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.Name, b.Name))
		})
	}
	return pods
}

func podFacts(ds *appsv1.DaemonSet, pod *corev1.Pod) playbook.Pod {
	p := playbook.Pod{
		Name:        pod.Name,
		UID:         string(pod.UID),
		Phase:       string(pod.Status.Phase),
		Scheduled:   pod.Spec.NodeName != "",
		Ready:       podReady(pod),
		Terminating: pod.DeletionTimestamp != nil,
		CreatedAt:   pod.CreationTimestamp.UTC(),
		Nominated:   pod.Status.NominatedNodeName != "",
		Reason:      pod.Status.Reason,
		Message:     short(pod.Status.Message),
		Owned:       metav1.IsControlledBy(pod, ds),
	}
	for _, condition := range pod.Status.Conditions {
		switch {
		case condition.Type != corev1.PodScheduled:
		case condition.Status == corev1.ConditionTrue:
			p.ScheduledAt = condition.LastTransitionTime.UTC()
		case condition.Reason == corev1.PodReasonUnschedulable:
			p.Unschedulable = short(condition.Message)
		}
	}
	for _, status := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		p.Restarts += int(status.RestartCount)
		if waiting := status.State.Waiting; waiting != nil && p.Waiting == "" && waiting.Reason != "PodInitializing" {
			p.Waiting = waiting.Reason
			if waiting.Message != "" {
				p.Message = short(waiting.Message)
			}
		}
		if p.LastExit == "" {
			p.LastExit = lastExit(status)
		}
	}
	return p
}

func lastExit(status corev1.ContainerStatus) string {
	ended := status.LastTerminationState.Terminated
	if ended == nil && status.State.Terminated != nil && status.State.Terminated.ExitCode != 0 {
		ended = status.State.Terminated
	}
	if ended == nil {
		return ""
	}
	return fmt.Sprintf("%s: %s, exit code %d", status.Name, ended.Reason, ended.ExitCode)
}

func podReady(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// newestOwned is when the DaemonSet's newest pod was made; zero when it has none, or when the nodes are unknown (which
// stops every change by itself).
func newestOwned(nodes playbook.Reading[[]playbook.Node]) time.Time {
	var newest time.Time
	list, _ := nodes.Get()
	for _, node := range list {
		for _, pod := range node.Pods {
			if pod.Owned && pod.CreatedAt.After(newest) {
				newest = pod.CreatedAt
			}
		}
	}
	return newest
}
