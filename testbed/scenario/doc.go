// Package scenario plays the scenarios of testbed/scenarios on a real Kubernetes control plane, with the real server.
//
// All scenarios that only touch nodes and namespaces of their own share one control plane and run at the same time: each has
// its own workers, which its DaemonSets and workloads select by a label, its own namespace, and its own carrier entry in
// drydock.yaml, whose kubeconfig leads through a door of its own (package-private type door) that can be shut. Scenarios that
// every DaemonSet would feel, such as a dead controller-manager, take turns on a second control plane.
//
// Drydock is the product's binary, with a database of its own; one process serves all scenarios whose settings agree in what
// is not set per carrier (timing, limits). PagerDuty, Jenkins and the flag service are the stand-ins.
//
// An alert about the same DaemonSet comes for a second carrier entry too, in mode observe, whose way to the API server lets no
// write pass (type watch): what happens in a scenario happens before its eyes, and nothing but notes may come of it.
//
// Drydock has two identities in each scenario, with exactly the rights that kube.Rights lists for its settings, and the admission
// policy of deploy/carrier is in force. Which right each is needed for is shown by scenarios that end otherwise without it.
//
// The tests hold what was seen against the file, and against what package scenariofile saw when it played the same file on
// the simulated carrier.
package scenario
