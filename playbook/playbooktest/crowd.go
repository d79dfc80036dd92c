package playbooktest

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/drydock/drydock/playbook"
)

// Crowded makes a night of the scenario on which people and remotes do things at random, and calls fail at random; the
// same things for the same seed. Nobody can say how such a night ends, so only the invariants are checked.
func (s Scenario) Crowded(seed uint64) Trial {
	draw := s.draw(1 + seed)
	crowded := s
	crowded.Ends, crowded.Did, crowded.Or = nil, nil, nil
	var happens []string
	type act struct {
		at time.Duration
		do func(*World)
	}
	var acts []act
	for range 1 + draw.IntN(4) {
		name, do := drawAct(draw)
		at := time.Duration(draw.IntN(150)) * time.Second
		acts = append(acts, act{at, do})
		happens = append(happens, fmt.Sprintf("%s after %s", name, at))
	}
	crowded.Later = func(w *World) {
		if s.Later != nil {
			s.Later(w)
		}
		for _, a := range acts {
			w.Clock.After(a.at, func() { a.do(w) })
		}
	}
	faults := map[int]Failure{}
	for range draw.IntN(4) {
		call, f := 1+draw.IntN(200), AllFailures()[draw.IntN(len(AllFailures()))]
		faults[call] = f
		happens = append(happens, fmt.Sprintf("call %d: %s", call, f))
	}
	return Trial{Scenario: crowded, Faults: faults, Where: fmt.Sprintf("seed %d: %s", seed, strings.Join(happens, "; "))}
}

// drawAct draws one thing that somebody does.
func drawAct(draw *rand.Rand) (string, func(*World)) {
	worker := fmt.Sprintf("worker-%d", 1+draw.IntN(5))
	carrier := func(do func(*Carrier)) func(*World) {
		return func(w *World) {
			if c := w.Carrier(defaultCarrier); c.Node(worker) != nil { // some carriers have fewer workers
				do(c)
			}
		}
	}
	incident := func(kind playbook.ActKind) (string, func(*World)) {
		return "Ada: " + string(kind), func(w *World) {
			if w.Pager.Get("PINC001").Status != playbook.Resolved {
				w.Pager.Human("PINC001", kind, "Ada")
			}
		}
	}
	pause := time.Duration(10+draw.IntN(80)) * time.Second
	switch draw.IntN(19) {
	case 0:
		return incident(playbook.ActAcknowledged)
	case 1:
		return incident(playbook.ActResolved)
	case 2:
		return incident(playbook.ActReassigned)
	case 3:
		return incident(playbook.ActSnoozed)
	case 4:
		return incident(playbook.ActHandsOff)
	case 5:
		return incident(playbook.ActMerged)
	case 6:
		return "cordon " + worker, carrier(func(c *Carrier) {
			// On a node that bears our mark kubectl's cordon can not be told from ours: that is what keep-cordoned is for.
			if c.Node(worker).Mark == nil {
				c.HumanCordon(worker)
			}
		})
	case 7:
		return "uncordon " + worker, carrier(func(c *Carrier) { c.HumanUncordon(worker) })
	case 8:
		return "keep " + worker + " cordoned", carrier(func(c *Carrier) {
			if c.Node(worker).Mark != nil {
				c.HumanKeepCordoned(worker)
			}
		})
	case 9:
		return "edit the DaemonSet", carrier(func(c *Carrier) { c.HumanEdit(defaultNS, defaultDaemon, "by", "Ada") })
	case 10:
		return "update the DaemonSet", carrier(func(c *Carrier) { c.HumanUpdate(defaultNS, defaultDaemon, "node-exporter:2") })
	case 11:
		return "delete the DaemonSet", carrier(func(c *Carrier) { c.HumanDelete(defaultNS, defaultDaemon) })
	case 12:
		return "delete the daemon pod of " + worker, carrier(func(c *Carrier) { c.HumanEvict(podOn(c, defaultDaemon, worker)) })
	case 13:
		return fmt.Sprintf("%s is down for %s", worker, pause), carrier(func(c *Carrier) {
			c.SetNotReady(worker, "kubelet stopped")
			c.clock.After(pause, func() { c.SetNotReady(worker, "") })
		})
	case 14:
		return fmt.Sprintf("%s has disk pressure for %s", worker, pause), carrier(func(c *Carrier) {
			c.SetDiskPressure(worker, true)
			c.clock.After(pause, func() { c.SetDiskPressure(worker, false) })
		})
	case 15:
		return fmt.Sprintf("the kill switch is engaged for %s", pause), func(w *World) {
			w.Ledger.kill[""] = "storm"
			w.Clock.After(pause, func() { delete(w.Ledger.kill, "") })
		}
	case 16:
		return fmt.Sprintf("PagerDuty is gone for %s", pause), func(w *World) {
			w.Pager.Unreachable = "503"
			w.Clock.After(pause, func() { w.Pager.Unreachable = "" })
		}
	case 17:
		return fmt.Sprintf("the carrier is gone for %s", pause), carrier(func(c *Carrier) {
			c.Unreachable = "i/o timeout"
			c.clock.After(pause, func() { c.Unreachable = "" })
		})
	}
	return "the run is cancelled", func(w *World) {
		if r, ok := w.Ledger.Run("run-01"); ok && !r.State.Ended() {
			w.Ledger.Cancel("run-01", "Ada")
		}
	}
}
