package promotion

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestHTTPSourceVersion(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		path   string
		status int
		body   string
		want   string
		err    string // part of the error; empty: none
	}{
		"text":                  {path: "$.version", body: `{"version":"2.41.0"}`, want: "2.41.0"},
		"number keeps its form": {path: "version", body: `{"version":1.10}`, want: "1.10"},
		"nested by carrier":     {path: "$.variations['{carrier}'].version", body: `{"variations":{"prod-dal10-carrier3":{"version":"7"}}}`, want: "7"},
		"index":                 {path: "$.items[1].value", body: `{"items":[{"value":"a"},{"value":"b"}]}`, want: "b"},
		"root list":             {path: "[0].v", body: `[{"v":"x"}]`, want: "x"},
		"null":                  {path: "$.version", body: `{"version":null}`},
		"empty":                 {path: "$.version", body: `{"version":" "}`},
		"missing":               {path: "$.a.b", body: `{"c":1}`},
		"index beyond":          {path: "$.items[9].value", body: `{"items":[]}`},
		"gone":                  {path: "$.version", status: 404, body: `{"error":"no such flag"}`},
		"unauthorized":          {path: "$.version", status: 401, body: `{}`, err: "the token is not accepted"},
		"forbidden":             {path: "$.version", status: 403, body: `{}`, err: "may not do that"},
		"server error":          {path: "$.version", status: 503, body: `{"version":"1"}`, err: "HTTP 503"},
		"redirect":              {path: "$.version", status: 302, body: `{"version":"1"}`, err: "HTTP 302"},
		"no JSON":               {path: "$.version", body: `<html>log in</html>`, err: "not the JSON"},
		"not a value":           {path: "$.version", body: `{"version":{"a":1}}`, err: "no text and no number"},
		"boolean":               {path: "$.version", body: `{"version":true}`, err: "no text and no number"},
		"through a value":       {path: "$.version.major", body: `{"version":"1"}`, err: "plain value"},
		"index into object":     {path: "$[0]", body: `{"version":"1"}`, err: "has an object"},
		"key into list":         {path: "$.version", body: `[1]`, err: "has a list"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if got := r.Header.Get("Authorization"); got != "Bearer flags-token" {
					t.Errorf("Authorization = %q", got)
				}
				if tt.status == 302 {
					w.Header().Set("Location", "https://elsewhere.example.com/")
				}
				w.WriteHeader(max(tt.status, 200))
				_, _ = fmt.Fprint(w, tt.body)
			}))
			defer server.Close()
			source, err := NewHTTPSource(server.URL+"/flags/{carrier}/{component}", tt.path, "flags-token", nil)
			if err != nil {
				t.Fatal(err)
			}
			version, err := source.Version(t.Context(), "prod-dal10-carrier3", "armada-ops")
			if version != tt.want {
				t.Errorf("version = %q, want %q", version, tt.want)
			}
			switch {
			case tt.err == "" && err != nil:
				t.Errorf("error = %v", err)
			case tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)):
				t.Errorf("error = %v, want one with %q", err, tt.err)
			case err != nil && strings.Contains(err.Error(), "flags-token"):
				t.Errorf("the error shows the token: %v", err)
			}
		})
	}
}

func TestHTTPSourceEscapesNames(t *testing.T) {
	t.Parallel()
	var got string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r.URL.EscapedPath() + "?" + r.URL.RawQuery
		_, _ = fmt.Fprint(w, `{"v":"1"}`)
	}))
	defer server.Close()
	source, err := NewHTTPSource(server.URL+"/flags/{component}?at={carrier}", "v", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := source.Version(t.Context(), "a&b=c/../d", "x/y?z"); err != nil {
		t.Fatal(err)
	}
	if want := "/flags/x%2Fy%3Fz?at=a%26b%3Dc%2F..%2Fd"; got != want {
		t.Errorf("asked %s, want %s", got, want)
	}
}

func TestHTTPSourceUnreachable(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.NotFoundHandler())
	server.Close()
	source, err := NewHTTPSource(server.URL+"/?key=secret", "v", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := source.Version(t.Context(), "c", "x"); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("error = %v, want one without the query", err)
	}
}

func TestNewHTTPSourceRefuses(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ url, path string }{
		{"ftp://flags.example.com/", "v"}, {"flags.example.com", "v"}, {"https://user:pw@flags.example.com/", "v"},
		{"https://{carrier}.example.com/", "v"}, {"https://flags.example.com/", ""}, {"https://flags.example.com/", "$"},
		{"https://flags.example.com/", "a..b"}, {"https://flags.example.com/", "a."}, {"https://flags.example.com/", "a[b]"},
		{"https://flags.example.com/", "a[]"}, {"https://flags.example.com/", "a['b"}, {"https://flags.example.com/", "a[1]b"},
	} {
		if _, err := NewHTTPSource(tt.url, tt.path, "", nil); err == nil {
			t.Errorf("url %q with path %q was accepted", tt.url, tt.path)
		}
	}
}

func FuzzParsePath(f *testing.F) {
	for _, seed := range []string{"$.a.b", "a['b.c'][0]", "[", "$..", `a["x"]`, "a[999999999999]"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		path, err := parsePath(text)
		if err == nil && len(path) == 0 {
			t.Errorf("%q is a path without steps", text)
		}
		if _, err := find(map[string]any{"a": []any{"x"}}, path, "c", "d"); err != nil && err.Error() == "" {
			t.Error("an error without words")
		}
	})
}
