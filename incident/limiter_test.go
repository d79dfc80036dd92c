package incident

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

// TestLimiterShares: three replicas that send as fast as they may stay below PagerDuty's limits in every minute.
func TestLimiterShares(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		update      bool
		least, most int
	}{
		"all requests": {false, 800, 900},
		"updates":      {true, 400, 450},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				if most := busiestMinute(t, tt.update); most > tt.most || most < tt.least {
					t.Errorf("%d requests within a minute, want most of %d and never more", most, tt.most)
				}
			})
		})
	}
}

// busiestMinute is how many requests three replicas send in the worst minute.
func busiestMinute(t *testing.T, update bool) int {
	t.Helper()
	const replicas = 3
	sent := make(chan time.Time, 10_000)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	done := make(chan struct{})
	for range replicas {
		l := NewLimiter(time.Now, nil)
		l.Share(replicas)
		go func() {
			for l.wait(ctx, update) == nil {
				sent <- time.Now()
			}
			done <- struct{}{}
		}()
	}
	for range replicas {
		<-done
	}
	close(sent)
	var all []time.Time
	for at := range sent {
		all = append(all, at)
	}
	most := 0
	for from, to := 0, 0; to < len(all); to++ {
		for all[to].Sub(all[from]) >= time.Minute {
			from++
		}
		most = max(most, to-from+1)
	}
	return most
}

// TestWhatCountsAsAnUpdate: the writes that change an incident wait for the lower limit, its notes and reads do not.
func TestWhatCountsAsAnUpdate(t *testing.T) {
	t.Parallel()
	open := answerWith(200, `{"incident":{"id":"`+testID+`","status":"triggered"},"incidents":[],"note":{"id":"PNOTE01","content":"hello"},"notes":[]}`)
	for name, tt := range map[string]struct {
		call func(c *Client) error
		want int
	}{
		"read":        {func(c *Client) error { _, err := c.GetIncident(t.Context(), testID); return err }, 0},
		"note":        {func(c *Client) error { _, err := c.CreateNote(t.Context(), testID, "hello"); return err }, 0},
		"acknowledge": {func(c *Client) error { return c.Acknowledge(t.Context(), testID) }, 1},
		"resolve":     {func(c *Client) error { return c.Resolve(t.Context(), testID) }, 1},
		"escalate":    {func(c *Client) error { return c.EscalateToLevel(t.Context(), testID, 2) }, 1},
		"hand over":   {func(c *Client) error { return c.EscalateToPolicy(t.Context(), testID, "PPOLICY1") }, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, _ := newTestClient(t, newStandIn(t, open).server.URL)
			now := time.Now()
			c.sender.limiter = NewLimiter(func() time.Time { return now }, nil)
			c.sender.limiter.updates.SetLimit(0) // none comes back
			if err := tt.call(c); err != nil {
				t.Fatal(err)
			}
			if got := updatesAtOnce - int(c.sender.limiter.updates.Tokens()); got != tt.want {
				t.Errorf("%d updates were counted, want %d", got, tt.want)
			}
		})
	}
}

func TestLimiterHolds(t *testing.T) {
	t.Parallel()
	header := func(pairs ...string) http.Header {
		h := http.Header{}
		for i := 0; i < len(pairs); i += 2 {
			h.Set(pairs[i], pairs[i+1])
		}
		return h
	}
	tests := map[string]struct {
		status int
		header http.Header
		want   time.Duration
	}{
		"nothing said":                     {status: 200, header: header()},
		"much is left":                     {status: 200, header: header("ratelimit-remaining", "500", "ratelimit-reset", "30")},
		"little is left":                   {status: 200, header: header("ratelimit-remaining", "3", "ratelimit-reset", "30"), want: 30 * time.Second},
		"refused":                          {status: 429, header: header("ratelimit-remaining", "0", "ratelimit-reset", "20"), want: 20 * time.Second},
		"refused, and not said until when": {status: 429, header: header(), want: limitPause},
		"refused until now":                {status: 429, header: header("ratelimit-reset", "0"), want: limitPause},
		"refused for a day":                {status: 429, header: header("Retry-After", "86400"), want: longestHold},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var told time.Duration
				l := NewLimiter(time.Now, func(d time.Duration) { told = d })
				l.heed(&http.Response{StatusCode: tt.status, Header: tt.header})
				began := time.Now()
				if err := l.wait(t.Context(), false); err != nil {
					t.Fatal(err)
				}
				if waited := time.Since(began); waited != tt.want || told != tt.want {
					t.Errorf("waited %s, told %s, want %s", waited, told, tt.want)
				}
			})
		})
	}
}

// TestLimiterDoesNotWaitInVain: a request that could not be sent before its end is refused at once.
func TestLimiterDoesNotWaitInVain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := NewLimiter(time.Now, nil)
		l.Hold(time.Minute)
		l.Hold(time.Second) // a shorter one takes nothing back
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		began := time.Now()
		if err := l.wait(ctx, false); !errors.Is(err, ErrRateLimited) || time.Since(began) != 0 {
			t.Errorf("got %v after %s, want ErrRateLimited at once", err, time.Since(began))
		}
	})
}

// TestClientIsHeld: a 429 holds the client's next request back, and a write that was held back was not sent.
func TestClientIsHeld(t *testing.T) {
	t.Parallel()
	s := newStandIn(t, answerWith(429, `{"error":{"message":"Rate Limit Exceeded","code":2020}}`, "ratelimit-reset", "60"))
	c, _ := newTestClient(t, s.server.URL)
	c.sender.limiter = NewLimiter(time.Now, nil)
	if _, err := c.GetIncident(t.Context(), testID); !errors.Is(err, ErrRateLimited) {
		t.Fatalf("got %v", err)
	}
	_, err := c.CreateNote(t.Context(), testID, "hello")
	if !errors.Is(err, ErrRateLimited) || errors.Is(err, ErrAmbiguous) {
		t.Errorf("the note: %v, want ErrRateLimited and not ErrAmbiguous", err)
	}
	if n := len(s.seen()); n != 1 {
		t.Errorf("%d requests were sent, want the first only: %v", n, s.seen())
	}
}
