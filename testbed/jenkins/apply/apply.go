// Package apply is what the promotions of the Jenkins stand-in deploy with: it
// applies a component's manifests to the carrier of the promotion, as `kubectl
// apply --server-side` does. What is missing is created, what differs is
// updated, what is equal is left as it is, and nothing is deleted.
package apply

import (
	"cmp"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/template"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"

	"github.com/drydock/drydock/testbed/jenkins"
)

// fieldManager is kubectl's own name for a server-side apply.
const fieldManager = "kubectl"

// Manifests renders what a build deploys to a carrier: YAML documents.
type Manifests func(carrier string, build jenkins.Build) (string, error)

// To returns an Apply that applies the manifests to clusters, which are named by
// carrier. A carrier that is not among them fails the promotion, as does any
// object that the cluster refuses; the objects before it stay applied.
func To(clusters map[string]*rest.Config, manifests Manifests) jenkins.Apply {
	return func(ctx context.Context, carrier, job string, build jenkins.Build) error {
		config, ok := clusters[carrier]
		if !ok {
			return fmt.Errorf("promote %s to %s: no such cluster", job, carrier)
		}
		text, err := manifests(carrier, build)
		if err != nil {
			return fmt.Errorf("render the manifests of %s for %s: %w", job, carrier, err)
		}
		if err := apply(ctx, config, text); err != nil {
			return fmt.Errorf("promote %s to %s: %w", job, carrier, err)
		}
		return nil
	}
}

func apply(ctx context.Context, config *rest.Config, text string) error {
	objects, err := decode(text)
	if err != nil {
		return err
	}
	disco, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return fmt.Errorf("discover the API: %w", err)
	}
	groups, err := restmapper.GetAPIGroupResources(disco)
	if err != nil {
		return fmt.Errorf("discover the API: %w", err)
	}
	mapper := restmapper.NewDiscoveryRESTMapper(groups)
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("make a client: %w", err)
	}
	for _, o := range objects {
		gvk := o.GroupVersionKind()
		mapping, err := mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
		if err != nil {
			return fmt.Errorf("find the resource of %s: %w", name(o), err)
		}
		var resource dynamic.ResourceInterface = client.Resource(mapping.Resource)
		if mapping.Scope.Name() == meta.RESTScopeNameNamespace {
			resource = client.Resource(mapping.Resource).Namespace(cmp.Or(o.GetNamespace(), metav1.NamespaceDefault))
		}
		// Jenkins is the owner of what it deploys: it takes fields back.
		if _, err := resource.Apply(ctx, o.GetName(), o, metav1.ApplyOptions{FieldManager: fieldManager, Force: true}); err != nil {
			return fmt.Errorf("apply %s: %w", name(o), err)
		}
	}
	return nil
}

// decode reads YAML documents and puts the namespaces first.
func decode(text string) ([]*unstructured.Unstructured, error) {
	var objects []*unstructured.Unstructured
	decoder := yaml.NewYAMLOrJSONDecoder(strings.NewReader(text), 4096)
	for n := 1; ; n++ {
		o := &unstructured.Unstructured{}
		err := decoder.Decode(&o.Object)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read manifest %d: %w", n, err)
		}
		if len(o.Object) == 0 {
			continue // Between two separators.
		}
		if o.GetKind() == "" || o.GetName() == "" {
			return nil, fmt.Errorf("read manifest %d: kind or name is missing", n)
		}
		objects = append(objects, o)
	}
	rank := func(o *unstructured.Unstructured) int {
		if o.GroupVersionKind().GroupKind() == (schema.GroupKind{Kind: "Namespace"}) {
			return 0
		}
		return 1
	}
	slices.SortStableFunc(objects, func(a, b *unstructured.Unstructured) int { return rank(a) - rank(b) })
	return objects, nil
}

func name(o *unstructured.Unstructured) string {
	return o.GetKind() + " " + o.GetNamespace() + "/" + o.GetName()
}

//go:embed armada-ops.yaml
var armadaOps string

var armadaOpsTemplate = template.Must(template.New("armada-ops").Option("missingkey=error").Parse(armadaOps))

// ArmadaOps are the manifests of the runbook's component armada-ops: the
// namespace monitoring, the DaemonSets node-exporter and
// docker-metrics-endpoint, and the Deployments alertmanager and prometheus,
// which a promotion deploys anew too. The images bear the build's version.
func ArmadaOps(_ string, build jenkins.Build) (string, error) {
	var b strings.Builder
	if err := armadaOpsTemplate.Execute(&b, map[string]string{"Version": Version(build)}); err != nil {
		return "", err
	}
	return b.String(), nil
}

// Version is the version that a build was made of: its parameter VERSION, else
// its name.
func Version(b jenkins.Build) string { return cmp.Or(b.Parameters["VERSION"], b.DisplayName) }
