// Package incident is everything Drydock knows about PagerDuty, and nothing about carriers.
//
// It has four parts that can be read one by one:
//
//   - What comes in. [Verifier] checks X-PagerDuty-Signature over the raw body, [ParseEvent] reads a webhook.
//     A webhook is only a knock at the door: it is signed but may be old, repeated or overtaken, so whoever acts
//     on it reads the incident again first.
//   - What it is about. [Rules] turns a title (or an alert's details) into a [Subject]: which DaemonSet, on which
//     carrier. Titles come from outside, so the grammar is anchored and the names are checked as Kubernetes would.
//   - What stands in PagerDuty, and what we write there. [Client] reads and writes incidents; [SelfAlerter] pages about
//     Drydock itself.
//   - Who did what. [HumanActs], [HumanOwner] and [IsEcho] are pure functions over what was read.
//
// # Why go-pagerduty is wrapped so closely
//
// Requests go through go-pagerduty's Client.Do, which signs them, and use its request types. Its typed calls are
// not used: in v1.8.0 they flatten transport errors into text (so a lost answer can not be told from a refusal), drop error
// bodies that are not application/json, fail on alert bodies whose details are an object, panic on a log entry whose
// channel has a null type, and neither retry nor show the rate headers.
//
// # Errors
//
// Every error of Client and SelfAlerter that comes from PagerDuty is an [*APIError] and matches the sentinels of errors.go
// with errors.Is. The one to look for first is [ErrAmbiguous]: the write may or may not have happened. Read
// again before sending it again; for notes that is [FindNoteByMarker]. A read either returns everything asked for
// or an error: a page that could not be fetched is never a shorter list.
package incident
