package demo

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/drydock/drydock/testbed/jenkins"
	"github.com/drydock/drydock/testbed/pagerduty"
)

// evidence is all that the verdict is made from.
type evidence struct {
	bot     string // The user id of Drydock in PagerDuty.
	results []result
	// before was taken when all was broken and nothing repaired yet, after when all
	// runs had ended; both by carrier.
	before, after map[string]census
	attempts      []jenkins.Attempt
	events        []event
	selfPages     []pagerduty.Incident // On the service for Drydock itself.
}

// result is what became of one alert.
type result struct {
	alert    alert
	incident pagerduty.Incident
	runs     []run // Those about the incident; one, if all is well.
}

// run is the alert's run, or an empty one.
func (r result) run() run {
	if len(r.runs) == 0 {
		return run{}
	}
	return r.runs[0]
}

// check is one thing that must hold. find lists what does not.
type check struct {
	what string
	find func(evidence) []string
}

// checks are all that must hold at the end.
var checks = []check{
	{"each fault was what its alert says, and of its own DaemonSet alone", checkFaults},
	{"each alert started one run, which went its way and ended as resolved", checkWays},
	{"each incident was noted first and then resolved, by Drydock's own user", checkIncidents},
	{"one promotion, of the deployed build, brought the absent DaemonSet back", checkPromotion},
	{"each full node lost as many pods as needed, and no more", checkEvictions},
	{"each evicted pod has a ready replacement on another node", checkReplacements},
	{"on a carrier, nodes were drained one at a time", checkOneAtATime},
	{"the reapply deleted the DaemonSet without its pods and created it again", checkReapply},
	{"every daemon pod that ran before still runs, the same one, not restarted", checkKept},
	{"every DaemonSet is ready on every worker", checkCovered},
	{"no node is cordoned, and no mark of Drydock is left on one", checkNodes},
	{"every webhook that came in has an outcome", checkEvents},
	{"Drydock did not page about itself", checkSelf},
}

// checkFaults looks at the demo's own work: without the faults, all else proves
// nothing.
func checkFaults(e evidence) (wrong []string) {
	broken := map[string]bool{} // By carrier and DaemonSet.
	for _, r := range e.results {
		a, before := r.alert, e.before[r.alert.carrier]
		broken[a.carrier+" "+a.key()] = true
		set, exists := before.daemonSets[a.key()]
		switch {
		case a.promoted && exists:
			wrong = append(wrong, fmt.Sprintf("%s: DaemonSet %s was there", a.carrier, a.key()))
		case !a.promoted && set.ready != set.desired-1:
			wrong = append(wrong, fmt.Sprintf("%s: %s was ready on %d of %d nodes", a.carrier, a.key(), set.ready, set.desired))
		}
		if node := before.nodes[a.node]; a.drained && (node.pods != podsPerNode || node.need() == 0) {
			wrong = append(wrong, fmt.Sprintf("node %s had %d pods, %d daemon pods waited, its limit was %d", a.node, node.pods, node.waiting, node.limit))
		}
	}
	for _, carrier := range slices.Sorted(maps.Keys(e.before)) {
		for _, set := range daemonSets() {
			facts := e.before[carrier].daemonSets[set.String()]
			if !broken[carrier+" "+set.String()] && (facts.ready != workers || facts.desired != workers) {
				wrong = append(wrong, fmt.Sprintf("%s: %s was ready on %d of %d nodes, though nothing was done to it", carrier, set, facts.ready, facts.desired))
			}
		}
	}
	return wrong
}

func checkWays(e evidence) (wrong []string) {
	for _, r := range e.results {
		if len(r.runs) != 1 {
			wrong = append(wrong, fmt.Sprintf("%s: %d runs", r.alert.title, len(r.runs)))
			continue
		}
		run := r.run()
		if run.Outcome != "resolved" {
			wrong = append(wrong, fmt.Sprintf("%s: outcome %q in state %s: %s", r.alert.title, run.Outcome, run.State, run.Why))
		}
		if !inOrder(run.way(), r.alert.way) {
			wrong = append(wrong, fmt.Sprintf("%s: went %v, want %v on the way", r.alert.title, run.way(), r.alert.way))
		}
	}
	return wrong
}

