package kube

import (
	appsv1 "k8s.io/client-go/kubernetes/typed/apps/v1"
	authorizationv1 "k8s.io/client-go/kubernetes/typed/authorization/v1"
	coordinationv1 "k8s.io/client-go/kubernetes/typed/coordination/v1"
	corev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	policyv1 "k8s.io/client-go/kubernetes/typed/policy/v1"
	"k8s.io/client-go/rest"
)

// clients are the API groups that Drydock calls, over one transport. client-go's own set has all the others too, which would be
// a tenth of the binary.
type clients struct {
	apps          *appsv1.AppsV1Client
	authorization *authorizationv1.AuthorizationV1Client
	coordination  *coordinationv1.CoordinationV1Client
	core          *corev1.CoreV1Client
	policy        *policyv1.PolicyV1Client
}

func newClients(c *rest.Config) (*clients, error) {
	transport, err := rest.HTTPClientFor(c)
	if err != nil {
		return nil, err
	}
	var set clients
	if set.apps, err = appsv1.NewForConfigAndClient(c, transport); err != nil {
		return nil, err
	}
	if set.authorization, err = authorizationv1.NewForConfigAndClient(c, transport); err != nil {
		return nil, err
	}
	if set.coordination, err = coordinationv1.NewForConfigAndClient(c, transport); err != nil {
		return nil, err
	}
	if set.core, err = corev1.NewForConfigAndClient(c, transport); err != nil {
		return nil, err
	}
	if set.policy, err = policyv1.NewForConfigAndClient(c, transport); err != nil {
		return nil, err
	}
	return &set, nil
}

func (c *clients) AppsV1() appsv1.AppsV1Interface                            { return c.apps }
func (c *clients) AuthorizationV1() authorizationv1.AuthorizationV1Interface { return c.authorization }
func (c *clients) CoordinationV1() coordinationv1.CoordinationV1Interface    { return c.coordination }
func (c *clients) CoreV1() corev1.CoreV1Interface                            { return c.core }
func (c *clients) PolicyV1() policyv1.PolicyV1Interface                      { return c.policy }
