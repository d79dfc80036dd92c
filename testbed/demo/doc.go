// Package demo shows Drydock at work, from a webhook to a repaired carrier, with
// nothing faked that a user would have for real.
//
// It starts two real control planes, stand-ins for PagerDuty, Jenkins and the
// flag service, and bin/drydock as a process of its own. It breaks the carriers
// in the ways of the runbook's four example alerts, lets PagerDuty send the
// four webhooks, and prints what Drydock does about them, as told by Drydock's
// REST API and by the carriers. At the end it compares the carriers and the
// incidents with what it saw before, and says what it found.
//
// Drydock does not know that this is a demo: all it gets is the drydock.yaml
// that is written here, which shortens its waiting times.
package demo
