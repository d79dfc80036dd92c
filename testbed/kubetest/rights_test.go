package kubetest

import (
	"context"
	"errors"
	"fmt"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	deploy "github.com/drydock/drydock/deploy/carrier"
	"github.com/drydock/drydock/playbook"
	"github.com/drydock/drydock/playbook/kube"
	"github.com/drydock/drydock/testbed/controlplane/clustertest"
	"github.com/drydock/drydock/testbed/fault"
)

func rule(group, resources string, verbs ...string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{APIGroups: []string{group}, Resources: []string{resources}, Verbs: verbs}
}

func named(r rbacv1.PolicyRule, names ...string) rbacv1.PolicyRule {
	r.ResourceNames = names
	return r
}

// What a reader and an actor need, and nothing else: the whole of Observe and Do works with two identities that have
// exactly these rights, under the admission policy.
func TestTwoIdentitiesWithLeastRights(t *testing.T) {
	ctx, client, _ := setup(t)
	const namespace, masters = "rights", "kubx-rights"
	ds := agent(t, ctx, fault.Agent{Namespace: namespace, Name: "node-exporter"})
	node1 := worker(1)
	bare(t, node1)
	full(t, ctx, fault.Full{Node: node1, Displace: []types.NamespacedName{{Namespace: namespace, Name: "node-exporter"}},
		With: fault.Workload{Namespace: masters, Name: "master", Replicas: 3}})

	accounts := granted(t, ctx, kube.Needs{Targets: []playbook.Target{target(ds)}, Drain: []string{masters}})
	readerConfig, err := cluster.ServiceAccountKubeconfig(ctx, deploy.Namespace, accounts.Reader)
	if err != nil {
		t.Fatal(err)
	}
	actorConfig, err := cluster.ServiceAccountKubeconfig(ctx, deploy.Namespace, accounts.Actor)
	if err != nil {
		t.Fatal(err)
	}
	registry, err := kube.NewRegistry([]kube.Entry{{Name: carrierName, Kubeconfig: readerConfig, ActorKubeconfig: actorConfig}}, "", kube.Options{Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	c, err := registry.Carrier(carrierName)
	if err != nil {
		t.Fatal(err)
	}
	if version, err := registry.Reachable(ctx, carrierName); err != nil || version == "" {
		t.Errorf("version %q, %v", version, err)
	}
	look := playbook.Look{Target: target(ds), Policy: playbook.Policy{DrainFrom: []string{masters}}, Wants: []playbook.Want{
		{Kind: playbook.WantNodePods, Node: node1}, {Kind: playbook.WantEvents}, {Kind: playbook.WantReapply},
		{Kind: playbook.WantAdoption}, {Kind: playbook.WantEvidence}, {Kind: playbook.WantManagerLog}}}
	var o playbook.Observation
	eventually(t, ctx, "the rights to be known", func(ctx context.Context) error {
		o = observe(ctx, c, look)
		return errors.Join(why(o.DaemonSet), why(o.Namespace), why(o.Nodes), why(o.Controller), why(o.NodePods[node1]), why(o.Events), why(o.Reapply),
			why(o.Adoption), why(o.Evidence), why(o.ManagerLog), why(o.MissingRights))
	})
	check := known(t, "reapply", o.Reapply)
	if !check.MayCreate || !check.MayDelete || check.DryRun != "" {
		t.Fatalf("reapply check = %+v", check)
	}
	n := node(t, ctx, node1)
	do(t, ctx, c, cordonOf(n, "run-1"), playbook.Happened)
	moved := false
	for _, k := range known(t, "node pods", o.NodePods[node1]).Candidates {
		if k.NotMovable == "" && !moved {
			do(t, ctx, c, playbook.Evict{Node: node1, Namespace: k.Namespace, Pod: k.Name, UID: k.UID}, playbook.Happened)
			moved = true
		}
	}
	if !moved {
		t.Error("no candidate may be moved")
	}
	if ok, err := c.Touch(ctx, playbook.Ref{Kind: "Node", Name: node1}, "run-1", 2); err != nil || !ok {
		t.Errorf("touch: %t, %v", ok, err)
	}
	doCall(t, ctx, c, playbook.Call{Run: "run-1", Generation: 2, Action: uncordonOf(n, "run-1")}, playbook.Happened)
	// The pod that found a place changes the DaemonSet's status meanwhile, and with it the resourceVersion.
	eventually(t, ctx, "a nudge", func(ctx context.Context) error {
		fresh := get(t, ctx, ds)
		s, err := c.Do(ctx, playbook.Call{Run: "run-1", Action: playbook.Nudge{Namespace: namespace, Name: ds.Name, UID: string(fresh.UID),
			ResourceVersion: fresh.ResourceVersion, Run: "run-1"}})
		if err == nil && s.Result != playbook.Happened {
			err = fmt.Errorf("it %s: %s", s.Result, s.Detail)
		}
		return err
	})
	reapply(t, ctx, c, get(t, ctx, ds))

	// A right that is missing is said before anything is deleted.
	if err := client.RbacV1().Roles(namespace).Delete(ctx, accounts.Actor, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, ctx, "the missing right to be seen", func(ctx context.Context) error {
		check, ok := observe(ctx, c, look).Reapply.Get()
		if !ok || check.MayCreate || check.MayDelete {
			return errors.New("it may still")
		}
		return nil
	})
	fresh := get(t, ctx, ds)
	refused := do(t, ctx, c, playbook.Nudge{Namespace: namespace, Name: ds.Name, UID: string(fresh.UID), ResourceVersion: fresh.ResourceVersion, Run: "run-1"},
		playbook.Refused)
	if want := playbook.NotGranted(carrierName, "patch daemonsets.apps "+ds.Name+" in "+namespace); refused.Detail != want {
		t.Errorf("the nudge was refused with %q, want %q", refused.Detail, want)
	}
}

func why[T any](r playbook.Reading[T]) error {
	if r.IsKnown() {
		return nil
	}
	return errors.New(r.Why())
}

func clusterRole(t *testing.T, ctx context.Context, user string, rules ...rbacv1.PolicyRule) {
	t.Helper()
	api := cluster.Client().RbacV1()
	meta := metav1.ObjectMeta{Name: user}
	clustertest.Cleanup(t, func(ctx context.Context) error {
		return errors.Join(api.ClusterRoleBindings().Delete(ctx, user, metav1.DeleteOptions{}), api.ClusterRoles().Delete(ctx, user, metav1.DeleteOptions{}))
	})
	if _, err := api.ClusterRoles().Create(ctx, &rbacv1.ClusterRole{ObjectMeta: meta, Rules: rules}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := api.ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{ObjectMeta: meta, Subjects: []rbacv1.Subject{{Kind: rbacv1.UserKind, Name: user}},
		RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: user}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

func role(t *testing.T, ctx context.Context, namespace, user string, rules ...rbacv1.PolicyRule) {
	t.Helper()
	api := cluster.Client().RbacV1()
	meta := metav1.ObjectMeta{Namespace: namespace, Name: user}
	if _, err := api.Roles(namespace).Create(ctx, &rbacv1.Role{ObjectMeta: meta, Rules: rules}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := api.RoleBindings(namespace).Create(ctx, &rbacv1.RoleBinding{ObjectMeta: meta, Subjects: []rbacv1.Subject{{Kind: rbacv1.UserKind, Name: user}},
		RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: user}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}
