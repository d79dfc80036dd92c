package kube

import (
	"context"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
)

// smallCarrier is up to how many nodes all pods are read at once, page by page. With 31 pods on each node that is up to four
// requests, where looking for room node by node takes one for each node that is looked at. On larger carriers it is the
// other way round: 5,000 nodes are 310 pages, and the third node looked at usually has room.
const smallCarrier = 50

// podsRead are the pods that one Observe has read, by node, so that the recount of a node and the search for room on the
// others read each pod once, and at one moment. Pods without a node are under "".
type podsRead struct {
	wholeOnce sync.Once
	whole     map[string][]corev1.Pod
	wholeErr  error

	mu     sync.Mutex
	byNode map[string]func() ([]corev1.Pod, error)
}

// podsOn are all pods that are bound to the node; those that wait for one when node is empty.
func (l *looking) podsOn(ctx context.Context, node string) ([]corev1.Pod, error) {
	nodes, err := l.allNodes(ctx)
	if err != nil {
		return nil, err
	}
	p := &l.pods
	if len(nodes) <= smallCarrier {
		p.wholeOnce.Do(func() {
			var all []corev1.Pod
			all, p.wholeErr = l.c.listPods(ctx, "", metav1.ListOptions{})
			p.whole = map[string][]corev1.Pod{}
			for _, pod := range all {
				p.whole[pod.Spec.NodeName] = append(p.whole[pod.Spec.NodeName], pod)
			}
		})
		return p.whole[node], p.wholeErr
	}
	p.mu.Lock()
	read, ok := p.byNode[node]
	if !ok {
		read = sync.OnceValues(func() ([]corev1.Pod, error) {
			// The API server finds these in an index: 1 to 4 ms with 20,000 pods (kubernetes.md 1.7).
			return l.c.listPods(ctx, "", metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector("spec.nodeName", node).String()})
		})
		if p.byNode == nil {
			p.byNode = map[string]func() ([]corev1.Pod, error){}
		}
		p.byNode[node] = read
	}
	p.mu.Unlock()
	return read()
}
