package kube

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/drydock/drydock/playbook"
)

// The drivers that restart a controller-manager. Deleting the mirror pod of a static one is none: a kubelet only writes it
// again (kubernetes.md 1.6).
const (
	DriverDeployment = "deployment"
	DriverSSH        = "ssh"
)

// ControllerManager says how a carrier's controller-manager is restarted, and where else than in the API its log is read.
type ControllerManager struct {
	// Restart is one of the drivers; anything else: it is never restarted.
	Restart string
	// Namespace and Name are the Deployment's; empty: kube-system and kube-controller-manager.
	Namespace, Name string
	// SSH is how its host is reached; set with DriverSSH.
	SSH *SSH
}

// restartedAt is what kubectl rollout restart writes into a pod template, and what people look for.
const restartedAt = "kubectl.kubernetes.io/restartedAt"

// restart restarts the leading controller-manager, if it is still the one that was found stuck.
func (c *Carrier) restart(ctx context.Context, run string, a playbook.RestartControllerManager) (playbook.Settlement, error) {
	if a.Driver != c.manager.Restart || a.Driver != DriverDeployment && a.Driver != DriverSSH {
		return refused(fmt.Sprintf("no driver %q restarts the controller-manager of this carrier", a.Driver)), nil
	}
	lease, err := c.controller(ctx)
	switch {
	case err != nil:
		return notSent(err), nil
	case a.Holder == "" || lease.Holder == "":
		return notHappened("nobody is known to lead"), nil
	case lease.Holder != a.Holder:
		return superseded("another controller-manager leads by now"), nil
	}
	if a.Driver == DriverSSH {
		return c.restartOnHost(ctx, a.Holder)
	}
	return c.restartDeployment(ctx, run)
}

// restartDeployment makes the one patch of kubectl rollout restart. Its value is the run, not the time, so that the same
// call again would change nothing.
func (c *Carrier) restartDeployment(ctx context.Context, run string) (playbook.Settlement, error) {
	namespace, name := cmp.Or(c.manager.Namespace, controllerNamespace), cmp.Or(c.manager.Name, managerName)
	deployment, err := c.reader.AppsV1().Deployments(namespace).Get(ctx, name, metav1.GetOptions{})
	value := "drydock run " + run
	switch {
	case saidNotFound(err, "deployments", name):
		return refused(fmt.Sprintf("there is no Deployment %s/%s: mend controller_manager.namespace and name", namespace, name)), nil
	case err != nil:
		return notSent(fmt.Errorf("get Deployment %s/%s: %w", namespace, name, err)), nil
	case deployment.Spec.Template.Annotations[restartedAt] == value:
		return happened("it was restarted by this run already"), nil
	case deployment.Spec.Paused:
		return refused(fmt.Sprintf("the Deployment %s/%s is paused: nothing would restart", namespace, name)), nil
	}
	body, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": deployment.UID, "resourceVersion": deployment.ResourceVersion},
		"spec":     map[string]any{"template": map[string]any{"metadata": map[string]any{"annotations": map[string]any{restartedAt: value}}}},
	})
	if err != nil {
		return playbook.Settlement{}, fmt.Errorf("encode patch: %w", err)
	}
	return settled(c.send(ctx, run, c.actor.AppsV1().RESTClient().Patch(types.MergePatchType).Namespace(namespace).
		Resource("deployments").Name(name).Param("fieldManager", fieldManager).Body(body)), "deployments", name)
}
