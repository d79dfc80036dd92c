package playbook

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// CordonLimit is how long a cordon of ours may live (safety envelope).
const CordonLimit = 45 * time.Minute

// cordonLimitOf is how many nodes may be cordoned by us at one time.
func (s *situation) cordonLimitOf() int {
	if n := s.p.Limits.CordonedNodes; n > 0 {
		return n
	}
	if s.d.Expected < 200 {
		return 1
	}
	return 2
}

// need is how many pods must leave so that every waiting daemon pod finds a place.
func need(n Node, pods NodePods) int { return max(0, pods.Count+pods.PendingDaemon-n.Allocatable) }

// victims ranks the pods that may be moved: lowest priority first, then those whose disruption budget has most slack,
// then those with most ready replicas elsewhere, then the youngest, which loses least.
func victims(pods NodePods) []Candidate {
	var movable []Candidate
	for _, c := range pods.Candidates {
		// Two budgets on one pod make the Eviction API answer 500 for ever (kubernetes.md 1.6).
		if c.NotMovable == "" && !c.Terminating && c.Budgets < 2 {
			movable = append(movable, c)
		}
	}
	slices.SortFunc(movable, func(a, b Candidate) int {
		return cmp.Or(cmp.Compare(a.Priority, b.Priority), cmp.Compare(slack(b), slack(a)),
			cmp.Compare(b.OwnerReady, a.OwnerReady), b.CreatedAt.Compare(a.CreatedAt), cmp.Compare(a.Name, b.Name))
	})
	return movable
}

// slack is how many more disruptions a pod's budget allows; a pod without one ranks between blocked and free ones.
func slack(c Candidate) int {
	if c.Budgets == 0 {
		return 1
	}
	return c.Allowed
}

// spread picks n victims, of as many different owners as there are: one owner loses one pod at a time.
func spread(movable []Candidate, n int) []Candidate {
	var picked []Candidate
	taken := map[string]int{}
	for round := 0; len(picked) < n; round++ {
		before := len(picked)
		for _, c := range movable {
			if len(picked) == n {
				break
			}
			if taken[c.UID] == 0 && taken["owner "+c.Namespace+"/"+c.Owner] <= round {
				taken[c.UID] = 1
				taken["owner "+c.Namespace+"/"+c.Owner]++
				picked = append(picked, c)
			}
		}
		if len(picked) == before {
			break
		}
	}
	return picked
}

// drainReservations is what a drain reserves with its cordon: the claim, a place among the cordoned nodes, and the whole
// need in every budget.
func (s *situation) drainReservations(need int) []Reservation {
	l := s.p.Limits
	return []Reservation{
		s.claim(),
		{Scope: ScopeCordonedNodes, Key: s.r.Target.Carrier, Amount: 1, Limit: s.cordonLimitOf()},
		{Scope: ScopeEvictionsRun, Key: s.r.ID, Amount: need, Limit: l.EvictionsPerRun},
		{Scope: ScopeEvictionsHour, Key: s.r.Target.Carrier, Amount: need, Limit: l.EvictionsPerHour, Window: time.Hour},
		{Scope: ScopeEvictionsHourAll, Key: "*", Amount: need, Limit: l.EvictionsPerHourAll, Window: time.Hour},
	}
}

// drainRefusal says why a full node is not touched, or nothing.
func (s *situation) drainRefusal(node string) Refusal {
	n, ok := s.node(node)
	pods, counted := s.o.NodePods[node].Get()
	if !ok || !counted {
		return Refusal{}
	}
	if n.Unschedulable && (n.CordonedBy == nil || n.CordonedBy.Run != s.r.ID) {
		return refuse(RefusedByCordon, "the node is cordoned, and not by this run")
	}
	if len(s.p.DrainFrom) == 0 {
		return refuse(RefusedByNamespace, "no namespace is configured whose pods may be moved (drain_namespaces)")
	}
	k := need(n, pods)
	switch movable := victims(pods); {
	case k > s.p.Limits.EvictionsPerNode:
		return refuse(RefusedByNeed, "%s would have to move, more than the limit of %d per node", count(k, "pod"), s.p.Limits.EvictionsPerNode)
	case len(movable) == 0 && k > 0:
		return refuse(RefusedByPods, "none of its pods may be moved%s", whyNotMovable(pods))
	case len(movable) < k:
		return refuse(RefusedByPods, "%s must move and only %d may%s", count(k, "pod"), len(movable), whyNotMovable(pods))
	}
	for _, r := range s.drainReservations(k) {
		if !r.Held() && !s.fits(r) {
			return refuse(RefusedByBudget, "%s would have to move, and the budget of %s has %d left of %d", count(k, "pod"), r.words(),
				max(0, r.Limit-s.used(r)), r.Limit)
		}
	}
	return Refusal{}
}

