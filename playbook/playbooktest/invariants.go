package playbooktest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/drydock/drydock/playbook"
)

// inspector checks the invariants of the design after each external call and at the end of the night. It looks at the
// carriers and at PagerDuty themselves, not at what Drydock believes about them.
type inspector struct {
	violations []string
	seen       map[string]bool
	landing    bool // a paused worker's call is landing: its sender could not know better
	readAt     map[string]time.Time
	watched    []playbook.Target
	goneSince  map[playbook.Target]time.Time
	lastCrash  time.Time
	lastOutage time.Time // of what every run needs
	hitAt      map[playbook.Target]time.Time
	healed     time.Time // when a simulation's faults stopped
	markSince  map[string]time.Time
	effects    map[string]int // checked so far, by carrier
	paired     map[string]int // the carrier's version when its pods were last looked at
	writes     int
	asked      int
	orphaned   []orphaned
}

// orphaned are the pods that an orphan delete left behind: each must live on.
type orphaned struct {
	carrier string
	target  playbook.OrphanDelete
	pods    []string
}

func newInspector() inspector {
	return inspector{seen: map[string]bool{}, readAt: map[string]time.Time{}, goneSince: map[playbook.Target]time.Time{}, hitAt: map[playbook.Target]time.Time{},
		markSince: map[string]time.Time{}, effects: map[string]int{}, paired: map[string]int{}}
}

// Violations lists what was broken, each once, in order.
func (w *World) Violations() []string { return w.violations }

func (w *World) violate(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if !w.seen[text] {
		w.seen[text] = true
		w.violations = append(w.violations, w.Clock.Now().Format(time.TimeOnly)+" "+text)
	}
}

// watch remembers a DaemonSet that existed when a run of it began (I1).
func (w *World) watch(t playbook.Target) {
	if c := w.carriers[t.Carrier]; c != nil && c.Set(t.Namespace, t.DaemonSet) != nil {
		w.watched = append(w.watched, t)
	}
}

// inspect checks what holds at every moment.
func (w *World) inspect() {
	for _, t := range w.watched {
		w.inspectExists(t)
	}
	for _, c := range w.carriers {
		w.inspectNodes(c)
		w.inspectEdits(c)
		for ; w.effects[c.Name] < len(c.Effects); w.effects[c.Name]++ {
			w.inspectEffect(c, c.Effects[:w.effects[c.Name]+1])
		}
	}
	for ; w.writes < len(w.Pager.Writes); w.writes++ {
		w.inspectWrite(w.Pager.Writes[:w.writes+1])
	}
	for ; w.asked < len(w.Promoter.Asked); w.asked++ {
		w.inspectPromotion(w.Promoter.Asked[:w.asked+1])
	}
	w.lookWhens()
}

// inspectExists is I1: a DaemonSet that existed when its run began is never gone for more than 60 s after a crash, unless a
// person deleted it. A second crash, or an API server that does not answer or refuses, gives Drydock its 60 s again; in a
// simulation only what hit a worker while it was at a run of this DaemonSet, or what stops all of them.
func (w *World) inspectExists(t playbook.Target) {
	c := w.carriers[t.Carrier]
	if s := c.Set(t.Namespace, t.DaemonSet); (s != nil && s.deletedAt == nil) || c.removed[t.Namespace+"/"+t.DaemonSet] {
		delete(w.goneSince, t)
		return
	}
	if w.goneSince[t].IsZero() {
		w.goneSince[t] = w.Clock.Now()
	}
	if c.Unreachable != "" || c.NoCreate != "" {
		w.lastOutage = w.Clock.Now()
	}
	since := w.goneSince[t]
	for _, excuse := range []time.Time{w.lastCrash, w.lastOutage, w.hitAt[t]} {
		if excuse.After(since) {
			since = excuse
		}
	}
	if w.Clock.Now().Sub(since) > time.Minute && !w.paged(t) {
		w.violate("I1: DaemonSet %s has been gone for more than 60 s", t)
	}
}

// targetOf is the target of a run, if there is one.
func (w *World) targetOf(run string) playbook.Target {
	if r := w.Ledger.runs[run]; r != nil {
		return r.run.Target
	}
	return playbook.Target{}
}

