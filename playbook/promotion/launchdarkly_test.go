package promotion

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const ldToken = "api-secret"

func launchDarkly(t *testing.T, url string, change ...func(*LaunchDarklyConfig)) *LaunchDarkly {
	t.Helper()
	config := LaunchDarklyConfig{URL: url, Project: "razee", Environment: "prod/1", Flag: "{component}", Token: ldToken,
		Attributes: map[string]string{"cluster": "{carrier}", "kind": "ignored"}}
	for _, c := range change {
		c(&config)
	}
	l, err := NewLaunchDarkly(config, time.Now, nil)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestLaunchDarklyVersion(t *testing.T) {
	t.Parallel()
	item := func(value string) string {
		return `{"items":[{"key":"armada-ops-old","_value":"0"},{"key":"armada-ops","_value":` + value + `,"reason":{"kind":"FALLTHROUGH"}}],"totalCount":2}`
	}
	tests := map[string]struct {
		path   string
		status int
		body   string
		want   string
		err    string
	}{
		"text":                 {body: item(`" 2.41.0 "`), want: "2.41.0"},
		"number":               {body: item(`1.10`), want: "1.10"},
		"object":               {path: "$['{carrier}'].version", body: item(`{"c1":{"version":"7"}}`), want: "7"},
		"null":                 {body: item(`null`)},
		"empty":                {body: item(`""`)},
		"flag is gone":         {body: `{"items":[{"key":"armada-ops-old","_value":"0"}],"totalCount":1}`},
		"no flags":             {body: `{"items":[]}`},
		"flag not on the page": {body: `{"items":[{"key":"a","_value":"0"}],"totalCount":9}`, err: "not among the 1 of 9 flags"},
		"could not evaluate":   {body: `{"items":[{"key":"armada-ops","_value":null,"reason":{"kind":"ERROR","errorKind":"MALFORMED_FLAG"}}]}`, err: "MALFORMED_FLAG"},
		"boolean":              {body: item(`true`), err: "no text and no number"},
		"not its answer":       {body: `{"message":"hello"}`, err: "no list of flags"},
		"no JSON":              {body: `<html>`, err: "not the JSON"},
		"no such project":      {status: 404, body: `{}`, err: "HTTP 404"},
		"unauthorized":         {status: 401, body: `{}`, err: "the token is not accepted"},
		"broken":               {status: 503, body: item(`"1"`), err: "HTTP 503"},
		"redirect":             {status: 307, body: item(`"1"`), err: "HTTP 307"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if want := "/api/v2/projects/razee/environments/prod%2F1/flags/evaluate"; r.Method != http.MethodPost || r.URL.EscapedPath() != want ||
					r.URL.Query().Get("filter") != "query equals armada-ops" || r.Header.Get("Authorization") != ldToken {
					t.Errorf("asked %s %s, Authorization %q", r.Method, r.URL, r.Header.Get("Authorization"))
				}
				var who map[string]string
				if err := json.NewDecoder(r.Body).Decode(&who); err != nil {
					t.Error(err)
				}
				if diff := cmp.Diff(map[string]string{"kind": "user", "key": "c1", "cluster": "c1"}, who); diff != "" {
					t.Errorf("context (-want +got):\n%s", diff)
				}
				if tt.status == 307 {
					w.Header().Set("Location", "https://elsewhere.example.com/")
				}
				w.WriteHeader(max(tt.status, 200))
				_, _ = fmt.Fprint(w, tt.body)
			}))
			defer server.Close()
			l := launchDarkly(t, server.URL, func(c *LaunchDarklyConfig) { c.JSONPath = tt.path })
			version, err := l.Version(t.Context(), "c1", "armada-ops")
			wantVersion(t, version, err, tt.want, tt.err)
		})
	}
}

func wantVersion(t *testing.T, version string, err error, want, wantErr string) {
	t.Helper()
	if version != want {
		t.Errorf("version = %q, want %q", version, want)
	}
	switch {
	case wantErr == "" && err != nil:
		t.Errorf("error = %v", err)
	case wantErr != "" && (err == nil || !strings.Contains(err.Error(), wantErr)):
		t.Errorf("error = %v, want one with %q", err, wantErr)
	case err != nil && strings.Contains(err.Error(), ldToken):
		t.Errorf("the error shows the token: %v", err)
	}
}

// Asked too often, LaunchDarkly says when to come again. Until then the version is not known, and nothing is asked.
func TestLaunchDarklyWantsQuiet(t *testing.T) {
	t.Parallel()
	asked, limited := 0, true
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked++
		if limited {
			w.Header().Set("Retry-After", "30")
			w.WriteHeader(http.StatusTooManyRequests)
			return
		}
		_, _ = fmt.Fprint(w, `{"items":[{"key":"armada-ops","_value":"1"}]}`)
	}))
	defer server.Close()
	now := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	l := launchDarkly(t, server.URL)
	l.now = func() time.Time { return now }
	version := func() (string, error) { return l.Version(t.Context(), "c1", "armada-ops") }
	for range 2 {
		if v, err := version(); v != "" || err == nil || !strings.Contains(err.Error(), "too often") {
			t.Errorf("%q, %v", v, err)
		}
	}
	limited = false
	now = now.Add(31 * time.Second)
	if v, err := version(); v != "1" || err != nil {
		t.Errorf("%q, %v", v, err)
	}
	if asked != 2 {
		t.Errorf("asked %d times, want 2", asked)
	}
}

func TestNewLaunchDarklyRefuses(t *testing.T) {
	t.Parallel()
	whole := LaunchDarklyConfig{Project: "p", Environment: "e", Flag: "f"}
	if _, err := NewLaunchDarkly(whole, time.Now, nil); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*LaunchDarklyConfig){
		"url":         func(c *LaunchDarklyConfig) { c.URL = "app.launchdarkly.com" },
		"user":        func(c *LaunchDarklyConfig) { c.URL = "https://a:b@app.launchdarkly.com" },
		"project":     func(c *LaunchDarklyConfig) { c.Project = "" },
		"environment": func(c *LaunchDarklyConfig) { c.Environment = "" },
		"flag":        func(c *LaunchDarklyConfig) { c.Flag = "" },
		"path":        func(c *LaunchDarklyConfig) { c.JSONPath = "a..b" },
	} {
		config := whole
		change(&config)
		if _, err := NewLaunchDarkly(config, time.Now, nil); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
