package chaos

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/drydock/drydock/playbook"
	"github.com/drydock/drydock/playbook/kube"
)

// longestAbsent is how long a DaemonSet may be away while it is put back: 60 s after any crash (I1). So the time counts from the
// newest crash of a replica that held its lease, and without the time in which there was no database.
const longestAbsent = 60 * time.Second

// watch follows the nodes and DaemonSets past Drydock, all the time.
type watch struct {
	complain func(format string, args ...any)
	excused  func(from, to time.Time) time.Duration

	mu       sync.Mutex
	carriers map[string]string // by node
	persons  map[string]bool   // nodes that a person has cordoned
	marked   map[string]string // run by node
	cordons  map[string]int    // by run and node
	absent   map[string]time.Time
	expected map[string]bool
	longest  time.Duration // that a DaemonSet was away for a reapply
	reapply  int           // that were seen
	crashed  map[string]time.Time
	long     map[string]bool // DaemonSets that were away for so long that people are paged
}

// newWatch starts watching, until the stage ends.
func (n *night) newWatch(client kubernetes.Interface) error {
	w := &watch{complain: n.complain, excused: n.postgres.away.within, carriers: map[string]string{}, persons: map[string]bool{},
		marked: map[string]string{}, cordons: map[string]int{}, absent: map[string]time.Time{}, expected: map[string]bool{}, crashed: map[string]time.Time{}, long: map[string]bool{}}
	for _, t := range n.targets() {
		w.persons[t.personsNode()] = true
		for i := range nodesOfTarget {
			w.carriers[t.node(i+1)] = t.Carrier
		}
	}
	factory := informers.NewSharedInformerFactory(client, 0)
	nodes, sets := factory.Core().V1().Nodes().Informer(), factory.Apps().V1().DaemonSets().Informer()
	if _, err := nodes.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { w.sawNode(o) },
		UpdateFunc: func(_, o any) { w.sawNode(o) },
	}); err != nil {
		return fmt.Errorf("watch the nodes: %w", err)
	}
	if _, err := sets.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { w.sawDaemonSet(o, true) },
		DeleteFunc: func(o any) { w.sawDaemonSet(o, false) },
	}); err != nil {
		return fmt.Errorf("watch the DaemonSets: %w", err)
	}
	factory.Start(n.ctx.Done())
	factory.WaitForCacheSync(n.ctx.Done())
	n.watch = w
	return nil
}

func (w *watch) sawNode(o any) {
	node, ok := o.(*corev1.Node)
	if !ok {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.persons[node.Name] && !node.Spec.Unschedulable {
		w.complain("I3: the cordon of a person was taken from node %s", node.Name)
	}
	text := node.Annotations[kube.CordonOwner]
	var mark playbook.Mark
	if text != "" {
		if err := json.Unmarshal([]byte(text), &mark); err != nil {
			w.complain("node %s bears a mark that is none: %s", node.Name, text)
		}
	}
	before := w.marked[node.Name]
	switch {
	case mark.Run == before:
		return
	case mark.Run == "":
		delete(w.marked, node.Name)
		return
	}
	w.marked[node.Name] = mark.Run
	w.cordons[mark.Run+" "+node.Name]++
	if before != "" {
		w.complain("I5: the mark of run %s on node %s went over to run %s", before, node.Name, mark.Run)
	}
	for other, run := range w.marked {
		if other != node.Name && w.carriers[other] == w.carriers[node.Name] {
			w.complain("I5: nodes %s (run %s) and %s (run %s) of one carrier were cordoned at the same time", other, run, node.Name, mark.Run)
		}
	}
}

func (w *watch) sawDaemonSet(o any, there bool) {
	if gone, ok := o.(cache.DeletedFinalStateUnknown); ok {
		o = gone.Obj
	}
	set, ok := o.(*appsv1.DaemonSet)
	if !ok {
		return
	}
	key := set.Namespace + "/" + set.Name
	w.mu.Lock()
	defer w.mu.Unlock()
	since, was := w.absent[key]
	switch {
	case !there:
		w.absent[key] = time.Now()
	case was:
		delete(w.absent, key)
		if w.expected[key] {
			return
		}
		now := time.Now()
		away := now.Sub(since)
		w.reapply++
		w.longest = max(w.longest, away)
		w.long[key] = w.long[key] || away > longestAbsent
		if crash := w.crashed[key]; crash.After(since) {
			since = crash
		}
		if alone := now.Sub(since) - w.excused(since, now); alone > longestAbsent {
			w.complain("I1: DaemonSet %s was away for %v, the last %v of it without a crash", key, away, alone)
		}
	}
}

// holderCrashed says that the replica that worked on a DaemonSet is gone.
func (w *watch) holderCrashed(key string, at time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.crashed[key] = at
}

// explains reports whether a page of Drydock about itself is due: it names a DaemonSet that was away for over a minute, because
// one replica after the other crashed that was to put it back.
func (w *watch) explains(page string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for key := range w.long {
		if w.long[key] && strings.Contains(page, "DaemonSet "+key+" ") {
			return true
		}
	}
	return false
}

// expectAbsent says whether a DaemonSet is away because we deleted it.
func (w *watch) expectAbsent(key string, expected bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.expected[key] = expected
}

// cordonsBy is how often a run cordoned each node.
func (w *watch) cordonsBy(run string) map[string]int {
	w.mu.Lock()
	defer w.mu.Unlock()
	counts := map[string]int{}
	for key, times := range w.cordons {
		if len(key) > len(run) && key[:len(run)+1] == run+" " {
			counts[key[len(run)+1:]] = times
		}
	}
	return counts
}

// markedBy are the nodes that bear a run's mark.
func (w *watch) markedBy(run string) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var nodes []string
	for node, by := range w.marked {
		if by == run {
			nodes = append(nodes, node)
		}
	}
	return nodes
}
