// Package mutants proves that the crash sweep sees what it is there to see. Each mutant takes one protection out of the
// core, as a patch that is applied with "go test -overlay" and never enters the product; the sweep over a few scenarios
// must then fail. A mutant that lives means that a protection could be lost without anybody noticing.
package mutants

import (
	"fmt"
	"strings"
)

// Mutant is one protection less.
type Mutant struct {
	Name string
	// Why says what the protection is for.
	Why   string
	Edits []Edit
	// Scenarios are the names of those that must notice.
	Scenarios []string
	// Test is the test that must notice instead, where the protection is not in what the scenarios play: its package, below
	// package playbook, and its name.
	Test [2]string
}

// Edit replaces a piece of a file in or below package playbook. Old must be there exactly once: a patch that no longer fits its
// code fails the test instead of changing nothing.
type Edit struct {
	File, Old, New string
}

// Apply makes the edit in the file's source.
func (e Edit) Apply(source string) (string, error) {
	if n := strings.Count(source, e.Old); n != 1 {
		return "", fmt.Errorf("patch of %s: its piece is there %d times, not once:\n%s", e.File, n, e.Old)
	}
	return strings.Replace(source, e.Old, e.New, 1), nil
}

// Names of the scenarios that notice.
const (
	drained          = "node full, drained"
	slowStart        = "node full, and the daemon pod comes slowly into the freed place"
	reapplied        = "uncovered, reapplied"
	slowQueue        = "absent, and the CI's queue is slow"
	stateful         = "the full node is full of a StatefulSet's pods"
	cordonedBefore   = "a person had cordoned the full node"
	cordonsNow       = "a person cordons the full node as Drydock is about to"
	editsNow         = "a person edits the DaemonSet as Drydock is about to delete it"
	acksCordon       = "a person acknowledges as Drydock is about to cordon"
	acksDelete       = "a person acknowledges as Drydock is about to delete the DaemonSet"
	acksDrain        = "a person acknowledges during a drain"
	unreachable      = "the carrier can not be reached until the deadline"
	absentForAMoment = "somebody replaces the DaemonSet: it is absent for a moment"
	breaksAgain      = "it breaks again during the soak"
	young            = "a pod of the DaemonSet was born just before its reapply"
	slowCollector    = "the garbage collector is slow"
	healthy          = "healthy"
	strangers        = "another installation acts on the carrier"
	restored         = "the database is a restored copy"
	restoredLate     = "the database turns out to be a copy during the drain, and an admin confirms"
)

