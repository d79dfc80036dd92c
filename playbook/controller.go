package playbook

import (
	"fmt"
	"regexp"
	"strings"
	"time"
)

// logRecent is how old a line of the controller-manager's log may be to be evidence: the controller backs off to 1,000 s
// between two tries (kubernetes.md part two B).
const logRecent = 20 * time.Minute

// constructFailed is the controller's line of the runbook. Only "forbidden" on controllerrevisions counts: a conflict
// ("the object has been modified") is logged after every normal reapply (kubernetes.md fact 9), and a quota's "is
// forbidden" names pods (fact 8).
var constructFailed = regexp.MustCompile(`failed to construct revisions of DaemonSet: .*\bcontrollerrevisions\.apps\b.*\bis forbidden: User \\?["“]?([^"”\\ ]+)\\?["”]? cannot (\w+) `)

// ForbiddenLine finds the newest recent line of a controller-manager's log that says that the DaemonSet's revisions are
// forbidden, and the verb that is missing.
func ForbiddenLine(lines []LogLine, t Target, now time.Time) (line LogLine, user, verb string, found bool) {
	key := t.Namespace + "/" + t.DaemonSet + " failed with"
	for _, l := range lines {
		if !names(l.Text, key) || l.At.IsZero() || now.Sub(l.At) > logRecent || l.At.Before(line.At) {
			continue
		}
		if m := constructFailed.FindStringSubmatch(l.Text); m != nil {
			line, user, verb, found = l, m[1], m[2], true
		}
	}
	return line, user, verb, found
}

// names reports whether the text contains the key and not only a longer name that ends with it.
func names(text, key string) bool {
	for at := 0; ; {
		i := strings.Index(text[at:], key)
		if i < 0 {
			return false
		}
		i += at
		if i == 0 || !strings.ContainsRune("abcdefghijklmnopqrstuvwxyz0123456789-.", rune(text[i-1])) {
			return true
		}
		at = i + 1
	}
}

// forbidden is what proves that it is the controller's rights that hold the DaemonSet up: its log, or the API server's own
// answer about those rights.
func (d *examination) forbidden() string {
	log, _ := d.o.ManagerLog.Get()
	if line, user, verb, ok := ForbiddenLine(log.Lines, d.target, d.o.At); ok {
		return fmt.Sprintf("the controller-manager's log (%s, %s ago) says that %s may not %s controllerrevisions", log.Source,
			short(d.o.At.Sub(line.At)), user, verb)
	}
	return ""
}

// missingRights names the rights that the API server denies the DaemonSet controller, or nothing.
func (d *examination) missingRights() string {
	rights, ok := d.o.MissingRights.Get()
	if !ok || len(rights) == 0 {
		return ""
	}
	return "missing rights of the DaemonSet controller: " + strings.Join(rights, ", ")
}

// restartRefusal says why the controller-manager is not restarted, or nothing. Lag alone never restarts anything: it needs
// the forbidden line or the dead lease (design.md, finding controller_stuck).
func (s *situation) restartRefusal() Refusal {
	switch {
	case !s.leaseRanOut() && !s.sawForbidden():
		return refuse(RefusedByProof, "lag alone is no reason to restart the controller-manager")
	case s.p.RestartDriver == "" || s.p.RestartDriver == "none":
		return refuse(RefusedByConfig, "no driver is configured to restart the controller-manager (controller_manager.restart)")
	case s.restarted():
		if said := s.notDone(KindRestart); said != "" {
			return refuse(RefusedByRepeat, "a restart of the controller-manager was refused: %s", said)
		}
		return refuse(RefusedByRepeat, "the controller-manager was restarted in this run already")
	}
	for _, r := range s.restartReservations() {
		if !r.Held() && !s.fits(r) {
			return refuse(RefusedByBudget, "the controller-manager was restarted %s within %s, which is the limit", count(s.used(r), "time"), short(r.Window))
		}
	}
	return Refusal{}
}

func (s *situation) restartReservations() []Reservation {
	return []Reservation{s.claim(), {Scope: ScopeControllerRestart, Key: s.r.Target.Carrier, Amount: 1,
		Limit: s.p.Limits.RestartsPerDay, Window: 24 * time.Hour}}
}

// leaseRanOut reports whether it is a dead controller-manager that the DaemonSet waits for.
func (s *situation) leaseRanOut() bool {
	_, dead := s.m.Sightings[claimDeadLease]
	return dead
}

func (s *situation) sawForbidden() bool {
	_, seen := s.m.Sightings[claimForbidden]
	return seen
}

// restarted reports whether a restart of this run happened, or may have: one whose outcome is not known counts.
func (s *situation) restarted() bool { return s.tookEffect(KindRestart) }

// nudged reports whether a nudge of this run happened, or may have.
func (s *situation) nudged() bool { return s.tookEffect(KindNudge) }

func (s *situation) tookEffect(k Kind) bool {
	for _, i := range s.intents(k) {
		if i.Result != NotHappened {
			return true
		}
	}
	return false
}

// controllerHopeless says why there is nothing left to try on a stuck controller, or nothing. The nudge comes first; a
// dead controller-manager can not be nudged.
func (s *situation) controllerHopeless() Refusal {
	if !s.leaseRanOut() && !s.nudged() {
		return Refusal{}
	}
	no := s.restartRefusal()
	if !no.Refuses() {
		return no
	}
	tried := ""
	if said := s.notDone(KindNudge); said != "" {
		tried = "its nudge was refused: " + said + ", and "
	} else if s.nudged() {
		tried = "a nudge did not help, and "
	}
	no.Why = s.d.Why + "; " + tried + no.Why
	return no
}

// controllerSettled: what was tried on the controller had its time.
func (s *situation) controllerSettled() bool {
	if s.changing() {
		return false
	}
	last := lastOf(s.intents(KindRestart))
	if last == nil || last.Result == NotHappened {
		last = lastOf(s.intents(KindNudge))
	}
	if last == nil || last.Result == NotHappened {
		return false
	}
	patience := s.p.Timing.StuckConfirm
	if last.Action.Kind() == KindRestart {
		patience *= 2 // the lease must run out and be taken: 17.8 s were measured, and the DaemonSet synced again
	}
	return s.now.Sub(last.SettledAt) >= patience
}

// stepController nudges first, and restarts the controller-manager only when that did not help.
func (s *situation) stepController() {
	if s.changing() || s.blindToChange() != "" || s.refusal().Refuses() || !s.ds().Exists {
		return
	}
	if !s.leaseRanOut() && !s.nudged() {
		s.promise(s.nudge(), 0, s.claim(), Reservation{Scope: ScopeNudge, Key: s.r.ID, Amount: 1, Limit: 1})
		return
	}
	if s.r.State == RestartingController && !s.controllerSettled() && s.nudged() {
		return // the nudge is still having its time
	}
	if s.d.Finding == FindingControllerStuck && s.d.Confirmed && !s.restartRefusal().Refuses() {
		s.promise(s.restart(), 0, s.restartReservations()...)
	}
}

func (s *situation) restart() RestartControllerManager {
	c, _ := s.o.Controller.Get()
	return RestartControllerManager{Driver: s.p.RestartDriver, Holder: c.Holder}
}

// nudge queues the DaemonSet in its controller at once.
func (s *situation) nudge() Nudge {
	ds := s.ds()
	return Nudge{Namespace: s.r.Target.Namespace, Name: s.r.Target.DaemonSet, UID: ds.UID, ResourceVersion: ds.ResourceVersion, Run: s.r.ID}
}
