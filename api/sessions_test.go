package api_test

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/drydock/drydock/api"
)

// witness keeps what is recorded; down, it takes nothing.
type witness struct {
	deeds []string
	down  bool
}

func (w *witness) Record(_ context.Context, d api.Deed) error {
	if w.down {
		return errors.New("the database is away")
	}
	w.deeds = append(w.deeds, d.Who+" "+d.What)
	return nil
}

func (w *witness) take() []string {
	deeds := w.deeds
	w.deeds = nil
	return deeds
}

// TestSessionsAreRecorded: who logs in and out, and who is refused, which guessing does not make many.
func TestSessionsAreRecorded(t *testing.T) {
	t.Parallel()
	w, now := &witness{}, t0
	s := newServer(t, func(o *api.Options) {
		o.Witness, o.OneTimeCode, o.LoginToken, o.Now = w, "code", "tok-admin", func() time.Time { return now }
	})
	wants := func(after string, want ...string) {
		t.Helper()
		if got := w.take(); !slices.Equal(got, want) {
			t.Errorf("%s: recorded %q, want %q", after, got, want)
		}
	}
	form := func(path, body, cookie string) *http.Response {
		return s.do(request{method: "POST", path: path, body: body, header: map[string]string{"Content-Type": "application/x-www-form-urlencoded",
			"Cookie": cookie}}).Result()
	}
	s.do(request{method: "GET", path: "/login?code=code"})
	wants("the one-time code", "admin session.begin")
	s.do(request{method: "GET", path: "/login?code=code"})
	wants("the code again")
	if answer := form("/login", "token=tok-viewer", ""); answer.StatusCode != http.StatusSeeOther {
		t.Errorf("login: %d", answer.StatusCode)
	}
	wants("a login", "viewer session.begin")
	form("/logout", "", "drydock_session=tok-viewer")
	wants("a logout", "viewer session.end")
	form("/logout", "", "")
	form("/logout", "", "drydock_session=unknown")
	s.do(request{method: "GET", path: "/api/v1/kill-switch", token: "viewer"})
	s.do(request{method: "GET", path: "/api/v1/kill-switch"})
	wants("a logout of nobody, a request, a request without a token")

	for range 50 {
		s.do(request{method: "GET", path: "/api/v1/kill-switch", token: "guess"})
		form("/login", "token=guess", "")
	}
	wants("guesses", "unknown token.refused", "unknown token.refused", "unknown token.refused")
	now = now.Add(time.Minute)
	s.do(request{method: "GET", path: "/api/v1/kill-switch", token: "guess"})
	wants("a guess a minute later", "unknown token.refused")

	// The log can not be written: people still get in, and the server's own log tells.
	w.down = true
	if answer := form("/login", "token=tok-viewer", ""); answer.StatusCode != http.StatusSeeOther || !strings.Contains(s.log.String(), "audit entry was not written") {
		t.Errorf("login: %d, log %s", answer.StatusCode, s.log)
	}
}
