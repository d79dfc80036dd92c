package main

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/drydock/drydock/playbook"
)

// decideResult is one decision at one size. Times are nanoseconds.
type decideResult struct {
	Nodes       int     `json:"nodes"`
	Nanoseconds []int64 `json:"ns"`      // each round's
	Bare        []int64 `json:"bare_ns"` // of the bare pass, each round's
	Allocations int64   `json:"allocs"`  // per decision
	Bytes       int64   `json:"bytes"`   // allocated per decision
	Median      int64   `json:"median_ns"`
	MedianBare  int64   `json:"median_bare_ns"`
}

// measureDecide decides on a carrier with one full node, in turns with the bare pass.
func measureDecide(ctx context.Context, rounds int, log *slog.Logger) ([]decideResult, error) {
	results := []decideResult{{Nodes: 500}, {Nodes: 5000}}
	for round := range rounds {
		for i := range results {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			r := &results[i]
			log.Info("deciding", "nodes", r.Nodes, "round", round+1, "of", rounds)
			o, p, run := oneFull(r.Nodes)
			if d := playbook.Decide(p, run, o); d.Diagnosis.Finding != playbook.FindingNodeFull || len(d.Diagnosis.Verdicts) != r.Nodes {
				return nil, fmt.Errorf("decide on %d nodes, one of them full: finding %s with %d verdicts",
					r.Nodes, d.Diagnosis.Finding, len(d.Diagnosis.Verdicts))
			}
			decided := testing.Benchmark(func(b *testing.B) {
				for b.Loop() {
					playbook.Decide(p, run, o)
				}
			})
			nodes, _ := o.Nodes.Get()
			bare := testing.Benchmark(func(b *testing.B) {
				for b.Loop() {
					readEveryField(nodes)
				}
			})
			r.Nanoseconds, r.Bare = append(r.Nanoseconds, decided.NsPerOp()), append(r.Bare, bare.NsPerOp())
			r.Allocations, r.Bytes = decided.AllocsPerOp(), decided.AllocedBytesPerOp()
			r.Median, r.MedianBare = median(r.Nanoseconds), median(r.Bare)
		}
	}
	return results, nil
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
