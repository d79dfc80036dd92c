package main

import (
	"context"
	"fmt"
	"runtime"
	"time"

	"github.com/drydock/drydock/playbook"
)

// decideResult is one decision at one size.
type decideResult struct {
	Nodes       int    `json:"nodes"`
	Decide      timing `json:"decide"`
	Bare        timing `json:"bare_pass"`
	Allocations int    `json:"allocations"` // per decision
	Bytes       int    `json:"bytes"`       // allocated per decision
}

// timing is of many calls, each timed alone: on a busy machine most calls are not interrupted, so the median is little
// changed where a mean would tell how busy it was.
type timing struct {
	Calls int           `json:"calls"`
	P50   time.Duration `json:"p50_ns"`
	P99   time.Duration `json:"p99_ns"`
}

// callsFor is how long one side is called per round.
const callsFor = 300 * time.Millisecond

// measureDecide decides on a carrier with one full node, in turns with the bare pass.
func measureDecide(ctx context.Context, b *bench) ([]row, any, error) {
	var results []decideResult
	for _, n := range []int{500, 5000} {
		b.log.Info("deciding", "nodes", n)
		o, p, run := oneFull(n)
		if d := playbook.Decide(p, run, o); d.Diagnosis.Finding != playbook.FindingNodeFull || len(d.Diagnosis.Verdicts) != n {
			return nil, nil, fmt.Errorf("decide on %d nodes, one of them full: finding %s with %d verdicts", n, d.Diagnosis.Finding, len(d.Diagnosis.Verdicts))
		}
		nodes, _ := o.Nodes.Get()
		var decided, bare []time.Duration
		var before, after runtime.MemStats
		var mallocs, bytes uint64
		for range b.rounds {
			if err := ctx.Err(); err != nil {
				return nil, nil, err
			}
			runtime.ReadMemStats(&before)
			decided = append(decided, timeCalls(func() int { return len(playbook.Decide(p, run, o).Diagnosis.Verdicts) })...)
			runtime.ReadMemStats(&after)
			mallocs, bytes = mallocs+after.Mallocs-before.Mallocs, bytes+after.TotalAlloc-before.TotalAlloc
			bare = append(bare, timeCalls(func() int { return readEveryField(nodes) })...)
		}
		results = append(results, decideResult{Nodes: n, Decide: timingOf(decided), Bare: timingOf(bare),
			Allocations: int(mallocs) / len(decided), Bytes: int(bytes) / len(decided)})
	}
	return decideRows(results), results, nil
}

func decideRows(results []decideResult) []row {
	var rows []row
	for _, d := range results {
		rows = append(rows, row{
			what:    fmt.Sprintf("Decide, %d nodes, one full", d.Nodes),
			drydock: fmt.Sprintf("%v, %d allocations, %d kB", d.Decide, d.Allocations, d.Bytes/1000),
			limit:   fmt.Sprintf("bare pass: %v", d.Bare),
			ratio:   ratio(d.Decide.P50, d.Bare.P50),
		})
	}
	if len(results) < 2 {
		return rows
	}
	small, large := results[0], results[len(results)-1]
	perNode := func(d decideResult) float64 { return float64(d.Decide.P50) / float64(d.Nodes) }
	return append(rows, row{
		what:    fmt.Sprintf("Decide, per node, %d nodes", large.Nodes),
		drydock: fmt.Sprintf("%.0f ns", perNode(large)),
		limit:   fmt.Sprintf("at %d nodes: %.0f ns", small.Nodes, perNode(small)),
		ratio:   ratio(perNode(large), perNode(small)),
	})
}

// timeCalls takes calls that return something computed from all of their work, so that none of it can be left out.
func timeCalls(call func() int) []time.Duration {
	all := make([]time.Duration, 0, 1<<20) // room for all: growing would count as the call's memory
	for end := time.Now().Add(callsFor); len(all) < cap(all); {
		began := time.Now()
		runtime.KeepAlive(call())
		now := time.Now()
		all = append(all, now.Sub(began))
		if now.After(end) {
			break
		}
	}
	return all
}

func timingOf(calls []time.Duration) timing {
	if len(calls) == 0 {
		return timing{}
	}
	return timing{Calls: len(calls), P50: quantile(calls, 0.5), P99: quantile(calls, 0.99)}
}

