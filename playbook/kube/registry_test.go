package kube

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

const kubeconfig = `apiVersion: v1
kind: Config
current-context: main
contexts:
- {name: main, context: {cluster: c, user: u}}
- {name: exec, context: {cluster: c, user: runs-a-program}}
- {name: oidc, context: {cluster: c, user: has-a-provider}}
clusters:
- {name: c, cluster: {server: "%s"}}
users:
- {name: u, user: {token: t}}
- {name: runs-a-program, user: {exec: {apiVersion: client.authentication.k8s.io/v1, command: steal, interactiveMode: Never}}}
- {name: has-a-provider, user: {auth-provider: {name: oidc}}}
`

func write(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestRegistryNames(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, name := range []string{"prod-dal12-carrier2.yaml", "prod-lon.v2.kubeconfig", "PROD-X", ".hidden"} {
		write(t, filepath.Join(dir, name), fmt.Sprintf(kubeconfig, "https://127.0.0.1:1"))
	}
	if err := os.Mkdir(filepath.Join(dir, "..data"), 0o700); err != nil {
		t.Fatal(err)
	}
	listed := write(t, filepath.Join(t.TempDir(), "k"), fmt.Sprintf(kubeconfig, "https://127.0.0.1:1"))
	r, err := NewRegistry([]Entry{{Name: "prod-dal10-carrier3", Kubeconfig: listed}}, dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	names, err := r.Names()
	if want := []string{"prod-dal10-carrier3", "prod-dal12-carrier2", "prod-lon.v2", "prod-x"}; err != nil || !slices.Equal(names, want) {
		t.Errorf("names = %v, %v; want %v", names, err, want)
	}
	if err := r.Check(); err != nil {
		t.Errorf("check: %v", err)
	}
	_, err = r.Carrier("prod-mars-carrier1")
	if missing, ok := errors.AsType[*NotFoundError](err); !ok || missing.Name != "prod-mars-carrier1" {
		t.Errorf("error = %v", err)
	}
}

// What can not be told hides itself alone, and is named.
func TestRegistryHidesOnlyWhatIsWrong(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, name := range []string{"c1.yaml", "c2.yaml", "C2.yml", "c3.yaml"} {
		write(t, filepath.Join(dir, name), fmt.Sprintf(kubeconfig, "https://127.0.0.1:1"))
	}
	if err := os.Symlink("nowhere", filepath.Join(dir, "c4.yaml")); err != nil {
		t.Fatal(err)
	}
	r, err := NewRegistry(nil, dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	names, err := r.Names()
	if want := []string{"c1", "c3"}; !slices.Equal(names, want) {
		t.Errorf("names = %v, want %v", names, want)
	}
	for _, want := range []string{`C2.yml and c2.yaml are both carrier "c2"`, "c4.yaml"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error = %v, want one with %q", err, want)
		}
	}
	if _, err := r.Carrier("c3"); err != nil {
		t.Errorf("a carrier beside the wrong ones: %v", err)
	}
	if _, err := r.Carrier("c2"); err == nil || !strings.Contains(err.Error(), "remove one") {
		t.Errorf("a doubled carrier: %v", err)
	}
	names, err = r.Names()
	if err == nil || len(names) != 2 {
		t.Errorf("names = %v, %v", names, err)
	}
}

func TestRegistryRefuses(t *testing.T) {
	t.Parallel()
	path := write(t, filepath.Join(t.TempDir(), "k.yaml"), fmt.Sprintf(kubeconfig, "https://127.0.0.1:1"))
	other := write(t, filepath.Join(t.TempDir(), "k.yaml"), fmt.Sprintf(kubeconfig, "https://127.0.0.1:2"))
	for name, tt := range map[string]struct {
		entry Entry
		want  string
	}{
		"program":         {Entry{Name: "c", Kubeconfig: path, Context: "exec"}, `plugin "steal", which is refused`},
		"auth provider":   {Entry{Name: "c", Kubeconfig: path, Context: "oidc"}, `plugin "oidc", which is refused`},
		"unknown context": {Entry{Name: "c", Kubeconfig: path, Context: "dal10"}, `no context "dal10": it has "exec", "main", "oidc"`},
		"no file":         {Entry{Name: "c", Kubeconfig: path + "x"}, "does not exist"},
		"no YAML":         {Entry{Name: "c", Kubeconfig: write(t, filepath.Join(t.TempDir(), "k"), "{")}, "read kubeconfig"},
		"empty":           {Entry{Name: "c", Kubeconfig: write(t, filepath.Join(t.TempDir(), "k"), "")}, "it has none"},
		"two carriers":    {Entry{Name: "c", Kubeconfig: path, ActorKubeconfig: other}, "both identities must be of one carrier"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, err := NewRegistry([]Entry{tt.entry}, "", Options{})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := r.Carrier("c"); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error = %v, want one with %q", err, tt.want)
			}
			if err := r.Check(); err == nil {
				t.Error("the check found nothing")
			}
		})
	}
	for _, entries := range [][]Entry{{{Kubeconfig: path}}, {{Name: "c"}}, {{Name: "c", Kubeconfig: path}, {Name: "c", Kubeconfig: path}}} {
		if _, err := NewRegistry(entries, "", Options{}); err == nil {
			t.Errorf("%+v was accepted", entries)
		}
	}
}

