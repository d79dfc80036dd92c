package kubetest

import (
	"context"
	"strings"
	"testing"

	deploy "github.com/drydock/drydock/deploy/carrier"
	"github.com/drydock/drydock/playbook/kube"
	"github.com/drydock/drydock/testbed/grant"
)

// granted gives two identities of the test's own exactly the rights for what is needed, and puts the admission policy in force,
// which binds nobody else. One test alone can ask for it.
func granted(t *testing.T, ctx context.Context, needs kube.Needs) deploy.Accounts {
	t.Helper()
	powers := map[string]string{}
	for _, target := range needs.Targets {
		powers[target.Namespace+"."+target.DaemonSet] = "image registry.example.com/" + target.DaemonSet + "\n"
	}
	if err := grant.Policy(ctx, cluster.RESTConfig(), powers); err != nil {
		t.Fatal(err)
	}
	name := strings.ToLower(t.Name())
	accounts := deploy.Accounts{Reader: name + "-reader", Actor: name + "-actor"}
	if err := grant.Rights(ctx, cluster.RESTConfig(), accounts, kube.Rights(needs)); err != nil {
		t.Fatal(err)
	}
	return accounts
}
