package demo

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/drydock/drydock/testbed/jenkins"
	"github.com/drydock/drydock/testbed/pagerduty"
)

const bot = "PBOT"

// start is when the carriers of the made-up evidence were broken.
var start = time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC)

// goodEvidence is what a demo leaves in which all went well.
func goodEvidence() evidence {
	e := evidence{
		bot: bot, before: map[string]census{}, after: map[string]census{},
		attempts: []jenkins.Attempt{{Process: carrier2, Build: deployedBuild, Result: jenkins.Success}},
	}
	for _, carrier := range []string{carrier3, carrier2} {
		e.before[carrier], e.after[carrier] = goodCensus(carrier), goodCensus(carrier)
	}
	for n, a := range alerts() {
		r := result{alert: a, incident: goodIncident(fmt.Sprintf("Q%d", n)), runs: []run{{Outcome: "resolved", State: "resolved"}}}
		for _, state := range append([]string{"triage"}, a.way...) {
			r.runs[0].Ticks = append(r.runs[0].Ticks, tick{To: state})
		}
		e.breakAndRepair(&r, start.Add(time.Duration(n)*time.Minute))
		e.results = append(e.results, r)
		e.events = append(e.events, event{Type: "incident.triggered", Incident: r.incident.ID, Outcome: "started"})
	}
	return e
}

func goodIncident(id string) pagerduty.Incident {
	by := pagerduty.Agent{ID: bot}
	return pagerduty.Incident{
		ID: id, Status: pagerduty.Resolved, CreatedAt: start, ResolvedAt: start.Add(time.Minute),
		Notes: []pagerduty.Note{{UserID: bot, Content: "repaired"}},
		Log: []pagerduty.LogEntry{
			{Type: "trigger_log_entry"}, {Type: "annotate_log_entry", By: by}, {Type: "resolve_log_entry", By: by},
		},
	}
}

// goodCensus is a carrier on which all is well: every DaemonSet is on every worker,
// and the nodes that are to be drained have customers' masters.
func goodCensus(carrier string) census {
	c := census{nodes: map[string]nodeFacts{}, pods: map[string]podFacts{}, daemonSets: map[string]daemonSetFacts{}}
	c.nodes[carrier+"-master-01"] = nodeFacts{master: true, limit: podsPerNode}
	for _, set := range daemonSets() {
		c.daemonSets[set.String()] = daemonSetFacts{uid: "uid-" + set.Name, image: set.Name + ":" + deployedVersion, desired: workers, ready: workers}
	}
	for n := range workers {
		node := worker(carrier, n+1)
		c.nodes[node] = nodeFacts{limit: podsPerNode, pods: podsPerNode - 1}
		for _, set := range daemonSets() {
			c.pods[node+set.Name] = podFacts{
				namespace: set.Namespace, name: set.Name + node, node: node, owner: "DaemonSet/" + set.Name, ownerUID: "uid-" + set.Name, bound: true, ready: true,
			}
		}
		c.pods[node+"master"] = master(node)
	}
	return c
}

func master(node string) podFacts {
	return podFacts{namespace: mastersNamespace, name: "master-" + node, node: node, owner: "ReplicaSet/master-" + node, ownerUID: "rs-" + node, bound: true, ready: true}
}

