package kube

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

// scripted is an API server with prepared answers: for what a real one does only when something breaks.
type scripted struct {
	mu      sync.Mutex
	answers map[string]http.HandlerFunc // "GET /api/v1/nodes/a"
	asked   []request
}

type request struct {
	line, agent, body string
}

func (s *scripted) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body) // a test reads what arrived, also when it is cut off
	r.Body = io.NopCloser(bytes.NewReader(body))
	line := r.Method + " " + r.URL.Path
	s.mu.Lock()
	s.asked = append(s.asked, request{line, r.Header.Get("User-Agent"), string(body)})
	answer := s.answers[line]
	s.mu.Unlock()
	if answer == nil {
		answer = status(404, metav1.StatusReasonNotFound, "the server could not find the requested resource", nil)
	}
	answer(w, r)
}

func (s *scripted) count(line string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, r := range s.asked {
		if r.line == line {
			n++
		}
	}
	return n
}

func (s *scripted) start(t *testing.T, opts Options) *Carrier {
	t.Helper()
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	config := &rest.Config{Host: server.URL}
	c, err := newCarrier(Entry{Name: "test"}, config, config, opts)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func answer(v any) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(v)
	}
}

const ownReviews = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"

// review is the API server's answer to whether we may do something.
func review(allowed bool) http.HandlerFunc {
	return answer(authorizationv1.SelfSubjectAccessReview{Status: authorizationv1.SubjectAccessReviewStatus{Allowed: allowed}})
}

// status is an answer of the API server itself.
func status(code int32, reason metav1.StatusReason, message string, details *metav1.StatusDetails) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if code == 429 || code >= 500 {
			w.Header().Set("Retry-After", "0") // what makes client-go send a call again by itself
		}
		w.WriteHeader(int(code))
		_ = json.NewEncoder(w).Encode(metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"},
			Status: metav1.StatusFailure, Code: code, Reason: reason, Message: message, Details: details})
	}
}

func notFound(resource, name string) http.HandlerFunc {
	return status(404, metav1.StatusReasonNotFound, fmt.Sprintf("%s %q not found", resource, name), &metav1.StatusDetails{Kind: resource, Name: name})
}

// page is an answer of something in between, such as a load balancer.
func page(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(code)
		_, _ = fmt.Fprint(w, "<html>sorry</html>")
	}
}

// reset breaks the connection after the request was read.
func reset(w http.ResponseWriter, _ *http.Request) {
	if hijacker, ok := w.(http.Hijacker); ok {
		if conn, _, err := hijacker.Hijack(); err == nil {
			_ = conn.Close()
		}
	}
}

func apiNode(name string) corev1.Node {
	return corev1.Node{TypeMeta: metav1.TypeMeta{Kind: "Node", APIVersion: "v1"}, ObjectMeta: metav1.ObjectMeta{Name: name, UID: "uid-a", ResourceVersion: "7"}}
}

var budgetDetails = &metav1.StatusDetails{Causes: []metav1.StatusCause{{Type: policyv1.DisruptionBudgetCause, Message: "needs 3"}}}
