package carrier

import (
	"bytes"
	"cmp"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	gocmp "github.com/google/go-cmp/cmp"

	"github.com/drydock/drydock/playbook"
	"github.com/drydock/drydock/playbook/kube"
)

// object is what the manifests are made of.
type object struct {
	Kind     string
	Metadata struct{ Name, Namespace string }
	Rules    []struct {
		APIGroups     []string `yaml:"apiGroups"`
		Resources     []string
		Verbs         []string
		ResourceNames []string `yaml:"resourceNames"`
	}
	RoleRef  struct{ Kind, Name string } `yaml:"roleRef"`
	Subjects []struct{ Kind, Name, Namespace string }
}

func objects(t *testing.T, manifests []byte) []object {
	t.Helper()
	var all []object
	for d := yaml.NewDecoder(bytes.NewReader(manifests)); ; {
		var o object
		if err := d.Decode(&o); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, o)
	}
}

// granted are the rights that the manifests give, each by itself. What a role says and no binding gives is none.
func granted(t *testing.T, all []object) []kube.Right {
	t.Helper()
	var rights []kube.Right
	for _, o := range all {
		if o.Kind != "Role" && o.Kind != "ClusterRole" {
			continue
		}
		bound := slices.IndexFunc(all, func(b object) bool {
			return b.Kind == o.Kind+"Binding" && b.Metadata == o.Metadata && b.RoleRef.Kind == o.Kind && b.RoleRef.Name == o.Metadata.Name
		})
		if bound < 0 {
			t.Errorf("no binding gives %s %s/%s", o.Kind, o.Metadata.Namespace, o.Metadata.Name)
			continue
		}
		subjects := all[bound].Subjects
		if len(subjects) != 1 || subjects[0].Kind != "ServiceAccount" || subjects[0].Name != o.Metadata.Name || subjects[0].Namespace != Namespace {
			t.Errorf("the binding of %s %s gives it to %v", o.Kind, o.Metadata.Name, subjects)
		}
		for _, r := range o.Rules {
			if len(r.ResourceNames) == 0 {
				r.ResourceNames = []string{""}
			}
			for _, group := range r.APIGroups {
				for _, resource := range r.Resources {
					for _, verb := range r.Verbs {
						for _, name := range r.ResourceNames {
							of, sub, _ := strings.Cut(resource, "/")
							rights = append(rights, kube.Right{Verb: verb, Group: group, Resource: of, Subresource: sub, Name: name,
								Namespace: o.Metadata.Namespace, Acts: o.Metadata.Name == Usual().Actor})
						}
					}
				}
			}
		}
	}
	return rights
}

func sorted(rights []kube.Right) []kube.Right {
	rights = slices.Clone(rights)
	for i := range rights {
		rights[i].For = "" // people's words
	}
	slices.SortFunc(rights, func(a, b kube.Right) int { return cmp.Compare(a.String(), b.String()) })
	return rights
}

func shipped() kube.Needs {
	n := kube.Needs{Drain: []string{"kubx-masters"}}
	for _, d := range [][2]string{{"monitoring", "node-exporter"}, {"monitoring", "docker-metrics-endpoint"}, {"ibm-system", "ibm-kube-fluentd"}} {
		n.Targets = append(n.Targets, playbook.Target{Namespace: d[0], DaemonSet: d[1]})
	}
	return n
}

// The manifests give exactly the rights that the code says it needs: none is missing, none is too many.
func TestManifestsAreTheRights(t *testing.T) {
	t.Parallel()
	everything := shipped()
	everything.Drain = append(everything.Drain, "kubx-etcd")
	everything.Restart = kube.ControllerManager{Restart: kube.DriverDeployment}
	everything.FlagSets = []kube.FlagSet{{Namespace: "razee", Name: "armada-flags"}}
	for name, needs := range map[string]kube.Needs{"the runbook's": shipped(), "everything": everything, "nothing but nodes": {}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want := kube.Rights(needs)
			var manifests bytes.Buffer
			if err := WriteRights(&manifests, Usual(), want); err != nil {
				t.Fatal(err)
			}
			if diff := gocmp.Diff(sorted(want), sorted(granted(t, objects(t, manifests.Bytes())))); diff != "" {
				t.Errorf("what is needed (-) and what is given (+)\n%s\n%s", diff, manifests.String())
			}
		})
	}
}

// In mode observe there is no account that could change anything.
func TestNobodyActsInModeObserve(t *testing.T) {
	t.Parallel()
	rights := slices.DeleteFunc(kube.Rights(shipped()), func(r kube.Right) bool { return r.Acts })
	var manifests bytes.Buffer
	if err := WriteRights(&manifests, Usual(), rights); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(manifests.String(), Usual().Actor) {
		t.Error("the actor is granted something")
	}
	for _, r := range granted(t, objects(t, manifests.Bytes())) {
		asks := r.Verb == "create" && r.Resource == "subjectaccessreviews"
		if r.Verb != "get" && r.Verb != "list" && !asks {
			t.Errorf("the reader may %s", r)
		}
	}
}

// What would be as good as everything is never needed: a right that is not in the list can not be granted by accident.
func TestNeverGranted(t *testing.T) {
	t.Parallel()
	needs := shipped()
	needs.Restart = kube.ControllerManager{Restart: kube.DriverDeployment}
	for _, r := range kube.Rights(needs) {
		for _, part := range []string{r.Verb, r.Group, r.Resource, r.Subresource} {
			if part == "*" || slices.Contains([]string{"secrets", "exec", "attach", "portforward", "proxy", "ephemeralcontainers", "impersonate", "bind", "escalate",
				"deletecollection", "token", "approve"}, part) {
				t.Errorf("%s", r)
			}
		}
	}
}