// breakAndRepair makes the alert's fault in the first census, and the repair in the
// run and the second one.
func (e *evidence) breakAndRepair(r *result, at time.Time) {
	a, before, after := r.alert, e.before[r.alert.carrier], e.after[r.alert.carrier]
	did := func(kind, name, uid string) {
		i := intent{Seq: len(r.runs[0].Intents) + 1, Kind: kind, Result: "happened", PromisedAt: at, SettledAt: at.Add(time.Second)}
		i.Target.Name, i.Target.UID = name, uid
		r.runs[0].Intents = append(r.runs[0].Intents, i)
		at = at.Add(2 * time.Second)
	}
	set := before.daemonSets[a.key()]
	set.ready--
	before.daemonSets[a.key()] = set
	pod := before.pods[a.node+a.daemonset]
	switch {
	case a.disk:
		pod.ready, pod.restarts = false, 3
		before.pods[a.node+a.daemonset] = pod
	case a.promoted:
		delete(before.daemonSets, a.key())
		for n := range workers {
			delete(before.pods, worker(a.carrier, n+1)+a.daemonset)
		}
		did("promote", component, "")
	case a.drained:
		pod.ready, pod.bound = false, false
		before.pods[a.node+a.daemonset] = pod
		before.nodes[a.node] = nodeFacts{limit: podsPerNode, pods: podsPerNode, waiting: 1}
		did("cordon", a.node, "")
		did("evict", "master-"+a.node, a.node+"master")
		delete(after.pods, a.node+"master")
		replacement := master(a.node)
		replacement.node = worker(a.carrier, 1)
		after.pods[a.node+"replacement"] = replacement
		if a.reapplied {
			did("orphan_delete", a.daemonset, "")
			did("create", a.daemonset, "")
			now := after.daemonSets[a.key()]
			now.uid = "new"
			after.daemonSets[a.key()] = now
			for uid, pod := range after.pods {
				if pod.daemon() && pod.set() == a.key() {
					pod.ownerUID = "new"
					after.pods[uid] = pod
				}
			}
		}
		did("uncordon", a.node, "")
	}
}

// The places of the alerts in the runbook's order.
const (
	disk = iota
	drain
	reapply
	absent
)

func TestVerdictOfAGoodDemo(t *testing.T) {
	t.Parallel()
	for _, f := range verdict(goodEvidence()) {
		t.Errorf("%s: %q", f.what, f.wrong)
	}
}