// paged reports whether a run of the target was handed over: people know, and the create is tried on.
func (w *World) paged(t playbook.Target) bool {
	return slices.ContainsFunc(w.Pager.Writes, func(o RemoteWrite) bool {
		return o.Action.Kind() == playbook.KindEscalate && w.Ledger.runs[o.Run].run.Target == t
	})
}

// inspectNodes is I2 and the limit of cordoned nodes.
func (w *World) inspectNodes(c *Carrier) {
	marked := 0
	for _, n := range c.nodes {
		key := c.Name + "/" + n.Name
		if n.Mark == nil {
			delete(w.markSince, key)
			continue
		}
		marked++
		if r := w.Ledger.runs[n.Mark.Run]; r != nil && !r.run.State.Ended() {
			w.markSince[key] = w.Clock.Now()
			continue
		}
		since := w.markSince[key]
		if w.sim != nil {
			// What must hold, must while a replica, the remotes and the ledger answer.
			for _, excuse := range []time.Time{w.lastOutage, w.hitAt[w.targetOf(n.Mark.Run)]} {
				if excuse.After(since) {
					since = excuse
				}
			}
		}
		if w.Clock.Now().Sub(since) > time.Minute {
			w.violate("I2: node %s keeps the cordon of run %s, which has ended", n.Name, n.Mark.Run)
		}
	}
	if marked > max(1, w.Policy.Limits.CordonedNodes) {
		w.violate("I5: %d nodes of %s are cordoned by Drydock at one time", marked, c.Name)
	}
	if w.paired[c.Name] == c.version {
		return
	}
	w.paired[c.Name] = c.version
	daemons := map[string]string{}
	for _, p := range c.pods {
		key := p.Namespace + "/" + p.App + " " + p.Node
		if p.Pinned == "" || p.Node == "" || p.Terminating {
			continue
		}
		if daemons[key] != "" && !c.recreated {
			w.violate("two daemon pods of %s/%s share node %s", p.Namespace, p.App, p.Node)
		}
		daemons[key] = p.Name
	}
}

// inspectEdits is I4.
func (w *World) inspectEdits(c *Carrier) {
	for _, s := range c.sets {
		for key, value := range c.edits[s.Namespace+"/"+s.Name] {
			if have := s.edited(key); have != value {
				w.violate("I4: a person's edit of DaemonSet %s/%s was lost: %s is %q and not %q", s.Namespace, s.Name, key, have, value)
			}
		}
	}
}

// inspectCall checks a call before it is made: it was promised and begun, and nothing speaks against it.
func (w *World) inspectCall(call playbook.Call) {
	if w.sim != nil {
		w.sim.inspectCall(call)
		return
	}
	r, ok := w.Ledger.Run(call.Run)
	kind := call.Action.Kind()
	if !ok || call.Seq < 1 || call.Seq > len(r.Intents) {
		w.violate("%s was called without a promise", kind)
		return
	}
	i := r.Intents[call.Seq-1]
	if !i.Open() || i.SentAt.IsZero() || !equalActions(i.Action, call.Action) {
		w.violate("%s (intent %d) was called when its intent was settled, not begun, or another one", kind, call.Seq)
	}
	if a, isDelete := call.Action.(playbook.OrphanDelete); isDelete {
		// The backup must be committed before the delete (durability.md 2.2).
		if _, err := w.Ledger.Backup(context.Background(), call.Run, a.BackupSHA256); err != nil { //nolint:forbidigo // no call is made
			w.violate("DaemonSet %s/%s is deleted without a committed backup", a.Namespace, a.Name)
		}
	}
	if i.Lane.Remote() == "carrier" {
		l := w.carriers[r.Target.Carrier].lease
		if l.Holder == w.Policy.Installation && l.Count.Number > w.Ledger.counts[r.Target.Carrier].Number {
			w.violate("%s was called though the ledger is behind the carrier's Lease", kind)
		}
	}
	if !i.IsChange() {
		return
	}
	if why := w.Ledger.killed(r.Target.Carrier); why != "" {
		w.violate("%s was called with the kill switch engaged", kind)
	}
	if r.Mode == playbook.ModeObserve {
		w.violate("%s was called in mode observe", kind)
	}
	if l := w.carriers[r.Target.Carrier].lease; l.Holder != w.Policy.Installation || l.Count != w.Ledger.counts[r.Target.Carrier] {
		w.violate("%s was called though the carrier's Lease says %s %d, and the ledger %d", kind, l.Holder, l.Count.Number, w.Ledger.counts[r.Target.Carrier].Number)
	}
	if w.Ledger.ClaimHolder(r.Target.Carrier) != r.ID {
		w.violate("I6: run %s changes %s without holding its claim", r.ID, r.Target.Carrier)
	}
	for _, in := range r.Incidents {
		if in.End != "" {
			continue
		}
		if read := w.readAt[in.ID]; w.Clock.Now().Sub(read) > 6*time.Second {
			w.violate("I9: %s was called without reading incident %s again", kind, in.ID)
		}
		if act, ok := w.stoppingAct(in, r); ok && w.Clock.Now().Sub(act.At) > time.Second {
			w.violate("I9: %s was called though %s %s incident %s before", kind, act.Who, act.Kind, in.ID)
		}
	}
}

