package playbook

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

const (
	// orphanQuiet is how long to wait after the old object is gone before it is created again: creating at once made
	// second daemon pods next to running ones at 1,000 nodes (kubernetes.md part two, trap 2).
	orphanQuiet = 5 * time.Second
	// createBy bounds the wait for orphaning: the DaemonSet must exist again within 60 s (I1).
	createBy = 20 * time.Second
	// adoptionWait is how long the new DaemonSet may take to adopt every pod: 34 s at 5,000 nodes were measured.
	adoptionWait = time.Minute
)

// reapplyReservations is what a reapply reserves with its delete.
func (s *situation) reapplyReservations() []Reservation {
	return []Reservation{s.claim(), {Scope: ScopeReapply, Key: s.r.Target.String(), Amount: 1,
		Limit: s.p.Limits.ReappliesPer6h, Window: 6 * time.Hour}}
}

// reapplyRefusal says why the DaemonSet is not deleted and created again, or nothing: facts that do not pass by waiting.
func (s *situation) reapplyRefusal() Refusal {
	ds := s.ds()
	switch {
	case s.p.DaemonSet.Reapply == ReapplyNever:
		return refuse(RefusedByConfig, "the configuration says never to reapply it (reapply: never)")
	case len(ds.Owners) > 0:
		return refuse(RefusedByOwner, "it is owned by %s, which would fight a reapply: sync it there", strings.Join(ds.Owners, ", "))
	case ds.GitOps != "":
		return refuse(RefusedByOwner, "it belongs to %s, which would fight a reapply: sync it there", ds.GitOps)
	case len(ds.Finalizers) > 0:
		return refuse(RefusedByFinalizer, "it has finalizers of others: %s", strings.Join(ds.Finalizers, ", "))
	case ds.EmptySelector:
		return refuse(RefusedBySelector, "its selector is empty: a new one would adopt every pod")
	}
	for _, r := range s.reapplyReservations() {
		if !r.Held() && !s.fits(r) {
			return refuse(RefusedByBudget, "it was reapplied %s within %s, which is the limit", count(s.used(r), "time"), short(r.Window))
		}
	}
	return Refusal{}
}

// reapplyNotYet says what has to pass before the delete, or nothing. Each is a fact without which an orphan delete can
// lose pods or hang (kubernetes.md 1.5).
func (s *situation) reapplyNotYet() string {
	ds := s.ds()
	c, ok := s.o.Controller.Get()
	switch {
	case !ok:
		return "whether the controller-manager is at work is not known: " + orElse(s.o.Controller.Why(), "not read")
	case s.now.Sub(c.RenewedAt) > c.freshFor():
		return fmt.Sprintf("the controller-manager renewed its lease %s ago", short(s.now.Sub(c.RenewedAt)))
	case ds.ObservedGeneration < ds.Generation:
		return "the controller has not taken in the DaemonSet's latest change"
	case ds.RollingUpdate && ds.Updated < ds.Current:
		return "a rolling update is under way"
	case s.now.Sub(ds.NewestPodAt) < s.p.Timing.QuietAfterNewPod:
		return fmt.Sprintf("its newest pod is %s old: pods that the garbage collector has not seen yet would be lost",
			short(s.now.Sub(ds.NewestPodAt)))
	}
	return ""
}

// reapplyPlan is what remains of a reapply.
func (s *situation) reapplyPlan() []Action {
	if owed, ok := s.owesCreate(); ok {
		return []Action{owed.Action}
	}
	del := s.orphanDelete()
	return []Action{del, del.Undo()}
}

func (s *situation) orphanDelete() OrphanDelete {
	check, _ := s.o.Reapply.Get()
	ds := s.ds()
	return OrphanDelete{Namespace: s.r.Target.Namespace, Name: s.r.Target.DaemonSet, UID: ds.UID,
		ResourceVersion: orElse(check.ResourceVersion, ds.ResourceVersion), BackupSHA256: check.SHA256, PodUIDs: check.PodUIDs}
}

func (s *situation) reapplyOver() bool {
	return s.m.Reapply != nil && s.m.Reapply.Over && !s.changing()
}

// followReapply folds what happened since the last tick into the reapply's memory.
func (s *situation) followReapply() {
	re := s.m.Reapply
	if re == nil {
		s.m.Reapply = &ReapplyMemory{Since: s.now}
		return
	}
	if re.Over || s.changing() {
		return
	}
	owed, owes := s.owesCreate()
	if owes {
		re.adopt(s.r, owed)
	}
	ds, known := s.o.DaemonSet.Get()
	switch {
	case owes:
		if known && re.GoneAt.IsZero() && (!ds.Exists || ds.UID != re.OldUID) {
			re.GoneAt = s.o.seenAt()
		}
	case re.DeleteSeq == 0:
		if why := s.deleteLost(); why != "" {
			re.Over, re.Failed = true, why
		}
	default:
		s.followAdoption()
	}
}

// adopt notes which delete the reapply has made, from what is owed for it: the run's own backup, found again.
func (re *ReapplyMemory) adopt(r Run, owed Obligation) {
	if re.DeleteSeq != 0 {
		return
	}
	create, _ := owed.Action.(Create)
	re.DeleteSeq, re.OldUID, re.BackupSHA256 = owed.Seq, create.OldUID, create.BackupSHA256
	for _, i := range r.Intents {
		if del, ok := i.Action.(OrphanDelete); ok && i.Seq == owed.Seq {
			re.PodUIDs = del.PodUIDs
		}
	}
}

// deleteLost says why a delete that was asked for will not be asked for again: somebody edits the object as we look.
func (s *situation) deleteLost() string {
	tries := 0
	for _, i := range s.intents(KindOrphanDelete) {
		if !i.PromisedAt.Before(s.m.Reapply.Since) {
			tries++
		}
	}
	if tries >= 3 {
		return "the DaemonSet could not be deleted for its reapply: " + orElse(s.notDone(KindOrphanDelete), "it kept changing")
	}
	return ""
}

