package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// Each version source of the configuration is asked as it says, until the question of the build, which Jenkins does not answer.
func TestVersionSources(t *testing.T) {
	t.Parallel()
	asked := make(chan string, 10)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.Method + " " + r.URL.Path + " " + r.Header.Get("Authorization")
		switch {
		case strings.HasPrefix(r.URL.Path, "/job/"):
			w.WriteHeader(http.StatusServiceUnavailable)
		case strings.HasSuffix(r.URL.Path, "/flags/evaluate"):
			_, _ = fmt.Fprint(w, `{"items":[{"key":"ops","_value":{"v":"1.2.3"}}]}`)
		case strings.HasPrefix(r.URL.Path, "/apis/"):
			w.Header().Set("Content-Type", "application/json")
			_, _ = fmt.Fprint(w, `{"data":{"ops":"1.2.3"}}`)
		default:
			_, _ = fmt.Fprint(w, `{"v":"1.2.3"}`)
		}
	}))
	t.Cleanup(server.Close)
	kubeconfig := writeFile(t, "c1.yaml", `apiVersion: v1
kind: Config
current-context: c
clusters: [{name: c, cluster: {server: "`+server.URL+`"}}]
contexts: [{name: c, context: {cluster: c, user: u}}]
users: [{name: u, user: {}}]
`)
	for source, want := range map[string]string{
		"{source: http, url: '" + server.URL + "/flag/{carrier}', json_path: v, token: {env: T}}": "GET /flag/c1 Bearer secret",
		"{source: launchdarkly, url: '" + server.URL + "', project: p, environment: e, flag: ops, json_path: v, token: {env: T}}":
		// As it is: LaunchDarkly wants no scheme.
		"POST /api/v2/projects/p/environments/e/flags/evaluate secret",
		"{source: featureflagset, namespace: razee, name: flags, flag: ops}": "GET /apis/deploy.razee.io/v1alpha2/namespaces/razee/featureflagsetsld/flags ",
	} {
		cfg, err := parseConfig("drydock.yaml", []byte("carriers: [{name: c1, kubeconfig: '"+kubeconfig+"'}]\npromotions:\n  ops:\n    version: "+source+
			"\n    jenkins: {url: '"+server.URL+"', job: j, user: u, token: {env: J}}\n"))
		if err != nil {
			t.Fatal(err)
		}
		s := &secrets{getenv: func(string) string { return "secret" }, path: cfg.path}
		promoter, err := newPromoter(cfg, s)
		if err != nil || s.err() != nil {
			t.Fatal(err, s.err())
		}
		seen := promoter.Promotion(t.Context(), "c1", "ops")
		if seen.IsKnown() || !strings.Contains(seen.Why(), "ask Jenkins") {
			t.Errorf("%s: %q, want to have come as far as Jenkins", source, seen.Why())
		}
		if len(asked) != 2 { // the source, and Jenkins
			t.Fatalf("asked %d times, want 2", len(asked))
		}
		if got := <-asked; got != want {
			t.Errorf("asked %q, want %q", got, want)
		}
		<-asked
	}
}