// TestVerdict spoils the good evidence in one way at a time; the check that is
// named by its beginning must see it.
func TestVerdict(t *testing.T) {
	t.Parallel()
	drained := drainAlert.node
	tests := map[string]struct {
		spoil func(*evidence)
		seen  string
	}{
		"a node that was not full": {func(e *evidence) {
			e.before[carrier3].nodes[drained] = nodeFacts{limit: podsPerNode, pods: 20}
		}, "each fault"},
		"a fault that hit another DaemonSet": {func(e *evidence) {
			e.before[carrier2].daemonSets["monitoring/"+dockerMetrics] = daemonSetFacts{uid: "uid-" + dockerMetrics, desired: workers, ready: 3}
		}, "each fault"},
		"an absent DaemonSet that was there": {func(e *evidence) {
			e.before[carrier2].daemonSets[absentAlert.key()] = daemonSetFacts{desired: workers, ready: workers}
		}, "each fault"},
		"no run":                  {func(e *evidence) { e.results[disk].runs = nil }, "each alert started one run"},
		"two runs":                {func(e *evidence) { e.results[disk].runs = append(e.results[disk].runs, run{}) }, "each alert started one run"},
		"a hand-over":             {func(e *evidence) { e.results[drain].runs[0].Outcome = "escalated" }, "each alert started one run"},
		"no wait for the disk":    {func(e *evidence) { e.results[disk].runs[0].Ticks[1].To = "verifying" }, "each alert started one run"},
		"an incident that stayed": {func(e *evidence) { e.results[absent].incident.Status = pagerduty.Triggered }, "each incident"},
		"a person's resolve":      {func(e *evidence) { e.results[absent].incident.Log[2].By.ID = "PADA" }, "each incident"},
		"no note":                 {func(e *evidence) { e.results[absent].incident.Notes = nil }, "each incident"},
		"resolved before the note": {func(e *evidence) {
			slices.Reverse(e.results[absent].incident.Log)
		}, "each incident"},
		"two promotions": {func(e *evidence) { e.attempts = append(e.attempts, e.attempts[0]) }, "one promotion"},
		"another build":  {func(e *evidence) { e.attempts[0].Build++ }, "one promotion"},
		"another version": {func(e *evidence) {
			e.after[carrier2].daemonSets[absentAlert.key()] = daemonSetFacts{uid: "uid-" + nodeExporter, image: "node-exporter:2.42.0"}
		}, "one promotion"},
		"a promotion of a drained carrier": {func(e *evidence) {
			e.results[drain].runs[0].Intents = append(e.results[drain].runs[0].Intents, intent{Kind: "promote", Result: "happened"})
		}, "one promotion"},
		"one eviction too many": {func(e *evidence) {
			i := intent{Kind: "evict", Result: "happened"}
			i.Target.UID = worker(carrier3, 1) + "master"
			e.results[drain].runs[0].Intents = append(e.results[drain].runs[0].Intents, i)
		}, "each full node"},
		"a pod that nobody says was evicted": {func(e *evidence) {
			delete(e.after[carrier3].pods, worker(carrier3, 5)+"master")
		}, "each full node"},
		"a replacement on the drained node": {func(e *evidence) {
			e.after[carrier3].pods[drained+"replacement"] = master(drained)
		}, "each evicted pod"},
		"no replacement": {func(e *evidence) {
			delete(e.after[carrier3].pods, drained+"replacement")
		}, "each evicted pod"},
		"two cordons at a time": {func(e *evidence) {
			e.results[drain].runs[0].Intents[2].SettledAt = start.Add(time.Hour)
		}, "on a carrier"},
		"no uncordon": {func(e *evidence) {
			e.results[drain].runs[0].Intents = e.results[drain].runs[0].Intents[:2]
		}, "on a carrier"},
		"no create":              {func(e *evidence) { e.results[reapply].runs[0].Intents[3].Result = "refused" }, "the reapply"},
		"a reapply of the other": {func(e *evidence) { e.results[drain].runs[0].Intents[2].Kind = "orphan_delete" }, "the reapply"},
		"the old object": {func(e *evidence) {
			e.after[carrier3].daemonSets[reapplyAlert.key()] = daemonSetFacts{uid: "uid-" + dockerMetrics}
		}, "the reapply"},
		"a lost daemon pod": {func(e *evidence) {
			delete(e.after[carrier3].pods, worker(carrier3, 5)+fluentd)
		}, "every daemon pod"},
		"a restarted daemon pod": {func(e *evidence) {
			e.change(worker(carrier3, 5)+fluentd, func(p *podFacts) { p.restarts = 1 })
		}, "every daemon pod"},
		"an orphan": {func(e *evidence) {
			e.change(worker(carrier3, 5)+fluentd, func(p *podFacts) { p.ownerUID = "old" })
		}, "every daemon pod"},
		"a node that is not covered": {func(e *evidence) {
			e.change(drained+nodeExporter, func(p *podFacts) { p.ready = false })
		}, "every DaemonSet"},
		"a cordon that stayed": {func(e *evidence) {
			e.after[carrier3].nodes[drained] = nodeFacts{cordoned: true}
		}, "no node"},
		"a mark that stayed": {func(e *evidence) {
			e.after[carrier3].nodes[drained] = nodeFacts{marks: []string{markPrefix + "cordon-owner"}}
		}, "no node"},
		"an event without outcome": {func(e *evidence) { e.events = append(e.events, event{Type: "pagey.ping"}) }, "every webhook"},
		"an alert that started nothing": {func(e *evidence) {
			e.events[drain].Outcome = "ignored"
		}, "every webhook"},
		"a page about itself": {func(e *evidence) { e.selfPages = []pagerduty.Incident{{Title: "an undo is blocked"}} }, "Drydock did not"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := goodEvidence()
			test.spoil(&e)
			failures := verdict(e)
			if !slices.ContainsFunc(failures, func(f failure) bool { return len(f.what) > len(test.seen) && f.what[:len(test.seen)] == test.seen }) {
				t.Errorf("the check %q saw nothing; the verdict is %v", test.seen, failures)
			}
		})
	}
}

// change changes a pod of the second census of carrier3.
func (e *evidence) change(uid string, do func(*podFacts)) {
	pod := e.after[carrier3].pods[uid]
	do(&pod)
	e.after[carrier3].pods[uid] = pod
}

func TestNeed(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		node nodeFacts
		want int
	}{
		{nodeFacts{limit: 31, pods: 31, waiting: 1}, 1},
		{nodeFacts{limit: 31, pods: 31, waiting: 2}, 2},
		{nodeFacts{limit: 31, pods: 33, waiting: 1}, 3},
		{nodeFacts{limit: 31, pods: 30, waiting: 1}, 0},
		{nodeFacts{limit: 31, pods: 3}, 0},
	} {
		if got := test.node.need(); got != test.want {
			t.Errorf("need of %+v is %d, want %d", test.node, got, test.want)
		}
	}
}
