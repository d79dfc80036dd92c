package fault

import (
	"context"
	"errors"
	"fmt"
	"slices"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/drydock/drydock/testbed/await"
)

const (
	daemonSetControllerRole = "system:controller:daemon-set-controller"
	daemonSetControllerUser = "system:serviceaccount:kube-system:daemon-set-controller"
)

// ForbidControllerRevisions takes from the DaemonSet controller its right to
// ControllerRevisions, which makes the runbook's "failed to construct revisions of
// DaemonSet ... is forbidden": a DaemonSet that is new or changed afterwards gets
// no pods and no status, one that is unchanged goes on. The function returned gives
// the right back. A restart of the API server does that too, by itself.
func ForbidControllerRevisions(ctx context.Context, client kubernetes.Interface) (restore func(context.Context) error, err error) {
	role, err := client.RbacV1().ClusterRoles().Get(ctx, daemonSetControllerRole, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("forbid ControllerRevisions: %w", err)
	}
	rules := role.Rules
	without := slices.DeleteFunc(slices.Clone(rules), func(rule rbacv1.PolicyRule) bool {
		return slices.Contains(rule.Resources, "controllerrevisions")
	})
	if len(without) == len(rules) {
		return nil, errors.New("forbid ControllerRevisions: the role has no rule about them")
	}
	if err := setControllerRules(ctx, client, without, false); err != nil {
		return nil, fmt.Errorf("forbid ControllerRevisions: %w", err)
	}
	return func(ctx context.Context) error {
		if err := setControllerRules(ctx, client, rules, true); err != nil {
			return fmt.Errorf("allow ControllerRevisions: %w", err)
		}
		return nil
	}, nil
}

// setControllerRules writes the role and waits until the API server goes by it.
func setControllerRules(ctx context.Context, client kubernetes.Interface, rules []rbacv1.PolicyRule, allowed bool) error {
	role, err := client.RbacV1().ClusterRoles().Get(ctx, daemonSetControllerRole, metav1.GetOptions{})
	if err != nil {
		return err
	}
	role.Rules = rules
	if _, err := client.RbacV1().ClusterRoles().Update(ctx, role, metav1.UpdateOptions{}); err != nil {
		return err
	}
	review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
		User:               daemonSetControllerUser,
		Groups:             []string{"system:serviceaccounts", "system:serviceaccounts:kube-system", "system:authenticated"},
		ResourceAttributes: &authorizationv1.ResourceAttributes{Namespace: metav1.NamespaceSystem, Verb: "create", Group: "apps", Resource: "controllerrevisions"},
	}}
	return await.Until(ctx, "the changed role to count", func(ctx context.Context) error {
		answer, err := client.AuthorizationV1().SubjectAccessReviews().Create(ctx, review, metav1.CreateOptions{})
		if err != nil {
			return err
		}
		if answer.Status.Allowed != allowed {
			return fmt.Errorf("create controllerrevisions is allowed=%v", answer.Status.Allowed)
		}
		return nil
	})
}

// RefusePods lets the namespace's quota refuse every new pod: a DaemonSet there gets
// none, and events "FailedCreate ... is forbidden: exceeded quota". The function
// returned takes the quota away; the DaemonSet controller tries again ever more
// rarely, or as soon as the DaemonSet changes.
func RefusePods(ctx context.Context, client kubernetes.Interface, namespace string) (restore func(context.Context) error, err error) {
	return refuse(ctx, client, namespace, "no-pods", corev1.ResourcePods)
}

// RefuseRevisions lets the namespace's quota refuse every new ControllerRevision: a
// DaemonSet there that is changed afterwards stays as it was, with its controller's
// observedGeneration behind. The function returned takes the quota away.
func RefuseRevisions(ctx context.Context, client kubernetes.Interface, namespace string) (restore func(context.Context) error, err error) {
	return refuse(ctx, client, namespace, "no-revisions", "count/controllerrevisions.apps")
}

func refuse(ctx context.Context, client kubernetes.Interface, namespace, name string, what corev1.ResourceName) (restore func(context.Context) error, err error) {
	if err := Namespace(ctx, client, namespace); err != nil {
		return nil, err
	}
	quotas := client.CoreV1().ResourceQuotas(namespace)
	quota := &corev1.ResourceQuota{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec:       corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{what: resource.MustParse("0")}},
	}
	if _, err := quotas.Create(ctx, quota, metav1.CreateOptions{}); err != nil {
		return nil, fmt.Errorf("create quota %s/%s: %w", namespace, quota.Name, err)
	}
	err = await.Until(ctx, "the quota of namespace "+namespace+" to count", func(ctx context.Context) error {
		got, err := quotas.Get(ctx, quota.Name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if len(got.Status.Hard) == 0 {
			return errors.New("it does not yet")
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) error {
		if err := quotas.Delete(ctx, quota.Name, metav1.DeleteOptions{}); err != nil {
			return fmt.Errorf("delete quota %s/%s: %w", namespace, quota.Name, err)
		}
		return nil
	}, nil
}
