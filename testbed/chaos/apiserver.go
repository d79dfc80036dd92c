package chaos

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"

	"github.com/drydock/drydock/testbed/standin"
)

// apiServer stands between all replicas and one carrier's API server. It writes down every change that passes, with the
// answer, and can be made to answer badly.
type apiServer struct {
	url string

	mu      sync.Mutex
	changes []recorded
	weather weather
	random  *rand.Rand
	faults  int
}

// recorded is one request that can change something, and what the API server said.
type recorded struct {
	at      time.Time // of the answer
	method  string
	path    string
	body    []byte
	status  int    // the API server's own answer, whatever the client got
	run     string // in whose name, from the User-Agent
	spoiled bool   // the client did not get the answer
}

// weather is how badly the API server answers.
type weather struct {
	share   float64       // of requests that fail
	latency time.Duration // that every request waits before it is looked at
}

// newAPIServer listens in front of the API server of a control plane.
func newAPIServer(ctx context.Context, config *rest.Config, seed uint64) (*apiServer, error) {
	target, err := url.Parse(config.Host)
	if err != nil {
		return nil, fmt.Errorf("find the API server: %w", err)
	}
	config = rest.CopyConfig(config)
	transport, err := rest.TransportFor(config)
	if err != nil {
		return nil, fmt.Errorf("reach the API server: %w", err)
	}
	s := &apiServer{random: rand.New(rand.NewPCG(seed, seed))}
	proxy := &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: target.Scheme, Host: target.Host}) },
		Transport:     transport,
		FlushInterval: -1,
		ErrorLog:      slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
	}
	listener, err := standin.Listen(ctx, "", s.wrap(proxy))
	if err != nil {
		return nil, err
	}
	s.url = listener.URL
	return s, nil
}

// kubeconfig writes a kubeconfig that leads here. The credentials are this proxy's matter: it is the API server's client.
func (s *apiServer) kubeconfig(file string) error {
	config := api.NewConfig()
	config.Clusters["carrier"] = &api.Cluster{Server: s.url}
	config.AuthInfos["drydock"] = &api.AuthInfo{}
	config.Contexts["carrier"] = &api.Context{Cluster: "carrier", AuthInfo: "drydock"}
	config.CurrentContext = "carrier"
	if err := clientcmd.WriteToFile(*config, file); err != nil {
		return fmt.Errorf("write kubeconfig: %w", err)
	}
	return nil
}

func (s *apiServer) set(w weather) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.weather = w
}

// recordedOf are the changes made in the name of a run.
func (s *apiServer) recordedOf(run string) []recorded {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(s.changes), func(r recorded) bool { return r.run != run })
}

// spoil is what happens to one request.
type spoil int

// A request may be refused before it is looked at, or take its effect and lose its answer.
const (
	fine spoil = iota
	refusedBefore
	resetBefore
	busy
	failedAfter
	resetAfter
)

func (s *apiServer) forecast() (spoil, time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.random.Float64() >= s.weather.share {
		return fine, s.weather.latency
	}
	s.faults++
	return []spoil{refusedBefore, resetBefore, busy, failedAfter, resetAfter}[s.random.IntN(5)], s.weather.latency
}

func (s *apiServer) wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		what, latency := s.forecast()
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // the client has gone
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		if !pause(r.Context(), latency) {
			return
		}
		switch what {
		case refusedBefore:
			answerStatus(w, http.StatusInternalServerError, "InternalError", "etcdserver: request timed out")
			return
		case busy:
			answerStatus(w, http.StatusTooManyRequests, "TooManyRequests", "too many requests, please try again later")
			return
		case resetBefore:
			panic(http.ErrAbortHandler)
		case fine, failedAfter, resetAfter:
		}
		answer := &recorder{header: http.Header{}, status: http.StatusOK}
		if !changes(r, body) && what == fine {
			next.ServeHTTP(w, r)
			return
		}
		// What was sent is carried out to its end, as an API server does whose client has gone.
		next.ServeHTTP(answer, r.WithContext(context.WithoutCancel(r.Context())))
		if changes(r, body) {
			s.record(r, body, answer.status, what != fine)
		}
		switch what {
		case failedAfter:
			answerStatus(w, http.StatusInternalServerError, "InternalError", "etcdserver: leader changed")
		case resetAfter:
			panic(http.ErrAbortHandler)
		case fine, refusedBefore, resetBefore, busy:
			answer.copyTo(w)
		}
	})
}

// pause waits, or reports that the client gave up before.
func pause(ctx context.Context, d time.Duration) bool {
	if d == 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// changes reports whether a request can change something: dry runs and questions can not, and the Lease of the installation
// is written all the time and no repair.
func changes(r *http.Request, body []byte) bool {
	switch {
	case r.Method == http.MethodGet || r.Method == http.MethodHead,
		strings.HasPrefix(r.URL.Path, "/apis/authorization.k8s.io/"), strings.Contains(r.URL.Path, "/leases"),
		r.URL.Query().Get("dryRun") != "":
		return false
	}
	var options struct {
		DryRun []string `json:"dryRun"`
	}
	return json.Unmarshal(body, &options) != nil || len(options.DryRun) == 0
}

func (s *apiServer) record(r *http.Request, body []byte, status int, spoiled bool) {
	_, run, _ := strings.Cut(r.UserAgent(), "run/")
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changes = append(s.changes, recorded{time.Now(), r.Method, r.URL.Path, body, status, run, spoiled})
}

// answerStatus answers as an API server does.
func answerStatus(w http.ResponseWriter, code int, reason, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = fmt.Fprintf(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","message":%q,"reason":%q,"code":%d}`, message, reason, code)
}

// recorder keeps an answer back.
type recorder struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (a *recorder) Header() http.Header         { return a.header }
func (a *recorder) WriteHeader(status int)      { a.status = status }
func (a *recorder) Write(b []byte) (int, error) { return a.body.Write(b) }

func (a *recorder) copyTo(w http.ResponseWriter) {
	for name, values := range a.header {
		w.Header()[name] = values
	}
	w.WriteHeader(a.status)
	_, _ = w.Write(a.body.Bytes()) // a client that has gone misses it
}
