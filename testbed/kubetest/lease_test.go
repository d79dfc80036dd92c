package kubetest

import (
	"context"
	"fmt"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/drydock/drydock/playbook"
	"github.com/drydock/drydock/playbook/kube"
	"github.com/drydock/drydock/testbed/controlplane/clustertest"
)

// Two installations, and two carriers that are one cluster: the Lease names one installation, counts for each carrier, and
// goes over only when it is taken.
func TestLeaseNamesOneInstallation(t *testing.T) {
	ctx, client, c := setup(t)
	entry := kube.Entry{Name: "the-same-cluster", Kubeconfig: cluster.Kubeconfig()}
	registry, err := kube.NewRegistry([]kube.Entry{entry}, "", kube.Options{Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	second, err := registry.Carrier(entry.Name)
	if err != nil {
		t.Fatal(err)
	}
	hold := func(c *kube.Carrier, installation string, number int64, token, refused string) {
		t.Helper()
		count := playbook.Count{Number: number, Token: token}
		l, err := c.Hold(ctx, installation, count)
		if err != nil {
			t.Fatal(err)
		}
		if no := l.Refusal(c.Name(), installation, count); no.Name != refused {
			t.Errorf("%s holds %s with %d %s: refusal %q (%s), want %q", installation, c.Name(), number, token, no.Name, no.Why, refused)
		}
	}
	if l := known(t, "lease", c.Lease(ctx)); l != (playbook.CarrierLease{}) {
		t.Fatalf("a Lease that nobody wrote reads %+v", l)
	}
	hold(c, "first", 1, "a", "")
	hold(c, "first", 1, "a", "")
	hold(c, "first", 2, "b", "")
	hold(second, "first", 1, "c", "") // a carrier of its own, of the same installation
	hold(c, "first", 2, "x", playbook.RefusedByStale)
	hold(c, "first", 1, "a", playbook.RefusedByStale)
	hold(c, "laptop", 9, "z", playbook.RefusedByOther)
	hold(second, "laptop", 9, "z", playbook.RefusedByOther)
	if l := known(t, "lease", c.Lease(ctx)); l != (playbook.CarrierLease{Holder: "first", Count: playbook.Count{Number: 2, Token: "b"}}) {
		t.Errorf("the Lease reads %+v", l)
	}
	if err := c.TakeOver(ctx, "laptop", playbook.Count{Number: 3, Token: "d"}); err != nil {
		t.Fatal(err)
	}
	hold(c, "first", 3, "e", playbook.RefusedByOther)
	hold(c, "laptop", 3, "d", "")

	// A diagnosis never writes it.
	reader := carrier(t, kube.Options{Version: "test", ReadOnly: true})
	if _, err := reader.Hold(ctx, "laptop", playbook.Count{Number: 4, Token: "f"}); err == nil {
		t.Error("a read-only carrier wrote the Lease")
	}

	// A missing right is named.
	const user = "drydock-no-lease"
	role(t, ctx, playbook.LeaseNamespace, user, named(rule("coordination.k8s.io", "leases", "get"), playbook.LeaseName))
	config, err := cluster.IssueKubeconfig(user)
	if err != nil {
		t.Fatal(err)
	}
	registry, err = kube.NewRegistry([]kube.Entry{{Name: carrierName, Kubeconfig: config}}, "", kube.Options{Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	poor, err := registry.Carrier(carrierName)
	if err != nil {
		t.Fatal(err)
	}
	want := "it needs the right to update leases.coordination.k8s.io in namespace kube-system"
	eventually(t, ctx, "the missing right to be named", func(ctx context.Context) error {
		l, ok := poor.Lease(ctx).Get()
		if !ok || l.Denied != want {
			return fmt.Errorf("%t %+v", ok, l)
		}
		return nil
	})
	l, err := poor.Hold(ctx, "laptop", playbook.Count{Number: 4, Token: "f"})
	if err != nil || l.Denied != want {
		t.Errorf("hold without the right: %+v, %v", l, err)
	}
	clustertest.Cleanup(t, func(ctx context.Context) error { return deleteLease(ctx, client) })
}

func deleteLease(ctx context.Context, client kubernetes.Interface) error {
	return client.CoordinationV1().Leases(playbook.LeaseNamespace).Delete(ctx, playbook.LeaseName, metav1.DeleteOptions{})
}
