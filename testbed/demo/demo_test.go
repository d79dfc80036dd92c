package demo

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestDemo is the demo itself, with the product as it is in this repository, and with a guest at its dashboard.
func TestDemo(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "drydock")
	build := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-o", binary, "./cmd/drydock")
	build.Dir = filepath.Join("..", "..")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build drydock: %v\n%s", err, out)
	}
	g, leave := startDemo(t, binary)
	admin := g.repairs()
	g.verdict()
	g.history(admin)
	g.figures(admin, "/runs/"+g.runOf(g.watch.watched[0].incident))
	g.death(admin)
	g.expiry(g.orders(admin))
	if err := leave(); err != nil {
		t.Error(err)
	}
}

func TestDirectory(t *testing.T) {
	t.Parallel()
	used := t.TempDir()
	if err := os.WriteFile(filepath.Join(used, "drydock.log"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := makeDirectory(used); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("got %v for a directory with files in it", err)
	}
	dir, err := makeDirectory(filepath.Join(t.TempDir(), "new", "one"))
	if err != nil || !filepath.IsAbs(dir) {
		t.Errorf("got %q, %v for a new directory", dir, err)
	}
}

// TestConfig looks for what would break out of the YAML, or be missing in it;
// that Drydock takes the file is shown by TestDemo.
func TestConfig(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "drydock.yaml")
	c := newConfig("127.0.0.1:1", "/tmp/data", &standIns{pagerURL: "http://pager", jenkinsURL: "http://jenkins", flagsURL: "http://flags"},
		[]configCarrier{{Name: carrier3, Kubeconfig: "/tmp/3.kubeconfig"}, {Name: carrier2, Kubeconfig: "/tmp/2.kubeconfig", Mode: "approve"}})
	if err := c.write(path); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"listen: 127.0.0.1:1\n", "api_url: http://pager\n", "url: http://jenkins\n", `url: "http://flags/flags/{carrier}/armada-ops"`,
		"  - {name: prod-dal10-carrier3, kubeconfig: /tmp/3.kubeconfig, drain_namespaces: [kubx-masters]}\n",
		"  - {name: prod-dal12-carrier2, kubeconfig: /tmp/2.kubeconfig, drain_namespaces: [kubx-masters], mode: approve}\n",
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("%q is not in the file", want)
		}
	}
}
