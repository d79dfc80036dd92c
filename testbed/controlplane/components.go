package controlplane

import (
	"fmt"
	"path/filepath"
	"strconv"
	"time"
)

// The components of a cluster, by which [Cluster.KillComponent],
// [Cluster.StartComponent] and [Cluster.LogPath] name them.
const (
	Etcd              = "etcd"
	APIServer         = "kube-apiserver"
	ControllerManager = "kube-controller-manager"
	Scheduler         = "kube-scheduler"
	Kwok              = "kwok"
)

// Components are all of them, in the order in which they start. They stop in the
// opposite order.
var Components = []string{Etcd, APIServer, ControllerManager, Scheduler, Kwok}

// serviceIP is the address of the service kubernetes.default, the first of
// serviceRange. Nothing here ever connects to it.
const (
	serviceRange = "10.96.0.0/16"
	serviceIP    = "10.96.0.1"
)

func (c *Cluster) newProcesses(kubebox string) map[string]*process {
	flags := map[string][]string{
		Etcd:              c.etcdFlags(),
		APIServer:         c.apiServerFlags(),
		ControllerManager: c.controllerManagerFlags(),
		Scheduler:         c.schedulerFlags(),
		Kwok:              c.kwokFlags(),
	}
	processes := map[string]*process{}
	for _, name := range Components {
		processes[name] = &process{
			name:    name,
			path:    kubebox,
			args:    append([]string{name}, flags[name]...),
			dir:     c.dir,
			logPath: c.file(name + ".log"),
			log:     c.log,
		}
	}
	processes[ControllerManager].lineLog = c.controllerManagerPodLog()
	return processes
}

// file is the path of a file in the cluster's directory.
func (c *Cluster) file(name string) string { return filepath.Join(c.dir, name) }

func (c *Cluster) etcdFlags() []string {
	return []string{
		"--data-dir=" + c.file("etcd"),
		fmt.Sprintf("--listen-client-url=http://127.0.0.1:%d", c.ports.etcdClient),
		fmt.Sprintf("--listen-peer-url=http://127.0.0.1:%d", c.ports.etcdPeer),
	}
}

func (c *Cluster) apiServerFlags() []string {
	return []string{
		fmt.Sprintf("--etcd-servers=http://127.0.0.1:%d", c.ports.etcdClient),
		"--bind-address=127.0.0.1",
		"--advertise-address=127.0.0.1",
		// Else it refuses a loopback address to advertise.
		"--endpoint-reconciler-type=none",
		"--secure-port=" + strconv.Itoa(c.ports.apiServer),
		"--tls-cert-file=" + c.file("apiserver.crt"),
		"--tls-private-key-file=" + c.file("apiserver.key"),
		"--client-ca-file=" + c.file("ca.crt"),
		// Without a front proxy's authority the controller manager and the
		// scheduler log errors for ever.
		"--requestheader-client-ca-file=" + c.file("front-proxy-ca.crt"),
		"--requestheader-allowed-names=front-proxy-client",
		"--requestheader-username-headers=X-Remote-User",
		"--requestheader-group-headers=X-Remote-Group",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--authorization-mode=Node,RBAC",
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + c.file("service-account.key"),
		"--service-account-signing-key-file=" + c.file("service-account.key"),
		"--service-cluster-ip-range=" + serviceRange,
		"--kubelet-client-certificate=" + c.file("apiserver-kubelet-client.crt"),
		"--kubelet-client-key=" + c.file("apiserver-kubelet-client.key"),
		"--kubelet-preferred-address-types=InternalIP",
		"--allow-privileged=true",
	}
}

func (c *Cluster) controllerManagerFlags() []string {
	kubeconfig := c.file(fileName(controllerManagerUser) + ".kubeconfig")
	return []string{
		"--kubeconfig=" + kubeconfig,
		"--authentication-kubeconfig=" + kubeconfig,
		"--authorization-kubeconfig=" + kubeconfig,
		"--bind-address=127.0.0.1",
		"--secure-port=" + strconv.Itoa(c.ports.controllerManager),
		// One identity per controller, as on a carrier: so RBAC can take a right
		// from the DaemonSet controller alone.
		"--use-service-account-credentials=true",
		"--service-account-private-key-file=" + c.file("service-account.key"),
		"--root-ca-file=" + c.file("ca.crt"),
		"--kube-api-qps=500",
		"--kube-api-burst=1000",
		// A grace period below the renewal of the leases (a quarter of them)
		// makes nodes flap; a bit more than a lease is safe under load.
		"--node-monitor-grace-period=" + (c.options.Lease + c.options.Lease/4).String(),
		"--node-monitor-period=" + (c.options.Lease / 4).String(),
		"--leader-elect=true",
		"--leader-elect-lease-duration=" + c.options.LeaderElection.Lease.String(),
		"--leader-elect-renew-deadline=" + c.options.LeaderElection.RenewDeadline.String(),
		"--leader-elect-retry-period=" + c.options.LeaderElection.RetryPeriod.String(),
	}
}

func (c *Cluster) kwokFlags() []string {
	return []string{
		"--config=" + c.file("kwok.yaml"),
		"--kubeconfig=" + c.file("kwok.kubeconfig"),
		fmt.Sprintf("--server-address=127.0.0.1:%d", c.ports.kwok),
		"--node-ip=127.0.0.1",
		"--node-port=" + strconv.Itoa(c.ports.kwok),
		"--tls-cert-file=" + c.file("kubelet.crt"),
		"--tls-private-key-file=" + c.file("kubelet.key"),
	}
}

func (c *Cluster) schedulerFlags() []string {
	kubeconfig := c.file(fileName(schedulerUser) + ".kubeconfig")
	return []string{
		"--config=" + c.file("scheduler.yaml"),
		"--authentication-kubeconfig=" + kubeconfig,
		"--authorization-kubeconfig=" + kubeconfig,
		"--bind-address=127.0.0.1",
		"--secure-port=" + strconv.Itoa(c.ports.scheduler),
	}
}

// schedulerConfig is a file, as most of these settings have no flag.
func (c *Cluster) schedulerConfig() []byte {
	kubeconfig := c.file(fileName(schedulerUser) + ".kubeconfig")
	return fmt.Appendf(nil, `apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
clientConnection:
  kubeconfig: %q
  qps: 500
  burst: 1000
leaderElection:
  leaderElect: false
# Above 100 nodes the scheduler scores only some of them, and a preferred node
# might not be among these. Package fault fills nodes by preference.
percentageOfNodesToScore: 100
`, kubeconfig)
}

// kwokConfig names every option: kwok v0.8.0 applies no defaults to a
// configuration that it reads from a file, and exits over a parallelism of zero.
// The stages follow it in the same file.
func (c *Cluster) kwokConfig() []byte {
	config := fmt.Appendf(nil, `apiVersion: config.kwok.x-k8s.io/v1alpha1
kind: KwokConfiguration
options:
  cidr: 10.128.0.0/9
  # A dead node is one that kwok looks after no more.
  manageNodesWithLabelSelector: "!sim/dead"
  manageAllNodes: false
  enableCRDs: [Logs, ClusterLogs]
  enableDebuggingHandlers: true
  enableContentionProfiling: false
  enableProfilingHandler: false
  podPlayStageParallelism: 16
  nodePlayStageParallelism: 16
  nodeLeaseDurationSeconds: %d
  nodeLeaseParallelism: 16
  podsOnNodeSyncParallelism: 4
  enablePodsOnNodeSyncListPager: true
  enablePodsOnNodeSyncStreamWatch: false
---
`, int(c.options.Lease/time.Second))
	return append(config, stages...)
}
