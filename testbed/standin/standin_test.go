package standin

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestManualClock(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC)
	c := NewManual(start)
	var got []string
	say := func(what string) func() {
		return func() { got = append(got, what+" at "+c.Now().Sub(start).String()) }
	}
	c.AfterFunc(3*time.Second, say("third"))
	c.AfterFunc(time.Second, func() {
		say("first")()
		c.AfterFunc(time.Second, say("planned by the first"))
	})
	c.AfterFunc(2*time.Second, say("second"))
	stopped := c.AfterFunc(time.Second, say("stopped"))
	if !stopped.Stop() || stopped.Stop() {
		t.Error("Stop must be in time once")
	}
	c.AfterFunc(time.Minute, say("late"))
	c.Advance(10 * time.Second)
	want := []string{"first at 1s", "second at 2s", "planned by the first at 2s", "third at 3s"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("what ran (-want +got):\n%s", diff)
	}
	if now := c.Now().Sub(start); now != 10*time.Second || c.Waiting() != 1 {
		t.Errorf("the clock stands at %s with %d waiting", now, c.Waiting())
	}
}

func TestFaults(t *testing.T) {
	t.Parallel()
	var faults Faults
	var effects atomic.Int64
	l, err := Listen(t.Context(), "", faults.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		effects.Add(int64(len(body)))
		w.Header().Set("X-Effect", "yes")
		w.WriteHeader(http.StatusCreated)
		_, _ = io.WriteString(w, "made")
	})))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	post := func(ctx context.Context, path string) (*http.Response, error) {
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, l.URL+path, strings.NewReader("x"))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(r)
		if err == nil {
			_ = resp.Body.Close()
		}
		return resp, err
	}
	tests := map[string]struct {
		fault   Fault
		path    string
		status  int
		err     error
		effects int64
	}{
		"none":                     {Fault{Path: "/other", Times: 1}, "/notes", 201, nil, 1},
		"of another method":        {Fault{Method: "GET", Times: 1}, "/notes", 201, nil, 1},
		"a status":                 {Fault{Status: 503}, "/notes", 503, nil, 0},
		"a status after the write": {Fault{Status: 502, AfterEffect: true}, "/notes", 502, nil, 1},
		"a reset":                  {Fault{Reset: true, Path: "/*"}, "/notes", 0, syscall.ECONNRESET, 0},
		"a reset after the write":  {Fault{Reset: true, AfterEffect: true}, "/notes", 0, syscall.ECONNRESET, 1},
		"too slow":                 {Fault{Delay: time.Hour}, "/notes", 0, context.DeadlineExceeded, 0},
		"too slow after the write": {Fault{Delay: time.Hour, AfterEffect: true}, "/notes", 0, context.DeadlineExceeded, 1},
		"slow":                     {Fault{Delay: time.Millisecond}, "/notes", 201, nil, 1},
		"slow after the write":     {Fault{Delay: time.Millisecond, AfterEffect: true}, "/notes", 201, nil, 1},
	}
	for name, test := range tests {
		faults.Clear()
		effects.Store(0)
		faults.Inject(test.fault)
		patience := 10 * time.Second
		if errors.Is(test.err, context.DeadlineExceeded) {
			patience = 100 * time.Millisecond
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		resp, err := post(ctx, test.path)
		cancel()
		if !errors.Is(err, test.err) {
			t.Errorf("%s: error %v, want %v", name, err, test.err)
		}
		if err == nil && resp.StatusCode != test.status {
			t.Errorf("%s: status %d, want %d", name, resp.StatusCode, test.status)
		}
		if got := effects.Load(); got != test.effects {
			t.Errorf("%s: %d effects, want %d", name, got, test.effects)
		}
	}
	faults.Clear()
	faults.Inject(Fault{Status: 429, Times: 2})
	for n, want := range []int{429, 429, 201} {
		if resp, err := post(t.Context(), "/"); err != nil || resp.StatusCode != want {
			t.Errorf("request %d: %v, want %d", n, resp, want)
		}
	}
}

func TestAListenerEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	l, err := Listen(ctx, "", http.NotFoundHandler())
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	patience, stop := context.WithTimeout(t.Context(), 10*time.Second)
	defer stop()
	for {
		r, err := http.NewRequestWithContext(patience, http.MethodGet, l.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			break
		}
		_ = resp.Body.Close()
	}
	if patience.Err() != nil {
		t.Error("the listener still answers")
	}
}
