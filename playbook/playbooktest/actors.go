package playbooktest

import (
	"time"

	"github.com/drydock/drydock/playbook"
)

// planTrouble lets workers die, freeze and lose the database, at moments between their calls as well.
func (s *simulation) planTrouble(within time.Duration) {
	at := func(n int, do func()) {
		for range s.draw.IntN(n) {
			s.Clock.After(time.Duration(s.draw.Int64N(int64(within))), func() {
				if s.faulty {
					do()
				}
			})
		}
	}
	any3 := func() *worker { return s.workers[s.draw.IntN(len(s.workers))] }
	span := func(seconds int) time.Duration {
		return time.Duration(100+s.draw.IntN(1000*seconds)) * time.Millisecond
	}
	at(3, func() { s.freeze(any3(), span(60)) })
	at(3, func() { s.cutOff(any3(), span(30)) })
	at(3, func() {
		if w := any3(); !w.dead {
			s.die(w, 0)
		}
	})
	at(3, func() {
		d := span(40)
		if s.lost {
			return
		}
		s.log("the database is lost for %s", d)
		s.lost, s.lastOutage = true, s.Clock.Now()
		for _, w := range s.workers {
			s.lapse(w)
		}
		s.Clock.After(d, func() {
			s.lost = false
			s.lastOutage = s.Clock.Now()
			for _, w := range s.workers {
				s.renew(w)
			}
		})
	})
}

// planPeople lets people, remotes and a GitOps tool do what they like.
func (s *simulation) planPeople(within time.Duration) {
	for range s.draw.IntN(5) {
		at := time.Duration(s.draw.Int64N(int64(within)))
		name, do := drawAct(s.draw)
		switch s.draw.IntN(6) {
		case 0:
			name, do = "the alert comes again", func(*World) {
				s.alert(s.Ledger.runs[s.Ledger.order[0]].run.Target)
			}
		case 1:
			name, do = "the plan is approved", func(w *World) {
				for _, id := range w.Ledger.order {
					w.Ledger.runs[id].approved, w.Ledger.runs[id].approver = w.Ledger.runs[id].run.PlanHash, "Ada"
					w.Ledger.Wake(id)
				}
			}
		}
		s.Clock.After(at, func() {
			s.log("%s", name)
			s.strangerAt = s.Clock.Now()
			do(s.World)
		})
	}
	if s.draw.IntN(5) == 0 {
		s.planGitOps(within)
	}
}

// planGitOps is a tool that knows nothing of Drydock and bears no mark on its objects: it looks every while, makes the
// DaemonSet again when it is gone, and writes on it.
func (s *simulation) planGitOps(within time.Duration) {
	c := s.carriers[defaultCarrier]
	of := c.Set(defaultNS, defaultDaemon)
	if of == nil {
		return
	}
	spec := of.Spec
	every := time.Duration(5+s.draw.IntN(60)) * time.Second
	writes := s.draw.IntN(2) == 0
	end := s.Clock.Now().Add(within)
	var look func()
	look = func() {
		if s.Clock.Now().After(end) {
			return
		}
		switch have := c.Set(defaultNS, defaultDaemon); {
		case have == nil && !c.removed[defaultNS+"/"+defaultDaemon]:
			s.log("GitOps creates the DaemonSet")
			c.HumanCreate(DaemonSet{Namespace: defaultNS, Name: defaultDaemon, Spec: spec})
			s.strangerAt = s.Clock.Now()
		case have != nil && writes:
			s.log("GitOps writes on the DaemonSet")
			c.HumanEdit(defaultNS, defaultDaemon, "synced", s.Clock.Now().Format(time.TimeOnly))
		}
		s.Clock.After(every, look)
	}
	s.Clock.After(every, look)
}

// strangers reports whether somebody else changed a carrier so lately that a call which was right when it was decided on may
// be wrong when it lands.
func (s *simulation) strangers() bool {
	return s != nil && s.Clock.Now().Sub(s.strangerAt) < 2*giveUp
}

