package kube

import (
	"cmp"
	"context"
	"fmt"
	"hash/fnv"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	resourcehelper "k8s.io/component-helpers/resource"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
)

// maxExamined is on how many other nodes room is looked for: one list each. On a carrier that is so full that none of
// them has room, a person should look before pods are moved.
const maxExamined = 100

// findRoom says of each movable candidate whether another node would take it, by the scheduler's main rules: slots,
// requests, selectors, taints, host ports, volumes, anti-affinity. Evicting a pod that fits nowhere else would leave a
// customer's master Pending. Each candidate takes the room that it finds, so that as many stay movable as can really be moved.
//
// What can not be checked here keeps a pod where it is. The scheduler has the last word either way: the core waits for
// every replacement before it evicts the next.
func (l *looking) findRoom(ctx context.Context, from string, candidates []candidate) error {
	var open []*candidate
	for i := range candidates {
		if candidates[i].facts.NotMovable != "" {
			continue
		}
		if why := notChecked(candidates[i].pod); why != "" {
			candidates[i].stays(why)
			continue
		}
		open = append(open, &candidates[i])
	}
	if len(open) == 0 {
		return nil
	}
	nodes, err := l.allNodes(ctx)
	if err != nil {
		return err
	}
	others := otherNodes(nodes, from)
	spread := map[string]map[string]bool{} // occupied domains by term, read once
	examined := 0
	for _, node := range others {
		if examined == maxExamined || len(open) == 0 {
			break
		}
		if !slices.ContainsFunc(open, func(c *candidate) bool { return mayRunOn(c.pod, node) }) {
			continue
		}
		examined++
		pods, err := l.podsOn(ctx, node.Name)
		if err != nil {
			return err
		}
		space := spaceOn(node, pods, l.look.Policy.PodLimit)
		var still []*candidate
		for _, c := range open {
			if mayRunOn(c.pod, node) && space.fits(c.pod) {
				apart, err := l.c.keepsApart(ctx, c.pod, node, nodes, spread)
				if err != nil {
					return err
				}
				if apart {
					space.take(c.pod)
					continue
				}
			}
			still = append(still, c)
		}
		open = still
	}
	for _, c := range open {
		c.stays(fmt.Sprintf("no room on another node (%d of %d examined)", examined, len(others)))
	}
	return nil
}

// notChecked names a rule of the pod that this package does not check, "" when there is none.
func notChecked(pod *corev1.Pod) string {
	for _, v := range pod.Spec.Volumes {
		if v.PersistentVolumeClaim != nil || v.Ephemeral != nil {
			return "volume " + v.Name + " is a claim: where it can be attached is not known"
		}
	}
	for _, s := range pod.Spec.TopologySpreadConstraints {
		if s.WhenUnsatisfiable == corev1.DoNotSchedule {
			return "a topology spread constraint over " + s.TopologyKey + " must hold"
		}
	}
	if a := pod.Spec.Affinity; a != nil && a.PodAffinity != nil && len(a.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution) > 0 {
		return "it must run next to other pods (required pod affinity)"
	}
	if len(pod.Spec.ResourceClaims) > 0 {
		return "it claims devices"
	}
	return ""
}

// otherNodes are the nodes that could take a pod at all, in an order that differs from node to node, so that drains of
// several nodes do not all fill the same one; the same each time for one node, so that a recount agrees with the one before.
func otherNodes(nodes []corev1.Node, from string) []*corev1.Node {
	var others []*corev1.Node
	for i := range nodes {
		n := &nodes[i]
		if n.Name != from && !n.Spec.Unschedulable && !leaving(n) && nodeReady(n) {
			others = append(others, n)
		}
	}
	slices.SortFunc(others, func(a, b *corev1.Node) int {
		return cmp.Or(cmp.Compare(orderOf(from, a.Name), orderOf(from, b.Name)), cmp.Compare(a.Name, b.Name))
	})
	return others
}

func orderOf(from, node string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(from + "\x00" + node)) // a hash's Write never fails
	return h.Sum64()
}

func nodeReady(node *corev1.Node) bool {
	return slices.ContainsFunc(node.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	})
}

// mayRunOn checks what does not depend on other pods: selectors, affinity and taints.
func mayRunOn(pod *corev1.Pod, node *corev1.Node) bool {
	if fits, err := nodeaffinity.GetRequiredNodeAffinity(pod).Match(node); err != nil || !fits {
		return false
	}
	_, blocked := untolerated(node.Spec.Taints, pod.Spec.Tolerations, placementTaint)
	return !blocked
}

