package api_test

import (
	"context"
	"errors"
	"testing"

	"github.com/drydock/drydock/api"
)

func TestProbes(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	if w := s.do(request{method: "GET", path: "/healthz"}); w.Code != 200 {
		t.Errorf("healthz %d", w.Code)
	}
	if w := s.do(request{method: "GET", path: "/readyz"}); w.Code != 200 || w.Body.String() != `{"parts":{"database":"ok"},"status":"ok"}` {
		t.Errorf("readyz %d %s", w.Code, w.Body)
	}
	for _, path := range []string{"/healthz", "/readyz"} {
		if w := s.do(request{method: "HEAD", path: path}); w.Code != 200 {
			t.Errorf("HEAD %s: %d", path, w.Code)
		}
	}
	s.databaseUp = errors.New("dial tcp secret.internal: refused")
	s.wantProblem(t, request{method: "GET", path: "/readyz"}, 503, "not-ready", `"database":"failing"`)
	if w := s.do(request{method: "GET", path: "/healthz"}); w.Code != 200 {
		t.Errorf("healthz with the database down: %d", w.Code)
	}
}

func TestReadyzDoesNotWaitForever(t *testing.T) {
	t.Parallel()
	stuck := make(chan struct{})
	defer close(stuck)
	s := newServer(t, func(o *api.Options) {
		o.Parts = []api.Part{{Name: "stuck", Check: func(context.Context) error { <-stuck; return nil }}}
	})
	s.wantProblem(t, request{method: "GET", path: "/readyz"}, 503, "not-ready", `"stuck":"failing"`)
}