// sawIncident notes when the tick under way read an incident. A later look that fails leaves it with nothing.
func (s *simulation) sawIncident(id string, known bool) {
	switch {
	case s == nil:
	case known:
		s.now.reads[id] = s.now.effectAt
	default:
		delete(s.now.reads, id)
	}
}

// sawCarrier notes what there was to see when the tick looked.
func (s *simulation) sawCarrier(t *turn) {
	target := s.Ledger.runs[t.run].run.Target
	c := s.carriers[target.Carrier]
	if c == nil {
		return
	}
	t.covered, t.exists = c.Covered(target.Namespace, target.DaemonSet), c.Set(target.Namespace, target.DaemonSet) != nil
	for _, n := range c.nodes {
		staying := 0
		for _, p := range c.pods {
			if p.Node == n.Name && !p.Terminating {
				staying++
			}
		}
		t.need[n.Name] = staying + c.Waiting(n.Name) - n.Allocatable
	}
}

// inspectCall checks a call when its worker decides to send it: it was promised and begun, and what the tick has seen does not
// speak against it.
func (s *simulation) inspectCall(call playbook.Call) {
	t := s.now
	if t.hold == nil || t.hold.ctx.Err() != nil {
		return // it will not be sent
	}
	r, ok := s.Ledger.Run(call.Run)
	kind := call.Action.Kind()
	if !ok || call.Seq < 1 || call.Seq > len(r.Intents) {
		s.violate("%s was called without a promise", kind)
		return
	}
	i := r.Intents[call.Seq-1]
	if !i.Open() || i.SentAt.IsZero() || !equalActions(i.Action, call.Action) {
		s.violate("%s (intent %d) was called when its intent was settled, not begun, or another one", kind, call.Seq)
	}
	switch a := call.Action.(type) {
	case playbook.OrphanDelete:
		if _, err := s.Ledger.Backup(s.ctx, call.Run, a.BackupSHA256); err != nil {
			s.violate("DaemonSet %s/%s is deleted without a committed backup", a.Namespace, a.Name)
		}
	case playbook.Evict:
		if t.need[a.Node] <= 0 {
			s.violate("I5: %s is evicted though the tick saw room on node %s", a.Pod, a.Node)
		}
	case playbook.Cordon:
		if t.need[a.Node] <= 0 {
			s.violate("node %s is cordoned though the tick saw room on it", a.Node)
		}
	case playbook.Resolve:
		if !t.covered {
			s.violate("incident %s is resolved though the tick saw that %s is not covered", a.Incident, r.Target)
		}
	case playbook.Promote:
		if t.exists {
			s.violate("%s is promoted though the tick saw that DaemonSet %s exists", a.Component, r.Target)
		}
	default:
	}
	for _, in := range r.Incidents {
		_, read := t.reads[in.ID]
		act, stops := s.stoppingAct(in, r)
		about := i.Action.Target().Name == in.ID && kind != playbook.KindAnnotate
		switch {
		case in.End != "" || (!i.IsChange() && !about):
		case !read && i.IsChange() && in.JoinedAt.Before(t.began):
			s.violate("I9: %s was called, and its tick has not read incident %s", kind, in.ID)
		case stops && read && act.At.Before(t.reads[in.ID]):
			s.violate("I9: %s was called though %s %s incident %s before", kind, act.Who, act.Kind, in.ID)
		}
	}
	if i.IsChange() {
		s.inspectChange(r, kind)
	}
}

// inspectChange is I6: the run holds the carrier's claim, and no other run of its target is at work.
func (s *simulation) inspectChange(r playbook.Run, kind playbook.Kind) {
	if s.Ledger.ClaimHolder(r.Target.Carrier) != r.ID {
		s.violate("I6: run %s changes %s without holding its claim", r.ID, r.Target.Carrier)
	}
	if r.Mode == playbook.ModeObserve {
		s.violate("%s was called in mode observe", kind)
	}
	for _, id := range s.Ledger.Runs() {
		o := s.Ledger.runs[id].run
		if id != r.ID && o.Target == r.Target && !o.State.Ended() && o.State != playbook.Queued {
			s.violate("I6: run %s changes %s while run %s is %s", r.ID, r.Target, id, o.State)
		}
	}
}
