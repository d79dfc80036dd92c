package scenariofile

import (
	"context"
	"slices"
	"strings"

	"github.com/drydock/drydock/playbook"
)

// do makes an act happen.
func (m *simulation) do(a Act) {
	first := m.s.DaemonSets[0].Name
	switch a.Verb { //nolint:exhaustive // doRemote has the others
	case PressDisk:
		m.c.SetDiskPressure(a.On, true)
	case FreeDisk:
		m.c.SetDiskPressure(a.On, false)
	case CrashPod:
		m.c.Node(a.On).Broken = true
		m.renew(a.On)
	case HealPod:
		m.c.Node(a.On).Broken = false
		m.renew(a.On)
	case DeletePod:
		m.renew(a.On)
	case TakeDown:
		m.c.SetNotReady(a.On, "kubelet stopped posting node status")
	case BringUp:
		m.c.SetNotReady(a.On, "")
	case Cordon:
		m.c.HumanCordon(a.On)
	case Uncordon:
		m.c.HumanUncordon(a.On)
	case KeepCordoned:
		m.c.HumanKeepCordoned(a.On)
	case RefusePods:
		m.c.Quota[namespace] = "exceeded quota: no-pods"
	case AdmitPods:
		delete(m.c.Quota, namespace)
	case LoosenBudgets:
		for _, b := range m.budgets {
			b.MinAvailable = m.s.Carrier.Customers.Replicas - 1
		}
	case AddBudgets:
		for _, b := range slices.Clone(m.budgets) {
			m.budget(b.Owners[0], 0)
		}
	case StickSet:
		m.c.HumanStick(namespace, a.On, Finalizer)
	case FreeSet:
		m.c.HumanFree(namespace, a.On, Finalizer)
	case EndNamespace:
		m.c.HumanEndNamespace(namespace)
	case LoseSight:
		m.c.Forget(namespace, first, a.On)
	case DeleteSet:
		m.c.HumanDelete(namespace, a.On)
	case CreateSet:
		m.c.HumanCreate(m.spec(m.daemonSet(a.On)))
	case UpdateSet:
		m.c.HumanUpdate(namespace, a.On, a.On+":2")
	case AnnotateSet:
		key, value, _ := strings.Cut(a.On, "=")
		m.c.HumanEdit(namespace, first, key, value)
	case ForbidRevision:
		m.c.RevisionsForbidden = true
	case AllowRevision:
		m.c.RevisionsForbidden = false
	case StopController:
		m.c.StopController()
	case StartControl:
		m.c.StartController()
	default:
		m.doRemote(a)
	}
}

// doRemote makes an act happen that is not the carrier's.
func (m *simulation) doRemote(a Act) {
	human := func(kind playbook.ActKind) {
		m.w.Pager.Human(m.incident, kind, person)
		m.w.Ledger.Wake(m.run) // PagerDuty sends a webhook about it
	}
	planHash := func() string { r, _ := m.w.Ledger.Run(m.run); return r.PlanHash }
	switch a.Verb { //nolint:exhaustive // do has the carrier's
	case Acknowledge:
		human(playbook.ActAcknowledged)
	case Resolve:
		human(playbook.ActResolved)
	case Reassign:
		human(playbook.ActReassigned)
	case HandsOff:
		human(playbook.ActHandsOff)
	case Merge:
		human(playbook.ActMerged)
	case Snooze:
		human(playbook.ActAcknowledged) // only what is acknowledged can be snoozed
		human(playbook.ActSnoozed)
	case SayOnPurpose:
		human(playbook.ActOnPurpose)
	case ApproverNote:
		m.w.Pager.HumanApproves(m.incident, planHash(), person)
		m.w.Ledger.Wake(m.run)
	case StrangerNote: // what reads the notes drops it; that this is so is seen on the control plane
	case Recover:
		m.w.Pager.MonitoringResolves(m.incident)
		m.w.Ledger.Wake(m.run)
	case OpenDisk:
		m.w.Pager.OpenDisk(carrierName)
	case CloseDisk:
		m.w.Pager.CloseDisks(carrierName)
	case Join:
		in := m.w.Pager.Trigger("PINC900", "the same alert from another region")
		m.w.Ledger.JoinRun(m.run, playbook.RunIncident{ID: in.ID, Number: in.Number, Title: in.Title, URL: in.URL})
	case LosePager:
		m.w.Pager.Unreachable = "503"
	case RegainPager:
		m.w.Pager.Unreachable = ""
	case LoseCarrier:
		m.c.Unreachable = "connection refused"
	case RegainCarrier:
		m.c.Unreachable = ""
	case LoseCI:
		m.w.Promoter.Unreachable = "503"
	case RegainCI:
		m.w.Promoter.Unreachable = ""
	case KillSwitch:
		m.killSwitch(a.On)
	case ReleaseSwitch:
		m.killSwitch("")
	case CancelRun:
		m.w.Ledger.Cancel(m.run, person)
	case Approve:
		m.w.Ledger.Approve(m.run, planHash(), person)
	default:
		m.problem("the simulated carrier can not play %s", a)
	}
}

func (m *simulation) killSwitch(reason string) {
	// It can not fail, and makes no call.
	if err := m.w.Ledger.SetKillSwitch(context.Background(), carrierName, reason); err != nil { //nolint:forbidigo // see above
		m.problem("kill switch: %v", err)
	}
}
