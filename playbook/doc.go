// Package playbook is Drydock's core: it finds out why a DaemonSet is not running on every node of a
// carrier, and repairs the carrier by the runbook, one careful step at a time.
//
// It has two halves, and the line between them is the most important line of the product.
//
// Deciding is pure. Diagnose and Decide are total functions of the policy, the run and what was observed:
// no clock, no network, no randomness. Whatever a tick reads is an Observation; whatever the run remembers
// is a Memory; whatever is to be done is an Action, which is data. So every decision can be replayed from
// the history, printed as an explanation, and tested as a table.
//
// Doing is at the edge. The Engine moves a run by one tick: it recovers what an earlier tick promised and
// did not settle, observes, decides, promises in the Ledger what is about to be done, and only then acts:
//
//	recover -> observe -> decide -> promise -> act
//
// What is owed and needs no look (Run.firstUndo) is promised and put back before the look.
//
// One action is exactly one mutating call. It is promised as an Intent before the call and settled after
// it, so a crash at any point leaves a written trace of what may have happened. An action that must be
// taken back has an Undo, and from the moment of its promise that undo is owed.
//
// The package imports the standard library only. The carriers (playbook/kube), the promotions
// (playbook/promotion), PagerDuty (incident) and Postgres (store) are behind the interfaces that this
// package declares, because it consumes them.
package playbook