func whyNotMovable(pods NodePods) string {
	for _, c := range pods.Candidates {
		if c.NotMovable != "" {
			return fmt.Sprintf(" (for example %s/%s: %s)", c.Namespace, c.Name, c.NotMovable)
		}
	}
	return ""
}

// drainIntents are the evictions of the drain under way, oldest first.
func (s *situation) drainIntents() []Intent {
	owed, ok := s.owesUncordon(s.m.Drain.Node)
	var out []Intent
	for _, i := range s.intents(KindEvict) {
		if ok && i.Seq > owed.Seq {
			out = append(out, i)
		}
	}
	return out
}

// followDrain folds what happened since the last tick into the drain's memory.
func (s *situation) followDrain() {
	dr := s.m.Drain
	if dr == nil || s.changing() {
		return
	}
	_, owed := s.owesUncordon(dr.Node)
	cordons := 0
	for _, i := range s.intents(KindCordon) {
		if i.Action.Target().Name == dr.Node && !i.PromisedAt.Before(dr.Started) {
			cordons++
		}
	}
	switch {
	case dr.Over && !owed:
		// Given back (or never cordoned): the drain is history.
		if dr.Failed != "" {
			s.skip(dr.Node, dr.Failed)
		}
		s.m.Drain = nil
		return
	case dr.Over:
		return
	case !owed && cordons >= 3:
		s.failDrain("the node could not be cordoned: " + orElse(s.notDone(KindCordon), "it kept changing, or somebody else was first"))
	}
	if why := s.drainTrouble(); why != "" {
		s.failDrain(why)
	}
}

// failDrain ends the drain: only the uncordon is left.
func (s *situation) failDrain(why string) {
	s.m.Drain.Over = true
	if s.m.Drain.Failed == "" {
		s.m.Drain.Failed = why
	}
}

// drainTrouble says what has gone wrong with the drain under way, or nothing.
func (s *situation) drainTrouble() string {
	dr := s.m.Drain
	n, ok := s.node(dr.Node)
	switch {
	case s.dsGone():
		return "the DaemonSet is gone"
	case !s.o.Nodes.IsKnown():
		if s.now.Sub(dr.Started) > 2*s.p.Timing.EvictWait {
			return "the carrier could not be read for too long"
		}
		return ""
	case !ok && !slices.Contains(s.o.Covered, dr.Node):
		return "the node is gone"
	case ok && n.UID != dr.UID:
		return "the node was replaced"
	case s.now.Sub(dr.Started) > min(CordonLimit, s.p.Timing.EvictWait*time.Duration(2+dr.Need)):
		if last := lastOf(s.drainIntents()); last != nil && last.Result == Refused {
			return "it took too long: the last eviction was refused: " + orElse(last.Detail, "no reason given")
		}
		return "it took too long"
	}
	if _, owed := s.owesUncordon(dr.Node); owed && ok && !(n.Unschedulable && n.CordonedBy != nil && n.CordonedBy.Run == s.r.ID) {
		return "somebody else has changed the node's cordon"
	}
	if last := lastOf(s.drainIntents()); last != nil && last.Result == Happened {
		if pods, counted := s.o.NodePods[dr.Node].Get(); counted && holds(pods, last.Action.Target().UID) &&
			s.now.Sub(last.SettledAt) > s.p.Timing.EvictWait {
			return "the evicted pod " + last.Action.Target().Name + " did not leave"
		}
	}
	return ""
}

func (s *situation) dsGone() bool {
	ds, ok := s.o.DaemonSet.Get()
	return ok && (!ds.Exists || ds.DeletedAt != nil)
}

func holds(pods NodePods, uid string) bool {
	return slices.ContainsFunc(pods.Candidates, func(c Candidate) bool { return c.UID == uid })
}

func lastOf(intents []Intent) *Intent {
	if len(intents) == 0 {
		return nil
	}
	return &intents[len(intents)-1]
}

// covered reports whether the drained node has its daemon pod now.
func (s *situation) covered(node string) bool {
	if slices.Contains(s.o.Covered, node) {
		return true
	}
	n, ok := s.node(node)
	return ok && n.Ready && hasReadyPod(&n)
}