// stoppingAct is what a person did on an incident after the run began.
func (w *World) stoppingAct(in playbook.RunIncident, r playbook.Run) (playbook.Act, bool) {
	for _, a := range w.Pager.Get(in.ID).Acts {
		if a.At.After(r.StartedAt) && a.Kind != playbook.ActApproved && a.Kind != playbook.ActOnPurpose && (a.Kind != playbook.ActAcknowledged || w.Policy.StopOnAck) {
			return a, true
		}
	}
	return playbook.Act{}, false
}

// inspectEffect checks the newest of a carrier's effects against those before it: budgets, needs, strangers' cordons.
func (w *World) inspectEffect(c *Carrier, all []Effect) {
	e := all[len(all)-1]
	limits := w.Policy.Limits
	count := func(match func(Effect) bool) int {
		n := 0
		for _, o := range all {
			if match(o) {
				n++
			}
		}
		return n
	}
	if e.Foreign {
		w.violate("I3: %s changed a cordon that a person had made on node %s", e.Action.Kind(), e.Action.Target().Name)
	}
	switch a := e.Action.(type) {
	case playbook.Evict:
		if e.Needed <= 0 && !w.sim.strangers() {
			w.violate("I5: pod %s/%s was evicted though node %s had room", a.Namespace, a.Pod, a.Node)
		}
		if a.Namespace != victimNamespace {
			w.violate("pod %s/%s was evicted from a namespace that is not to be drained", a.Namespace, a.Pod)
		}
		evicted := func(match func(Effect, playbook.Evict) bool) int {
			return count(func(o Effect) bool { b, ok := o.Action.(playbook.Evict); return ok && match(o, b) })
		}
		if n := evicted(func(o Effect, b playbook.Evict) bool { return o.Run == e.Run && b.Node == a.Node }); n > limits.EvictionsPerNode {
			w.violate("I5: %d evictions from node %s", n, a.Node)
		}
		if n := evicted(func(o Effect, _ playbook.Evict) bool { return o.Run == e.Run }); n > limits.EvictionsPerRun {
			w.violate("I5: %d evictions by run %s", n, e.Run)
		}
		if n := evicted(func(o Effect, _ playbook.Evict) bool { return e.At.Sub(o.At) < time.Hour }); n > limits.EvictionsPerHour {
			w.violate("I5: %d evictions on %s within an hour", n, c.Name)
		}
	case playbook.Cordon:
		if !w.landing && (c.Occupancy(a.Node) < c.Node(a.Node).Allocatable || c.Waiting(a.Node) == 0) {
			w.violate("node %s was cordoned though it was not full", a.Node)
		}
	case playbook.OrphanDelete:
		w.orphaned = append(w.orphaned, orphaned{carrier: c.Name, target: a, pods: e.Pods})
		n := count(func(o Effect) bool {
			b, ok := o.Action.(playbook.OrphanDelete)
			return ok && b.Namespace == a.Namespace && b.Name == a.Name && e.At.Sub(o.At) < 6*time.Hour
		})
		if n > limits.ReappliesPer6h {
			w.violate("I5: DaemonSet %s/%s was reapplied %d times", a.Namespace, a.Name, n)
		}
		if s := c.Set(a.Namespace, a.Name); s != nil && (len(s.Owners) > 0 || s.Annotations[helmKey] != "") {
			w.violate("DaemonSet %s/%s was reapplied though others own it", a.Namespace, a.Name)
		}
	case playbook.RestartControllerManager:
		if n := count(func(o Effect) bool { return o.Action.Kind() == playbook.KindRestart }); n > limits.RestartsPerDay {
			w.violate("I5: %d restarts of the controller-manager", n)
		}
		if n := count(func(o Effect) bool { return o.Action.Kind() == playbook.KindRestart && o.Run == e.Run }); n > 1 {
			w.violate("I5: run %s restarted the controller-manager %d times", e.Run, n)
		}
	default:
	}
}

