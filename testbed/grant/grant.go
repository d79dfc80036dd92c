// Package grant does on a control plane what a carrier's owner does before Drydock may work there: it applies the rights and
// the admission policy of deploy/carrier, and hands out the identities that have them.
package grant

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/drydock/drydock/deploy/carrier"
	"github.com/drydock/drydock/playbook/kube"
	"github.com/drydock/drydock/testbed/await"
)

// owner is who applies, in managedFields.
const owner = "carrier-owner"

// Apply applies manifests, server-side, in their order.
func Apply(ctx context.Context, config *rest.Config, manifests []byte) error {
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("apply manifests: %w", err)
	}
	for d := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(manifests), 4096); ; {
		var o unstructured.Unstructured
		if err := d.Decode(&o); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("read manifests: %w", err)
		}
		if len(o.Object) == 0 {
			continue // a document of comments
		}
		gvr, _ := meta.UnsafeGuessKindToResource(o.GroupVersionKind())
		var to dynamic.ResourceInterface = client.Resource(gvr)
		if o.GetNamespace() != "" {
			to = client.Resource(gvr).Namespace(o.GetNamespace())
		}
		if _, err := to.Apply(ctx, o.GetName(), &o, metav1.ApplyOptions{FieldManager: owner, Force: true}); err != nil {
			return fmt.Errorf("apply %s %s: %w", o.GetKind(), o.GetName(), err)
		}
	}
}

// Rights gives two ServiceAccounts exactly these rights, and nothing else. The namespaces that are named in them must exist.
func Rights(ctx context.Context, config *rest.Config, names carrier.Accounts, rights []kube.Right) error {
	var manifests bytes.Buffer
	if err := carrier.WriteRights(&manifests, names, rights); err != nil {
		return err
	}
	return Apply(ctx, config, manifests.Bytes())
}

// Policy puts the admission policy in force, with the powers of DaemonSets: their lines by namespace.name.
func Policy(ctx context.Context, config *rest.Config, powers map[string]string) error {
	list := corev1.ConfigMap{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"},
		ObjectMeta: metav1.ObjectMeta{Namespace: carrier.Namespace, Name: "drydock-daemonsets"}, Data: powers}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("apply the policy: %w", err)
	}
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: carrier.Namespace}}
	if _, err := client.CoreV1().Namespaces().Create(ctx, ns, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create namespace %s: %w", ns.Name, err)
	}
	if _, err := client.CoreV1().ConfigMaps(list.Namespace).Create(ctx, &list, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("create ConfigMap %s: %w", list.Name, err)
	}
	if err := Apply(ctx, config, []byte(carrier.Policy)); err != nil {
		return err
	}
	return inForce(ctx, config)
}

// inForce waits until the API server goes by the policy, which takes it a moment: a ServiceAccount that RBAC lets do everything
// is then refused by the policy alone.
func inForce(ctx context.Context, config *rest.Config) error {
	config = rest.CopyConfig(config)
	config.Impersonate = rest.ImpersonationConfig{UserName: Account("probe"), Groups: []string{"system:masters"}}
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("apply the policy: %w", err)
	}
	return await.Until(ctx, "the admission policy to be in force", func(ctx context.Context) error {
		for kind, words := range map[string]string{"ConfigMap": "Drydock never does this", "DaemonSet": "has no such key", "Lease": "writes no Lease but"} {
			probe := &unstructured.Unstructured{}
			probe.SetAPIVersion(map[string]string{"ConfigMap": "v1", "DaemonSet": "apps/v1", "Lease": "coordination.k8s.io/v1"}[kind])
			probe.SetKind(kind)
			probe.SetName("probe")
			probe.SetNamespace(carrier.Namespace)
			if kind == "DaemonSet" {
				probe.Object["spec"] = map[string]any{"selector": map[string]any{"matchLabels": map[string]any{"a": "b"}}, "template": map[string]any{
					"metadata": map[string]any{"labels": map[string]any{"a": "b"}},
					"spec":     map[string]any{"containers": []any{map[string]any{"name": "a", "image": "a"}}}}}
			}
			gvr, _ := meta.UnsafeGuessKindToResource(probe.GroupVersionKind())
			_, err := client.Resource(gvr).Namespace(carrier.Namespace).Create(ctx, probe, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
			if err == nil || !strings.Contains(err.Error(), words) {
				return fmt.Errorf("create %s: %w", kind, errors.Join(err, errors.New("it was not refused by the policy")))
			}
		}
		return nil
	})
}

// Account is the user name of a ServiceAccount of Drydock's on a carrier.
func Account(name string) string {
	return "system:serviceaccount:" + carrier.Namespace + ":" + name
}
