package pagerduty

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// maxRequest is what the stand-in reads of one request, in bytes.
const maxRequest = 1 << 20

// need says what an endpoint asks of its caller.
type need int

const (
	needRead  need = iota
	needWrite      // A key that may write.
	needFrom       // And a user, by the key or by the From header.
)

// call is one authenticated request.
type call struct {
	*http.Request
	key   *Key
	body  []byte
	query url.Values
	by    act
	head  http.Header // Of the answer.
}

// endpoint answers a call; the server's lock is held. A nil body is no content.
type endpoint func(c *call) (status int, body any, err *Error)

// routes is the whole surface.
func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	rest := func(pattern string, n need, e endpoint) { mux.HandleFunc(pattern, s.rest(n, e)) }

	rest("GET /incidents", needRead, s.listIncidents)
	rest("POST /incidents", needFrom, s.createIncident)
	rest("PUT /incidents", needFrom, s.updateIncidents)
	rest("GET /incidents/{id}", needRead, s.getIncident)
	rest("PUT /incidents/{id}", needFrom, s.updateIncident)
	rest("GET /incidents/{id}/alerts", needRead, s.listAlerts)
	rest("PUT /incidents/{id}/alerts", needFrom, s.updateAlerts)
	rest("PUT /incidents/{id}/alerts/{$}", needFrom, s.updateAlerts) // go-pagerduty 1.8.0 asks so.
	rest("GET /incidents/{id}/alerts/{alert}", needRead, s.getAlert)
	rest("GET /incidents/{id}/log_entries", needRead, s.listLogEntries)
	rest("GET /incidents/{id}/notes", needRead, s.listNotes)
	rest("POST /incidents/{id}/notes", needFrom, s.createNote)
	rest("PUT /incidents/{id}/notes/{note}", needFrom, s.updateNote)
	rest("DELETE /incidents/{id}/notes/{note}", needWrite, s.deleteNote)
	rest("POST /incidents/{id}/snooze", needFrom, s.snoozeIncident)
	rest("POST /incidents/{id}/status_updates", needFrom, s.createStatusUpdate)
	rest("PUT /incidents/{id}/merge", needFrom, s.mergeIncidents)

	rest("GET /users", needRead, s.listUsers)
	rest("GET /users/me", needRead, s.currentUser)
	rest("GET /users/{id}", needRead, s.getUser)
	rest("GET /services", needRead, s.listServices)
	rest("GET /services/{id}", needRead, s.getService)
	rest("GET /escalation_policies", needRead, s.listPolicies)
	rest("GET /escalation_policies/{id}", needRead, s.getPolicy)
	rest("GET /priorities", needRead, s.listPriorities)

	rest("GET /webhook_subscriptions", needRead, s.listSubscriptions)
	rest("POST /webhook_subscriptions", needWrite, s.createSubscription)
	rest("GET /webhook_subscriptions/{id}", needRead, s.getSubscription)
	rest("PUT /webhook_subscriptions/{id}", needWrite, s.updateSubscription)
	rest("DELETE /webhook_subscriptions/{id}", needWrite, s.deleteSubscription)
	rest("POST /webhook_subscriptions/{id}/enable", needWrite, s.enableSubscription)
	rest("POST /webhook_subscriptions/{id}/ping", needWrite, s.pingSubscription)

	mux.HandleFunc("POST /v2/enqueue", s.enqueue)
	mux.HandleFunc("POST /v2/change/enqueue", s.enqueueChange)
	mux.HandleFunc("GET /{$}", s.view)
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { s.refuse(w, notFound()) })
	return mux
}

// record keeps every request, headers included, before any fault can hit it.
func (s *Server) record(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/" {
			next.ServeHTTP(w, r)
			return
		}
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
		if err != nil {
			s.refuse(w, tooLarge("the request is over %d bytes", maxRequest))
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		s.mu.Lock()
		s.requests = append(s.requests, Request{s.acct.now(), r.Method, r.URL.Path, r.URL.RawQuery, r.Header.Clone(), body})
		s.mu.Unlock()
		next.ServeHTTP(w, r)
	})
}

// rest authenticates, counts against the rate limit, finds the author and runs
// the endpoint.
func (s *Server) rest(n need, e endpoint) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			s.refuse(w, invalid("the body could not be read"))
			return
		}
		c := &call{Request: r, body: body, query: r.URL.Query(), head: w.Header()}
		status, answer, refusal := s.run(c, n, e)
		if refusal != nil {
			s.refuse(w, refusal)
			return
		}
		if answer == nil {
			w.WriteHeader(status)
			return
		}
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		w.WriteHeader(status)
		_, _ = w.Write(answer)
	}
}

func (s *Server) run(c *call, n need, e endpoint) (int, []byte, *Error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.authenticate(c); err != nil {
		return 0, nil, err
	}
	if err := s.spend(c); err != nil {
		return 0, nil, err
	}
	if n != needRead && c.key.Kind == ReadOnlyKey {
		return 0, nil, &Error{http.StatusForbidden, codeForbidden, "Access Denied", []string{"the key is read-only"}}
	}
	if n == needFrom {
		if err := s.author(c); err != nil {
			return 0, nil, err
		}
	}
	status, v, refusal := e(c)
	if refusal != nil {
		return 0, nil, refusal
	}
	if n != needRead {
		s.changes.Tell()
	}
	if v == nil {
		return status, nil, nil
	}
	b, err := json.Marshal(v)
	if err != nil {
		return 0, nil, &Error{Status: http.StatusInternalServerError, Code: 2000, Message: err.Error()}
	}
	return status, b, nil
}

