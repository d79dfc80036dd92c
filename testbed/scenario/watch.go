package scenario

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/drydock/drydock/testbed/standin"
)

// watch is a way to a scenario's control plane that lets no write pass. A second carrier of drydock.yaml, in mode observe,
// takes it: an alert about the same DaemonSet comes for it too, so mode observe meets every scenario with all that happens
// in it, and has to get through it without one refused request.
//
// Two kinds of POST pass, because they change nothing: access reviews, by which a client asks what it may do, and server-side
// dry runs. What they are asked for is counted.
type watch struct {
	name, kubeconfig string
	next             http.RoundTripper

	mu      sync.Mutex
	reads   int
	asked   int
	refused []string
}

// reviews are the resources whose creation is a question.
var reviews = []string{"selfsubjectaccessreviews", "selfsubjectrulesreviews", "subjectaccessreviews", "localsubjectaccessreviews"}

// newWatch opens such a way to the API server of a kubeconfig and writes a kubeconfig that takes it.
func newWatch(ctx context.Context, name, kubeconfig string) (*watch, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("read kubeconfig: %w", err)
	}
	w := &watch{name: name, kubeconfig: strings.TrimSuffix(kubeconfig, ".kubeconfig") + ".watched.kubeconfig"}
	if w.next, err = rest.TransportFor(config); err != nil {
		return nil, fmt.Errorf("watch %s: %w", config.Host, err)
	}
	to, err := url.Parse(config.Host)
	if err != nil {
		return nil, fmt.Errorf("watch %s: %w", config.Host, err)
	}
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) }, Transport: w}
	l, err := standin.Listen(ctx, "", proxy)
	if err != nil {
		return nil, err
	}
	through := clientcmdapi.NewConfig()
	through.Clusters["watched"] = &clientcmdapi.Cluster{Server: l.URL}
	through.Contexts["watched"] = &clientcmdapi.Context{Cluster: "watched"}
	through.CurrentContext = "watched"
	if err := clientcmd.WriteToFile(*through, w.kubeconfig); err != nil {
		return nil, fmt.Errorf("write kubeconfig: %w", err)
	}
	return w, nil
}

// RoundTrip lets reads and questions pass, and answers 405 to what would change anything.
func (w *watch) RoundTrip(r *http.Request) (*http.Response, error) {
	resource := r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]
	w.mu.Lock()
	switch {
	case r.Method == http.MethodGet || r.Method == http.MethodHead:
		w.reads++
	case r.Method == http.MethodPost && slices.Contains(reviews, resource), r.URL.Query().Get("dryRun") == "All":
		w.asked++
	default:
		w.refused = append(w.refused, r.Method+" "+r.URL.String())
		w.mu.Unlock()
		return &http.Response{StatusCode: http.StatusMethodNotAllowed, Status: "405 Method Not Allowed", Proto: "HTTP/1.1",
			ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{}, Body: http.NoBody, Request: r}, nil
	}
	w.mu.Unlock()
	return w.next.RoundTrip(r)
}

// seen is what came by so far.
func (w *watch) seen() (reads, asked int, refused []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.reads, w.asked, slices.Clone(w.refused)
}
