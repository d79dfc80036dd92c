// Package carrier holds what is applied to a carrier before Drydock may work there: two identities with exactly the rights
// of kube.Rights, and an admission policy that bounds what they send.
//
// There are two identities because a diagnosis runs all day and a repair for minutes: the reader can change nothing, and the
// actor, which can, is used only while an intent is open. RBAC says which verbs they have on which objects. It can not say
// what is inside a request, and creating a DaemonSet is as good as root on every node; that is what policy.yaml is for.
//
// rights.yaml is what "drydock doctor --grants" prints for the carrier of the repository's drydock.yaml.
package carrier

import (
	_ "embed"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/template"

	"github.com/drydock/drydock/playbook/kube"
)

//go:generate sh -c "go run ../../cmd/drydock doctor --config ../../drydock.yaml --grants prod-dal10-carrier3 > rights.yaml.new && mv rights.yaml.new rights.yaml"

// Policy is the admission policy, as YAML. It binds every ServiceAccount of the namespace Namespace.
//
//go:embed policy.yaml
var Policy string

// Namespace is where Drydock's ServiceAccounts are on a carrier.
const Namespace = "drydock"

// Accounts are the names of the ServiceAccounts, and of all roles and bindings of each.
type Accounts struct{ Reader, Actor string }

// Usual are the names that everything here and in the documentation goes by.
func Usual() Accounts { return Accounts{Reader: "drydock-reader", Actor: "drydock-actor"} }

//go:embed rights.yaml.tmpl
var rightsText string

var rightsTemplate = template.Must(template.New("rights.yaml").Funcs(template.FuncMap{"join": strings.Join}).Parse(rightsText))

type account struct {
	Name, Is string
	Roles    []role
}

// role is what an account may do in one namespace, or everywhere.
type role struct {
	Kind, Namespace string
	Rules           []rule
}

type rule struct {
	Group, Resource, For string
	Verbs, Names         []string
}

// WriteRights writes the accounts with exactly these rights, as YAML for kubectl apply. An account without any right is left out:
// in mode observe nobody acts.
func WriteRights(w io.Writer, names Accounts, rights []kube.Right) error {
	reader := account{Name: names.Reader, Is: "Who looks."}
	actor := account{Name: names.Actor, Is: "Who acts, while an intent is open."}
	for _, r := range rights {
		if r.Acts {
			actor.add(r)
		} else {
			reader.add(r)
		}
	}
	accounts := slices.DeleteFunc([]account{reader, actor}, func(a account) bool { return len(a.Roles) == 0 })
	if err := rightsTemplate.Execute(w, map[string]any{"Namespace": Namespace, "Accounts": accounts}); err != nil {
		return fmt.Errorf("write rights: %w", err)
	}
	return nil
}

// add puts a right in the role of its namespace, and in the rule of the same objects if there is one.
func (a *account) add(r kube.Right) {
	at := slices.IndexFunc(a.Roles, func(x role) bool { return x.Namespace == r.Namespace })
	if at < 0 {
		kind := "Role"
		if r.Namespace == "" {
			kind = "ClusterRole"
		}
		at = len(a.Roles)
		a.Roles = append(a.Roles, role{Kind: kind, Namespace: r.Namespace})
	}
	a.Roles[at].add(r)
}

func (to *role) add(r kube.Right) {
	resource := r.Resource
	if r.Subresource != "" {
		resource += "/" + r.Subresource
	}
	var names []string
	if r.Name != "" {
		names = []string{r.Name}
	}
	for i := range to.Rules {
		same := &to.Rules[i]
		if same.Group != r.Group || same.Resource != resource {
			continue
		}
		switch {
		case slices.Equal(same.Names, names): // one more verb on the same objects
			same.Verbs = append(same.Verbs, r.Verb)
			if !strings.Contains(same.For, r.For) {
				same.For += "; to " + r.For
			}
			return
		case len(names) > 0 && len(same.Names) > 0 && same.For == r.For && slices.Equal(same.Verbs, []string{r.Verb}):
			same.Names = append(same.Names, r.Name) // one more object for the same verb
			return
		}
	}
	to.Rules = append(to.Rules, rule{Group: r.Group, Resource: resource, For: r.For, Verbs: []string{r.Verb}, Names: names})
}
