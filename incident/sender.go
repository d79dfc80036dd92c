package incident

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

const (
	maxAnswerBytes = 16 << 20 // 100 alerts with long details
	firstPause     = 500 * time.Millisecond
	longestPause   = 15 * time.Second
)

// Patience bounds how hard a request is tried. Zero values mean the defaults.
type Patience struct {
	Attempts   int           // at most; 4
	PerAttempt time.Duration // 10 s
	Total      time.Duration // all attempts and pauses of one request together; 30 s
}

func (p Patience) withDefaults() Patience {
	return Patience{
		Attempts:   cmp.Or(p.Attempts, 4),
		PerAttempt: cmp.Or(p.PerAttempt, 10*time.Second),
		Total:      cmp.Or(p.Total, 30*time.Second),
	}
}

// request is one thing to ask of PagerDuty.
type request struct {
	op     string // for errors
	method string
	url    string
	from   string
	body   []byte

	// once: a second send after a lost answer could act twice (a note), or act on what a person changed meanwhile (an
	// acknowledge reopens a resolved incident). Such a request is sent again only when it surely did not arrive.
	once bool

	// blind: that PagerDuty accepted it is all we need, so a 2xx whose body breaks off is a success.
	blind bool

	// update: it counts against PagerDuty's limit of PUT /incidents, which is lower than that of all requests.
	update bool
}

type answer struct {
	status int // 0: no answer
	header http.Header
	body   []byte
}

// sender sends requests with retries, one at a time: PagerDuty asks for serial requests per token.
type sender struct {
	do        func(*http.Request) (*http.Response, error)
	patience  Patience
	lane      chan struct{}
	limiter   *Limiter      // nil: nothing is shared with anybody
	remaining *atomic.Int64 // last ratelimit-remaining; -1 before the first

	pause  func(context.Context, time.Duration) error // replaced in tests
	jitter func(time.Duration) time.Duration          // replaced in tests
}

func newSender(do func(*http.Request) (*http.Response, error), p Patience) *sender {
	s := &sender{
		do: do, patience: p.withDefaults(), lane: make(chan struct{}, 1), remaining: new(atomic.Int64),
		pause:  pause,
		jitter: func(most time.Duration) time.Duration { return rand.N(most + 1) },
	}
	s.remaining.Store(-1)
	return s
}

// newHTTPClient refuses redirects: they would carry the token to an address that nobody configured.
func newHTTPClient(transport http.RoundTripper) *http.Client {
	return &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// send returns the body of a 2xx answer, or an *APIError. Retried are 429, requests that surely did not arrive, and, unless
// r.once, whatever may pass by itself (408, 5xx, a broken connection).
func (s *sender) send(ctx context.Context, r request) ([]byte, error) {
	limited, cancel := context.WithTimeout(ctx, s.patience.Total)
	defer cancel()

	lost := false // an attempt of a write may have happened
	for n := 1; ; n++ {
		a, err := s.attempt(limited, r)
		if err == nil && a.status/100 == 2 {
			return a.body, nil
		}
		var e *APIError
		var retry bool
		wait := s.jitter(min(firstPause<<n, longestPause))
		switch {
		case err != nil:
			arrived := !neverSent(err)
			lost = lost || arrived
			retry = (!arrived || !r.once) && !errors.Is(err, ErrRateLimited) // the limiter has waited for as long as there was time
			e = &APIError{Op: r.op, Message: oneLine(err.Error()), is: []error{err}}
			if ctx.Err() == nil {
				e.is = append(e.is, ErrUnavailable)
			}
		default:
			e = refused(r.op, a)
			passing := errors.Is(e, ErrUnavailable)
			lost = lost || passing
			retry = e.Status == http.StatusTooManyRequests || passing && !r.once
			wait += e.RetryAfter
		}
		if !retry || n >= s.patience.Attempts || !fits(limited, wait) || s.pause(limited, wait) != nil {
			if lost && r.method != http.MethodGet {
				e.is = append(e.is, ErrAmbiguous)
			}
			return nil, e
		}
	}
}

// attempt sends r once. The error is of the transport; any status is an answer.
func (s *sender) attempt(ctx context.Context, r request) (answer, error) {
	select {
	case s.lane <- struct{}{}:
		defer func() { <-s.lane }()
	case <-ctx.Done():
		return answer{}, notSentError{ctx.Err()}
	}
	if err := ctx.Err(); err != nil {
		return answer{}, notSentError{err}
	}
	if err := s.limiter.wait(ctx, r.update); err != nil {
		return answer{}, notSentError{err}
	}
	ctx, cancel := context.WithTimeout(ctx, s.patience.PerAttempt)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, r.method, r.url, bytes.NewReader(r.body))
	if err != nil {
		return answer{}, notSentError{fmt.Errorf("build request: %w", err)}
	}
	if r.from != "" {
		req.Header.Set("From", r.from)
	}
	resp, err := s.do(req)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	if left, err := strconv.ParseInt(resp.Header.Get("ratelimit-remaining"), 10, 64); err == nil {
		s.remaining.Store(left)
	}
	s.limiter.heed(resp)
	a := answer{status: resp.StatusCode, header: resp.Header}
	a.body, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswerBytes+1))
	if err == nil && len(a.body) > maxAnswerBytes {
		err = fmt.Errorf("answer is larger than %d bytes", maxAnswerBytes)
	}
	if err != nil && (a.status/100 != 2 || r.blind) {
		return a, nil // the status says all that is needed
	}
	return a, err
}

// notSentError is a failure before anything went out.
type notSentError struct{ error }

func (e notSentError) Unwrap() error { return e.error }

// neverSent reports whether the request surely did not reach PagerDuty: no connection was made. Any other error is taken as
// possibly sent.
func neverSent(err error) bool {
	var mine notSentError
	var op *net.OpError
	var dns *net.DNSError
	return errors.As(err, &mine) || errors.As(err, &dns) || errors.As(err, &op) && op.Op == "dial"
}

// waitAsked is how long PagerDuty asks us to wait: ratelimit-reset is in seconds from now; Retry-After is not documented by
// PagerDuty and honoured when there. 0: it did not say.
func waitAsked(h http.Header) time.Duration {
	for _, name := range []string{"ratelimit-reset", "Retry-After"} {
		text := strings.TrimSpace(h.Get(name))
		if sec, err := strconv.Atoi(text); err == nil && sec >= 0 {
			return time.Duration(min(sec, 3600)) * time.Second
		}
		if at, err := http.ParseTime(text); err == nil {
			return min(max(time.Until(at), 0), time.Hour)
		}
	}
	return 0
}

// fits reports whether a pause leaves time for another attempt: if not, the caller should know at once.
func fits(ctx context.Context, wait time.Duration) bool {
	deadline, ok := ctx.Deadline()
	return !ok || time.Until(deadline) > wait
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// baseURL checks a configured address and returns it without a slash at the end.
func baseURL(name, text, fallback string) (string, error) {
	text = strings.TrimRight(cmp.Or(text, fallback), "/")
	u, err := url.Parse(text)
	if err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	if (u.Scheme != "https" && u.Scheme != "http") || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return "", fmt.Errorf("%s %q: must be http(s)://host, with nothing behind it but a path", name, text)
	}
	return text, nil
}
