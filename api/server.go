package api

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/klauspost/compress/gzhttp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/semaphore"

	"github.com/drydock/drydock/incident"
	"github.com/drydock/drydock/playbook"
)

// Options are what a Server is made of. All fields are needed, but for those that say otherwise.
type Options struct {
	Intake     Intake
	History    History
	Orders     Orders
	Keys       Keys
	Incidents  Incidents
	Carriers   Carriers
	Signatures Signatures
	Rules      *incident.Rules
	// Policy says with which mode and deadline a run of a target starts.
	Policy func(playbook.Target) playbook.Policy
	// DaemonSets are those that are looked after on every carrier; their Carrier is empty.
	DaemonSets []playbook.Target
	Tokens     Tokens
	OIDC       *Identifier // nil: only Tokens count
	Witness    Witness     // nil: logins are not written down
	Parts      []Part
	Metrics    *prometheus.Registry
	Log        *slog.Logger
	Now        Clock
	NewID      func() string // of a run: UUIDv7
	// OneTimeCode, when not empty, logs its first user in on the dashboard with the token LoginToken.
	OneTimeCode string
	LoginToken  string
	// SecureCookies is set when people reach the server through https.
	SecureCookies bool
	Version       string
}

// Server answers HTTP.
type Server struct {
	Options
	log     *slog.Logger
	tokens  Tokens
	engine  *gin.Engine
	metrics metrics
	// names are the carriers as they were listed at namesAt.
	namesMu sync.Mutex
	names   map[string]bool
	namesAt time.Time
	// bodies bounds what webhooks under way may hold in memory, in bytes.
	bodies   *semaphore.Weighted
	login    *oneTimeCode
	sessions *sessions
	// requests are counted by token, guesses of tokens by address.
	requests, guesses *limiter
	// streams bounds how many runs are followed at one time; stopping ends them.
	streams  chan struct{}
	stopping chan struct{}
	compress http.Handler
}

const (
	maxWebhookBody   = incident.MaxEventBytes
	maxAPIBody       = 64 << 10
	maxWebhookBodies = 16 << 20 // some 8,000 of the usual size, or 16 of the largest
	requestIDKey     = "request_id"
	requestIDHeader  = "X-Request-Id"
	webhookPath      = "/webhooks/pagerduty"
	webhookTime      = 4 * time.Second // PagerDuty waits 5 s for an answer
	webhookQueueTime = 3 * time.Second
)

// New returns a Server with all routes.
func New(o Options) *Server {
	s := &Server{
		Options: o, log: o.Log, tokens: o.Tokens, metrics: newMetrics(o.Metrics, o.Version),
		bodies: semaphore.NewWeighted(maxWebhookBodies), login: &oneTimeCode{code: o.OneTimeCode}, sessions: newSessions(),
		requests: newLimiter(requestRate, requestBurst), guesses: newLimiter(guessRate, guessBurst),
		streams: make(chan struct{}, maxStreams), stopping: make(chan struct{}),
	}
	gin.SetMode(gin.ReleaseMode)
	e := gin.New()
	e.HandleMethodNotAllowed = true
	e.RedirectTrailingSlash = false // it would answer before anybody asked for the token
	e.ContextWithFallback = true
	// Nobody's word about the client's address is taken; it is not used for anything either.
	_ = e.SetTrustedProxies(nil)
	e.Use(s.observe, s.recover, headers)
	e.NoRoute(s.do(s.nothing(errNoRoute)))
	e.NoMethod(s.do(s.nothing(errMethod)))
	s.engine = e
	s.compress = gzhttp.GzipHandler(e)
	s.routes()
	return s
}

// Stop ends the streams, which would otherwise hold up a shutdown; their clients go on elsewhere. It is called once.
func (s *Server) Stop() { close(s.stopping) }

// ServeHTTP answers a request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == webhookPath+"/" {
		// PagerDuty takes a redirect for a failure, and an address that was typed with a slash too many is meant all the same.
		r = r.Clone(r.Context())
		r.URL.Path = webhookPath
	}
	if r.URL.Path == webhookPath || strings.HasSuffix(r.URL.Path, streamSuffix) {
		s.engine.ServeHTTP(w, r) // PagerDuty reads no more than the status, and an event must not wait in a compressor for company
		return
	}
	s.compress.ServeHTTP(w, r)
}

// Routes lists what is served as "METHOD /path", with parameters as {name}.
func (s *Server) Routes() []string {
	var routes []string
	for _, r := range s.engine.Routes() {
		parts := strings.Split(r.Path, "/")
		for i, p := range parts {
			if name := strings.TrimLeft(p, ":*"); name != p {
				parts[i] = "{" + name + "}"
			}
		}
		routes = append(routes, r.Method+" "+strings.Join(parts, "/"))
	}
	return routes
}

