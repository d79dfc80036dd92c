package demo

import (
	"context"
	"fmt"
	"path/filepath"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/drydock/drydock/testbed/controlplane"
	"github.com/drydock/drydock/testbed/fault"
	"github.com/drydock/drydock/testbed/jenkins/apply"
)

// startCarriers starts a control plane for each name, at the same time. What
// was started is returned with an error, too.
func startCarriers(ctx context.Context, v *view, dir string, names ...string) (map[string]*controlplane.Cluster, error) {
	started := make([]*controlplane.Cluster, len(names))
	var starts []func(context.Context) error
	for i, name := range names {
		starts = append(starts, func(ctx context.Context) error {
			return v.step("control plane "+name, func() (err error) {
				started[i], err = controlplane.Start(ctx, controlplane.Options{
					Name: name, Dir: filepath.Join(dir, name), Nodes: workers, Masters: masters, PodsPerNode: podsPerNode,
				})
				return err
			})
		})
	}
	err := together(ctx, starts...)
	clusters := map[string]*controlplane.Cluster{}
	for i, cluster := range started {
		if cluster != nil {
			clusters[names[i]] = cluster
		}
	}
	return clusters, err
}

// populate deploys what runs on a healthy carrier, and waits until it does: the
// component armada-ops out of Jenkins' manifests, fluentd, and customers' masters
// with disruption budgets.
func populate(ctx context.Context, carrier string, config *rest.Config, client kubernetes.Interface) error {
	deploy := apply.To(map[string]*rest.Config{carrier: config}, apply.ArmadaOps)
	if err := deploy(ctx, carrier, jenkinsJob, build(deployedBuild, deployedVersion)); err != nil {
		return err
	}
	if _, err := fault.CreateDaemonSet(ctx, client, fault.Agent{Namespace: "ibm-system", Name: fluentd}); err != nil {
		return err
	}
	if err := fault.Namespace(ctx, client, mastersNamespace); err != nil {
		return err
	}
	for n := range workers {
		if err := fault.CreateWorkload(ctx, client, customerMaster(fmt.Sprintf("master-customer-%02d", n+1))); err != nil {
			return err
		}
	}
	for _, set := range daemonSets() {
		if _, err := fault.WaitDaemonSetReady(ctx, client, set.Namespace, set.Name); err != nil {
			return err
		}
	}
	for n := range workers {
		if err := fault.WaitWorkload(ctx, client, mastersNamespace, fmt.Sprintf("master-customer-%02d", n+1)); err != nil {
			return err
		}
	}
	return nil
}

// daemonSets are those of a healthy carrier.
func daemonSets() []types.NamespacedName {
	return []types.NamespacedName{
		{Namespace: "monitoring", Name: nodeExporter},
		{Namespace: "monitoring", Name: dockerMetrics},
		{Namespace: "ibm-system", Name: fluentd},
	}
}

// customerMaster is a customer's master: three replicas, of which its budget lets
// one go at a time.
func customerMaster(name string) fault.Workload {
	return fault.Workload{Namespace: mastersNamespace, Name: name, Replicas: 3, MinAvailable: new(2)}
}
