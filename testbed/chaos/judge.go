package chaos

import (
	"context"
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
	"time"

	policyv1 "k8s.io/api/policy/v1"

	"github.com/drydock/drydock/playbook"
	"github.com/drydock/drydock/testbed/await"
	"github.com/drydock/drydock/testbed/pagerduty"
)

// What a run may do at most, whatever happens to its replicas (the contract's defaults).
const (
	evictionsPerNode = 5
	evictionsPerRun  = 15
)

// handOverTime is what the note and the escalation of a hand-over may take once PagerDuty is back.
const handOverTime = 30 * time.Second

// judge holds everything that happened in one episode against the invariants. It complains, and goes on.
func (n *night) judge(ctx context.Context, e *episode) error {
	var runs []runRow
	// The end of the run is committed; the database may be away again.
	err := await.Until(ctx, "the runs of an incident", func(ctx context.Context) (err error) {
		runs, err = n.postgres.runsOf(ctx, e.incident)
		return err
	})
	if err != nil {
		return err
	}
	if len(runs) != 1 {
		n.complain("I6: incident %s has %d runs", e.incident, len(runs))
	}
	switch e.run.Outcome {
	case playbook.OutcomeResolved, playbook.OutcomeEscalated:
	case playbook.OutcomeStoodDown:
		n.complain("I8: run %s of incident %s stood down, and nobody had asked for that: %s", e.run.ID, e.incident, e.run.Why)
	}
	// What PagerDuty missed while it was away is made up for, and takes a moment.
	excused := n.away.within(e.run.StartedAt, *e.run.FinishedAt)
	if excused > 0 {
		excused += handOverTime
	}
	if late := e.run.FinishedAt.Sub(e.run.Deadline); late > excused+n.slack {
		n.complain("I8: run %s ended %v after its deadline", e.run.ID, late)
	}
	if nodes := n.watch.markedBy(e.run.ID); len(nodes) > 0 {
		// The watch may be a moment behind.
		err := await.Until(within(ctx, 5*time.Second), "marks to go", func(context.Context) error {
			if nodes = n.watch.markedBy(e.run.ID); len(nodes) > 0 {
				return errStillHeld
			}
			return nil
		})
		if err != nil {
			n.complain("I2: run %s has ended, and nodes %q bear its mark", e.run.ID, nodes)
		}
	}
	n.judgeCarrier(e)
	n.judgePromotions(e)
	n.judgeIncident(e)
	return nil
}

// within is a context that ends after d at the latest. Its timer is not stopped: it is short.
func within(ctx context.Context, d time.Duration) context.Context {
	limited, cancel := context.WithTimeout(ctx, d)
	context.AfterFunc(limited, cancel)
	return limited
}

// judgeCarrier counts the changes that passed the proxy in the run's name.
func (n *night) judgeCarrier(e *episode) {
	evicted := map[string]int{} // by pod's uid
	deletes, creates, nudges := 0, 0, 0
	for _, c := range e.target.carrier.api.recordedOf(e.run.ID) {
		if c.status/100 != 2 {
			continue
		}
		switch {
		case strings.HasSuffix(c.path, "/eviction"):
			var eviction policyv1.Eviction
			if err := json.Unmarshal(c.body, &eviction); err != nil || eviction.DeleteOptions == nil || eviction.DeleteOptions.Preconditions == nil {
				n.complain("I5: run %s evicted without the pod's uid: %s", e.run.ID, c.body)
				continue
			}
			evicted[string(*eviction.DeleteOptions.Preconditions.UID)]++
		case c.method == http.MethodDelete:
			deletes++
			if creates != deletes-1 {
				n.complain("I1: run %s deleted the DaemonSet again before it had created it", e.run.ID)
			}
			if !strings.Contains(string(c.body), `"Orphan"`) || !strings.Contains(string(c.body), "resourceVersion") {
				n.complain("I4: run %s deleted without orphaning or without preconditions: %s", e.run.ID, c.body)
			}
		case c.method == http.MethodPost:
			creates++
		case strings.Contains(string(c.body), "nudge"):
			nudges++
		}
	}
	for uid, times := range evicted {
		if times > 1 {
			n.complain("I5: run %s evicted pod %s %d times", e.run.ID, uid, times)
		}
	}
	// All of them are on one node.
	if len(evicted) > evictionsPerNode {
		n.complain("I5: run %s evicted %d pods of a node, the limit is %d", e.run.ID, len(evicted), evictionsPerNode)
	}
	if deletes > 1 || creates > 1 {
		n.complain("I5: run %s reapplied %d times (%d creates)", e.run.ID, deletes, creates)
	}
	if creates < deletes {
		n.complain("I1: run %s deleted the DaemonSet and did not create it", e.run.ID)
	}
	if nudges > 1 {
		n.complain("I5: run %s nudged %d times", e.run.ID, nudges)
	}
	for node, times := range n.watch.cordonsBy(e.run.ID) {
		if times > 1 {
			n.complain("I5: run %s cordoned node %s %d times", e.run.ID, node, times)
		}
	}
}