// All lists the mutants.
func All() []Mutant {
	return []Mutant{
		{
			Name: "no touch before the look at an open call",
			Why:  "a paused worker's call lands after its successor decided that it is not needed (kubernetes.md fact 10)",
			Edits: []Edit{{"engine.go", "if _, err := t.carrier.Touch(ctx, ref, t.run.ID, t.h.Generation()); err != nil {",
				"if err := error(nil); err != nil {"}},
			Scenarios: []string{acksCordon, acksDelete},
		},
		{
			Name:  "what is owed waits for the look",
			Why:   "workers that die one after the other, each in its look, leave a DaemonSet away (I1) or a node cordoned (I2)",
			Edits: []Edit{{"engine.go", "if err := t.undoFirst(); err != nil {", "if err := error(nil); err != nil {"}},
			Test:  [2]string{"playbooktest", "TestWhatIsOwedComesBeforeTheLook"},
		},
		{
			Name:      "settled before the call",
			Why:       "an intent that is settled first hides a call that never came",
			Edits:     []Edit{{"engine.go", "	s, err := t.do(ctx, i.Lane, call)\n", "	if err := t.settle(i, Settlement{Result: Happened}); err != nil {\n		return err\n	}\n	s, err := t.do(ctx, i.Lane, call)\n"}},
			Scenarios: []string{drained},
		},
		{
			Name: "strangers' cordons are not seen",
			Why:  "a cordon that we did not make is never taken over (I3)",
			Edits: []Edit{
				{"diagnose.go", "return n.Unschedulable && (n.CordonedBy == nil || n.CordonedBy.Installation != installation)", "return n == nil && installation == \"\""},
				{"drain.go", "if n.Unschedulable && (n.CordonedBy == nil || n.CordonedBy.Run != s.r.ID) {", "if n.Unschedulable && n.Name == \"\" {"},
			},
			Scenarios: []string{cordonedBefore},
		},
		{
			Name:      "a cordon without its precondition",
			Why:       "a person who cordons at the same moment keeps the cordon (I3)",
			Edits:     []Edit{{"drain.go", "ResourceVersion: n.ResourceVersion, Mark: Mark{", "Mark: Mark{"}},
			Scenarios: []string{cordonsNow},
		},
		{
			Name:      "a delete without its precondition",
			Why:       "an edit that a person makes at the same moment is not lost (I4)",
			Edits:     []Edit{{"reapply.go", "ResourceVersion: orElse(check.ResourceVersion, ds.ResourceVersion), ", ""}},
			Scenarios: []string{editsNow},
		},
		{
			Name:      "no backup is committed with the delete",
			Why:       "a DaemonSet that was deleted can be created again by any replica (I1)",
			Edits:     []Edit{{"reapply.go", "pr.Backup = &Backup{SHA256: check.SHA256, UID: check.UID, Manifest: slices.Clone(check.Manifest)}", "_, _ = pr, slices.Clone(check.Manifest)"}},
			Scenarios: []string{reapplied},
		},
		{
			Name:      "a delete owes no create",
			Why:       "the create is owed from the delete's promise on (I1)",
			Edits:     []Edit{{"run.go", "if !r.undone(i.Seq) {", "if _, create := undo.(Create); !create && !r.undone(i.Seq) {"}},
			Scenarios: []string{reapplied},
		},
		{
			Name:      "an eviction without the pod's uid",
			Why:       "a StatefulSet's pod comes back under its name: the second eviction hits another pod (I5)",
			Edits:     []Edit{{"drain.go", "Pod: c.Name, UID: c.UID, Owner: c.Owner}", "Pod: c.Name, Owner: c.Owner}"}},
			Scenarios: []string{stateful},
		},
		{
			Name:      "the incident is not read again before a change",
			Why:       "a person who acted a moment ago wins (I9)",
			Edits:     []Edit{{"engine.go", "if len(d.Promises) > 0 && t.refreshIncidents(&o) {", "if false && t.refreshIncidents(&o) {"}},
			Scenarios: []string{acksDrain},
		},
		{
			Name:      "each run claims a carrier of its own",
			Why:       "one run changes a carrier at a time (I6)",
			Edits:     []Edit{{"situation.go", "Reservation{Scope: ScopeClaim, Key: s.r.Target.Carrier,", "Reservation{Scope: ScopeClaim, Key: s.r.ID,"}},
			Scenarios: []string{drained},
		},
		{
			Name:      "a DaemonSet that could not be read is absent",
			Why:       "an error is never an empty answer",
			Edits:     []Edit{{"diagnose.go", "	d.nodes, d.nodesKnown = o.Nodes.Get()\n", "	d.dsKnown = true\n	d.nodes, d.nodesKnown = o.Nodes.Get()\n"}},
			Scenarios: []string{unreachable},
		},
		{
			Name:      "one look is enough",
			Why:       "what needs two looks is confirmed by them: a DaemonSet that is being replaced is not absent",
			Edits:     []Edit{{"table.go", "func(s *situation) bool { return !s.d.Confirmed }", "func(*situation) bool { return false }"}},
			Scenarios: []string{absentForAMoment},
		},
		{
			Name:      "a lost note is sent again at once",
			Why:       "the dead worker's own call may still be on its way (I7)",
			Edits:     []Edit{{"engine.go", "if !t.laneOpen(i.Lane) || t.clock().Before(i.CallDeadline) {", "if !t.laneOpen(i.Lane) {"}},
			Scenarios: []string{healthy},
		},
		{
			Name:      "one pod more than needed",
			Why:       "as few evictions as needed (I5)",
			Edits:     []Edit{{"drain.go", "return max(0, pods.Count+pods.PendingDaemon-n.Allocatable)", "return 1 + max(0, pods.Count+pods.PendingDaemon-n.Allocatable)"}},
			Scenarios: []string{slowStart},
		},
		{
			Name:      "resolved without a soak",
			Why:       "a carrier is proven to stay repaired before the incident is resolved",
			Edits:     []Edit{{"ending.go", "s.m.Sightings.held(claimHealthy, s.p.Timing.Soak, 3)", "s.m.Sightings.held(claimHealthy, 0, 1)"}},
			Scenarios: []string{breaksAgain},
		},
		{
			Name:      "no quiet after a new pod",
			Why:       "an orphan delete kills pods that the garbage collector has not seen yet (kubernetes.md fact 5)",
			Edits:     []Edit{{"reapply.go", "case s.now.Sub(ds.NewestPodAt) < s.p.Timing.QuietAfterNewPod:", "case s.now.Before(ds.NewestPodAt):"}},
			Scenarios: []string{young},
		},
		{
			Name:      "created again as soon as the old object is gone",
			Why:       "the controller still takes the orphans for owned, and makes second pods (kubernetes.md part two, trap 2)",
			Edits:     []Edit{{"reapply.go", "gone >= orphanQuiet && ok", "gone >= 0 && ok"}},
			Scenarios: []string{slowCollector},
		},
		{
			Name: "a promotion whose fate is not known is asked for again",
			Why:  "the CI is not idempotent (I7)",
			Edits: []Edit{
				{"redeploy.go", "if i.Result != NotHappened || !i.SentAt.IsZero() {", "if i.Result != NotHappened {"},
				// The budget alone would stop it as well.
				{"redeploy.go", "Limit: s.p.Limits.PromotionsPer6h", "Limit: 99"},
			},
			Scenarios: []string{slowQueue},
		},
		{
			Name:      "no Lease before a change",
			Why:       "the carrier counts the changes that its database has promised: a restored copy finds itself behind",
			Edits:     []Edit{{"engine.go", "	if i.IsChange() {\n		if why := t.hold()", "	if false {\n		if why := t.hold()"}},
			Scenarios: []string{drained},
		},
		{
			Name:      "another installation's Lease is not heeded",
			Why:       "one installation acts on a carrier",
			Edits:     []Edit{{"carrierlease.go", "case l.Holder != installation:", "case l.Holder != installation && l.Holder == \"\":"}},
			Scenarios: []string{strangers},
		},
		{
			Name:      "a ledger that is behind acts",
			Why:       "a restored copy does not know what was changed since",
			Edits:     []Edit{{"carrierlease.go", "case l.Count.Number > kept.Number, l.Count.Number == kept.Number && l.Count.Token != kept.Token:", "case l.Count.Number < 0:"}},
			Scenarios: []string{restored},
		},
		{
			Name: "a ledger that is behind puts back",
			Why:  "what a restored copy owes may be what the true ledger is working on",
			Edits: []Edit{
				{"situation.go", "if s.stale() && IsChange(a) {", "if false {"},
				{"engine.go", "if i.Lane.Remote() == \"carrier\" && t.stale(t.h.Context()) {", "if i.Lane == \"\" {"},
			},
			Scenarios: []string{restoredLate},
		},
		{
			Name:      "a call that is not noted before it is sent",
			Why:       "without the note nobody looks for a call of a worker that died (durability.md 2.1, rule 1)",
			Edits:     []Edit{{"engine.go", "err := t.e.Ledger.Begin(t.h.Context(), t.h, i.Seq, t.clock().Add(callTimeout))", "err := error(nil)"}},
			Scenarios: []string{healthy},
		},
		{
			Name:      "what a slow look saw first counts from its begin",
			Why:       "a remote that answers late must not make a sight older than it is",
			Edits:     []Edit{{"engine.go", "		o.ReadBy = now\n", "		_ = o\n"}},
			Scenarios: []string{slowCollector},
		},
		{
			Name:  "a dead controller-manager is as good as a living one",
			Why:   "without it the deleted DaemonSet hangs, and can not be created again (kubernetes.md fact 4)",
			Edits: []Edit{{"diagnose.go", "		return min(leaseFresh, c.Duration)\n	}\n	return leaseFresh\n", "	}\n	return time.Hour\n"}},
			Test:  [2]string{"", "TestAControllerIsAliveAsLongAsItsLease"},
		},
		{
			Name: "annotations are taken off before a DaemonSet is created again",
			Why:  "the next rollout stays on the old image for good (kubernetes.md fact 2)",
			Edits: []Edit{{"kube/manifest.go", "		annotations[originalManager] = manager\n	}\n	if len(annotations) == 0 {\n",
				"		annotations[originalManager] = manager\n	}\n	if len(annotations) >= 0 {\n"}},
			Test: [2]string{"kube", "TestSanitizeKeepsWhatUsersAndToolsOwn"},
		},
		{
			Name: "the template's annotations are taken off as well",
			Why:  "another template restarts every pod (kubernetes.md fact 3)",
			Edits: []Edit{{"kube/manifest.go", "	dropCollectorFinalizers(meta)\n	annotations :=",
				"	dropCollectorFinalizers(meta)\n	delete(o.under(\"spec\", \"template\", \"metadata\"), \"annotations\")\n	annotations :="}},
			Test: [2]string{"kube", "TestSanitizeKeepsWhatUsersAndToolsOwn"},
		},
		{
			Name:  "any failure to construct revisions counts as forbidden",
			Why:   "a conflict is logged after every healthy reapply (kubernetes.md fact 9)",
			Edits: []Edit{{"controller.go", `: .*\bcontrollerrevisions\.apps\b.*\bis forbidden: User \\?["“]?([^"”\\ ]+)\\?["”]? cannot (\w+) `, `: (.*)()`}},
			Test:  [2]string{"", "TestForbiddenLine"},
		},
	}
}
