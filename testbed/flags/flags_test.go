package flags

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/drydock/drydock/testbed/standin"
)

type service struct {
	*testing.T
	*Server
	url string
}

func start(t *testing.T) *service {
	t.Helper()
	clock := standin.NewManual(time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC))
	s := &service{T: t, Server: New(Options{Token: "sesame", Clock: clock})}
	url, err := s.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	s.url = url
	return s
}

func (s *service) get(ctx context.Context, path, token string) (int, string, error) {
	s.Helper()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+path, nil)
	if err != nil {
		s.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, strings.TrimSpace(string(body)), err
}

func TestLookUp(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.Set("prod-dal10-carrier3", "armada-ops", "2.41.0")
	s.Set("prod-dal12-carrier2", "armada-ops", "2.40.7")
	s.Set("prod-dal12-carrier2", "armada-api", "")
	s.Set("prod-ams03-carrier1", "armada-ops", "1.0.0")
	s.Delete("prod-ams03-carrier1", "armada-ops")
	tests := map[string]struct {
		path, token string
		status      int
		body        string
	}{
		"a version": {
			"/flags/prod-dal10-carrier3/armada-ops", "sesame", 200,
			`{"carrier":"prod-dal10-carrier3","component":"armada-ops","version":"2.41.0","variations":{"prod-dal10-carrier3":{"version":"2.41.0"}},"updated_at":"2026-11-22T03:00:00Z"}`,
		},
		"no version": {
			"/flags/prod-dal12-carrier2/armada-api", "sesame", 200,
			`{"carrier":"prod-dal12-carrier2","component":"armada-api","version":null,"variations":{"prod-dal12-carrier2":{"version":null}},"updated_at":"2026-11-22T03:00:00Z"}`,
		},
		"all carriers": {
			"/flags/armada-ops", "sesame", 200,
			`{"component":"armada-ops","variations":{"prod-dal10-carrier3":{"version":"2.41.0"},"prod-dal12-carrier2":{"version":"2.40.7"}}}`,
		},
		"deleted":           {"/flags/prod-ams03-carrier1/armada-ops", "sesame", 404, `{"error":"no flag for armada-ops on prod-ams03-carrier1"}`},
		"unknown component": {"/flags/nothing", "sesame", 404, `{"error":"no flag for nothing"}`},
		"unknown page":      {"/", "sesame", 404, `{"error":"no such page"}`},
		"no token":          {"/flags/armada-ops", "", 401, `{"error":"a valid bearer token is needed"}`},
		"wrong token":       {"/flags/armada-ops", "open", 401, `{"error":"a valid bearer token is needed"}`},
	}
	for name, test := range tests {
		status, body, err := s.get(t.Context(), test.path, test.token)
		if err != nil || status != test.status || body != test.body {
			t.Errorf("%s: %d %s %v\nwant %d %s", name, status, body, err, test.status, test.body)
		}
	}
	if n := len(s.Requests()); n != len(tests) {
		t.Errorf("%d requests on record, want %d", n, len(tests))
	}
}

func TestFaults(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.Set("c", "armada-ops", "1")
	s.Faults.Inject(standin.Fault{Status: 500, Times: 1})
	if status, _, err := s.get(t.Context(), "/flags/c/armada-ops", "sesame"); err != nil || status != 500 {
		t.Errorf("%d %v, want 500", status, err)
	}
	s.Faults.Inject(standin.Fault{Delay: time.Hour, Times: 1})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, _, err := s.get(ctx, "/flags/c/armada-ops", "sesame"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a slow answer: %v", err)
	}
	if status, _, err := s.get(t.Context(), "/flags/c/armada-ops", "sesame"); err != nil || status != 200 {
		t.Errorf("%d %v after the faults", status, err)
	}
}