// placed reports whether the drained node's daemon pod has its place there, ready or still starting: then the drain has
// done what it can.
func (s *situation) placed(node string) bool {
	if s.covered(node) {
		return true
	}
	n, _ := s.node(node)
	return slices.ContainsFunc(n.Pods, func(p Pod) bool {
		return p.Scheduled && !p.Terminating && p.Phase != "Failed"
	})
}

// drainWantsReapply: the node has had room for full_confirm and its daemon pod still waits; or the configuration wants
// the reapply after every drain, as the runbook's letter does.
func (s *situation) drainWantsReapply() bool {
	dr := s.m.Drain
	if dr == nil || dr.Over || dr.Reapplied || s.changing() || s.blindToChange() != "" || dr.FreeSince.IsZero() ||
		s.p.DaemonSet.Reapply == ReapplyNever || s.reapplyRefusal().Refuses() || s.surgeryRefusal().Refuses() {
		return false
	}
	if s.placed(dr.Node) {
		return s.p.DaemonSet.Reapply == ReapplyAlways && s.covered(dr.Node)
	}
	return s.now.Sub(dr.FreeSince) >= s.p.Timing.FullConfirm
}

// stepDrain promises the drain's next action, or waits. What is missing beyond the carrier (blind) stops cordons and
// evictions, never the uncordon.
func (s *situation) stepDrain() {
	dr := s.m.Drain
	if dr == nil || s.changing() {
		return
	}
	owed, cordoned := s.owesUncordon(dr.Node)
	if dr.Over {
		if cordoned && s.undoDue(owed) {
			s.promise(owed.Action, owed.Seq)
		}
		return
	}
	s.want(Want{Kind: WantNodePods, Node: dr.Node})
	n, seen := s.node(dr.Node)
	pods, counted := s.o.NodePods[dr.Node].Get()
	switch {
	case s.placed(dr.Node) || (seen && counted && need(n, pods) == 0):
		if dr.FreeSince.IsZero() {
			dr.FreeSince = s.o.seenAt()
		}
	case seen && counted:
		dr.FreeSince = time.Time{} // the freed place was taken by another pod
	}
	switch {
	case !cordoned && s.placed(dr.Node):
		dr.Over = true // it healed before it was touched
	case !cordoned:
		s.stepCordon(n, pods, counted)
	case s.placed(dr.Node) && (s.blind != "" || !counted || need(n, pods) == 0):
		s.stepPlaced(owed)
	case counted && seen: // also while another DaemonSet's pod waits for this node: one cordon serves them all
		s.stepEvict(n, pods, owed)
	}
}

// stepPlaced ends the drain once the daemon pod runs, or has had time to start.
func (s *situation) stepPlaced(owed Obligation) {
	if !s.covered(s.m.Drain.Node) && s.now.Sub(s.m.Drain.FreeSince) < s.p.Timing.FullConfirm {
		return
	}
	if s.drainWantsReapply() {
		return // the next tick takes the edge
	}
	s.m.Drain.Over = true
	s.promise(owed.Action, owed.Seq)
}

func (s *situation) stepCordon(n Node, pods NodePods, counted bool) {
	if !counted || s.blindToChange() != "" {
		return
	}
	if no := s.surgeryRefusal().or(s.drainRefusal(n.Name)); no.Refuses() {
		s.refused = append(s.refused, no)
		s.failDrain(no.Why)
		return
	}
	s.m.Drain.Need = need(n, pods)
	s.promise(s.cordonOf(n), 0, s.drainReservations(s.m.Drain.Need)...)
}

func (s *situation) cordonOf(n Node) Cordon {
	return Cordon{Node: n.Name, UID: n.UID, ResourceVersion: n.ResourceVersion, Mark: Mark{
		Installation: s.p.Installation, Carrier: s.r.Target.Carrier, Run: s.r.ID, Since: s.now,
		Reason: "make room for " + s.r.Target.Namespace + "/" + s.r.Target.DaemonSet,
	}}
}

