package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
)

// standIn answers like a carrier's API server, for reads and access reviews. What else is asked of it is noted as a write.
type standIn struct {
	mu     sync.Mutex
	nodes  []corev1.Node
	pods   []corev1.Pod
	sets   []appsv1.DaemonSet
	rs     []appsv1.ReplicaSet
	pdbs   []policyv1.PodDisruptionBudget
	denied map[string]bool // "verb resource"
	ahead  time.Duration   // of this machine's clock
	writes []string
	asked  []authorizationv1.ResourceAttributes
}

const (
	daemonName = "node-exporter"
	daemonNS   = "monitoring"
)

// newStandIn makes a carrier whose nodes all run node-exporter.
func newStandIn(nodes int) *standIn {
	s := &standIn{denied: map[string]bool{}}
	s.sets = []appsv1.DaemonSet{{
		ObjectMeta: metav1.ObjectMeta{Namespace: daemonNS, Name: daemonName, UID: "ds-1", ResourceVersion: "7", Generation: 1},
		Spec: appsv1.DaemonSetSpec{
			Selector:       &metav1.LabelSelector{MatchLabels: map[string]string{"app": daemonName}},
			UpdateStrategy: appsv1.DaemonSetUpdateStrategy{Type: appsv1.OnDeleteDaemonSetStrategyType},
			Template:       corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": daemonName}}},
		},
		Status: appsv1.DaemonSetStatus{ObservedGeneration: 1, DesiredNumberScheduled: int32(nodes), CurrentNumberScheduled: int32(nodes)},
	}}
	for i := range nodes {
		name := fmt.Sprintf("worker-%02d", i+1)
		s.nodes = append(s.nodes, corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: name, UID: uidOf("node", i), ResourceVersion: "3", Labels: map[string]string{"kubernetes.io/hostname": name}},
			Status: corev1.NodeStatus{
				Allocatable: corev1.ResourceList{corev1.ResourcePods: resource.MustParse("4"), corev1.ResourceCPU: resource.MustParse("8"),
					corev1.ResourceMemory: resource.MustParse("16Gi")},
				Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
			},
		})
		s.pods = append(s.pods, s.daemonPod(name, i))
	}
	return s
}

func uidOf(kind string, i int) types.UID { return types.UID(fmt.Sprintf("%s-%02d", kind, i+1)) }

func (s *standIn) daemonPod(node string, i int) corev1.Pod {
	controls := true
	return corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: daemonNS, Name: fmt.Sprintf("%s-%02d", daemonName, i+1), UID: uidOf("pod", i), Labels: map[string]string{"app": daemonName},
			CreationTimestamp: metav1.NewTime(time.Now().Add(-time.Hour)),
			OwnerReferences:   []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "DaemonSet", Name: daemonName, UID: "ds-1", Controller: &controls}},
		},
		Spec: corev1.PodSpec{NodeName: node},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{
			{Type: corev1.PodScheduled, Status: corev1.ConditionTrue}, {Type: corev1.PodReady, Status: corev1.ConditionTrue}}},
	}
}

// fill makes a node full: its daemon pod waits, and masters take every place.
func (s *standIn) fill(node int) {
	name := s.nodes[node].Name
	pod := &s.pods[node]
	pod.Spec = corev1.PodSpec{Affinity: &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
		NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchFields: []corev1.NodeSelectorRequirement{{Key: "metadata.name", Operator: "In", Values: []string{name}}}}}}}}}
	pod.Status = corev1.PodStatus{Phase: corev1.PodPending, Conditions: []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse,
		Reason: "Unschedulable", Message: "0/12 nodes are available: 1 Too many pods."}}}
	replicas, controls := int32(3), true
	for i := range 4 {
		owner := fmt.Sprintf("master-%d", i+1)
		s.rs = append(s.rs, appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{Namespace: "kubx-masters", Name: owner, UID: types.UID("rs-" + owner)},
			Spec: appsv1.ReplicaSetSpec{Replicas: &replicas}, Status: appsv1.ReplicaSetStatus{Replicas: 3, ReadyReplicas: 3}})
		s.pods = append(s.pods, corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "kubx-masters", Name: owner + "-x", UID: types.UID("pod-" + owner), Labels: map[string]string{"app": owner},
				CreationTimestamp: metav1.NewTime(time.Now().Add(-time.Hour)),
				OwnerReferences:   []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: owner, UID: types.UID("rs-" + owner), Controller: &controls}}},
			Spec: corev1.PodSpec{NodeName: name},
			Status: corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{
				{Type: corev1.PodScheduled, Status: corev1.ConditionTrue}, {Type: corev1.PodReady, Status: corev1.ConditionTrue}}},
		})
	}
}

// budget lets a PodDisruptionBudget select a master.
func (s *standIn) budget(master string, allowed int32) {
	s.pdbs = append(s.pdbs, policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Namespace: "kubx-masters", Name: master},
		Spec:   policyv1.PodDisruptionBudgetSpec{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": master}}},
		Status: policyv1.PodDisruptionBudgetStatus{DisruptionsAllowed: allowed}})
}

