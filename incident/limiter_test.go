package incident

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

// TestLimiterShares: three replicas that send as fast as they may stay below PagerDuty's limit in every minute.
func TestLimiterShares(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const replicas = 3
		sent := make(chan time.Time, 10_000)
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
		defer cancel()
		done := make(chan struct{})
		for range replicas {
			l := NewLimiter(time.Now, nil)
			l.Share(replicas)
			go func() {
				for l.wait(ctx) == nil {
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
		if most > 900 || most < 800 {
			t.Errorf("%d requests within a minute, want most of 900 and never more", most)
		}
	})
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
				if err := l.wait(t.Context()); err != nil {
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
		if err := l.wait(ctx); !errors.Is(err, ErrRateLimited) || time.Since(began) != 0 {
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