// space is what is left on a node.
type space struct {
	slots int
	free  corev1.ResourceList
	ports map[hostPort]bool
}

type hostPort struct {
	protocol corev1.Protocol
	port     int32
}

func spaceOn(node *corev1.Node, pods []corev1.Pod, podLimit int) space {
	s := space{slots: podSlots(node, podLimit), free: node.Status.Allocatable.DeepCopy(), ports: map[hostPort]bool{}}
	for i := range pods {
		if takesSlot(&pods[i]) {
			s.take(&pods[i])
		}
	}
	return s
}

func (s *space) take(pod *corev1.Pod) {
	s.slots--
	for name, asked := range resourcehelper.PodRequests(pod, resourcehelper.PodResourcesOptions{}) {
		left := s.free[name]
		left.Sub(asked)
		s.free[name] = left
	}
	for _, port := range hostPorts(pod) {
		s.ports[port] = true
	}
}

func (s *space) fits(pod *corev1.Pod) bool {
	if s.slots < 1 {
		return false
	}
	for name, asked := range resourcehelper.PodRequests(pod, resourcehelper.PodResourcesOptions{}) {
		left := s.free[name]
		if !asked.IsZero() && asked.Cmp(left) > 0 {
			return false
		}
	}
	return !slices.ContainsFunc(hostPorts(pod), func(p hostPort) bool { return s.ports[p] })
}

// hostPorts ignores host IPs: two pods that share a port on different addresses are rare, and refusing is safe.
func hostPorts(pod *corev1.Pod) []hostPort {
	var ports []hostPort
	for _, container := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
		for _, port := range container.Ports {
			if port.HostPort > 0 {
				ports = append(ports, hostPort{cmp.Or(port.Protocol, corev1.ProtocolTCP), port.HostPort})
			}
		}
	}
	return ports
}

// keepsApart checks the pod's required anti-affinity: no pod that it must keep away from is in the node's domain.
// occupied remembers the domains by term, as the replicas of one owner have the same terms.
func (c *Carrier) keepsApart(ctx context.Context, pod *corev1.Pod, node *corev1.Node, nodes []corev1.Node,
	occupied map[string]map[string]bool) (bool, error) {
	if pod.Spec.Affinity == nil || pod.Spec.Affinity.PodAntiAffinity == nil {
		return true, nil
	}
	for _, term := range pod.Spec.Affinity.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution {
		domain, ok := node.Labels[term.TopologyKey]
		if !ok {
			continue // a node outside every domain violates nothing
		}
		if term.NamespaceSelector != nil || len(term.MatchLabelKeys) > 0 || len(term.MismatchLabelKeys) > 0 {
			return false, nil // not checked, so it does not fit
		}
		domains, err := c.occupiedDomains(ctx, pod, term, nodes, occupied)
		if err != nil {
			return false, err
		}
		if domains[domain] {
			return false, nil
		}
	}
	return true, nil
}

// occupiedDomains are the domains of the term in which a pod that it matches runs. The pod to move is left out: it will be gone.
func (c *Carrier) occupiedDomains(ctx context.Context, pod *corev1.Pod, term corev1.PodAffinityTerm, nodes []corev1.Node,
	occupied map[string]map[string]bool) (map[string]bool, error) {
	selector, err := metav1.LabelSelectorAsSelector(term.LabelSelector)
	if err != nil {
		return nil, fmt.Errorf("read anti-affinity of pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	namespaces := term.Namespaces
	if len(namespaces) == 0 {
		namespaces = []string{pod.Namespace}
	}
	key := fmt.Sprintf("%s|%s|%s|%v", pod.UID, term.TopologyKey, selector, namespaces)
	if domains, ok := occupied[key]; ok {
		return domains, nil
	}
	domainOf := map[string]string{}
	for i := range nodes {
		if domain, ok := nodes[i].Labels[term.TopologyKey]; ok {
			domainOf[nodes[i].Name] = domain
		}
	}
	domains := map[string]bool{}
	for _, namespace := range namespaces {
		pods, err := c.listPods(ctx, namespace, metav1.ListOptions{LabelSelector: selector.String()})
		if err != nil {
			return nil, err
		}
		for i := range pods {
			if pods[i].UID == pod.UID || !takesSlot(&pods[i]) || !selector.Matches(labels.Set(pods[i].Labels)) {
				continue
			}
			if domain, ok := domainOf[pods[i].Spec.NodeName]; ok {
				domains[domain] = true
			}
		}
	}
	occupied[key] = domains
	return domains, nil
}
