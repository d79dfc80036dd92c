package kube

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/drydock/drydock/playbook"
)

const (
	nodeA    = "/api/v1/nodes/a"
	eviction = "/api/v1/namespaces/kubx-masters/pods/p/eviction"
	theSet   = "/apis/apps/v1/namespaces/monitoring/daemonsets/node-exporter"
	sets     = "/apis/apps/v1/namespaces/monitoring/daemonsets"
)

var (
	evict    = playbook.Evict{Node: "a", Namespace: "kubx-masters", Pod: "p", UID: "u"}
	cordonA  = playbook.Cordon{Node: "a", UID: "uid-a", ResourceVersion: "7", Mark: playbook.Mark{Installation: "i", Run: "run-1"}}
	nudge    = playbook.Nudge{Namespace: "monitoring", Name: "node-exporter", UID: "u", ResourceVersion: "7", Run: "run-1"}
	deletion = playbook.OrphanDelete{Namespace: "monitoring", Name: "node-exporter", UID: "u", ResourceVersion: "7"}
)

// Every way in which a mutating call fails: what is proven is a result, all else is an error, and no call goes out twice.
func TestWhatAFailedCallProves(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		action playbook.Action
		line   string
		answer http.HandlerFunc
		want   playbook.Result // empty: the outcome is not known
		detail string
	}{
		"evicted":                  {evict, "POST " + eviction, answer(map[string]string{"kind": "Status", "apiVersion": "v1", "status": "Success"}), playbook.Happened, ""},
		"evict, budget":            {evict, "POST " + eviction, status(429, metav1.StatusReasonTooManyRequests, "Cannot evict", budgetDetails), playbook.Refused, "budget"},
		"evict, overload":          {evict, "POST " + eviction, status(429, metav1.StatusReasonTooManyRequests, "too many requests", nil), playbook.NotHappened, "busy"},
		"evict, two budgets":       {evict, "POST " + eviction, status(500, "", "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.", nil), playbook.Refused, "permanent"},
		"evict, server error":      {evict, "POST " + eviction, status(500, metav1.StatusReasonInternalError, "etcdserver: leader changed", nil), "", ""},
		"evict, another pod":       {evict, "POST " + eviction, status(409, metav1.StatusReasonConflict, "uid", nil), playbook.Superseded, ""},
		"evict, gone":              {evict, "POST " + eviction, notFound("pods", "p"), playbook.Superseded, ""},
		"evict, 404 of no pod":     {evict, "POST " + eviction, page(404), "", ""},
		"evict, API not served":    {evict, "POST " + eviction, status(404, metav1.StatusReasonNotFound, "not served", nil), playbook.Refused, "not served"},
		"evict, forbidden":         {evict, "POST " + eviction, status(403, metav1.StatusReasonForbidden, "may not", nil), playbook.Refused, "may not"},
		"evict, a proxy forbids":   {evict, "POST " + eviction, page(403), "", ""},
		"evict, unavailable":       {evict, "POST " + eviction, status(503, metav1.StatusReasonServiceUnavailable, "down", nil), "", ""},
		"evict, gateway":           {evict, "POST " + eviction, page(502), "", ""},
		"evict, timeout there":     {evict, "POST " + eviction, status(504, metav1.StatusReasonTimeout, "timeout", nil), "", ""},
		"evict, reset":             {evict, "POST " + eviction, reset, "", ""},
		"nudge, conflict":          {nudge, "PATCH " + theSet, status(409, metav1.StatusReasonConflict, "modified", nil), playbook.NotHappened, ""},
		"nudge, invalid":           {nudge, "PATCH " + theSet, status(422, metav1.StatusReasonInvalid, "bad", nil), playbook.Refused, "bad"},
		"nudge, bad request":       {nudge, "PATCH " + theSet, status(400, metav1.StatusReasonBadRequest, "bad", nil), playbook.Refused, "bad"},
		"nudge, not authenticated": {nudge, "PATCH " + theSet, status(401, metav1.StatusReasonUnauthorized, "who", nil), playbook.Refused, "who"},
		"nudge, unavailable":       {nudge, "PATCH " + theSet, status(503, metav1.StatusReasonServiceUnavailable, "down", nil), "", ""},
		"delete, conflict":         {deletion, "DELETE " + theSet, status(409, metav1.StatusReasonConflict, "modified", nil), playbook.NotHappened, ""},
		"delete, gone":             {deletion, "DELETE " + theSet, notFound("daemonsets", "node-exporter"), playbook.Superseded, ""},
		"delete, reset":            {deletion, "DELETE " + theSet, reset, "", ""},
		"cordon, conflict":         {cordonA, "PATCH " + nodeA, status(409, metav1.StatusReasonConflict, "modified", nil), playbook.NotHappened, ""},
		"cordon, unavailable":      {cordonA, "PATCH " + nodeA, status(503, metav1.StatusReasonServiceUnavailable, "down", nil), "", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &scripted{answers: map[string]http.HandlerFunc{"GET " + nodeA: answer(apiNode("a")), tt.line: tt.answer}}
			c := s.start(t, Options{Version: "1.2.3"})
			got, err := c.Do(t.Context(), playbook.Call{Run: "run-1", Action: tt.action})
			if got.Result != tt.want || (err != nil) != (tt.want == "") || !strings.Contains(got.Detail, tt.detail) {
				t.Errorf("result %q (%s), error %v; want %q (%s)", got.Result, got.Detail, err, tt.want, tt.detail)
			}
			if n := s.count(tt.line); n != 1 {
				t.Errorf("the call went out %d times", n)
			}
			for _, r := range s.asked {
				if r.line == tt.line && r.agent != "drydock/1.2.3 run/run-1" {
					t.Errorf("User-Agent = %q", r.agent)
				}
			}
		})
	}
}