// readEveryField is the least that any diagnosis must do: it reads each field that a verdict may depend on, once, and
// returns a number that depends on all of them, so that nothing is left out.
func readEveryField(nodes []playbook.Node) int {
	sum := 0
	for i := range nodes {
		n := &nodes[i]
		sum += bit(n.Leaving) + bit(n.Expected) + bit(n.Ready) + bit(n.DiskPressure) + bit(n.Unschedulable) + bit(n.CordonedBy != nil) +
			len(n.Name) + len(n.ExcludedBy) + len(n.NotReadyWhy) + n.Allocatable
		for j := range n.Pods {
			p := &n.Pods[j]
			sum += bit(p.Ready) + bit(p.Terminating) + bit(p.Scheduled) + bit(p.Nominated) + len(p.Name) + len(p.Phase) + len(p.Unschedulable) + len(p.Reason) + len(p.Waiting) + p.Restarts +
				p.CreatedAt.Nanosecond()
		}
	}
	return sum
}

func bit(fact bool) int {
	if fact {
		return 1
	}
	return 0
}

// oneFull is the look at a carrier that is healthy but for its first node: that is full, and its daemon pod waits.
func oneFull(n int) (playbook.Observation, playbook.Policy, playbook.Run) {
	now := time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC)
	old := now.Add(-time.Hour)
	nodes := make([]playbook.Node, n)
	for i := range nodes {
		name := fmt.Sprintf("worker-%04d", i)
		nodes[i] = playbook.Node{Name: name, UID: "uid-" + name, ResourceVersion: "1", Expected: true, Ready: true, Allocatable: 31,
			Pods: []playbook.Pod{{Name: "agent-" + name, UID: "pod-" + name, Phase: "Running", Scheduled: true, Ready: true, Owned: true, CreatedAt: old}}}
	}
	full := &nodes[0]
	full.Pods = []playbook.Pod{{Name: "agent-new", UID: "pod-new", Phase: "Pending", Owned: true, CreatedAt: now.Add(-10 * time.Minute),
		Unschedulable: fmt.Sprintf("0/%d nodes are available: 1 Too many pods, %d node(s) didn't satisfy plugin(s) [NodeAffinity].", n, n-1)}}
	pods := playbook.NodePods{Count: full.Allocatable, PendingDaemon: 1}
	for i := range 25 {
		pods.Candidates = append(pods.Candidates, playbook.Candidate{Namespace: "kubx-masters", Name: fmt.Sprintf("master-%d", i),
			UID: fmt.Sprintf("m-%d", i), Owner: fmt.Sprintf("ReplicaSet/master-%d", i), OwnerReady: 3, OwnerWants: 3, CreatedAt: old})
	}
	o := playbook.Observation{
		At: now,
		DaemonSet: playbook.Known(playbook.DaemonSet{Exists: true, UID: "ds-1", ResourceVersion: "7", Generation: 1, ObservedGeneration: 1,
			RollingUpdate: true, Desired: n, Current: n, Ready: n - 1, Updated: n, Available: n - 1, CreatedAt: old, NewestPodAt: old}),
		Namespace:     playbook.Known(playbook.Namespace{Exists: true}),
		Nodes:         playbook.Known(nodes),
		NodePods:      map[string]playbook.Reading[playbook.NodePods]{full.Name: playbook.Known(pods)},
		Controller:    playbook.Known(playbook.Controller{Holder: "kcm-1", RenewedAt: now.Add(-time.Second), Duration: 15 * time.Second}),
		Events:        playbook.Known([]playbook.Event(nil)),
		DiskIncidents: playbook.Known([]playbook.IncidentRef(nil)),
		Ledger:        playbook.Known(playbook.LedgerFacts{}),
		Incidents: map[string]playbook.Reading[playbook.Incident]{
			"Q1": playbook.Known(playbook.Incident{ID: "Q1", Number: 1, Status: playbook.Triggered})},
	}
	run := playbook.Run{ID: "run-1", Target: playbook.Target{Carrier: "prod-dal10-carrier3", Namespace: "monitoring", DaemonSet: "node-exporter"},
		Mode: playbook.ModeAct, State: playbook.Triage, TableVersion: playbook.TableVersion, StartedAt: now.Add(-time.Second),
		Trigger: playbook.TriggerWebhook, Incidents: []playbook.RunIncident{{ID: "Q1", Number: 1, JoinedAt: now.Add(-time.Second)}},
		Memory: playbook.Memory{EnteredAt: now.Add(-time.Second)}}
	return o, actingPolicy(), run
}

// actingPolicy is a configured DaemonSet's on a carrier in mode act, with the contract's defaults.
func actingPolicy() playbook.Policy {
	return playbook.Policy{
		Mode: playbook.ModeAct, StopOnAck: true, DrainFrom: []string{"kubx-masters"}, Installation: "bench",
		DaemonSet: playbook.DaemonSetPolicy{Known: true, EscalationPolicy: "PARMOPS", Team: "armada-ops", Reapply: playbook.ReapplyIfNeeded},
		Timing:    playbook.DefaultTiming(), Limits: playbook.DefaultLimits(),
	}
}
