package kubetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/drydock/drydock/playbook/kube"
	"github.com/drydock/drydock/playbook/promotion"
	"github.com/drydock/drydock/testbed/controlplane/clustertest"
)

// flagSetCRD is Razee's resource as far as its controller's values go: they stand in the top-level data, which keeps any field.
const flagSetCRD = `{"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition","metadata":{"name":"featureflagsetsld.deploy.razee.io"},
	"spec":{"group":"deploy.razee.io","scope":"Namespaced","names":{"plural":"featureflagsetsld","singular":"featureflagsetld","kind":"FeatureFlagSetLD"},
	"versions":[{"name":"v1alpha2","served":true,"storage":true,"schema":{"openAPIV3Schema":{"type":"object","x-kubernetes-preserve-unknown-fields":true}}}]}}`

// The version source featureflagset reads the carrier's own FeatureFlagSetLD, with no more than the right to get it, and never
// takes what it could not read for a flag that is not there.
func TestFeatureFlagSetOnTheCarrier(t *testing.T) {
	ctx, client, _ := setup(t)
	const reader, namespace = "drydock-flags", "razee-flags"
	api := client.Discovery().RESTClient()
	const crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
	const sets = "/apis/deploy.razee.io/v1alpha2/namespaces/" + namespace + "/featureflagsetsld"

	config, err := cluster.IssueKubeconfig(reader)
	if err != nil {
		t.Fatal(err)
	}
	registry, err := kube.NewRegistry([]kube.Entry{{Name: carrierName, Kubeconfig: config}}, "", kube.Options{Version: "test", ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	source, err := promotion.NewFlagSet(promotion.FlagSetConfig{Namespace: namespace, Name: "armada-flags", Flag: "{component}"},
		func(ctx context.Context, carrier, namespace, name, flag string) (json.RawMessage, error) {
			c, err := registry.Carrier(carrier)
			if err != nil {
				return nil, err
			}
			return c.FeatureFlag(ctx, namespace, name, flag)
		})
	if err != nil {
		t.Fatal(err)
	}
	// ends waits until the version is known as want, or unknown with these words.
	ends := func(what, want, words string) {
		t.Helper()
		eventually(t, ctx, what, func(ctx context.Context) error {
			version, err := source.Version(ctx, carrierName, "armada-ops")
			switch {
			case words == "" && err != nil:
				return err
			case words != "" && (err == nil || !strings.Contains(err.Error(), words)):
				return fmt.Errorf("version %q, error %w, want %q", version, errors.Join(err, errors.New("unknown")), words)
			case version != want:
				return fmt.Errorf("version %q, want %q", version, want)
			}
			return nil
		})
	}
	if _, err := client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	clustertest.Cleanup(t, func(ctx context.Context) error {
		return client.CoreV1().Namespaces().Delete(ctx, namespace, metav1.DeleteOptions{})
	})

	ends("a right that is missing", "", "forbidden")
	clusterRole(t, ctx, reader, rbacv1.PolicyRule{APIGroups: []string{"deploy.razee.io"}, Resources: []string{"featureflagsetsld"}, Verbs: []string{"get"}})
	ends("a carrier without Razee", "", "could not find the requested resource")

	if err := api.Post().AbsPath(crds).SetHeader("Content-Type", "application/json").Body([]byte(flagSetCRD)).Do(ctx).Error(); err != nil {
		t.Fatal(err)
	}
	clustertest.Cleanup(t, func(ctx context.Context) error {
		return api.Delete().AbsPath(crds, "featureflagsetsld.deploy.razee.io").Do(ctx).Error()
	})
	ends("a set that does not exist", "", `"armada-flags" not found`)

	set := func(data string) []byte {
		return []byte(`{"apiVersion":"deploy.razee.io/v1alpha2","kind":"FeatureFlagSetLD","metadata":{"name":"armada-flags"},"spec":{"sdkKey":"x"}` + data + `}`)
	}
	if err := api.Post().AbsPath(sets).SetHeader("Content-Type", "application/json").Body(set("")).Do(ctx).Error(); err != nil {
		t.Fatal(err)
	}
	ends("a set without values", "", "has not evaluated it")
	for _, step := range []struct{ data, want, words string }{
		{data: `{"armada-ops":"1.2.3","other":true}`, want: "1.2.3"},
		{data: `{"armada-ops":7}`, want: "7"},
		{data: `{"armada-ops":null,"other":true}`},
		{data: `{"armada-ops":true}`, words: "no text and no number"},
	} {
		patch := []byte(`{"data":` + step.data + `}`)
		if err := api.Patch("application/merge-patch+json").AbsPath(sets, "armada-flags").Body(patch).Do(ctx).Error(); err != nil {
			t.Fatal(err)
		}
		ends("data "+step.data, step.want, step.words)
	}
}