// A 403 is told from a lack of a right by asking for that right: quotas and webhooks answer with 403 too.
func TestARightThatIsLackedIsNamed(t *testing.T) {
	t.Parallel()
	forbidden := status(403, metav1.StatusReasonForbidden, "no", nil)
	const deployment, lease = "/apis/apps/v1/namespaces/kube-system/deployments/kube-controller-manager",
		"/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/kube-controller-manager"
	leads := answer(map[string]any{"kind": "Lease", "apiVersion": "coordination.k8s.io/v1", "spec": map[string]any{"holderIdentity": "kcm-1",
		"renewTime": "2026-11-22T03:00:00.000000Z", "leaseDurationSeconds": 15}})
	restart := playbook.RestartControllerManager{Driver: DriverDeployment, Holder: "kcm-1"}
	tests := map[string]struct {
		action    playbook.Action
		forbidden string
		right     string
	}{
		"cordon":                {cordonA, "PATCH " + nodeA, "patch nodes"},
		"cordon, node unread":   {cordonA, "GET " + nodeA, "get nodes"},
		"uncordon, node unread": {playbook.Uncordon{Node: "a", UID: "uid-a", Run: "run-1"}, "GET " + nodeA, "get nodes"},
		"evict":                 {evict, "POST " + eviction, "create pods/eviction in kubx-masters"},
		"nudge":                 {nudge, "PATCH " + theSet, "patch daemonsets.apps node-exporter in monitoring"},
		"delete":                {deletion, "DELETE " + theSet, "delete daemonsets.apps node-exporter in monitoring"},
		"restart, who leads":    {restart, "GET " + lease, "get leases.coordination.k8s.io kube-controller-manager in kube-system"},
		"restart, unread":       {restart, "GET " + deployment, "get deployments.apps kube-controller-manager in kube-system"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for allowed, want := range map[bool]string{false: playbook.NotGranted("test", tt.right), true: "no"} {
				s := &scripted{answers: map[string]http.HandlerFunc{"GET " + nodeA: answer(apiNode("a")), "GET " + lease: leads, "POST " + ownReviews: review(allowed)}}
				s.answers[tt.forbidden] = forbidden
				c := s.start(t, Options{})
				c.manager.Restart = DriverDeployment
				got, err := c.Do(t.Context(), playbook.Call{Run: "run-1", Action: tt.action})
				unsent := allowed && strings.HasPrefix(tt.forbidden, "GET ")
				if err != nil || unsent != (got.Result == playbook.NotHappened) || !unsent && got.Result != playbook.Refused || !strings.HasSuffix(got.Detail, want) {
					t.Errorf("allowed %t: %+v, %v; want %q", allowed, got, err, want)
				}
			}
		})
	}
}

