package api_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/drydock/drydock/api"
	"github.com/drydock/drydock/playbook"
)

// serve puts a server on a loopback address, with limits for requests that a stream outlives.
func (s *server) serve(t *testing.T) string {
	t.Helper()
	h := httptest.NewUnstartedServer(s.Server)
	h.Config.ReadTimeout, h.Config.WriteTimeout = 300*time.Millisecond, 300*time.Millisecond
	h.Start()
	t.Cleanup(h.Close)
	return h.URL
}

func openStream(t *testing.T, ctx context.Context, url, last string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer tok-viewer")
	if last != "" {
		req.Header.Set("Last-Event-ID", last)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	return resp
}

// events reads "id event" of each event until the stream ends, or as many as n.
func events(t *testing.T, body io.Reader, n int) []string {
	t.Helper()
	var got []string
	id, name := "", ""
	for lines := bufio.NewScanner(body); (n < 0 || len(got) < n) && lines.Scan(); {
		key, value, _ := strings.Cut(lines.Text(), ": ")
		switch key {
		case "id":
			id = value
		case "event":
			name = value
		case "":
			if name != "" {
				got = append(got, strings.TrimSpace(id+" "+name))
			}
			id, name = "", ""
		}
	}
	return got
}

func (s *server) happen(run string, state playbook.State, changes ...playbook.RunChange) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range changes {
		c.Seq = int64(len(s.changes) + 1)
		s.fakes.changes = append(s.fakes.changes, c)
	}
	r := s.runs[run]
	r.State = state
	s.runs[run] = r
}

func tickChange(to playbook.State) playbook.RunChange {
	return playbook.RunChange{Tick: &playbook.StoredTick{Seq: 1, Tick: playbook.Tick{At: t0, From: playbook.Triage, To: to}}}
}

func TestStream(t *testing.T) {
	t.Parallel()
	s := newContractServer(t, func(o *api.Options) { o.Now = time.Now })
	intent := playbook.RunChange{Intent: &playbook.Intent{Seq: 1, Lane: "carrier/c", Action: playbook.Uncordon{Node: "w1", UID: "u1"}, PromisedAt: t0}}
	s.happen("going", playbook.Draining, tickChange(playbook.Draining), intent)
	url := s.serve(t) + "/api/v1/runs/going/stream"
	resp := openStream(t, t.Context(), url, "")
	if got := resp.Header.Get("Content-Type"); resp.StatusCode != 200 || got != "text/event-stream" || resp.Header.Get("Content-Encoding") != "" {
		t.Fatalf("%d %s %s", resp.StatusCode, got, resp.Header.Get("Content-Encoding"))
	}
	body := bufio.NewReader(resp.Body)
	if got := fmt.Sprint(events(t, body, 2)); got != "[1 tick 2 intent]" {
		t.Errorf("what had happened: %s", got)
	}
	// Long after the server's limits for a request, the stream is there.
	time.AfterFunc(time.Second, func() { s.happen("going", playbook.StateResolved, tickChange(playbook.StateResolved)) })
	if got := fmt.Sprint(events(t, body, -1)); got != "[3 tick 4 end]" {
		t.Errorf("what happened then: %s", got)
	}
	for last, want := range map[string]string{"0": "[1 tick 2 intent 3 tick 4 end]", "2": "[3 tick 4 end]", "3": "[4 end]"} {
		if got := fmt.Sprint(events(t, openStream(t, t.Context(), url, last).Body, -1)); got != want {
			t.Errorf("after %s: %s, want %s", last, got, want)
		}
	}
	if resp := openStream(t, t.Context(), url, "4"); resp.StatusCode != http.StatusNoContent {
		t.Errorf("after the end: %d", resp.StatusCode)
	}
}

// TestUnnumberedChanges are sent without an id, so that a client never goes on after only some of them.
func TestUnnumberedChanges(t *testing.T) {
	t.Parallel()
	s := newContractServer(t)
	s.happen("ended", playbook.StateEscalated, tickChange(playbook.Triage), tickChange(playbook.StateEscalated))
	s.fakes.changes[0].Seq, s.fakes.changes[1].Seq = 0, 0
	w := s.do(request{method: "GET", path: "/api/v1/runs/ended/stream", token: "viewer"})
	if got := fmt.Sprint(events(t, w.Body, -1)); got != "[tick tick 3 end]" {
		t.Errorf("got %s", got)
	}
}

// TestTooManyStreams: their number is bounded, a client that leaves makes room, and a shutdown ends them all.
func TestTooManyStreams(t *testing.T) {
	t.Parallel()
	s := newContractServer(t, func(o *api.Options) { o.Now = time.Now })
	url := s.serve(t) + "/api/v1/runs/going/stream"
	ctx, leave := context.WithCancel(t.Context())
	openStream(t, ctx, url, "")
	open := []*http.Response{}
	for range 63 {
		open = append(open, openStream(t, t.Context(), url, ""))
	}
	s.wantProblem(t, request{method: "GET", path: "/api/v1/runs/going/stream", token: "admin"}, 429, "too-many-streams")
	leave()
	deadline := time.Now().Add(20 * time.Second)
	for {
		resp := openStream(t, t.Context(), url, "")
		if resp.StatusCode == 200 {
			break
		}
		_ = resp.Body.Close()
		if time.Now().After(deadline) {
			t.Fatal("no room was made")
		}
	}
	s.Stop()
	for _, resp := range open {
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			t.Errorf("a stream broke off: %v", err)
		}
	}
}

func TestCompressed(t *testing.T) {
	t.Parallel()
	s := newContractServer(t)
	w := s.do(request{method: "GET", path: "/docs", header: map[string]string{"Accept-Encoding": "gzip"}})
	if w.Header().Get("Content-Encoding") != "gzip" || !strings.Contains(w.Header().Get("Vary"), "Accept-Encoding") {
		t.Errorf("headers %v", w.Header())
	}
	w = s.do(request{method: "GET", path: "/api/v1/runs/ended/stream", token: "viewer", header: map[string]string{"Accept-Encoding": "gzip"}})
	if w.Header().Get("Content-Encoding") != "" {
		t.Error("a stream is compressed")
	}
}
