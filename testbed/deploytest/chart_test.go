package deploytest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/dynamic"

	"github.com/drydock/drydock/testbed/await"
	"github.com/drydock/drydock/testbed/chart"
	"github.com/drydock/drydock/testbed/grant"
)

const chartDir = "../../deploy/helm/drydock"

// monitorCRD is the Prometheus operator's ServiceMonitor as far as its name goes.
const monitorCRD = `{"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition","metadata":{"name":"servicemonitors.monitoring.coreos.com"},
	"spec":{"group":"monitoring.coreos.com","scope":"Namespaced","names":{"plural":"servicemonitors","singular":"servicemonitor","kind":"ServiceMonitor"},
	"versions":[{"name":"v1","served":true,"storage":true,"schema":{"openAPIV3Schema":{"type":"object","x-kubernetes-preserve-unknown-fields":true}}}]}}`

func objects(t *testing.T, manifests []byte) []unstructured.Unstructured {
	t.Helper()
	var all []unstructured.Unstructured
	for d := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(manifests), 4096); ; {
		var o unstructured.Unstructured
		if err := d.Decode(&o); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		if len(o.Object) > 0 {
			all = append(all, o)
		}
	}
}

func TestChartPassesHelmsLint(t *testing.T) {
	t.Parallel()
	if err := chart.Lint(chartDir); err != nil {
		t.Error(err)
	}
}

// Values by which a secret could come into the chart, or what it sets itself could be set twice, are refused.
func TestChartRefusesWrongValues(t *testing.T) {
	t.Parallel()
	for name, values := range map[string]map[string]any{
		"a secret's value": {"secrets": map[string]any{"PAGERDUTY_TOKEN": "t0ken"}},
		"no key":           {"secrets": map[string]any{"NEW": map[string]any{"name": "drydock"}}},
		"a role":           {"config": map[string]any{"role": "worker"}},
		"roles":            {"roles": "worker"},
		"a typing error":   {"replicaCount": 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if manifests, err := chart.Template(chartDir, values); err == nil {
				t.Errorf("it renders:\n%s", manifests)
			}
		})
	}
}

// charts are the ways to install that differ in what is rendered.
var charts = map[string]map[string]any{
	"default": nil,
	"split":   {"roles": "split", "serviceMonitor": map[string]any{"enabled": true}, "migrations": map[string]any{"databaseURL": map[string]any{"name": "owner", "key": "url"}}},
	"plain": {"carriersSecret": "", "migrations": map[string]any{"enabled": false}, "networkPolicy": map[string]any{"enabled": false},
		"podAnnotations": map[string]any{"a": "b"}, "nodeSelector": map[string]any{"pool": "ops"}, "imagePullSecrets": []any{map[string]any{"name": "registry"}},
		"tolerations": []any{map[string]any{"key": "ops", "operator": "Exists"}}},
}