func (s *Server) routes() {
	e := s.engine
	e.POST(webhookPath, s.do(s.webhook))

	v := e.Group("/api/v1", limitBody)
	viewer, operator := s.require(Viewer), s.require(Operator)
	v.GET("/events", viewer, s.do(s.events))
	v.GET("/runs", viewer, s.do(s.runs))
	v.GET("/runs/:id", viewer, s.do(s.run))
	v.GET("/runs/:id/explain", viewer, s.do(s.explain))
	v.GET("/runs/:id"+streamSuffix, viewer, s.do(s.stream))
	v.POST("/runs/:id/retrigger", operator, s.do(s.once(s.retriggerRun)))
	v.POST("/runs/:id/cancel", operator, s.do(s.once(s.cancel)))
	v.POST("/runs/:id/approve", s.require(Approver), s.do(s.once(s.approve)))
	v.POST("/incidents/:incident_id/retrigger", operator, s.do(s.once(s.retriggerIncident)))
	v.GET("/carriers", viewer, s.do(s.carriers))
	v.GET("/carriers/:carrier/daemonsets/:namespace/:name/diagnosis", viewer, s.do(s.diagnosis))
	v.POST("/carriers/:carrier/confirm", s.require(Admin), s.do(s.once(s.confirmCarrier)))
	v.GET("/stats", viewer, s.do(s.stats))
	v.GET("/audit", viewer, s.do(s.audit))
	v.GET("/kill-switch", viewer, s.do(s.killSwitch))
	v.PUT("/kill-switch", operator, s.do(s.setKillSwitch))

	probe := []string{http.MethodGet, http.MethodHead} // some load balancers ask with HEAD
	e.Match(probe, "/healthz", func(c *gin.Context) { c.JSON(http.StatusOK, gin.H{"status": "ok"}) })
	e.Match(probe, "/readyz", s.do(s.ready))
	e.GET("/metrics", gin.WrapH(promhttp.HandlerFor(s.Metrics, promhttp.HandlerOpts{})))
	e.GET("/openapi.json", s.do(s.openAPI))
	s.pages()
}

// nothing answers for addresses and methods that are not served. Below /api it too is told to those alone who may ask.
func (s *Server) nothing(why error) handler {
	return func(c *gin.Context) error {
		if path := c.Request.URL.Path; path == "/api" || strings.HasPrefix(path, "/api/") {
			if _, err := s.authorize(c.Request, bearer(c.Request), Viewer); err != nil {
				return err
			}
		}
		return why
	}
}

// observe gives the request an id, and counts the answer.
func (s *Server) observe(c *gin.Context) {
	id := c.GetHeader(requestIDHeader)
	if !plain(id) {
		id = randomID()
	}
	c.Set(requestIDKey, id)
	c.Header(requestIDHeader, id)
	began := s.Now()
	c.Next()
	route := c.FullPath()
	if route == "" {
		route = "none"
	}
	s.metrics.requests.WithLabelValues(route, fmt.Sprint(c.Writer.Status())).Inc()
	s.metrics.duration.WithLabelValues(route).Observe(s.Now().Sub(began).Seconds())
	s.log.LogAttrs(c.Request.Context(), slog.LevelDebug, "request", slog.String("method", c.Request.Method),
		slog.String("route", route), slog.Int("status", c.Writer.Status()), slog.String("request_id", id))
}

// recover turns a panic into an answer, so that one bad request can not end the process that holds the carriers.
func (s *Server) recover(c *gin.Context) {
	defer func() {
		if r := recover(); r != nil {
			s.log.LogAttrs(c.Request.Context(), slog.LevelError, "handler panicked", slog.Any("panic", r),
				slog.String("path", c.Request.URL.Path), slog.String("stack", string(debug.Stack())))
			s.fail(c, fmt.Errorf("panic: %v", r))
		}
	}()
	c.Next()
}

func headers(c *gin.Context) {
	h := c.Writer.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; "+
		"form-action 'self'; frame-ancestors 'none'; base-uri 'none'")
}

func limitBody(c *gin.Context) {
	c.Request.Body = http.MaxBytesReader(c.Writer, c.Request.Body, maxAPIBody)
}

// plain reports whether a request id from outside is fit for logs.
func plain(id string) bool {
	if id == "" || len(id) > 64 {
		return false
	}
	return !strings.ContainsFunc(id, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && r != '-' && r != '_'
	})
}

func randomID() string {
	b := make([]byte, 8)
	_, _ = rand.Read(b) // it never fails; Go ends the program instead
	return hex.EncodeToString(b)
}

// stamp is a time as the API shows it: RFC 3339, UTC, milliseconds.
func stamp(t time.Time) time.Time { return t.UTC().Truncate(time.Millisecond) }

// stampOrNull is null for the zero time.
func stampOrNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = stamp(t)
	return &t
}

// orNull is null for the empty string.
func orNull[S ~string](s S) *S {
	if s == "" {
		return nil
	}
	return &s
}