// With a log the reason is there, once, and the error, which whoever may read a run sees, names no file.
func TestRegistryLogsWhatItDoesNotTell(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "k.yaml")
	var said strings.Builder
	r, err := NewRegistry([]Entry{{Name: "c", Kubeconfig: path}, {Name: "plugin", Context: "exec",
		Kubeconfig: write(t, filepath.Join(dir, "p.yaml"), fmt.Sprintf(kubeconfig, "https://127.0.0.1:1"))}}, filepath.Join(dir, "none"),
		Options{Log: slog.New(slog.NewTextHandler(&said, nil))})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		for _, name := range []string{"c", "plugin", "unknown"} {
			_, err := r.Carrier(name)
			if err == nil || strings.Contains(err.Error(), dir) || strings.Contains(err.Error(), "steal") {
				t.Errorf("%s: error = %v", name, err)
			}
			if name != "unknown" && !errors.Is(err, ErrKubeconfig) {
				t.Errorf("%s: error = %v, want ErrKubeconfig", name, err)
			}
		}
		if _, err := r.Reachable(t.Context(), "c"); !errors.Is(err, ErrKubeconfig) {
			t.Errorf("reachable: %v", err)
		}
	}
	if lines := strings.Count(said.String(), "\n"); lines != 3 || !strings.Contains(said.String(), path+" does not exist") || !strings.Contains(said.String(), "steal") {
		t.Errorf("the log has %d lines, want one for each: %s", lines, &said)
	}
	said.Reset()
	write(t, path, fmt.Sprintf(kubeconfig, "https://127.0.0.1:1"))
	if _, err := r.Carrier("c"); err != nil || !strings.Contains(said.String(), "can be used again") {
		t.Errorf("mended: %v, %s", err, &said)
	}
}

// A rotated kubeconfig is read again; an unchanged one is not.
func TestRegistryReadsAChangedKubeconfigAgain(t *testing.T) {
	t.Parallel()
	path := write(t, filepath.Join(t.TempDir(), "k.yaml"), fmt.Sprintf(kubeconfig, "https://127.0.0.1:1"))
	r, err := NewRegistry([]Entry{{Name: "c", Kubeconfig: path}}, "", Options{})
	if err != nil {
		t.Fatal(err)
	}
	first, err := r.Carrier("c")
	if err != nil {
		t.Fatal(err)
	}
	if again, err := r.Carrier("c"); err != nil || again != first {
		t.Errorf("an unchanged kubeconfig was read again: %v", err)
	}
	later := time.Now().Add(time.Minute)
	if err := os.Chtimes(path, later, later); err != nil {
		t.Fatal(err)
	}
	if again, err := r.Carrier("c"); err != nil || again == first {
		t.Errorf("a changed kubeconfig was not read again: %v", err)
	}
}

func TestReadOnlyTransport(t *testing.T) {
	t.Parallel()
	const base = "https://carrier/apis/apps/v1/namespaces/n/daemonsets/d"
	for name, tt := range map[string]struct {
		method, url, body string
		harmless          bool
	}{
		"read":                   {"GET", base, "", true},
		"create":                 {"POST", base, "{}", false},
		"dry-run create":         {"POST", base + "?dryRun=All", "{}", true},
		"dry run of something":   {"POST", base + "?dryRun=All&dryRun=x", "{}", false},
		"access review":          {"POST", "https://carrier/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", "{}", true},
		"eviction":               {"POST", "https://carrier/api/v1/namespaces/n/pods/p/eviction?dryRun=All", "{}", false},
		"patch":                  {"PATCH", base, "{}", false},
		"dry-run patch":          {"PATCH", base + "?dryRun=All", "{}", true},
		"delete":                 {"DELETE", base, `{"propagationPolicy":"Orphan"}`, false},
		"dry-run delete":         {"DELETE", base, `{"dryRun":["All"]}`, true},
		"the query of a delete":  {"DELETE", base + "?dryRun=All", `{"propagationPolicy":"Orphan"}`, false},
		"a delete without body":  {"DELETE", base + "?dryRun=All", "", true},
		"a delete in other code": {"DELETE", base + "?dryRun=All", "k8s\x00", false},
		"unknown method":         {"BREW", base + "?dryRun=All", "", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			req, err := http.NewRequestWithContext(t.Context(), tt.method, tt.url, strings.NewReader(tt.body))
			if err != nil {
				t.Fatal(err)
			}
			if got, err := changesNothing(req); err != nil || got != tt.harmless {
				t.Errorf("changes nothing: %t, %v; want %t", got, err, tt.harmless)
			}
		})
	}
}
