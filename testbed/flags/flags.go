// Package flags is a stand-in for the flag service, which knows what version of
// a component is deployed on a carrier (the runbook's "razeeflags").
//
// No public HTTP API of that service is known, so the shape is ours, made for a
// client with a URL template and a JSON path. One answer carries the version
// twice: short, and nested by carrier as flag services nest their variations:
//
//	GET /flags/prod-dal10-carrier3/armada-ops
//	{"carrier": "prod-dal10-carrier3", "component": "armada-ops", "version": "2.41.0",
//	 "variations": {"prod-dal10-carrier3": {"version": "2.41.0"}}, "updated_at": "..."}
//
//	GET /flags/armada-ops
//	{"component": "armada-ops", "variations": {"prod-dal10-carrier3": {"version": "2.41.0"}, ...}}
//
// A component that is no longer deployed on a carrier is either gone (404, after
// Delete) or named without a version (null, after Set with an empty version).
package flags

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/drydock/drydock/testbed/standin"
)

// Options of a Server.
type Options struct {
	// Token is the bearer token that every request needs; empty refuses all.
	Token string
	// Addr to listen on; default a free port on loopback.
	Addr string
	// Clock stamps updated_at; default the wall clock.
	Clock standin.Clock
}

// Request is one look-up that arrived.
type Request struct {
	Path          string
	Authorization string
}

// Server is the stand-in. Make one with New.
type Server struct {
	// Faults are injected into any request: a status such as 500, a delay.
	Faults standin.Faults

	opts    Options
	handler http.Handler

	mu       sync.Mutex
	flags    map[string]map[string]flag // By component, then carrier.
	requests []Request
	listener *standin.Listener
}

type flag struct {
	version string
	at      time.Time
}

// New makes a server that knows no component.
func New(o Options) *Server {
	if o.Clock == nil {
		o.Clock = standin.Wall{}
	}
	s := &Server{opts: o, flags: map[string]map[string]flag{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /flags/{component}", s.component)
	mux.HandleFunc("GET /flags/{carrier}/{component}", s.carrier)
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { refuse(w, http.StatusNotFound, "no such page") })
	s.handler = s.record(s.Faults.Wrap(s.authorized(mux)))
	return s
}

// Handler serves the flags.
func (s *Server) Handler() http.Handler { return s.handler }

// Start listens until ctx ends or Close and returns the base URL.
func (s *Server) Start(ctx context.Context) (string, error) {
	l, err := standin.Listen(ctx, s.opts.Addr, s.handler)
	if err != nil {
		return "", fmt.Errorf("start flags stand-in: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listener = l
	return l.URL, nil
}

// Close stops the listener.
func (s *Server) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listener != nil {
		_ = s.listener.Close()
	}
}

// Set says what version of a component is deployed on a carrier; an empty
// version keeps the entry and shows null.
func (s *Server) Set(carrier, component, version string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.flags[component] == nil {
		s.flags[component] = map[string]flag{}
	}
	s.flags[component][carrier] = flag{version, s.opts.Clock.Now()}
}

// Delete forgets a component on a carrier: a look-up is then 404.
func (s *Server) Delete(carrier, component string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.flags[component], carrier)
}

// Requests returns the look-ups so far, in order, the failed ones included.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Request(nil), s.requests...)
}

func (s *Server) record(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.requests = append(s.requests, Request{r.URL.Path, r.Header.Get("Authorization")})
		s.mu.Unlock()
		next.ServeHTTP(w, r)
	})
}

func (s *Server) authorized(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		want := "Bearer " + s.opts.Token
		got := r.Header.Get("Authorization")
		if s.opts.Token == "" || subtle.ConstantTimeCompare([]byte(got), []byte(want)) != 1 {
			refuse(w, http.StatusUnauthorized, "a valid bearer token is needed")
			return
		}
		next.ServeHTTP(w, r)
	})
}

type variation struct {
	Version *string `json:"version"`
}

func (s *Server) carrier(w http.ResponseWriter, r *http.Request) {
	carrier, component := r.PathValue("carrier"), r.PathValue("component")
	s.mu.Lock()
	f, ok := s.flags[component][carrier]
	s.mu.Unlock()
	if !ok {
		refuse(w, http.StatusNotFound, fmt.Sprintf("no flag for %s on %s", component, carrier))
		return
	}
	answer(w, struct {
		Carrier    string               `json:"carrier"`
		Component  string               `json:"component"`
		Version    *string              `json:"version"`
		Variations map[string]variation `json:"variations"`
		UpdatedAt  time.Time            `json:"updated_at"`
	}{carrier, component, f.shown(), map[string]variation{carrier: {f.shown()}}, f.at})
}

func (s *Server) component(w http.ResponseWriter, r *http.Request) {
	component := r.PathValue("component")
	variations := map[string]variation{}
	s.mu.Lock()
	carriers, ok := s.flags[component]
	for carrier, f := range carriers {
		variations[carrier] = variation{f.shown()}
	}
	s.mu.Unlock()
	if !ok {
		refuse(w, http.StatusNotFound, "no flag for "+component)
		return
	}
	answer(w, struct {
		Component  string               `json:"component"`
		Variations map[string]variation `json:"variations"`
	}{component, variations})
}

func (f flag) shown() *string {
	if f.version == "" {
		return nil
	}
	return &f.version
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	// A failure here is a client who went away.
	_ = json.NewEncoder(w).Encode(v)
}

func refuse(w http.ResponseWriter, status int, why string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"error": why})
}
