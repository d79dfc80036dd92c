package scenario

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	deploy "github.com/drydock/drydock/deploy/carrier"
	"github.com/drydock/drydock/playbook"
	"github.com/drydock/drydock/playbook/kube"
	"github.com/drydock/drydock/playbook/playbooktest/scenariofile"
	"github.com/drydock/drydock/testbed/await"
	"github.com/drydock/drydock/testbed/controlplane"
	"github.com/drydock/drydock/testbed/fault"
	"github.com/drydock/drydock/testbed/grant"
)

// accounts are the scenario's own identities, so that none has a right that only another scenario needs.
func (c *carrier) accounts() deploy.Accounts {
	return deploy.Accounts{Reader: c.File + "-reader", Actor: c.File + "-actor"}
}

// rights are exactly those that Drydock needs for the scenario's settings, but for the one that is taken away.
func (c *carrier) rights() []kube.Right {
	needs := kube.Needs{Drain: *c.Settings.DrainNamespaces, Restart: kube.ControllerManager{Restart: c.Settings.Restart, Namespace: c.Namespace}}
	for _, d := range c.DaemonSets {
		needs.Targets = append(needs.Targets, playbook.Target{Namespace: c.Namespace, DaemonSet: d.Name})
	}
	if c.Settings.FlagSet {
		needs.FlagSets = []kube.FlagSet{{Namespace: c.Namespace, Name: flagSetName}}
	}
	return slices.DeleteFunc(kube.Rights(needs), func(r kube.Right) bool {
		return r.Acts && c.Settings.Mode == playbook.ModeObserve || c.without != "" && kindOf(r) == c.without
	})
}

// kindOf names a right without what differs from one carrier to the next: "patch nodes", "get pods/log in kube-system".
func kindOf(r kube.Right) string {
	if r.Namespace != playbook.LeaseNamespace { // kube-system is the same on all
		r.Namespace = ""
	}
	if r.Resource != "leases" {
		r.Name = ""
	}
	return r.String()
}

// impersonating writes, beside an administrator's kubeconfig, one by which the API server takes the caller for a ServiceAccount of
// Drydock's, and returns its path. The rights are that account's alone.
func impersonating(kubeconfig, account string) (string, error) {
	config, err := clientcmd.LoadFromFile(kubeconfig)
	if err != nil {
		return "", fmt.Errorf("read kubeconfig: %w", err)
	}
	for _, user := range config.AuthInfos {
		user.Impersonate = grant.Account(account)
	}
	file := strings.TrimSuffix(kubeconfig, ".kubeconfig") + "." + account + ".kubeconfig"
	if err := clientcmd.WriteToFile(*config, file); err != nil {
		return "", fmt.Errorf("write kubeconfig: %w", err)
	}
	return file, nil
}

// bound puts the admission policy in force on a control plane, with what the scenarios' DaemonSets may have: their image, and
// nothing beyond what every pod may.
func (st *stage) bound(cluster *controlplane.Cluster) error {
	powers := map[string]string{}
	flagSets := false
	for i := range st.all {
		s := &st.all[i]
		flagSets = flagSets || s.Settings.FlagSet
		for _, d := range s.DaemonSets {
			powers[namespaceOf(s)+"."+d.Name] = "image registry.example.com/" + d.Name + "\n"
		}
	}
	if flagSets {
		if err := grant.Apply(st.ctx, cluster.RESTConfig(), []byte(flagSetCRD)); err != nil {
			return err
		}
	}
	return grant.Policy(st.ctx, cluster.RESTConfig(), powers)
}

func namespaceOf(s *scenariofile.Scenario) string { return "monitoring-" + s.File }

// flagSetCRD is Razee's resource as far as its values go.
const flagSetCRD = `{"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition","metadata":{"name":"featureflagsetsld.deploy.razee.io"},
	"spec":{"group":"deploy.razee.io","scope":"Namespaced","names":{"plural":"featureflagsetsld","singular":"featureflagsetld","kind":"FeatureFlagSetLD"},
	"versions":[{"name":"v1alpha2","served":true,"storage":true,"schema":{"openAPIV3Schema":{"type":"object","x-kubernetes-preserve-unknown-fields":true}}}]}}`

const flagSetName = "flags"

// createFlagSet creates the carrier's FeatureFlagSetLD as its controller has filled it. Its kind has a plural that no rule gives.
func (c *carrier) createFlagSet(ctx context.Context) error {
	body := fmt.Sprintf(`{"apiVersion":"deploy.razee.io/v1alpha2","kind":"FeatureFlagSetLD","metadata":{"name":%q},"data":{%q:%q}}`,
		flagSetName, component, c.Carrier.Deployed)
	path := "/apis/deploy.razee.io/v1alpha2/namespaces/" + c.Namespace + "/featureflagsetsld"
	return await.Until(ctx, "FeatureFlagSetLDs to be served", func(ctx context.Context) error {
		return c.client.Discovery().RESTClient().Post().AbsPath(path).Body([]byte(body)).Do(ctx).Error()
	})
}

// denied says where a run's history, all that was read included, tells that the API server did not let Drydock do something:
// with exactly its rights that never happens.
func (p *play) denied(ctx context.Context) (problems []string, err error) {
	for _, a := range p.runs {
		r, err := p.server.store.Run(ctx, a.id)
		if err != nil {
			return nil, err
		}
		history, err := json.Marshal(r)
		if err != nil {
			return nil, fmt.Errorf("encode run %s: %w", a.id, err)
		}
		if _, after, found := strings.Cut(string(history), grant.Account("")); found {
			problems = append(problems, fmt.Sprintf("the run of %s lacks a right: %s", a.name, after[:min(len(after), 200)]))
		}
	}
	return problems, nil
}

// gathering is a place where so many scenarios wait for each other.
type gathering struct {
	mu      sync.Mutex
	missing int
	all     chan struct{}
}

func newGathering(n int) *gathering { return &gathering{missing: n, all: make(chan struct{})} }

// arrive reports whether the caller was the last one.
func (g *gathering) arrive() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.missing--
	return g.missing == 0
}

// forbidRevisions takes the DaemonSet controller's right to ControllerRevisions. Scenarios that play together wait for each
// other: what is deployed after it gets no pods.
func (st *stage) forbidRevisions(ctx context.Context, client kubernetes.Interface) (restore func(context.Context) error, err error) {
	if st.together == nil {
		return fault.ForbidControllerRevisions(ctx, client)
	}
	if st.together.arrive() {
		if _, err := fault.ForbidControllerRevisions(ctx, client); err != nil {
			return nil, err
		}
		close(st.together.all)
	}
	select {
	case <-st.together.all:
		return func(context.Context) error { return nil }, nil // the control plane ends with the scenarios
	case <-ctx.Done():
		return nil, errors.Join(errors.New("wait for the other scenarios"), context.Cause(ctx))
	}
}
