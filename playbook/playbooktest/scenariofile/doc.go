// Package scenariofile reads the scenarios of testbed/scenarios and plays them on the simulated carrier.
//
// A scenario is a night of the runbook as data: what the carrier looks like, what breaks, who does what while Drydock
// works, and how it all has to end. The same file is played twice: here, on playbooktest's virtual clock, in milliseconds,
// and by testbed/scenario on a real control plane with the real server. Both report what they saw as a Seen, which is
// checked by the same code and must be the same: that keeps the simulator honest.
//
// A file has these parts (every key is described at its field in Scenario):
//
//	name, says    what it is, and in one sentence what it shows
//	carrier       workers, masters, pods per node; workers that customers' masters have filled
//	daemonsets    what is deployed there; absent: a node-exporter on every worker
//	settings      what drydock.yaml says about it, where it is not the default
//	fault         acts before the alert
//	then          acts after it, at a time or as soon as something is seen
//	again         further runs of the same target, each after the one before
//	expect        findings, states, acts, notes and the ends of incident and carrier
//	only          the one runner that can play it, and why
//	plan_differs  why what was done is not what was planned
//
// What must never happen needs no words in a file. After every scenario no node bears Drydock's mark, only people's cordons
// are left, every daemon pod that was there at the alert lives unless the file allows otherwise, the DaemonSet is as it was
// (the same object unless Drydock created it), no customers' pod moved but those that were evicted, nothing that was promised
// is unsettled, no incident changed its state before a note said why, each has at most three notes of which one says how it
// ended, and what a run did is the plan that it showed when the finding was confirmed.
//
// The notes themselves are golden files in testdata/notes: go test -run TestNotes -update writes them.
package scenariofile