func (s *standIn) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/selfsubjectaccessreviews") {
		var review authorizationv1.SelfSubjectAccessReview
		_ = json.NewDecoder(r.Body).Decode(&review)
		a := *review.Spec.ResourceAttributes
		s.asked = append(s.asked, a)
		review.Status.Allowed = !s.denied[a.Verb+" "+a.Resource]
		sendJSON(w, http.StatusCreated, "authorization.k8s.io/v1", "SelfSubjectAccessReview", review)
		return
	}
	if r.Method != http.MethodGet {
		s.writes = append(s.writes, r.Method+" "+r.URL.RequestURI())
		http.Error(w, "this stand-in can not be written to", http.StatusMethodNotAllowed)
		return
	}
	s.read(w, r)
}

func (s *standIn) read(w http.ResponseWriter, r *http.Request) {
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	last := parts[len(parts)-1]
	switch {
	case r.URL.Path == "/version":
		w.Header().Set("Date", time.Now().Add(s.ahead).UTC().Format(http.TimeFormat))
		_ = json.NewEncoder(w).Encode(map[string]string{"gitVersion": "v1.37.2"})
	case r.URL.Path == "/api/v1/nodes":
		sendJSON(w, 200, "v1", "NodeList", corev1.NodeList{Items: s.nodes})
	case last == "pods":
		sendJSON(w, 200, "v1", "PodList", corev1.PodList{Items: s.somePods(r, parts)})
	case last == "poddisruptionbudgets":
		sendJSON(w, 200, "policy/v1", "PodDisruptionBudgetList", policyv1.PodDisruptionBudgetList{Items: s.pdbs})
	case last == "replicasets":
		sendJSON(w, 200, "apps/v1", "ReplicaSetList", appsv1.ReplicaSetList{Items: s.rs})
	case last == "statefulsets":
		sendJSON(w, 200, "apps/v1", "StatefulSetList", appsv1.StatefulSetList{})
	case last == "events":
		sendJSON(w, 200, "v1", "EventList", corev1.EventList{})
	case strings.Contains(r.URL.Path, "/daemonsets/"):
		for _, ds := range s.sets {
			if ds.Name == last && ds.Namespace == parts[len(parts)-3] {
				sendJSON(w, 200, "apps/v1", "DaemonSet", ds)
				return
			}
		}
		notFound(w, "daemonsets", last)
	case strings.Contains(r.URL.Path, "/leases/"):
		now, seconds, holder := metav1.NowMicro(), int32(15), "master-0"
		sendJSON(w, 200, "coordination.k8s.io/v1", "Lease", coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: last},
			Spec: coordinationv1.LeaseSpec{HolderIdentity: &holder, RenewTime: &now, LeaseDurationSeconds: &seconds}})
	case len(parts) == 4 && parts[2] == "namespaces":
		sendJSON(w, 200, "v1", "Namespace", corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: last}})
	default:
		notFound(w, parts[max(0, len(parts)-2)], last)
	}
}

func (s *standIn) somePods(r *http.Request, parts []string) []corev1.Pod {
	namespace := ""
	if len(parts) == 5 {
		namespace = parts[3]
	}
	byLabel, _ := labels.Parse(r.URL.Query().Get("labelSelector"))
	byField, _ := fields.ParseSelector(r.URL.Query().Get("fieldSelector"))
	some := []corev1.Pod{}
	for _, p := range s.pods {
		facts := fields.Set{"spec.nodeName": p.Spec.NodeName, "status.phase": string(p.Status.Phase), "metadata.name": p.Name}
		if (namespace == "" || p.Namespace == namespace) && byLabel.Matches(labels.Set(p.Labels)) && byField.Matches(facts) {
			some = append(some, p)
		}
	}
	return some
}

func sendJSON(w http.ResponseWriter, code int, version, kind string, v any) {
	b, _ := json.Marshal(v)
	var object map[string]any
	_ = json.Unmarshal(b, &object)
	object["apiVersion"], object["kind"] = version, kind
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(object)
}

func notFound(w http.ResponseWriter, resource, name string) {
	sendJSON(w, 404, "v1", "Status", metav1.Status{Status: metav1.StatusFailure, Code: 404, Reason: metav1.StatusReasonNotFound,
		Message: fmt.Sprintf("%s %q not found", resource, name), Details: &metav1.StatusDetails{Kind: resource, Name: name}})
}

// serve starts the stand-in and writes a kubeconfig for it, with one context of the same name.
func (s *standIn) serve(t testing.TB, dir, name string) (kubeconfig string) {
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	file := filepath.Join(dir, name+".yaml")
	text := fmt.Sprintf(`apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: %q}}]
contexts: [{name: %s, context: {cluster: c, user: u}}]
users: [{name: u, user: {}}]
current-context: %s
`, server.URL, name, name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}
