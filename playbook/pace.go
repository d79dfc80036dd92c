package playbook

import "time"

// What a run waits for after a change of its own mostly comes within a second: a pod that is bound to the place that was made, a
// DaemonSet that is adopted. Looked for at each tick alone, a drained node stayed cordoned for some 12 s where a script of the
// bare calls needs 0.2 s, and with a reapply for 23 s (measured, docs/performance.md).
const (
	soon   = 500 * time.Millisecond // until the next look
	lively = 10 * time.Second       // after a change, looks come that soon
)

// pace is how long to wait until the next look: a tick, or less while something of the run's own is under way. Where looks are
// slow they are not made one upon the other.
func (s *situation) pace(to State) time.Duration {
	if to.Ended() || (!promisesChange(s.promises) && !s.changedWithin(lively)) {
		return s.wait
	}
	return min(s.wait, max(soon, 2*s.lookTook()))
}

// changedWithin reports whether a change of this run's happened less than d ago.
func (s *situation) changedWithin(d time.Duration) bool {
	for _, i := range s.r.Intents {
		if i.Result == Happened && IsChange(i.Action) && s.now.Sub(i.SettledAt) < d {
			return true
		}
	}
	return false
}
