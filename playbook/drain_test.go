package playbook

import (
	"math/bits"
	"testing"

	"pgregory.net/rapid"
)

// The plan of a drain evicts as few pods as brute force finds enough, never one that must stay, and at most one of an owner
// while there are others.
func TestDrainPlanIsTheSmallest(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		o := healthy(12).full(0, 0).o
		n, _ := nodeOf(o, "node-00")
		pods := NodePods{PendingDaemon: rapid.IntRange(1, 4).Draw(t, "waiting")}
		for i := range rapid.IntRange(0, 9).Draw(t, "pods") {
			c := Candidate{Namespace: "kubx-masters", Name: string(rune('a' + i)), UID: string(rune('a' + i)),
				Owner:    rapid.SampledFrom([]string{"ReplicaSet/x", "ReplicaSet/y", "ReplicaSet/z"}).Draw(t, "owner"),
				Priority: int32(rapid.IntRange(0, 2).Draw(t, "priority")), OwnerReady: 3, OwnerWants: 3}
			if rapid.Bool().Draw(t, "stays") {
				c.NotMovable = "mirror pod of a static pod"
			}
			if rapid.IntRange(0, 5).Draw(t, "budgets") == 0 {
				c.Budgets = 2
			}
			pods.Candidates = append(pods.Candidates, c)
		}
		pods.Count = n.Allocatable + rapid.IntRange(-1, 2).Draw(t, "over")
		o.NodePods["node-00"] = Known(pods)

		best := -1
		for set := range 1 << len(pods.Candidates) {
			fits := pods.Count+pods.PendingDaemon-bits.OnesCount(uint(set)) <= n.Allocatable
			for i, c := range pods.Candidates {
				if set&(1<<i) != 0 && (c.NotMovable != "" || c.Budgets > 1) {
					fits = false
				}
			}
			if fits && (best < 0 || bits.OnesCount(uint(set)) < best) {
				best = bits.OnesCount(uint(set))
			}
		}

		s := newSituation(testPolicy(), testRun(Triage), o)
		refused := s.drainRefusal("node-00").Refuses()
		if best < 0 != refused && best <= testPolicy().Limits.EvictionsPerNode {
			t.Fatalf("brute force needs %d, refused %v: %s", best, refused, s.drainRefusal("node-00").Why)
		}
		if refused {
			return
		}
		owners := map[string]int{}
		evictions := 0
		for _, a := range s.drainPlan("node-00") {
			e, ok := a.(Evict)
			if !ok {
				continue
			}
			evictions++
			owners[e.Owner]++
			for _, c := range pods.Candidates {
				if c.UID == e.UID && (c.NotMovable != "" || c.Budgets > 1) {
					t.Fatalf("plans to evict %s: %s, %d budgets", c.Name, c.NotMovable, c.Budgets)
				}
			}
		}
		if evictions != best {
			t.Fatalf("plans %d evictions, brute force needs %d", evictions, best)
		}
		for _, c := range victims(pods) {
			if owners[c.Owner] == 0 {
				for owner, taken := range owners {
					if taken > 1 {
						t.Fatalf("takes %d of %s while %s has none taken", taken, owner, c.Owner)
					}
				}
			}
		}
	})
}
