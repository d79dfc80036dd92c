package kube

import (
	"net/http"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/drydock/drydock/playbook"
)

var look = playbook.Look{Target: playbook.Target{Carrier: "test", Namespace: "monitoring", DaemonSet: "node-exporter"}}

// An error is never an empty answer: only the API server's own word about this very object makes it absent.
func TestAbsentOrUnknown(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		answer http.HandlerFunc
		absent bool
	}{
		"not found":            {notFound("daemonsets", "node-exporter"), true},
		"another's not found":  {notFound("daemonsets", "fluentd"), false},
		"a load balancer":      {page(404), false},
		"API group not served": {status(404, metav1.StatusReasonNotFound, "the server could not find the requested resource", &metav1.StatusDetails{}), false},
		"forbidden":            {status(403, metav1.StatusReasonForbidden, "may not", nil), false},
		"not an object":        {answer(map[string]string{"kind": "DaemonSet"}), false},
		"a page":               {page(200), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &scripted{answers: map[string]http.HandlerFunc{"GET " + theSet: tt.answer, "GET /api/v1/nodes": answer(corev1.NodeList{})}}
			c := s.start(t, Options{})
			var o playbook.Observation
			c.Observe(t.Context(), look, &o)
			ds, known := o.DaemonSet.Get()
			if known != tt.absent || ds.Exists {
				t.Errorf("known %t, %+v, %q", known, ds, o.DaemonSet.Why())
			}
			if known != o.Nodes.IsKnown() {
				t.Errorf("nodes known %t: %s", o.Nodes.IsKnown(), o.Nodes.Why())
			}
			if !o.Controller.IsUnknown() {
				t.Error("a lease that is not there must be unknown, not dead")
			}
		})
	}
}

// What fails stays unknown by itself, with a reason that shows no secret.
func TestUnknownPieceByPiece(t *testing.T) {
	t.Parallel()
	s := &scripted{answers: map[string]http.HandlerFunc{
		"GET " + theSet:                     notFound("daemonsets", "node-exporter"),
		"GET /api/v1/namespaces/monitoring": answer(corev1.Namespace{TypeMeta: metav1.TypeMeta{Kind: "Namespace", APIVersion: "v1"}, ObjectMeta: metav1.ObjectMeta{Name: "monitoring"}, Status: corev1.NamespaceStatus{Phase: corev1.NamespaceTerminating}}),
		"GET /api/v1/nodes":                 status(403, metav1.StatusReasonForbidden, "token=hunter2 may not list", nil),
	}}
	c := s.start(t, Options{})
	o := playbook.Observation{Controller: playbook.Known(playbook.Controller{Holder: "kept"})}
	wants := look
	wants.Wants = []playbook.Want{{Kind: playbook.WantNodePods, Node: "a"}, {Kind: playbook.WantEvents}, {Kind: playbook.WantReapply}, {Kind: playbook.WantPromotion}}
	c.Observe(t.Context(), wants, &o)
	if ns, ok := o.Namespace.Get(); !ok || !ns.Exists || !ns.Terminating {
		t.Errorf("namespace = %+v", ns)
	}
	if !o.Nodes.IsUnknown() || strings.Contains(o.Nodes.Why(), "hunter2") || !strings.Contains(o.Nodes.Why(), "list nodes") {
		t.Errorf("nodes: %q", o.Nodes.Why())
	}
	if kept, _ := o.Controller.Get(); kept.Holder != "kept" {
		t.Errorf("a known reading was read again: %+v", kept)
	}
	if r := o.NodePods["a"]; !r.IsUnknown() {
		t.Error("node pods are not unknown")
	}
	if !o.Events.IsUnknown() || !o.Reapply.IsUnknown() || o.Promotion.Asked() || o.Adoption.Asked() || o.Evidence.Asked() {
		t.Errorf("events %t, reapply %t", o.Events.IsUnknown(), o.Reapply.IsUnknown())
	}
}

// A list whose snapshot expires between two pages begins again, and gives up rather than to miss a node.
func TestListBeginsAgainWhenItsSnapshotExpires(t *testing.T) {
	t.Parallel()
	expired := 1
	s := &scripted{answers: map[string]http.HandlerFunc{"GET /api/v1/nodes": func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		if q.Get("limit") != "500" || q.Get("resourceVersion") != "" {
			t.Errorf("asked for %s", r.URL.RawQuery)
		}
		switch {
		case q.Get("continue") == "":
			answer(corev1.NodeList{ListMeta: metav1.ListMeta{Continue: "next"}, Items: []corev1.Node{apiNode("a")}})(w, r)
		case expired > 0:
			expired--
			status(410, metav1.StatusReasonExpired, "too old", nil)(w, r)
		default:
			answer(corev1.NodeList{Items: []corev1.Node{apiNode("b")}})(w, r)
		}
	}}}
	c := s.start(t, Options{})
	nodes, err := c.listNodes(t.Context())
	if err != nil || len(nodes) != 2 || nodes[0].Name != "a" || nodes[1].Name != "b" {
		t.Errorf("nodes = %d, %v", len(nodes), err)
	}
	expired = 100
	if nodes, err := c.listNodes(t.Context()); err == nil {
		t.Errorf("a list that never ends well gave %d nodes", len(nodes))
	}
}

func TestEventTimes(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)
	for name, tt := range map[string]struct {
		event corev1.Event
		count int
	}{
		"old":      {corev1.Event{LastTimestamp: metav1.NewTime(at), Count: 4}, 4},
		"new":      {corev1.Event{EventTime: metav1.NewMicroTime(at)}, 1},
		"series":   {corev1.Event{EventTime: metav1.NewMicroTime(at.Add(-time.Hour)), Series: &corev1.EventSeries{Count: 7, LastObservedTime: metav1.NewMicroTime(at)}}, 7},
		"creation": {corev1.Event{ObjectMeta: metav1.ObjectMeta{CreationTimestamp: metav1.NewTime(at)}}, 1},
	} {
		if got := eventFacts(tt.event); !got.At.Equal(at) || got.Count != tt.count {
			t.Errorf("%s: %+v", name, got)
		}
	}
}
