package kube

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/drydock/drydock/playbook"
)

const mastersSets = "/apis/apps/v1/namespaces/kubx-masters/replicasets"

// fullCarrier is a carrier of so many nodes with 31 slots each. On the first, 31 masters of as many ReplicaSets fill every
// slot; on each of the others 28 pods leave room for three.
func fullCarrier(nodes int) *scripted {
	ready := corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionTrue}
	var nodeList corev1.NodeList
	var pods []corev1.Pod
	sets := appsv1.ReplicaSetList{Items: masters("")}
	yes := true
	add := func(node, owner, name string) {
		p := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "kubx-masters", Name: name, UID: types.UID(name)}}
		p.OwnerReferences = []metav1.OwnerReference{{Kind: "ReplicaSet", Name: owner, UID: types.UID(owner), Controller: &yes}}
		p.Spec.NodeName, p.Status.Phase = node, corev1.PodRunning
		pods = append(pods, p)
	}
	for n := range nodes {
		name := fmt.Sprintf("node-%03d", n)
		node := corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name)}}
		node.Status.Conditions = []corev1.NodeCondition{ready}
		node.Status.Allocatable = corev1.ResourceList{corev1.ResourcePods: quantity("31")}
		nodeList.Items = append(nodeList.Items, node)
		if n == 0 {
			for p := range 31 {
				owner := fmt.Sprintf("master-%02d", p)
				add(name, owner, owner+"-x")
			}
			continue
		}
		for p := range 28 {
			add(name, fmt.Sprintf("other-%03d-%02d", n, p), fmt.Sprintf("other-%03d-%02d-x", n, p))
		}
	}
	s := &scripted{answers: map[string]http.HandlerFunc{
		"GET /api/v1/nodes":  answer(nodeList),
		"GET " + mastersSets: setsAnswer(sets, sets.Items),
		"GET /apis/policy/v1/namespaces/kubx-masters/poddisruptionbudgets": answer(policyv1.PodDisruptionBudgetList{}),
		"POST " + ownReviews: review(true),
		"GET /api/v1/pods": func(w http.ResponseWriter, r *http.Request) {
			list := corev1.PodList{}
			selector := r.URL.Query().Get("fieldSelector")
			for _, p := range pods {
				if selector == "" || strings.Contains(selector, "spec.nodeName="+p.Spec.NodeName) && p.Spec.NodeName != "" {
					list.Items = append(list.Items, p)
				}
			}
			answer(list)(w, r)
		},
	}}
	return s
}

// masters are the ReplicaSets of the full node's pods, but for one.
func masters(without string) []appsv1.ReplicaSet {
	var sets []appsv1.ReplicaSet
	for p := range 31 {
		name := fmt.Sprintf("master-%02d", p)
		if name == without {
			continue
		}
		set := appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{Namespace: "kubx-masters", Name: name, UID: types.UID(name)}}
		set.Spec.Replicas, set.Status.ReadyReplicas = new(int32(3)), 3
		sets = append(sets, set)
	}
	return sets
}

// setsAnswer answers a list of ReplicaSets with the first page, and a list of one with that one, if it is there.
func setsAnswer(page appsv1.ReplicaSetList, there []appsv1.ReplicaSet) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		name, one := strings.CutPrefix(r.URL.Query().Get("fieldSelector"), "metadata.name=")
		if !one {
			answer(page)(w, r)
			return
		}
		list := appsv1.ReplicaSetList{}
		for _, set := range there {
			if set.Name == name {
				list.Items = append(list.Items, set)
			}
		}
		answer(list)(w, r)
	}
}

// lookAt reads one node's pods, and returns how many requests that took beside those of every look.
func lookAt(t *testing.T, s *scripted, node string) (playbook.NodePods, int) {
	t.Helper()
	c := s.start(t, Options{})
	// What every look reads is known already, as in the round in which a tick asks for a node's pods.
	o := playbook.Observation{DaemonSet: playbook.Known(playbook.DaemonSet{}), Namespace: playbook.Known(playbook.Namespace{}),
		Controller: playbook.Known(playbook.Controller{}), Nodes: playbook.Known([]playbook.Node{})}
	c.Observe(t.Context(), playbook.Look{Target: look.Target, Policy: playbook.Policy{DrainFrom: []string{"kubx-masters"}},
		Wants: []playbook.Want{{Kind: playbook.WantNodePods, Node: node}}}, &o)
	seen, ok := o.NodePods[node].Get()
	if !ok {
		t.Fatalf("node pods are not known: %s", o.NodePods[node].Why())
	}
	return seen, len(s.asked)
}

// A look at a full node is one of the most costly, and a drain repeats it before each eviction: at 20 requests per second
// it must not wait for our own limit. It took 46 requests when each owner and each other node was read by itself.
func TestALookAtAFullNodeCostsFewRequests(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		nodes, most int
		edit        func(*scripted)
	}{
		"small carrier":          {12, 5, nil},
		"large carrier":          {60, 17, nil},
		"old ReplicaSets abound": {12, 37, manyOldSets},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := fullCarrier(tt.nodes)
			if tt.edit != nil {
				tt.edit(s)
			}
			seen, cost := lookAt(t, s, "node-000")
			if seen.Count != 31 || len(seen.Candidates) != 31 {
				t.Fatalf("node pods = %+v", seen)
			}
			for _, k := range seen.Candidates {
				if k.NotMovable != "" || k.OwnerReady != 3 || k.OwnerWants != 3 {
					t.Errorf("candidate = %+v", k)
				}
			}
			if cost > tt.most {
				t.Errorf("it cost %d requests, want %d at most", cost, tt.most)
			}
		})
	}
}

// A right that Drydock lacks is a fact about the pods, known before the node is cordoned.
func TestNoPodIsMovableWithoutTheRightToEvict(t *testing.T) {
	t.Parallel()
	s := fullCarrier(3)
	s.answers["POST "+ownReviews] = review(false)
	seen, _ := lookAt(t, s, "node-000")
	want := playbook.NotGranted("test", "create pods/eviction in kubx-masters")
	for _, k := range seen.Candidates {
		if k.NotMovable != want {
			t.Errorf("candidate = %+v, want it not movable: %s", k, want)
		}
	}
	if n := s.count("POST " + ownReviews); len(seen.Candidates) != 31 || n != 1 {
		t.Errorf("%d candidates, and %d questions about the right", len(seen.Candidates), n)
	}
}

// manyOldSets makes the list of ReplicaSets longer than what is read of it.
func manyOldSets(s *scripted) { oldSetsWithout(s, "") }

// oldSetsWithout is manyOldSets where one of the masters' ReplicaSets is gone.
func oldSetsWithout(s *scripted, without string) {
	s.answers["GET "+mastersSets] = setsAnswer(appsv1.ReplicaSetList{ListMeta: metav1.ListMeta{Continue: "more"},
		Items: []appsv1.ReplicaSet{{ObjectMeta: metav1.ObjectMeta{Namespace: "kubx-masters", Name: "old", UID: "old"}}}}, masters(without))
}

// A controller is gone only when the API server says so about that very object, not when it is on none of the first pages.
func TestAControllerThatIsGoneKeepsItsPod(t *testing.T) {
	t.Parallel()
	s := fullCarrier(3)
	oldSetsWithout(s, "master-00")
	seen, _ := lookAt(t, s, "node-000")
	for _, k := range seen.Candidates {
		if gone := k.NotMovable == "its controller ReplicaSet/master-00 is gone"; gone != (k.Name == "master-00-x") {
			t.Errorf("candidate = %+v", k)
		}
	}
}
