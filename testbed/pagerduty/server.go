package pagerduty

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/drydock/drydock/testbed/standin"
)

// Options of a Server. The zero value is a faithful PagerDuty on a free port.
type Options struct {
	// Clock drives everything that waits: escalation, acknowledgement timeouts,
	// rate windows, webhook retries. Default: the wall clock.
	Clock standin.Clock
	// Addr to listen on; default a free port on loopback.
	Addr string
	// FirstNumber is the number of the first incident; default 3786453.
	FirstNumber int
	// Requests a minute for each key, for PUT /incidents of each key, and for
	// each routing key of the Events API; defaults 960, 500 and 120.
	RateLimit, UpdateRateLimit, EventsRateLimit int
	// DeliveryTimeout is how long a webhook's receiver may take, in wall-clock
	// time; default 5 s.
	DeliveryTimeout time.Duration
	// RetryAfter are the pauses between the attempts of one webhook, on Clock;
	// the last one repeats. PagerDuty does not tell its own. Default 5 s, 15 s,
	// 1 min, 5 min.
	RetryAfter []time.Duration
	// Transport carries the webhooks; default a plain http.Transport.
	Transport http.RoundTripper
}

func (o Options) withDefaults() Options {
	if o.Clock == nil {
		o.Clock = standin.Wall{}
	}
	if o.FirstNumber == 0 {
		o.FirstNumber = 3786453
	}
	if o.RateLimit == 0 {
		o.RateLimit = 960
	}
	if o.UpdateRateLimit == 0 {
		o.UpdateRateLimit = 500
	}
	if o.EventsRateLimit == 0 {
		o.EventsRateLimit = 120
	}
	if o.DeliveryTimeout == 0 {
		o.DeliveryTimeout = 5 * time.Second
	}
	if len(o.RetryAfter) == 0 {
		o.RetryAfter = []time.Duration{5 * time.Second, 15 * time.Second, time.Minute, 5 * time.Minute}
	}
	if o.Transport == nil {
		o.Transport = &http.Transport{}
	}
	return o
}

// Behaviour is what an account, or PagerDuty on a given day, may do in one way
// or another. The zero value is the usual way.
type Behaviour struct {
	ErrorShape ErrorShape
	// ResolutionNoteFirst sends the note of a resolve's text before the resolve.
	ResolutionNoteFirst bool
	// SilentNoteEdits: PUT of a note fires no incident.annotated.
	SilentNoteEdits bool
	// NotesImmutable answers 404 to PUT and DELETE of notes, as before
	// November 2025.
	NotesImmutable bool
	// DuplicateDeliveries sends every delivered webhook a second time, with the
	// same X-Webhook-Id.
	DuplicateDeliveries bool
	// Signatures is how the signatures of several secrets are joined.
	Signatures SignatureStyle

	baseURL string
	first   int
}

func (b Behaviour) firstNumber() int { return b.first }

// KeyKind says what an API key may do.
type KeyKind int

// An account key acts for whoever From names; a user key for its user; an app
// token (OAuth) is treated as an account key here, because it is not documented
// that From may be left out.
const (
	AccountKey KeyKind = iota
	UserKey
	ReadOnlyKey
	AppToken
)

// Key is an API key or OAuth token.
type Key struct {
	Token  string
	Kind   KeyKind
	UserID string // Of a user key.
}

// Request is one request that reached the REST or the Events API.
type Request struct {
	At     time.Time
	Method string
	Path   string
	Query  string
	Header http.Header
	Body   []byte
}

// Server is the stand-in. Make one with New.
type Server struct {
	// Faults are injected into any request: see Fault's constructors in this
	// package and standin.Fault.
	Faults standin.Faults

	opts    Options
	handler http.Handler
	client  *http.Client // Carries the webhooks.

	background standin.Background // The deliveries.
	changes    standin.Changes

	mu       sync.Mutex
	acct     *account
	keys     map[string]*Key
	buckets  map[string]*bucket
	requests []Request
	subs     []*subscription
	events   []Event
	sent     []*delivery
	stop     context.CancelFunc
}

// New makes a server with an empty account.
func New(o Options) *Server {
	o = o.withDefaults()
	s := &Server{
		opts:    o,
		keys:    map[string]*Key{},
		buckets: map[string]*bucket{},
		stop:    func() {},
		client: &http.Client{
			Transport:     o.Transport,
			Timeout:       o.DeliveryTimeout,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
	s.acct = &account{
		clock:     o.Clock,
		locked:    s.write,
		publish:   s.publish,
		behaviour: Behaviour{baseURL: "http://pagerduty.invalid", first: o.FirstNumber},
	}
	s.handler = s.record(s.Faults.Wrap(s.routes()))
	return s
}

// Handler serves the REST API, the Events API and the timeline at "/".
func (s *Server) Handler() http.Handler { return s.handler }

// Start listens and delivers webhooks until ctx ends or Close. It returns the
// URL, which is both the API's and the Events API's base, without a trailing
// slash.
func (s *Server) Start(ctx context.Context) (string, error) {
	ctx, cancel := context.WithCancel(ctx)
	l, err := standin.Listen(ctx, s.opts.Addr, s.handler)
	if err != nil {
		cancel()
		return "", fmt.Errorf("start pagerduty stand-in: %w", err)
	}
	s.background.Start(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stop = cancel
	s.acct.behaviour.baseURL = l.URL
	return l.URL, nil
}

// Close stops the listener and the deliveries and waits for those under way.
func (s *Server) Close() {
	s.mu.Lock()
	stop := s.stop
	s.mu.Unlock()
	stop()
	s.background.Wait()
}

// Behave changes the behaviour from now on.
func (s *Server) Behave(b Behaviour) {
	s.write(func() {
		b.baseURL, b.first = s.acct.behaviour.baseURL, s.acct.behaviour.first
		s.acct.behaviour = b
	})
}

// write runs f with the lock held and wakes those in WaitFor.
func (s *Server) write(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
	s.changes.Tell()
}

// WaitFor returns when cond is true. It asks at once and after every change of
// the account or of a delivery; cond may call any method of the server. The
// error is the context's.
func (s *Server) WaitFor(ctx context.Context, cond func() bool) error {
	return s.changes.WaitFor(ctx, cond)
}
