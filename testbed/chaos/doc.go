// Package chaos runs Drydock as it runs in production, several replicas on one
// Postgres before a real control plane, and takes the ground away under it: kill -9
// and freezes of replicas, restarts and crashes of Postgres, remotes that are away,
// slow or wrong. Meanwhile runs are under way all the time, and after each of them
// and at the end it counts what happened.
//
// It trusts nobody's word about effects. What Drydock did to a carrier is told by a
// proxy that stands between them and records every change, and by watches of the
// nodes and DaemonSets; what it did to an incident by the stand-in for PagerDuty;
// what it promoted by the stand-in for Jenkins. The ledger is only asked which runs
// there are and how they ended.
//
//	go test ./chaos -run TestReplicas -seed 7 -kills 200
//
// The seed fixes what is done in which order: the faults, the pauses between them
// and whom they hit. Where in a tick a kill lands is the machine's matter, so a seed
// brings back the same night, not the same instant.
package chaos
