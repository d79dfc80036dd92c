// Package pagerduty is a stand-in for PagerDuty: the REST API v2, the Events
// API v2 and the sender of V3 webhooks, in one server on loopback.
//
// It keeps an account in memory with users, services, escalation policies and
// incidents, and moves incidents through PagerDuty's own state machine: a late
// acknowledge reopens a resolved incident, acknowledgements time out, unowned
// incidents climb their escalation policy. Each change is written to the
// incident's log and sent, signed, to the webhook subscriptions that match.
//
// A test or the demo plays three parts through Server's methods: monitoring
// (Trigger, TriggerIncident, AddAlert), people (Acknowledge, Resolve,
// Reassign, AddNote and so on; they act in the web interface, without a key)
// and the network (Faults, Behave). The program under test is the fourth part
// and comes through HTTP with a key.
//
// Where PagerDuty's behaviour is not documented, the stand-in picks the choice
// that is harder on a client and the code says so.
package pagerduty
