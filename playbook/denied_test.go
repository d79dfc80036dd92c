package playbook

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// lastNote decides for 20 minutes on a carrier that takes every action and changes by none but cordons, and refuses the given
// kinds with what NotGranted says of them. It returns the last note.
func lastNote(p Policy, r Run, s *scene, denied ...Kind) string {
	note := ""
	s.o.Evidence = Known([]Evidence(nil))
	for at := t0; at.Before(t0.Add(20*time.Minute)) && !r.State.Ended(); at = at.Add(5 * time.Second) {
		d := Decide(p, r, s.at(at).o)
		r.State, r.Memory = d.To, d.Memory
		for _, pr := range d.Promises {
			i := Intent{Seq: len(r.Intents) + 1, Lane: LaneOf(r.Target.Carrier, pr.Action), Action: pr.Action, Undoes: pr.Undoes,
				PromisedAt: at, SentAt: at, SettledAt: at, Result: Happened}
			if slices.Contains(denied, pr.Action.Kind()) {
				i.Result, i.Detail = Refused, NotGranted(r.Target.Carrier, string(pr.Action.Kind())+" it")
			}
			r.Intents = append(r.Intents, i)
			switch a := i.Action.(type) {
			case Annotate:
				note = a.Text
			case Cordon:
				if i.Result == Happened {
					s.node(1, func(n *Node) { n.Unschedulable, n.CordonedBy = true, &a.Mark })
				}
			default:
			}
		}
	}
	return note
}

// TestADeniedRightIsNamed: whatever right the carrier denies, the note that hands over names it and says how to grant it.
func TestADeniedRightIsNamed(t *testing.T) {
	t.Parallel()
	full := func() *scene { return healthy(5).full(1, 3) }
	stuck := func() *scene {
		s := healthy(12).ds(func(d *DaemonSet) { d.Generation = 2 })
		s.o.ManagerLog = Known(ManagerLog{})
		return s
	}
	forbidden := func() *scene {
		s := stuck()
		s.o.Target = testRun(Triage).Target
		s.o.ManagerLog = Known(ManagerLog{Source: "pod x", Lines: []LogLine{{At: t0, Text: `monitoring/node-exporter failed with : failed to construct revisions of DaemonSet: controllerrevisions.apps is forbidden: User "u" cannot create resource`}}})
		return s
	}
	uncovered := func() *scene {
		s := healthy(5).gone(1)
		s.o.Reapply = Known(ReapplyCheck{UID: "ds-1", ResourceVersion: "7", MayCreate: true, MayDelete: true, SHA256: "sha", Manifest: Manifest("{}")})
		return s
	}
	lacks := func(k Kind) string {
		return "Drydock lacks the right to " + string(k) + ` it ("drydock doctor --grants prod-dal10-carrier3" prints what to apply)`
	}
	for name, tt := range map[string]struct {
		scene  *scene
		denied []Kind
		says   string
	}{
		"cordon":   {full(), []Kind{KindCordon}, "the node could not be cordoned: " + lacks(KindCordon)},
		"evict":    {full(), []Kind{KindEvict}, "it took too long: the last eviction was refused: " + lacks(KindEvict)},
		"uncordon": {full(), []Kind{KindEvict, KindUncordon}, "is cordoned by this run; taking it back was refused: " + lacks(KindUncordon)},
		"nudge":    {stuck(), []Kind{KindNudge}, "its nudge was refused: " + lacks(KindNudge)},
		"restart":  {forbidden(), []Kind{KindRestart}, "a restart of the controller-manager was refused: " + lacks(KindRestart)},
		"delete":   {uncovered(), []Kind{KindOrphanDelete}, "could not be deleted for its reapply: " + lacks(KindOrphanDelete)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := testPolicy()
			p.RestartDriver, p.Timing.Deadline = DriverDeployment, 15*time.Minute
			if note := lastNote(p, testRun(Triage), tt.scene, tt.denied...); !strings.Contains(note, tt.says) {
				t.Errorf("the note does not say %q:\n%s", tt.says, note)
			}
		})
	}
}