// followAdoption waits until the new object controls every pod that the old one had.
func (s *situation) followAdoption() {
	re := s.m.Reapply
	a, ok := s.o.Adoption.Get()
	ds, known := s.o.DaemonSet.Get()
	created := lastOf(s.intents(KindCreate))
	late := created != nil && s.now.Sub(created.SettledAt) > adoptionWait
	switch {
	case known && ds.Exists && ds.ObservedGeneration >= ds.Generation && ok && len(a.Lost) == 0 && a.Kept >= len(re.PodUIDs):
		re.Over = true
		s.m.Adopted = "all " + count(a.Kept, "pod") + " kept"
	case late && ok && len(a.Lost)+len(a.Orphans) > 0:
		re.Over = true
		s.m.Adopted = fmt.Sprintf("%s kept, %s lost, %s not adopted", count(a.Kept, "pod"), count(len(a.Lost), "pod"), count(len(a.Orphans), "pod"))
	case late:
		re.Over = true
		s.m.Adopted = "whether it adopted its pods could not be proven"
	}
}

// stepReapply promises the delete, then the create, each when its time has come.
func (s *situation) stepReapply() {
	re := s.m.Reapply
	if re == nil || re.Over || s.changing() {
		return
	}
	if owed, ok := s.owesCreate(); ok {
		if s.createDue() && s.undoDue(owed) {
			s.promise(owed.Action, owed.Seq)
		}
		if len(re.PodUIDs) > 0 {
			s.want(Want{Kind: WantAdoption, UIDs: re.PodUIDs})
		}
		s.wait = min(s.wait, time.Second)
		return
	}
	if re.DeleteSeq != 0 {
		s.want(Want{Kind: WantAdoption, UIDs: re.PodUIDs})
		s.wait = min(s.wait, time.Second)
		return
	}
	s.stepDelete()
}

// createDue: the old object is gone, its pods are orphans, and the controller's cache had time to see it.
func (s *situation) createDue() bool {
	re := s.m.Reapply
	if re.GoneAt.IsZero() {
		return false
	}
	gone := s.now.Sub(re.GoneAt)
	if gone >= createBy {
		return true
	}
	a, ok := s.o.Adoption.Get()
	return gone >= orphanQuiet && ok && len(a.Orphans)+len(a.Lost) >= len(re.PodUIDs)
}

// createBlocked: the old object is deleted, or deleting, and a minute later there is no new one (I1).
func (s *situation) createBlocked() bool {
	owed, ok := s.owesCreate()
	if !ok {
		return false
	}
	for _, i := range s.r.Intents {
		if i.Seq == owed.Seq && !i.Open() {
			return s.now.Sub(i.SettledAt) > undoPatience
		}
	}
	return s.now.Sub(owed.Since) > undoPatience
}

// reapplyNeeded: what the reapply is for is still so. A node that healed while the reapply waited ends it.
func (s *situation) reapplyNeeded() bool {
	if dr := s.m.Drain; dr != nil {
		return s.p.DaemonSet.Reapply == ReapplyAlways || !s.placed(dr.Node)
	}
	return slices.ContainsFunc(s.d.Verdicts, func(v Verdict) bool { return v.Verdict == VerdictUncovered })
}

func (s *situation) stepDelete() {
	re := s.m.Reapply
	if s.blindToChange() != "" || s.d.Finding == FindingUnknown {
		return
	}
	if !s.reapplyNeeded() {
		re.Over = true
		return
	}
	fail := func(why string) { re.Over, re.Failed = true, "the DaemonSet is not reapplied: "+why }
	refused := func(no Refusal) {
		s.refused = append(s.refused, no)
		fail(no.Why)
	}
	if no := s.surgeryRefusal().or(s.reapplyRefusal()); no.Refuses() {
		refused(no)
		return
	}
	if s.dsGone() {
		fail("somebody deleted it")
		return
	}
	if !s.o.DaemonSet.IsKnown() {
		return
	}
	if why := s.reapplyNotYet(); why != "" {
		if s.now.Sub(re.Since) > s.p.Timing.QuietAfterNewPod+2*s.p.Timing.FullConfirm {
			refused(refuse(RefusedByProof, "%s", why))
		}
		return
	}
	check, ok := s.o.Reapply.Get()
	if !ok {
		if s.o.Reapply.IsUnknown() && s.now.Sub(re.Since) > 2*s.p.Timing.FullConfirm {
			refused(refuse(RefusedByProof, "whether it could be created again is not known: %s", s.o.Reapply.Why()))
		}
		s.want(Want{Kind: WantReapply})
		return
	}
	switch {
	case !check.MayCreate:
		refused(refuse(RefusedByReapply, "%s", NotGranted(s.r.Target.Carrier, "create daemonsets.apps in "+s.r.Target.Namespace)))
	case !check.MayDelete:
		refused(refuse(RefusedByReapply, "%s", NotGranted(s.r.Target.Carrier, "delete daemonsets.apps "+s.r.Target.DaemonSet+" in "+s.r.Target.Namespace)))
	case check.DryRun != "":
		refused(refuse(RefusedByDryRun, "a dry run was refused: %s", clip(check.DryRun, 200)))
	case check.UID != s.ds().UID || len(check.Manifest) == 0 || check.SHA256 == "":
		return // it changed between two reads: look again
	default:
		pr := s.promise(s.orphanDelete(), 0, s.reapplyReservations()...)
		pr.Backup = &Backup{SHA256: check.SHA256, UID: check.UID, Manifest: slices.Clone(check.Manifest)}
	}
}
