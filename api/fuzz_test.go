package api_test

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/drydock/drydock/api"
	"github.com/drydock/drydock/playbook"
)

// fuzzServer is one server for many requests, whose clock moves so fast that no rate is used up.
type fuzzServer struct {
	*server
	runs map[string]playbook.StoredRun
}

func newFuzzServer() *fuzzServer {
	now := t0
	s := newContractServer(nil, func(o *api.Options) {
		o.Now = func() time.Time { now = now.Add(time.Second); return now }
	})
	return &fuzzServer{s, maps.Clone(s.runs)}
}

// wants sends a request and holds the answer against the specification, against the statuses that it may have, and against what
// none may show. What came with the request may be in the answer.
func (s *fuzzServer) wants(t *testing.T, r request, input string, statuses ...int) {
	t.Helper()
	s.t = t
	s.fakes.runs, s.started, s.arrivals, s.confirmed, s.alarms = maps.Clone(s.runs), nil, nil, nil, nil
	clear(s.keys)
	s.log.Reset()
	w := s.do(r)
	if !slices.Contains(statuses, w.Code) {
		t.Errorf("%s %s %q: %d %s", r.method, r.path, input, w.Code, w.Body)
	}
	for _, leak := range []string{"SELECT", "SQLSTATE", "pgx", ".go:", "goroutine", "json:", "strconv", "runtime error", "/srv/"} {
		if strings.Contains(w.Body.String(), leak) && !strings.Contains(input, leak) && r.path != "/openapi.json" {
			t.Errorf("%s %s %q leaks %q: %s", r.method, r.path, input, leak, w.Body)
		}
	}
}

// chosen are the operations of one kind, in an order, from which a fuzzed number chooses.
func chosen(which uint8, has func(call) bool) (string, call) {
	var ids []string
	for id, c := range calls {
		if has(c) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	id := ids[int(which)%len(ids)]
	return id, calls[id]
}

func isGet(c call) bool  { return c.body == "" }
func isPost(c call) bool { return c.body != "" }

func methodOf(id string, c call) string {
	switch {
	case isGet(c):
		return http.MethodGet
	case id == "setKillSwitch":
		return http.MethodPut
	}
	return http.MethodPost
}

func FuzzQuery(f *testing.F) {
	for i, query := range []string{"limit=1", "cursor=x", "since=2026-11-22T00:00:00Z&until=x", "carrier=%zz", "a=1&a=2", "%00", "state=%ff", "a;b", "limit=+5",
		"minutes_by_hand=7", "outcome=resolved&trigger=webhook&finding=absent"} {
		f.Add(uint8(i), query)
	}
	s := newFuzzServer()
	f.Fuzz(func(t *testing.T, which uint8, query string) {
		id, c := chosen(which, isGet)
		path, _, _ := strings.Cut(c.path, "?")
		raw := path + "?" + query
		if strings.ContainsAny(query, " #") || !parses(raw) { // no request line
			raw = path + "?" + url.Values{"carrier": {query}}.Encode()
		}
		s.wants(t, request{method: methodOf(id, c), path: raw, token: "viewer"}, query, 200, 400, 404)
	})
}

func parses(target string) bool {
	_, err := url.ParseRequestURI(target)
	return err == nil
}

func FuzzPath(f *testing.F) {
	for i, id := range []string{"x", "..", ".", "%", "\x00", "\xff", "a/b", "ended ", strings.Repeat("x", 300), "😀", "ended/stream"} {
		f.Add(uint8(i), id)
	}
	s := newFuzzServer()
	f.Fuzz(func(t *testing.T, which uint8, id string) {
		op, c := chosen(which, func(c call) bool { return strings.Count(c.path, "/") > 3 })
		for _, known := range []string{"ended", "going", "waiting", theIncident, knownCarrier, "node-exporter"} {
			path, query, _ := strings.Cut(c.path, "?")
			path = strings.Replace(path, "/"+known, "/"+url.PathEscape(id), 1)
			if query != "" {
				path += "?" + query
			}
			s.wants(t, request{method: methodOf(op, c), path: path, body: c.body, token: "admin"}, id, c.status, 400, 404, 405, 409)
		}
	})
}

func FuzzBody(f *testing.F) {
	for i, body := range []string{`{"reason":"x"}`, `{"reason":`, `[]`, `{"engaged":true,"reason":"\u0000"}`, `{"plan_hash":"h1","plan_hash":7}`, "", `{"reason":1e400}`,
		`{"REASON":"x"}`, `{"reason":null}`, `{"reason":"\ud800"}`, `{"reason":" "}`, "{\"reason\":\"\xff\"}", `{"engaged":false,"carrier":null,"reason":"x"}`} {
		f.Add(uint8(i), body)
	}
	s := newFuzzServer()
	f.Fuzz(func(t *testing.T, which uint8, body string) {
		id, c := chosen(which, isPost)
		s.wants(t, request{method: methodOf(id, c), path: c.path, token: "admin", body: body}, body, c.status, 400, 404, 409, 413)
	})
}

func FuzzHeaders(f *testing.F) {
	names := []string{"Idempotency-Key", "If-None-Match", "Last-Event-ID", "Authorization", "X-Request-Id", "Accept-Encoding", "Content-Type", "Accept"}
	for i, value := range []string{"k", `W/"x", *`, "7", "Bearer x.y.z", "Basic eA==", "gzip;q=0", "\xff", "", "99999999999999999999"} {
		f.Add(uint8(i), uint8(i), value)
	}
	s := newFuzzServer()
	f.Fuzz(func(t *testing.T, which, header uint8, value string) {
		id, c := chosen(which, func(call) bool { return true })
		r := request{method: methodOf(id, c), path: c.path, body: c.body, token: "admin",
			header: map[string]string{names[int(header)%len(names)]: value}}
		s.wants(t, r, value, c.status, 304, 400, 401, 204)
	})
}

func FuzzWebhook(f *testing.F) {
	for _, body := range []string{event("incident.triggered", runTitle), `{"event":{}}`, `{`, `[]`, "null", `{"messages":[]}`, `{"event":{"id":"\u0000","event_type":7}}`} {
		f.Add(body, "w1", true)
		f.Add(body, "\xff", false)
	}
	s := newFuzzServer()
	f.Fuzz(func(t *testing.T, body, id string, signed bool) {
		r := request{method: "POST", path: "/webhooks/pagerduty", body: body, header: map[string]string{"X-Webhook-Id": id}}
		if signed {
			r.header["X-PagerDuty-Signature"] = sign(body)
			s.wants(t, r, body, 202, 400, 413)
			return
		}
		r.header["X-PagerDuty-Signature"] = id
		s.wants(t, r, body, 401, 202, 400, 413) // the fuzzer may find the signature
		r.header, r.token = nil, "operator"
		s.wants(t, r, body, 202, 400, 401, 413)
	})
}
