package kube

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/drydock/drydock/playbook"
)

// The drivers that restart a controller-manager. Deleting the mirror pod of a static one is none: a kubelet only writes it
// again (kubernetes.md 1.6).
const (
	DriverDeployment = playbook.DriverDeployment
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
const (
	restartedAt       = "kubectl.kubernetes.io/restartedAt"
	restartedAtPrefix = "drydock run "
)

// restart restarts the leading controller-manager, if it is still the one that was found stuck.
func (c *Carrier) restart(ctx context.Context, run string, a playbook.RestartControllerManager) (playbook.Settlement, error) {
	if a.Driver != c.manager.Restart || a.Driver != DriverDeployment && a.Driver != DriverSSH {
		return refused(fmt.Sprintf("no driver %q restarts the controller-manager of this carrier", a.Driver)), nil
	}
	lease, err := c.controller(ctx)
	switch {
	case err != nil:
		return c.unread(ctx, err, getManagerLease), nil
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

// deployment is where the controller-manager's Deployment is.
func (c *Carrier) deployment() (namespace, name string) {
	return cmp.Or(c.manager.Namespace, controllerNamespace), cmp.Or(c.manager.Name, managerName)
}

// restartDeployment makes the one patch of kubectl rollout restart. Its value is the run, not the time, so that the same
// call again would change nothing. The run is noted beside it too, where a person's next restart leaves it: it is what a
// call with a lost answer is looked up by.
func (c *Carrier) restartDeployment(ctx context.Context, run string) (playbook.Settlement, error) {
	namespace, name := c.deployment()
	deployment, err := c.reader.AppsV1().Deployments(namespace).Get(ctx, name, metav1.GetOptions{})
	switch {
	case saidNotFound(err, "deployments", name):
		return refused(fmt.Sprintf("there is no Deployment %s/%s: mend controller_manager.namespace and name", namespace, name)), nil
	case err != nil:
		return c.unread(ctx, fmt.Errorf("get Deployment %s/%s: %w", namespace, name, err), onDeployment("get", namespace, name)), nil
	case restartedBy(deployment) == run:
		return happened("it was restarted by this run already"), nil
	case deployment.Spec.Paused:
		return refused(fmt.Sprintf("the Deployment %s/%s is paused: nothing would restart", namespace, name)), nil
	}
	err = c.patchDeployment(ctx, run, deployment, map[string]any{RestartedByRun: run},
		map[string]any{"template": map[string]any{"metadata": map[string]any{"annotations": map[string]any{restartedAt: restartedAtPrefix + run}}}})
	return c.settled(ctx, err, onDeployment("patch", namespace, name), name)
}

// restartedBy is the run that restarted it last. A replica of an older version notes it in the template alone.
func restartedBy(d *appsv1.Deployment) string {
	if run := d.Annotations[RestartedByRun]; run != "" {
		return run
	}
	run, _ := strings.CutPrefix(d.Spec.Template.Annotations[restartedAt], restartedAtPrefix)
	return run
}

// patchDeployment changes the controller-manager's Deployment in one compare-and-swap.
func (c *Carrier) patchDeployment(ctx context.Context, run string, d *appsv1.Deployment, annotations, spec map[string]any) error {
	patch := map[string]any{"metadata": map[string]any{"uid": d.UID, "resourceVersion": d.ResourceVersion, "annotations": annotations}}
	if spec != nil {
		patch["spec"] = spec
	}
	body, err := json.Marshal(patch)
	if err != nil {
		return fmt.Errorf("encode patch: %w", err)
	}
	namespace, name := c.deployment()
	return c.send(ctx, run, c.actor.AppsV1().RESTClient().Patch(types.MergePatchType).Namespace(namespace).
		Resource("deployments").Name(name).Param("fieldManager", fieldManager).Body(body))
}

// touchManager touches the Deployment that a restart patches. A paused worker has read its resourceVersion before.
func (c *Carrier) touchManager(ctx context.Context, run string, annotations map[string]any) (bool, error) {
	if c.manager.Restart != DriverDeployment {
		return false, nil
	}
	namespace, name := c.deployment()
	deployment, err := c.reader.AppsV1().Deployments(namespace).Get(ctx, name, metav1.GetOptions{})
	if saidNotFound(err, "deployments", name) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("get Deployment %s/%s: %w", namespace, name, err)
	}
	return wasTouched(c.patchDeployment(ctx, run, deployment, annotations, nil), "deployments", name)
}

// managerState is what is known of the controller-manager whose Lease is named. A Lease's UID is its holder.
func (c *Carrier) managerState(ctx context.Context, ref playbook.Ref) (playbook.ObjectState, error) {
	lease, err := c.reader.CoordinationV1().Leases(ref.Namespace).Get(ctx, ref.Name, metav1.GetOptions{})
	if err != nil {
		return playbook.ObjectState{}, fmt.Errorf("get Lease %s/%s: %w", ref.Namespace, ref.Name, err)
	}
	state := playbook.ObjectState{Exists: true, ResourceVersion: lease.ResourceVersion}
	if lease.Spec.HolderIdentity != nil {
		state.UID = *lease.Spec.HolderIdentity
	}
	if c.manager.Restart != DriverDeployment {
		return state, nil
	}
	namespace, name := c.deployment()
	deployment, err := c.reader.AppsV1().Deployments(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil && !saidNotFound(err, "deployments", name) {
		return playbook.ObjectState{}, fmt.Errorf("get Deployment %s/%s: %w", namespace, name, err)
	}
	if err == nil {
		state.RestartedByRun = restartedBy(deployment)
	}
	return state, nil
}