// inspectWrite is I7 for PagerDuty, and the order within its lane: the note first, then the change of state.
func (w *World) inspectWrite(all []RemoteWrite) {
	e := all[len(all)-1]
	before := all[:len(all)-1]
	same := func(o RemoteWrite) bool { return o.Incident == e.Incident && o.Run == e.Run }
	r, _ := w.Ledger.Run(e.Run)
	switch a := e.Action.(type) {
	case playbook.Annotate:
		notes := 0
		for _, o := range before {
			b, ok := o.Action.(playbook.Annotate)
			if ok && b.Marker == a.Marker {
				w.violate("I7: the note %s was written twice on incident %s", a.Marker, e.Incident)
			}
			if ok && same(o) && b.Note == "" {
				notes++
			}
		}
		if a.Note == "" && notes >= 3 {
			w.violate("a fourth note of run %s on incident %s", e.Run, e.Incident)
		}
		if !strings.Contains(a.Text, a.Marker) {
			w.violate("the note on incident %s lacks its marker", e.Incident)
		}
	case playbook.Escalate, playbook.Resolve, playbook.Acknowledge:
		noted := false
		for _, o := range before {
			if same(o) && o.Action.Kind() == a.Kind() {
				w.violate("I7: %s of incident %s happened twice", a.Kind(), e.Incident)
			}
			noted = noted || same(o) && o.Action.Kind() == playbook.KindAnnotate
		}
		if !noted {
			w.violate("%s of incident %s came before any note", a.Kind(), e.Incident)
		}
		if r.Mode == playbook.ModeObserve {
			w.violate("%s of incident %s in mode observe", a.Kind(), e.Incident)
		}
		if a.Kind() == playbook.KindResolve && !w.landing && !w.carriers[r.Target.Carrier].Covered(r.Target.Namespace, r.Target.DaemonSet) {
			w.violate("incident %s was resolved though %s is not covered", e.Incident, r.Target)
		}
		for _, in := range r.Incidents {
			act, ok := w.stoppingAct(in, r)
			// What PagerDuty did not let anybody read could not be known; its own lane goes on then.
			if in.ID == e.Incident && ok && !w.landing && w.readAt[in.ID].After(act.At) {
				w.violate("I9: %s of incident %s after %s %s it", a.Kind(), e.Incident, act.Who, act.Kind)
			}
		}
	default:
	}
}

// inspectPromotion is I7 for promotions, and that nothing is promoted that is there.
func (w *World) inspectPromotion(all []RemoteWrite) {
	e := all[len(all)-1]
	a, _ := e.Action.(playbook.Promote)
	for _, o := range all[:len(all)-1] {
		if b, _ := o.Action.(playbook.Promote); b.Component == a.Component && b.Carrier == a.Carrier {
			w.violate("I7: %s was promoted twice to %s", a.Component, a.Carrier)
		}
	}
	r, _ := w.Ledger.Run(e.Run)
	if c := w.carriers[a.Carrier]; !w.landing && c.Set(r.Target.Namespace, r.Target.DaemonSet) != nil {
		w.violate("%s was promoted though DaemonSet %s exists", a.Component, r.Target)
	}
}