// inOrder reports whether want is in got, in order, perhaps with others between.
func inOrder(got, want []string) bool {
	for _, state := range got {
		if len(want) > 0 && state == want[0] {
			want = want[1:]
		}
	}
	return len(want) == 0
}

func checkIncidents(e evidence) (wrong []string) {
	for _, r := range e.results {
		in := r.incident
		if in.Status != pagerduty.Resolved {
			wrong = append(wrong, fmt.Sprintf("incident %d is %s", in.Number, in.Status))
			continue
		}
		noted, resolved := -1, -1
		for i, entry := range in.Log {
			switch {
			case entry.Type == "annotate_log_entry" && entry.By.ID == e.bot && noted < 0:
				noted = i
			case entry.Type == "resolve_log_entry":
				resolved = i
				if entry.By.ID != e.bot {
					wrong = append(wrong, fmt.Sprintf("incident %d was resolved by %q", in.Number, entry.By.Summary))
				}
			}
		}
		if noted < 0 || noted > resolved {
			wrong = append(wrong, fmt.Sprintf("incident %d has no note of Drydock before it was resolved", in.Number))
		}
		if !slices.ContainsFunc(in.Notes, func(n pagerduty.Note) bool { return n.UserID == e.bot && n.Content != "" }) {
			wrong = append(wrong, fmt.Sprintf("incident %d has no note of Drydock", in.Number))
		}
	}
	return wrong
}

func checkPromotion(e evidence) (wrong []string) {
	for _, r := range e.results {
		promoted := len(r.run().happened("promote"))
		if want := map[bool]int{true: 1}[r.alert.promoted]; promoted != want {
			wrong = append(wrong, fmt.Sprintf("%s: the run promoted %d times, want %d", r.alert.title, promoted, want))
		}
		if !r.alert.promoted {
			continue
		}
		if len(e.attempts) != 1 {
			wrong = append(wrong, fmt.Sprintf("Jenkins saw %d promotions, want 1", len(e.attempts)))
		}
		for _, a := range e.attempts {
			if a.Process != r.alert.carrier || a.Build != deployedBuild || a.Result != jenkins.Success {
				wrong = append(wrong, fmt.Sprintf("Jenkins promoted build %d to %s with result %q %s, want build %d to %s",
					a.Build, a.Process, a.Result, a.Err, deployedBuild, r.alert.carrier))
			}
		}
		if image := e.after[r.alert.carrier].daemonSets[r.alert.key()].image; !strings.HasSuffix(image, ":"+deployedVersion) {
			wrong = append(wrong, fmt.Sprintf("DaemonSet %s has image %q, want version %s", r.alert.key(), image, deployedVersion))
		}
	}
	return wrong
}

// checkEvictions holds what the runs say that they evicted against what the
// carriers need and lost.
func checkEvictions(e evidence) (wrong []string) {
	evicted := map[string]bool{} // By uid.
	for _, r := range e.results {
		before := e.before[r.alert.carrier]
		need := 0
		if r.alert.drained {
			need = before.nodes[r.alert.node].need()
		}
		evictions := r.run().happened("evict")
		if len(evictions) != need {
			wrong = append(wrong, fmt.Sprintf("%s: %d pods were evicted, want %d", r.alert.title, len(evictions), need))
		}
		for _, i := range evictions {
			evicted[i.Target.UID] = true
			if pod := before.pods[i.Target.UID]; pod.node != r.alert.node || pod.namespace != mastersNamespace {
				wrong = append(wrong, fmt.Sprintf("%s: evicted %s/%s, which was no customer's master on %s",
					r.alert.title, i.Target.Namespace, i.Target.Name, r.alert.node))
			}
		}
	}
	for _, carrier := range slices.Sorted(maps.Keys(e.before)) {
		for uid, pod := range e.before[carrier].pods {
			if _, there := e.after[carrier].pods[uid]; !there && !pod.daemon() && !evicted[uid] {
				wrong = append(wrong, fmt.Sprintf("%s: pod %s/%s is gone, and no run says that it was evicted", carrier, pod.namespace, pod.name))
			}
		}
	}
	return wrong
}