// stepEvict evicts the next pod, when the last one has left and the node still has no room.
func (s *situation) stepEvict(n Node, pods NodePods, owed Obligation) {
	moved := s.drainIntents()
	if last := lastOf(moved); last != nil && last.Result == Happened && holds(pods, last.Action.Target().UID) {
		return // one at a time: it is still leaving
	}
	k := need(n, pods)
	if k == 0 {
		// The scheduler needs 0.3 s to place the pod (kubernetes.md fact 6). What stays waiting is reapplied, or given up.
		if s.now.Sub(s.m.Drain.FreeSince) >= 2*s.p.Timing.FullConfirm {
			s.failDrain("there is room, and the daemon pod is still not scheduled")
			s.promise(owed.Action, owed.Seq)
		}
		return
	}
	giveUp := func(why string) {
		s.failDrain(why)
		s.promise(owed.Action, owed.Seq)
	}
	if s.blindToChange() != "" {
		return
	}
	taken := len(happened(moved))
	reservations := []Reservation{s.claim()}
	if taken >= s.m.Drain.Need {
		// A cordoned node still receives other DaemonSets' pods: a freed place can be taken (kubernetes.md 1.6). One more is
		// moved within the same limits, and reserved like the first ones.
		if taken >= s.p.Limits.EvictionsPerNode {
			giveUp("the freed places were taken by other pods")
			return
		}
		for _, r := range s.drainReservations(1) {
			if r.Scope == ScopeCordonedNodes {
				continue
			}
			if !r.Held() && !s.fits(r) {
				giveUp("the freed places were taken by other pods, and the budget of " + r.words() + " is used up")
				return
			}
			reservations = append(reservations, r)
		}
	}
	if no := s.surgeryRefusal(); no.Refuses() {
		s.refused = append(s.refused, no)
		giveUp(no.Why)
		return
	}
	victim, ok := s.nextVictim(pods, moved)
	if ok {
		s.promise(evictionOf(n.Name, victim), 0, reservations...)
		s.m.Drain.Need = max(s.m.Drain.Need, taken+1)
		return
	}
	if s.now.Sub(lastSettled(moved)) > s.p.Timing.EvictWait && s.now.Sub(s.m.Drain.Started) > s.p.Timing.EvictWait {
		giveUp("no pod may be moved: their disruption budgets stay exhausted, or their owners are not ready again")
	}
}

// retryEviction is how long a pod that refused is left alone before it is asked again.
const retryEviction = 10 * time.Second

// nextVictim picks the best pod that may go now: its budget allows it, its owner is complete unless nothing of that owner
// was moved, and it did not refuse a moment ago.
func (s *situation) nextVictim(pods NodePods, moved []Intent) (Candidate, bool) {
	// An eviction that did not happen is sent again for the same pod: were its call still to land, another victim would
	// make one eviction too many.
	if last := lastOf(moved); last != nil && last.Result == NotHappened {
		for _, c := range pods.Candidates {
			if c.UID == last.Action.Target().UID && !c.Terminating {
				return c, c.NotMovable == ""
			}
		}
	}
	for _, c := range victims(pods) {
		if c.Budgets > 0 && c.Allowed <= 0 {
			continue
		}
		if s.r.Mode == ModeApprove && !slices.Contains(s.m.Approved, planLines([]Action{evictionOf(s.m.Drain.Node, c)})[0]) {
			continue // a person approved other pods
		}
		blocked := false
		for _, i := range moved {
			e, _ := i.Action.(Evict)
			sameOwner := e.Owner == c.Owner && e.Namespace == c.Namespace && c.Owner != ""
			switch {
			case e.UID == c.UID && (i.Result == Happened || s.now.Sub(i.SettledAt) < retryEviction):
				blocked = true
			case sameOwner && i.Result == Happened && c.OwnerReady < c.OwnerWants:
				blocked = true
			}
		}
		if !blocked {
			return c, true
		}
	}
	return Candidate{}, false
}

func evictionOf(node string, c Candidate) Evict {
	return Evict{Node: node, Namespace: c.Namespace, Pod: c.Name, UID: c.UID, Owner: c.Owner}
}

func happened(intents []Intent) []Intent {
	var out []Intent
	for _, i := range intents {
		if i.Result == Happened || i.Result == Superseded {
			out = append(out, i)
		}
	}
	return out
}

func lastSettled(intents []Intent) time.Time {
	var t time.Time
	for _, i := range intents {
		if i.SettledAt.After(t) {
			t = i.SettledAt
		}
	}
	return t
}

// drainPlan is what remains of the drain of one node, as if everything goes well.
func (s *situation) drainPlan(node string) []Action {
	n, ok := s.node(node)
	pods, counted := s.o.NodePods[node].Get()
	if !ok || !counted {
		return nil
	}
	var plan []Action
	cordon := s.cordonOf(n)
	if _, owed := s.owesUncordon(node); !owed {
		plan = append(plan, cordon)
	}
	for _, c := range spread(victims(pods), need(n, pods)) {
		plan = append(plan, evictionOf(n.Name, c))
	}
	if s.p.DaemonSet.Reapply == ReapplyAlways && !s.reapplyRefusal().Refuses() && (s.m.Drain == nil || !s.m.Drain.Reapplied) {
		plan = append(plan, s.reapplyPlan()...)
	}
	return append(plan, cordon.Undo())
}