// The API server takes what the chart renders: a server-side dry run with strict field validation, so that no field is
// misspelt, in a namespace that enforces the restricted Pod Security Standard.
func TestAPIServerTakesTheChart(t *testing.T) {
	ctx, client := setup(t)
	namespace(t, ctx, "drydock")
	enforce := []byte(`{"metadata":{"labels":{"pod-security.kubernetes.io/enforce":"restricted","pod-security.kubernetes.io/warn":"restricted"}}}`)
	if _, err := client.CoreV1().Namespaces().Patch(ctx, "drydock", types.MergePatchType, enforce, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := grant.Apply(ctx, cluster.RESTConfig(), []byte(monitorCRD)); err != nil {
		t.Fatal(err)
	}
	to, err := dynamic.NewForConfig(cluster.RESTConfig())
	if err != nil {
		t.Fatal(err)
	}
	shipped, err := os.ReadFile("../../deploy/kubernetes/drydock.yaml")
	if err != nil {
		t.Fatal(err)
	}
	rendered := map[string][]byte{"plain manifests": shipped}
	for name, values := range charts {
		if rendered[name], err = chart.Template(chartDir, values); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	for name, manifests := range rendered {
		t.Run(name, func(t *testing.T) {
			for _, o := range objects(t, manifests) {
				gvr, _ := meta.UnsafeGuessKindToResource(o.GroupVersionKind())
				err := await.Until(ctx, o.GetKind()+"s to be served", func(ctx context.Context) error {
					_, err := to.Resource(gvr).Namespace("drydock").Create(ctx, &o, metav1.CreateOptions{DryRun: dryRun, FieldValidation: metav1.FieldValidationStrict})
					if o.GetKind() == "ServiceMonitor" && err != nil {
						return err // its definition is new
					}
					return never(err)
				})
				if err != nil {
					t.Errorf("%s %s: %v", o.GetKind(), o.GetName(), err)
				}
				if o.GetKind() == "Deployment" {
					// Pod Security looks at pods alone.
					spec, _, _ := unstructured.NestedMap(o.Object, "spec", "template", "spec")
					pod := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": "p"}, "spec": spec}}
					if _, err := to.Resource(corev1.SchemeGroupVersion.WithResource("pods")).Namespace("drydock").Create(ctx, pod, metav1.CreateOptions{DryRun: dryRun}); err != nil {
						t.Errorf("a pod of Deployment %s: %v", o.GetName(), err)
					}
				}
			}
		})
	}
}

func never(err error) error {
	if err == nil {
		return nil
	}
	return await.Never(err)
}

// Every pod of the chart is nobody's root, can write to nothing but its volumes, has no token of the cluster, and takes every
// secret by reference; who faces PagerDuty has no credentials of carriers.
func TestPodsOfTheChart(t *testing.T) {
	t.Parallel()
	for name, values := range charts {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			manifests, err := chart.Template(chartDir, values)
			if err != nil {
				t.Fatal(err)
			}
			deployments := 0
			for _, o := range objects(t, manifests) {
				if o.GetKind() == "Secret" {
					t.Error("the chart makes a Secret")
				}
				if o.GetKind() != "Deployment" {
					continue
				}
				deployments++
				var d appsv1.Deployment
				if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(o.Object, &d, true); err != nil {
					t.Fatal(err)
				}
				checkPod(t, d.Name, &d.Spec.Template.Spec)
				if *d.Spec.Replicas != 3 {
					t.Errorf("%s has %d replicas", d.Name, *d.Spec.Replicas)
				}
				ingest := strings.HasSuffix(d.Name, "-ingest")
				for _, v := range d.Spec.Template.Spec.Volumes {
					if v.Secret != nil && ingest {
						t.Errorf("%s has the carriers' kubeconfigs", d.Name)
					}
				}
			}
			if want := map[bool]int{true: 2, false: 1}[name == "split"]; deployments != want {
				t.Errorf("%d Deployments, want %d", deployments, want)
			}
		})
	}
}

func checkPod(t *testing.T, name string, p *corev1.PodSpec) {
	t.Helper()
	if p.AutomountServiceAccountToken == nil || *p.AutomountServiceAccountToken || p.SecurityContext == nil || !*p.SecurityContext.RunAsNonRoot ||
		p.SecurityContext.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
		t.Errorf("%s: the pod is not restricted: %+v", name, p.SecurityContext)
	}
	for _, c := range append(p.InitContainers, p.Containers...) {
		s := c.SecurityContext
		if s == nil || *s.AllowPrivilegeEscalation || !*s.ReadOnlyRootFilesystem || len(s.Capabilities.Drop) != 1 || s.Capabilities.Drop[0] != "ALL" {
			t.Errorf("%s: container %s is not restricted: %+v", name, c.Name, s)
		}
		for _, e := range c.Env {
			if e.ValueFrom == nil || e.ValueFrom.SecretKeyRef == nil || e.Value != "" {
				t.Errorf("%s: %s is not a reference to a Secret", name, e.Name)
			}
		}
	}
	c := p.Containers[0]
	if c.LivenessProbe.HTTPGet.Path != "/healthz" || c.ReadinessProbe.HTTPGet.Path != "/readyz" || c.StartupProbe == nil {
		t.Errorf("%s: its probes are not those of the contract", name)
	}
}

// What the chart writes as drydock.yaml is a configuration.
func TestChartsConfigurationHoldsTogether(t *testing.T) {
	t.Parallel()
	binary, err := drydock()
	if err != nil {
		t.Fatal(err)
	}
	for name, values := range charts {
		manifests, err := chart.Template(chartDir, values)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range objects(t, manifests) {
			if o.GetKind() != "ConfigMap" {
				continue
			}
			text, _, _ := unstructured.NestedString(o.Object, "data", "drydock.yaml")
			file := filepath.Join(t.TempDir(), "drydock.yaml")
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			if out, err := exec.CommandContext(t.Context(), binary, "config", "check", "--config", file).CombinedOutput(); err != nil {
				t.Errorf("%s: %v\n%s\n%s", name, err, out, text)
			}
		}
	}
}
