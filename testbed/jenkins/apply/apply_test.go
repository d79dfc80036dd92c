package apply

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/drydock/drydock/testbed/controlplane"
	"github.com/drydock/drydock/testbed/controlplane/clustertest"
	"github.com/drydock/drydock/testbed/fault"
	"github.com/drydock/drydock/testbed/jenkins"
)

const carrier = "prod-dal12-carrier2"

var cluster *controlplane.Cluster

func TestMain(m *testing.M) {
	os.Exit(clustertest.Run(context.Background(), m, controlplane.Options{Name: carrier, Nodes: 3}, &cluster))
}

func clusters() map[string]*rest.Config {
	return map[string]*rest.Config{carrier: cluster.RESTConfig()}
}

// TestPromotion brings an absent DaemonSet back by forcing a promotion, all the
// way from the POST to ready pods on a real control plane.
func TestPromotion(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	s := jenkins.New(jenkins.Options{Users: []jenkins.User{{Name: "drydock", Token: "secret", MayPromote: true}}, Apply: To(clusters(), ArmadaOps)})
	url, err := s.Start(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	s.AddJob("ops", jenkins.Process{Name: carrier})
	for _, version := range []string{"2.40.7", "2.41.0"} {
		if _, err := s.AddBuild("ops", jenkins.Build{DisplayName: version}); err != nil {
			t.Fatal(err)
		}
	}
	client := cluster.Client()
	promote := func(build int) {
		t.Helper()
		before := len(s.Attempts())
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, fmt.Sprintf("%s/job/ops/%d/promotion/forcePromotion?name=%s", url, build, carrier), nil)
		if err != nil {
			t.Fatal(err)
		}
		r.SetBasicAuth("drydock", "secret")
		resp, err := http.DefaultTransport.RoundTrip(r)
		if err != nil || resp.StatusCode != http.StatusFound {
			t.Fatalf("force: %v %v", resp, err)
		}
		_ = resp.Body.Close()
		ended := func() bool { a := s.Attempts(); return len(a) == before+1 && a[before].Result != "" }
		if err := s.WaitFor(ctx, ended); err != nil {
			t.Fatal(err)
		}
		if a := s.Attempts()[before]; a.Result != jenkins.Success {
			t.Fatalf("attempt: %+v", a)
		}
	}

	promote(1)
	set, err := fault.WaitDaemonSetReady(ctx, client, "monitoring", "node-exporter")
	if err != nil {
		t.Fatal(err)
	}
	if got := set.Spec.Template.Spec.Containers[0].Image; got != "registry.example.com/node-exporter:2.40.7" {
		t.Errorf("image %s", got)
	}
	promote(1)
	again, err := client.AppsV1().DaemonSets("monitoring").Get(ctx, "node-exporter", metav1.GetOptions{})
	if err != nil || again.UID != set.UID || again.Generation != set.Generation {
		t.Errorf("the same build changed the DaemonSet: generation %d to %d, %v", set.Generation, again.Generation, err)
	}
	if err := fault.DeleteDaemonSet(ctx, client, "monitoring", "node-exporter", metav1.DeletePropagationForeground); err != nil {
		t.Fatal(err)
	}
	promote(2)
	back, err := fault.WaitDaemonSetReady(ctx, client, "monitoring", "node-exporter")
	if err != nil {
		t.Fatal(err)
	}
	if back.UID == set.UID || !strings.HasSuffix(back.Spec.Template.Spec.Containers[0].Image, ":2.41.0") {
		t.Errorf("after the redeploy: %s", back.Spec.Template.Spec.Containers[0].Image)
	}
	for _, name := range []string{"alertmanager", "prometheus"} {
		d, err := client.AppsV1().Deployments("monitoring").Get(ctx, name, metav1.GetOptions{})
		if err != nil || !strings.HasSuffix(d.Spec.Template.Spec.Containers[0].Image, ":2.41.0") {
			t.Errorf("Deployment %s: %v", name, err)
		}
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	const header = "apiVersion: v1\nkind: ConfigMap\nmetadata: "
	tests := map[string]struct{ carrier, manifests, want string }{
		"unknown carrier": {"prod-ams03-carrier9", "", "promote ops to prod-ams03-carrier9: no such cluster"},
		"not YAML":        {carrier, "a: [", "read manifest 1"},
		"no name":         {carrier, header + "{namespace: default}", "kind or name is missing"},
		"unknown kind":    {carrier, "apiVersion: v1\nkind: Teapot\nmetadata: {name: t}", "find the resource of Teapot /t"},
		"no namespace":    {carrier, header + "{name: a, namespace: nowhere}", "apply ConfigMap nowhere/a"},
	}
	for name, test := range tests {
		err := To(clusters(), func(string, jenkins.Build) (string, error) { return test.manifests, nil })(t.Context(), test.carrier, "ops", jenkins.Build{})
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
	ordered, err := decode("---\n" + header + "{name: a, namespace: ns}\n---\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: ns}\n")
	if err != nil || len(ordered) != 2 || ordered[0].GetKind() != "Namespace" {
		t.Errorf("order: %v %v", ordered, err)
	}
}