// checkReplacements looks at the ReplicaSets of the evicted pods: as many ready
// pods as before, and the new ones elsewhere.
func checkReplacements(e evidence) (wrong []string) {
	for _, r := range e.results {
		before, after := e.before[r.alert.carrier], e.after[r.alert.carrier]
		for _, i := range r.run().happened("evict") {
			victim := before.pods[i.Target.UID]
			had := before.podsOf(victim.ownerUID)
			ready := 0
			for uid, pod := range after.pods {
				if pod.ownerUID != victim.ownerUID || !pod.ready || pod.leaving {
					continue
				}
				ready++
				if _, old := before.pods[uid]; !old && pod.node == victim.node {
					wrong = append(wrong, fmt.Sprintf("pod %s/%s replaces %s on the same node", pod.namespace, pod.name, victim.name))
				}
			}
			if ready < had {
				wrong = append(wrong, fmt.Sprintf("of the %d pods of %s %d are ready", had, victim.owner, ready))
			}
		}
	}
	return wrong
}

func (c census) podsOf(ownerUID string) int {
	n := 0
	for _, pod := range c.pods {
		if pod.ownerUID == ownerUID {
			n++
		}
	}
	return n
}

// checkOneAtATime looks for two nodes of a carrier that were cordoned by Drydock at
// the same time.
func checkOneAtATime(e evidence) (wrong []string) {
	type span struct {
		carrier, node string
		from, to      time.Time
	}
	var spans []span
	for _, r := range e.results {
		cordons, uncordons := r.run().happened("cordon"), r.run().happened("uncordon")
		if len(cordons) != len(uncordons) {
			wrong = append(wrong, fmt.Sprintf("%s: %d cordons and %d uncordons", r.alert.title, len(cordons), len(uncordons)))
			continue
		}
		for i := range cordons {
			spans = append(spans, span{r.alert.carrier, cordons[i].Target.Name, cordons[i].PromisedAt, uncordons[i].SettledAt})
		}
	}
	for i, a := range spans {
		for _, b := range spans[i+1:] {
			if a.carrier == b.carrier && a.from.Before(b.to) && b.from.Before(a.to) {
				wrong = append(wrong, fmt.Sprintf("%s and %s were cordoned at the same time", a.node, b.node))
			}
		}
	}
	return wrong
}

func checkReapply(e evidence) (wrong []string) {
	for _, r := range e.results {
		want := map[bool]int{true: 1}[r.alert.reapplied]
		deleted, created := len(r.run().happened("orphan_delete")), len(r.run().happened("create"))
		if deleted != want || created != want {
			wrong = append(wrong, fmt.Sprintf("%s: deleted %d times and created %d times, want %d", r.alert.title, deleted, created, want))
		}
		before, after := e.before[r.alert.carrier].daemonSets[r.alert.key()], e.after[r.alert.carrier].daemonSets[r.alert.key()]
		switch {
		case r.alert.reapplied && before.uid == after.uid:
			wrong = append(wrong, fmt.Sprintf("DaemonSet %s is still the old object", r.alert.key()))
		case !r.alert.reapplied && !r.alert.promoted && before.uid != after.uid:
			wrong = append(wrong, fmt.Sprintf("DaemonSet %s is another object than before", r.alert.key()))
		}
	}
	return wrong
}