// inspectEnd checks what must hold when the night is over.
func (w *World) inspectEnd() {
	for _, id := range w.Ledger.Runs() {
		r, _ := w.Ledger.Run(id)
		w.inspectEnded(r)
	}
	for _, c := range w.carriers {
		for _, n := range c.nodes {
			if n.Mark != nil {
				w.violate("I2: node %s bears the mark of run %s at the end", n.Name, n.Mark.Run)
			}
			if n.foreign && !n.Unschedulable {
				w.violate("I3: a person's cordon of node %s is gone", n.Name)
			}
			if !n.foreign && n.Unschedulable {
				w.violate("I2: node %s is cordoned at the end, and by no person", n.Name)
			}
		}
	}
	for _, t := range w.watched {
		c := w.carriers[t.Carrier]
		if s := c.Set(t.Namespace, t.DaemonSet); (s == nil || s.deletedAt != nil) && !c.removed[t.Namespace+"/"+t.DaemonSet] && c.NoCreate == "" {
			w.violate("I1: DaemonSet %s is gone at the end", t)
		}
	}
	for _, o := range w.orphaned {
		c := w.carriers[o.carrier]
		s := c.Set(o.target.Namespace, o.target.Name)
		for _, uid := range o.pods {
			p := c.podByUID(uid)
			if s != nil && (p == nil || p.Terminating || p.ownerUID != s.uid) && !slices.Contains(c.outdated, uid) {
				w.violate("a pod of DaemonSet %s/%s did not live through its reapply", o.target.Namespace, o.target.Name)
			}
		}
	}
}

// lateAllowance is how far a crash may push an end beyond the deadline: the takeover, and the last calls.
const lateAllowance = 2 * time.Minute

// said reports whether the end was said on every incident of a run before its deadline. Such a run may go on for as long
// as an undo or a call is blocked.
func (w *World) said(r playbook.Run) bool {
	for _, in := range r.Incidents {
		if !slices.ContainsFunc(w.Pager.Writes, func(o RemoteWrite) bool {
			a, ok := o.Action.(playbook.Annotate)
			return ok && a.Final && o.Incident == in.ID && o.Run == r.ID && o.At.Sub(r.Deadline) <= lateAllowance
		}) {
			return false
		}
	}
	return true
}

// due is when a run has to have ended: at its deadline, or when the faults stopped.
func (w *World) due(r playbook.Run) time.Time {
	if w.healed.After(r.Deadline) {
		return w.healed
	}
	return r.Deadline
}

// inspectEnded is I8 for one run.
func (w *World) inspectEnded(r playbook.Run) {
	if !r.State.Ended() {
		w.violate("I8: run %s has not ended: it is %s", r.ID, r.State)
		return
	}
	due := w.due(r)
	if late := r.FinishedAt.Sub(due); late > lateAllowance && !w.said(r) {
		w.violate("I8: run %s ended %s after its deadline, and did not say so before", r.ID, late)
	}
	if len(r.Owed()) > 0 || len(r.OpenIntents()) > 0 {
		w.violate("run %s ended and still owes %d undos and %d calls", r.ID, len(r.Owed()), len(r.OpenIntents()))
	}
	if w.Ledger.ClaimHolder(r.Target.Carrier) == r.ID {
		w.violate("run %s ended and keeps the claim of %s", r.ID, r.Target.Carrier)
	}
	for _, in := range r.Incidents {
		at := w.Pager.Get(in.ID)
		if !slices.ContainsFunc(at.Notes, func(n Note) bool { return strings.Contains(n.Text, r.ID) }) {
			w.violate("I8: run %s ended without a note on incident %s", r.ID, in.ID)
		}
		switch in.End {
		case playbook.OutcomeResolved:
			if at.Status != playbook.Resolved {
				w.violate("run %s says that it resolved incident %s, which is %s", r.ID, in.ID, at.Status)
			}
		case playbook.OutcomeEscalated:
			if len(at.Escalations) == 0 {
				w.violate("I8: run %s says that it escalated incident %s, which was not", r.ID, in.ID)
			}
		case playbook.OutcomeStoodDown:
		default:
			w.violate("run %s ended and its incident %s did not", r.ID, in.ID)
		}
	}
}