// The body of the one delete that this package knows.
func TestOrphanDeleteSaysOrphanWithBothPreconditions(t *testing.T) {
	t.Parallel()
	s := &scripted{answers: map[string]http.HandlerFunc{"DELETE " + theSet: answer(map[string]string{"kind": "Status", "apiVersion": "v1", "status": "Success"})}}
	c := s.start(t, Options{})
	if got, err := c.Do(t.Context(), playbook.Call{Action: deletion}); err != nil || got.Result != playbook.Happened {
		t.Fatalf("settlement = %+v, %v", got, err)
	}
	want := `{"kind":"DeleteOptions","apiVersion":"v1","preconditions":{"uid":"u","resourceVersion":"7"},"propagationPolicy":"Orphan"}`
	if s.asked[0].body != want {
		t.Errorf("body = %s, want %s", s.asked[0].body, want)
	}
}

func TestNothingIsSentWithoutAConnection(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.NotFoundHandler())
	host := server.URL
	server.Close()
	config := &rest.Config{Host: host}
	c, err := newCarrier(Entry{Name: "test"}, config, config, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range []playbook.Action{evict, nudge, deletion, cordonA} {
		got, err := c.Do(t.Context(), playbook.Call{Run: "run-1", Action: a})
		if err != nil || got.Result != playbook.NotHappened || !strings.HasPrefix(got.Detail, "not sent") {
			t.Errorf("%s: %+v, %v", a.Kind(), got, err)
		}
	}
}

func TestATimeoutIsAnUnknownOutcome(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	s := &scripted{answers: map[string]http.HandlerFunc{"POST " + eviction: func(http.ResponseWriter, *http.Request) { <-release }}}
	c := s.start(t, Options{})
	defer close(release)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if got, err := c.Do(ctx, playbook.Call{Action: evict}); err == nil {
		t.Errorf("a call without an answer was settled: %+v", got)
	}
}

func TestActionsOfOthers(t *testing.T) {
	t.Parallel()
	c := (&scripted{}).start(t, Options{})
	_, err := c.Do(t.Context(), playbook.Call{Action: playbook.Resolve{}})
	if unsupported, ok := errors.AsType[*UnsupportedActionError](err); !ok || unsupported.Kind != playbook.KindResolve {
		t.Errorf("error = %v", err)
	}
	got, err := c.Do(t.Context(), playbook.Call{Action: playbook.RestartControllerManager{Driver: "none"}})
	if err != nil || got.Result != playbook.Refused {
		t.Errorf("restart: %+v, %v", got, err)
	}
}

// A create that an overloaded server refused, and one whose AlreadyExists can not be looked into.
func TestCreateThatDidNotHappen(t *testing.T) {
	t.Parallel()
	manifest := playbook.Manifest(`{"metadata":{"name":"node-exporter"},"spec":{}}`)
	create := playbook.Call{Run: "run-1", Manifest: manifest, Action: playbook.Create{Namespace: "monitoring", Name: "node-exporter", OldUID: "old", BackupSHA256: hexSHA256(manifest)}}
	exists := status(409, metav1.StatusReasonAlreadyExists, "exists", &metav1.StatusDetails{Kind: "daemonsets", Name: "node-exporter"})
	for name, tt := range map[string]struct {
		post, get http.HandlerFunc
		want      playbook.Result
	}{
		"busy":                      {status(429, metav1.StatusReasonTooManyRequests, "busy", nil), nil, playbook.NotHappened},
		"unavailable":               {status(503, metav1.StatusReasonServiceUnavailable, "down", nil), nil, ""},
		"forbidden":                 {status(403, metav1.StatusReasonForbidden, "may not", nil), nil, playbook.Refused},
		"exists, then gone":         {exists, notFound("daemonsets", "node-exporter"), playbook.NotHappened},
		"exists, and is not shown":  {exists, status(503, metav1.StatusReasonServiceUnavailable, "down", nil), playbook.NotHappened},
		"a conflict of a proxy":     {page(409), nil, ""},
		"namespace is terminating":  {status(403, metav1.StatusReasonForbidden, "because it is being terminated", nil), nil, playbook.Refused},
		"server-side name conflict": {status(409, metav1.StatusReasonConflict, "conflict", nil), nil, playbook.NotHappened},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &scripted{answers: map[string]http.HandlerFunc{"POST " + sets: tt.post, "GET " + theSet: tt.get}}
			if tt.get == nil {
				delete(s.answers, "GET "+theSet)
			}
			c := s.start(t, Options{})
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			got, err := c.Do(ctx, create)
			if got.Result != tt.want || (err != nil) != (tt.want == "") {
				t.Errorf("result %q (%s), error %v; want %q", got.Result, got.Detail, err, tt.want)
			}
			if n := s.count("POST " + sets); n != 1 {
				t.Errorf("the create went out %d times", n)
			}
		})
	}
}