func (n *night) judgePromotions(e *episode) {
	promoted := len(n.jenkins.AttemptsOn(e.target.DaemonSet, e.target.Carrier)) - e.promotions
	most := 0
	if e.trouble.alert == "absent" {
		most = 1
	}
	if promoted > most {
		n.complain("I7: run %s promoted %d times, may %d", e.run.ID, promoted, most)
	}
}

var noteMarker = regexp.MustCompile(`\[drydock run=[^\]]*\]`)

// judgeIncident reads what Drydock did to the incident out of PagerDuty's own log.
func (n *night) judgeIncident(e *episode) {
	in, err := n.pager.Incident(e.incident)
	if err != nil {
		n.complain("incident %s can not be read: %v", e.incident, err)
		return
	}
	markers := map[string]int{}
	for _, note := range in.Notes {
		markers[noteMarker.FindString(note.Content)]++
	}
	if len(in.Notes) == 0 {
		n.complain("I7: incident %s ended without a note", e.incident)
	}
	for marker, times := range markers {
		if times > 1 || marker == "" {
			n.complain("I7: incident %s has %d notes with the marker %q", e.incident, times, marker)
		}
	}
	did, noted := map[string]int{}, false
	for _, entry := range in.Log {
		kind := strings.TrimSuffix(entry.Type, "_log_entry")
		if entry.By.ID != n.bot {
			continue
		}
		did[kind]++
		noted = noted || kind == "annotate"
		if kind != "annotate" && !noted {
			n.complain("I7: incident %s: %s before any note", e.incident, kind)
		}
	}
	escalated, resolved := did["delegate"]+did["escalate"], did["resolve"]
	want := map[playbook.Outcome][2]int{playbook.OutcomeResolved: {0, 1}, playbook.OutcomeEscalated: {1, 0}}[e.run.Outcome]
	if got := [2]int{escalated, resolved}; got != want {
		n.complain("I7: run %s ended %s, and its incident %s was escalated %d and resolved %d times by Drydock",
			e.run.ID, e.run.Outcome, e.incident, escalated, resolved)
	}
	if did["acknowledge"] > 0 {
		n.complain("I9: incident %s was acknowledged by Drydock", e.incident)
	}
	if e.run.Outcome == playbook.OutcomeResolved && in.Status != pagerduty.Resolved {
		n.complain("I7: run %s ended resolved, and its incident %s is %s", e.run.ID, e.incident, in.Status)
	}
}

// judgeAll makes the checks that are only due when everything has ended.
func (n *night) judgeAll(ctx context.Context) error {
	for _, t := range n.targets() {
		wrong, err := t.wrong(ctx)
		if err != nil {
			return err
		}
		for _, w := range wrong {
			n.complain("I2: at the end: %s", w)
		}
	}
	owed, err := n.postgres.owed(ctx)
	if err != nil {
		return err
	}
	if owed > 0 {
		n.complain("I2: at the end ended runs owe or have not settled %d things", owed)
	}
	// Each webhook that was delivered is one event.
	webhooks := 0
	for _, d := range n.pager.Deliveries() {
		switch d.State {
		case pagerduty.Delivered:
			webhooks++
		case pagerduty.Queued, pagerduty.Retrying:
		case pagerduty.Dropped, pagerduty.Purged:
			n.complain("webhook %s was %s: %v", d.WebhookID, d.State, d.Attempts)
		}
	}
	var events int
	if err := n.postgres.pool.QueryRow(ctx, `SELECT count(*) FROM events`).Scan(&events); err != nil {
		return err
	}
	if events < webhooks {
		n.complain("%d webhooks were delivered, and there are %d events", webhooks, events)
	}
	for _, r := range n.replicas {
		if err := r.crashed(); err != nil {
			n.complain("%v", err)
		}
	}
	for _, in := range n.pager.Incidents() {
		if in.ServiceID == selfServiceID && !n.watch.explains(in.Title) {
			n.complain("Drydock paged about itself: %s", in.Title)
		}
	}
	return nil
}
