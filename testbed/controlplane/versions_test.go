package controlplane_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/drydock/drydock/testbed/controlplane"
)

// Kubernetes is named in several modules that nothing else holds together: the programs that run here, the rule that the
// product's is compared with, and the libraries that the product is built with. One that is left behind makes the tests talk
// about another Kubernetes than they say.
func TestOneKubernetes(t *testing.T) {
	t.Parallel()
	library := "v0" + strings.TrimPrefix(controlplane.Version, "v1")
	for _, tt := range []struct{ module, needs, want string }{
		{"testbed/kubebox", "k8s.io/kubernetes", controlplane.Version},
		{"testbed/eligibility", "k8s.io/kubernetes", controlplane.Version},
		{"testbed/kubebox", "k8s.io/client-go", library},
		{"testbed/eligibility", "k8s.io/api", library},
		{"testbed", "k8s.io/client-go", library},
		{".", "k8s.io/client-go", library},
		{".", "k8s.io/api", library},
	} {
		content, err := os.ReadFile(filepath.Join("..", "..", tt.module, "go.mod"))
		if err != nil {
			t.Fatal(err)
		}
		found := regexp.MustCompile(`(?m)^\s*(?:require )?` + regexp.QuoteMeta(tt.needs) + ` (v\S+)`).FindSubmatch(content)
		if found == nil || string(found[1]) != tt.want {
			t.Errorf("module %s requires %s %q, want %s, as controlplane.Version is %s", tt.module, tt.needs, found, tt.want, controlplane.Version)
		}
	}
}
