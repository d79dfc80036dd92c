// Package controlplane runs real Kubernetes control planes on loopback: etcd,
// kube-apiserver, kube-controller-manager and kube-scheduler as they ship, and
// kwok in place of the kubelets. Nothing is faked but the machines: what the
// garbage collector, the DaemonSet controller, the eviction API and the scheduler
// do here is what they do on a carrier.
//
//	cluster, err := controlplane.Start(ctx, controlplane.Options{Nodes: 12})
//	if err != nil { ... }
//	defer cluster.Stop()
//	nodes, err := cluster.Client().CoreV1().Nodes().List(ctx, metav1.ListOptions{})
//
// A cluster is five child processes of one binary, kubebox, which [Kubebox] finds
// or builds. They die with this process, however it dies. Several clusters may
// run side by side; starting one takes about five seconds.
//
// # Making things break
//
// kwok moves nodes and pods through the stages in stages.yaml, and marks on an
// object choose the way:
//
//	sim/crash: "137"   on a pod (label or annotation): its containers are in
//	                   CrashLoopBackOff, last exit code 137, restarted every 2 s
//	sim/stuck          on a pod (label or annotation): when deleted it hangs in Terminating
//	sim/notready       on a node (label): its kubelet reports NotReady
//	sim/dead           on a node (label): its kubelet is gone, the lease runs out
//
// A DiskPressure condition patched into a node's status stays: no stage touches
// any condition but Ready. [Cluster.KillComponent] takes a component down.
// Package fault builds whole situations out of these.
//
// # What is not real
//
// No container ever runs: no image is pulled, nothing is probed, a kubelet never
// refuses or evicts a pod. A deleted pod goes away at once.
package controlplane
