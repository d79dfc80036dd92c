// Package api is Drydock's HTTP surface: PagerDuty's webhook, the history of runs, manual retriggers, probes, metrics and the
// dashboard.
//
// It owns the JSON shapes and nothing else. What it needs from the rest of the product is declared in ports.go, in
// the words of playbook; cmd hands the implementations in. So the package knows neither SQL nor Kubernetes, and its
// tests need neither.
//
// # Who may do what
//
// A webhook is authenticated by PagerDuty's signature, everything under /api by a bearer token with one of four roles,
// each of which may do what the ones before it may: viewer reads, operator retriggers, cancels and stops, approver
// approves plans, admin does the rest. The dashboard's pages take the same token, from an Authorization header or from a
// cookie that the login form sets; /api never takes the cookie, so another site can not make a browser act.
//
// # Errors
//
// Every error is application/problem+json (RFC 9457) with a stable type. Handlers return errors; problems, the table in
// problem.go, is the one place where an error becomes a status. An error that is not in it is our own fault: it is
// logged, and its text never leaves the process.
package api