// checkKept holds every daemon pod of the first census against the second one. The
// waiting ones must be there too, bound by now.
func checkKept(e evidence) (wrong []string) {
	for _, carrier := range slices.Sorted(maps.Keys(e.before)) {
		for uid, pod := range e.before[carrier].pods {
			if !pod.daemon() {
				continue
			}
			now, there := e.after[carrier].pods[uid]
			switch {
			case !there:
				wrong = append(wrong, fmt.Sprintf("%s: pod %s/%s on %s is gone", carrier, pod.namespace, pod.name, pod.node))
			case now.leaving:
				wrong = append(wrong, fmt.Sprintf("%s: pod %s/%s on %s is terminating", carrier, pod.namespace, pod.name, pod.node))
			case pod.ready && now.restarts != pod.restarts:
				wrong = append(wrong, fmt.Sprintf("%s: pod %s/%s was restarted", carrier, pod.namespace, pod.name))
			case now.ownerUID != e.after[carrier].daemonSets[now.set()].uid:
				wrong = append(wrong, fmt.Sprintf("%s: pod %s/%s does not belong to the DaemonSet that is there now", carrier, pod.namespace, pod.name))
			}
		}
	}
	return wrong
}

// checkCovered wants exactly one ready pod of each DaemonSet on each worker.
func checkCovered(e evidence) (wrong []string) {
	for _, carrier := range slices.Sorted(maps.Keys(e.after)) {
		c := e.after[carrier]
		for _, set := range daemonSets() {
			pods := map[string]int{}
			for _, pod := range c.pods {
				if pod.daemon() && pod.set() == set.String() && pod.ready && !pod.leaving {
					pods[pod.node]++
				}
			}
			for _, node := range slices.Sorted(maps.Keys(c.nodes)) {
				if !c.nodes[node].master && pods[node] != 1 {
					wrong = append(wrong, fmt.Sprintf("%s: node %s has %d ready pods of %s", carrier, node, pods[node], set))
				}
			}
		}
	}
	return wrong
}

func checkNodes(e evidence) (wrong []string) {
	for _, carrier := range slices.Sorted(maps.Keys(e.after)) {
		for _, name := range slices.Sorted(maps.Keys(e.after[carrier].nodes)) {
			node := e.after[carrier].nodes[name]
			if node.cordoned {
				wrong = append(wrong, fmt.Sprintf("node %s is cordoned", name))
			}
			if len(node.marks) > 0 {
				wrong = append(wrong, fmt.Sprintf("node %s has the marks %v", name, node.marks))
			}
		}
	}
	return wrong
}

func checkEvents(e evidence) (wrong []string) {
	for _, ev := range e.events {
		if !slices.Contains([]string{"started", "joined", "followed", "ignored"}, ev.Outcome) {
			wrong = append(wrong, fmt.Sprintf("event %s about incident %s has outcome %q", ev.Type, ev.Incident, ev.Outcome))
		}
	}
	for _, r := range e.results {
		started := slices.ContainsFunc(e.events, func(ev event) bool {
			return ev.Incident == r.incident.ID && ev.Type == "incident.triggered" && ev.Outcome == "started"
		})
		if !started {
			wrong = append(wrong, fmt.Sprintf("%s: no incident.triggered started a run", r.alert.title))
		}
	}
	return wrong
}

func checkSelf(e evidence) (wrong []string) {
	for _, in := range e.selfPages {
		wrong = append(wrong, fmt.Sprintf("incident %d: %s", in.Number, in.Title))
	}
	return wrong
}

// failure is a check that does not hold.
type failure struct {
	what  string
	wrong []string
}

// verdict makes all checks.
func verdict(e evidence) []failure {
	var failures []failure
	for _, c := range checks {
		if wrong := c.find(e); len(wrong) > 0 {
			failures = append(failures, failure{c.what, wrong})
		}
	}
	return failures
}
