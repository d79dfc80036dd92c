package demo

import "fmt"

// The carriers of the runbook's example alerts.
const (
	carrier3 = "prod-dal10-carrier3"
	carrier2 = "prod-dal12-carrier2"
)

// The sizes of a carrier. 31 is the runbook's limit of pods per node.
const (
	workers     = 12
	masters     = 2
	podsPerNode = 31
)

// What is deployed. The agents of armada-ops come out of Jenkins, see standins.go.
const (
	nodeExporter  = "node-exporter"
	dockerMetrics = "docker-metrics-endpoint"
	fluentd       = "ibm-kube-fluentd"

	mastersNamespace = "kubx-masters"
	component        = "armada-ops"
	deployedVersion  = "2.41.0"
)

// alert is one of the runbook's example alerts: what is broken for it, and the
// way on which Drydock is to repair that.
type alert struct {
	// title is the runbook's, to the letter.
	title                         string
	carrier, namespace, daemonset string
	// node is the one that is broken, empty when the fault is not in a node.
	node string
	// broken says what the demo did.
	broken string
	// way are the states through which the run must go, others may lie between.
	way []string
	// disk: the disk team has a part in the repair.
	// drained: as many pods as needed must be evicted from node, and no more.
	// reapplied: the DaemonSet must be deleted without its pods and created again.
	// promoted: the deployed build must be promoted again, once.
	disk, drained, reapplied, promoted bool
}

// key is the DaemonSet as namespace/name.
func (a alert) key() string { return a.namespace + "/" + a.daemonset }

func worker(carrier string, n int) string { return fmt.Sprintf("%s-worker-%02d", carrier, n) }

var diskAlert = alert{
	title:   "#3475713: blumemix.containers-kubernetes.prod-dal10-carrier3.not_running_all_ibm-kube-fluentd_demonsets.us-south",
	carrier: carrier3, namespace: "ibm-system", daemonset: fluentd, node: worker(carrier3, 3),
	broken: "worker-03 is out of disk, and its fluentd crashes for it",
	way:    []string{"waiting_for_disk", "verifying", "resolved"}, disk: true,
}

var drainAlert = alert{
	title:   "#3786454: blumemix.containers-kubernetes.prod-dal10-carrier3.not_running_all_node-exporter_demonsets.us-south",
	carrier: carrier3, namespace: "monitoring", daemonset: nodeExporter, node: worker(carrier3, 7),
	broken: "worker-07 is full, 31 of 31 pods; its node-exporter waits for a place",
	way:    []string{"draining", "verifying", "resolved"}, drained: true,
}

var reapplyAlert = alert{
	title:   "#3786453: blumemix.containers-kubernetes.prod-dal10-carrier3.not_running_all_docker-metrics-endpoint_demonsets.us-south",
	carrier: carrier3, namespace: "monitoring", daemonset: dockerMetrics, node: worker(carrier3, 10),
	broken: "worker-10 is full, 31 of 31 pods; the setting here is reapply: always",
	way:    []string{"draining", "reapplying", "verifying", "resolved"}, drained: true, reapplied: true,
}

var absentAlert = alert{
	title:   "#3789453: blumemix.containers-kubernetes.prod-dal12-carrier2.node-exporter_daemonset_absent.us-south",
	carrier: carrier2, namespace: "monitoring", daemonset: nodeExporter,
	broken: "the DaemonSet is deleted, with all its pods",
	way:    []string{"redeploying", "verifying", "resolved"}, promoted: true,
}

// alerts are in the runbook's order.
func alerts() []alert { return []alert{diskAlert, drainAlert, reapplyAlert, absentAlert} }