func (s *Server) authenticate(c *call) *Error {
	h := c.Header.Get("Authorization")
	token, ok := strings.CutPrefix(h, "Token token=")
	if !ok {
		token, ok = strings.CutPrefix(h, "Bearer ")
	}
	c.key = s.keys[strings.TrimSpace(token)]
	if !ok || c.key == nil {
		return &Error{Status: http.StatusUnauthorized, Code: codeUnauthorized, Message: "Unauthorized"}
	}
	return nil
}

// author finds in whose name a write is made.
func (s *Server) author(c *call) *Error {
	var u *User
	if c.key.Kind == UserKey {
		u = s.acct.user(c.key.UserID)
	} else {
		from := c.Header.Get("From")
		if from == "" {
			return &Error{Status: http.StatusBadRequest, Code: codeRequesterMissing, Message: `You must specify a user's email address in the "From" header to perform this action`}
		}
		u = s.acct.userByEmail(from)
	}
	if u == nil {
		return &Error{Status: http.StatusBadRequest, Code: codeRequesterUnknown, Message: "Requester User Not Found"}
	}
	c.by = act{byUser(u), viaAPI}
	return nil
}

func (s *Server) refuse(w http.ResponseWriter, e *Error) {
	s.mu.Lock()
	shape := s.acct.behaviour.ErrorShape
	s.mu.Unlock()
	b, kind := e.body(shape)
	w.Header().Set("Content-Type", kind)
	w.WriteHeader(e.Status)
	_, _ = w.Write(b)
}

// bucket counts requests within a minute.
type bucket struct {
	since time.Time
	used  int
}

// spend takes the call from its buckets and tells of the one that is closest to
// its end.
func (s *Server) spend(c *call) *Error {
	owner := "key " + c.key.Token
	if c.key.Kind == UserKey {
		owner = "user " + c.key.UserID
	}
	limit, left, reset, ok := s.take(owner, s.opts.RateLimit)
	if c.Method == http.MethodPut && c.URL.Path == "/incidents" {
		l, n, r, more := s.take(owner+" PUT /incidents", s.opts.UpdateRateLimit)
		if n < left || !more {
			limit, left, reset = l, n, r
		}
		ok = ok && more
	}
	c.head.Set("ratelimit-limit", itoa(limit))
	c.head.Set("ratelimit-remaining", itoa(left))
	c.head.Set("ratelimit-reset", itoa(reset))
	if !ok {
		return &Error{Status: http.StatusTooManyRequests, Code: codeRateLimit, Message: "Rate Limit Exceeded"}
	}
	return nil
}

func (s *Server) take(name string, perMinute int) (limit, left, reset int, ok bool) {
	now := s.acct.now()
	b := s.buckets[name]
	if b == nil || now.Sub(b.since) >= time.Minute {
		b = &bucket{since: now}
		s.buckets[name] = b
	}
	b.used++
	reset = int((time.Minute - now.Sub(b.since) + time.Second - 1) / time.Second)
	return perMinute, max(0, perMinute-b.used), reset, b.used <= perMinute
}

// decode reads the body, which must be a JSON object with the named member.
func decode[T any](c *call, member string) (T, *Error) {
	var outer map[string]json.RawMessage
	var v T
	if err := json.Unmarshal(c.body, &outer); err != nil {
		return v, invalid("the body is not a JSON object")
	}
	raw, ok := outer[member]
	if !ok {
		return v, invalid("%q is missing", member)
	}
	if err := json.Unmarshal(raw, &v); err != nil {
		return v, invalid("%q is malformed", member)
	}
	return v, nil
}

// include returns the values of include[], and of include without brackets.
func (c *call) include() []string { return c.list("include") }

func (c *call) list(name string) []string {
	return slices.Concat(c.query[name+"[]"], c.query[name])
}

// page cuts a list as PagerDuty's classic pagination does: 25 rows unless asked,
// 100 at most, and nothing beyond the ten thousandth.
func page[T any](c *call, name string, all []T) (object, []T, *Error) {
	number := func(key string, otherwise int) (int, *Error) {
		if c.query.Get(key) == "" {
			return otherwise, nil
		}
		n, err := strconv.Atoi(c.query.Get(key))
		if err != nil || n < 0 {
			return 0, invalid("%s must be a number", key)
		}
		return n, nil
	}
	limit, err := number("limit", 25)
	if err != nil {
		return nil, nil, err
	}
	offset, err := number("offset", 0)
	if err != nil {
		return nil, nil, err
	}
	if limit == 0 {
		limit = 25
	}
	limit = min(limit, 100)
	if offset+limit > 10_000 {
		return nil, nil, invalid("Offset must be such that the sum of offset and limit is at most 10000")
	}
	var total any
	if c.query.Get("total") == "true" {
		total = len(all)
	}
	from := min(offset, len(all))
	to := min(from+limit, len(all))
	return object{"limit": limit, "offset": offset, "more": to < len(all), "total": total, name: []any{}}, all[from:to], nil
}
