package api_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/drydock/drydock/api"
	"github.com/drydock/drydock/playbook"
)

func TestETag(t *testing.T) {
	t.Parallel()
	s := newContractServer(t)
	get := func(tag string) (int, string, int) {
		r := request{method: "GET", path: "/api/v1/runs/going", token: "viewer"}
		if tag != "" {
			r.header = map[string]string{"If-None-Match": tag}
		}
		w := s.do(r)
		return w.Code, w.Header().Get("ETag"), w.Body.Len()
	}
	_, tag, _ := get("")
	for _, same := range []string{tag, `"other", ` + tag, "*", strings.TrimPrefix(tag, "W/")} {
		if code, again, size := get(same); code != 304 || again != tag || size != 0 {
			t.Errorf("If-None-Match %s: %d, ETag %s, %d bytes", same, code, again, size)
		}
	}
	run := s.runs["going"]
	run.Why = "something else"
	s.runs["going"] = run
	if code, again, _ := get(tag); code != 200 || again == tag {
		t.Errorf("after a change: %d, ETag %s", code, again)
	}
}

func TestRunFilters(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.page = playbook.RunPage{Next: "c2"}
	w := s.do(request{method: "GET", token: "viewer", path: "/api/v1/runs?carrier=c&daemonset=d&namespace=n&state=draining&finding=node_full&outcome=resolved" +
		"&incident=Q1&trigger=retrigger&since=2026-11-22T04:00:00%2B01:00&until=2026-11-23T00:00:00Z&limit=200&cursor=c1"})
	if w.Code != 200 || w.Body.String() != `{"items":[],"next_cursor":"c2"}` {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	want := playbook.RunFilter{Carrier: "c", DaemonSet: "d", Namespace: "n", State: playbook.Draining, Finding: playbook.FindingNodeFull,
		Outcome: playbook.OutcomeResolved, Incident: "Q1", Trigger: playbook.TriggerRetrigger, Limit: 200, Cursor: "c1",
		Since: time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC), Until: time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)}
	if diff := gocmp.Diff(want, s.filter); diff != "" {
		t.Errorf("filter (-want +got):\n%s", diff)
	}
	s.do(request{method: "GET", token: "viewer", path: "/api/v1/runs"})
	if s.filter.Limit != 50 {
		t.Errorf("default limit %d, want 50", s.filter.Limit)
	}
	for query, field := range map[string]string{
		"limit=0": "limit", "limit=201": "limit", "limit=ten": "limit", "limit=": "limit", "colour=red": "colour", "state=sleeping": "state",
		"finding=x": "finding", "outcome=x": "outcome", "trigger=x": "trigger", "since=yesterday": "since", "until=2026-11-22": "until",
		"carrier=a&carrier=b": "carrier", "carrier=": "carrier", "carrier=%FF": "carrier", "carrier=%00": "carrier",
		"since=2026-11-23T00:00:00Z&until=2026-11-22T00:00:00Z": "until",
	} {
		s.wantProblem(t, request{method: "GET", token: "viewer", path: "/api/v1/runs?" + query}, 400, "bad-parameters", `"field":"`+field+`"`)
	}
	s.wantProblem(t, request{method: "GET", token: "viewer", path: "/api/v1/runs?limit=0&state=x&y=1"}, 400, "bad-parameters",
		`"field":"limit"`, `"field":"state"`, `"field":"y"`)
	s.wantProblem(t, request{method: "GET", token: "viewer", path: "/api/v1/events?carrier=x"}, 400, "bad-parameters", `"field":"carrier"`)
	s.wantProblem(t, request{method: "GET", token: "viewer", path: "/api/v1/runs/r1?x=1"}, 400, "bad-parameters", `"field":"x"`)
	s.historyErr = fmt.Errorf("%w: malformed", api.ErrBadCursor)
	s.wantProblem(t, request{method: "GET", token: "viewer", path: "/api/v1/runs?cursor=zzz"}, 400, "bad-parameters", `"field":"cursor"`)
	s.wantProblem(t, request{method: "GET", token: "viewer", path: "/api/v1/events?cursor=zzz"}, 400, "bad-parameters", `"field":"cursor"`)
}
