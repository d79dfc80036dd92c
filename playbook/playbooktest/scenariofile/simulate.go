package scenariofile

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/drydock/drydock/playbook"
	"github.com/drydock/drydock/playbook/playbooktest"
)

const (
	namespace   = "monitoring"
	carrierName = "prod-dal10-carrier3"
	component   = "armada-ops"
	build       = 412
	person      = "Ada"
	firstRun    = "run-01"
	// limit is far behind every deadline.
	limit = 3 * time.Hour
	// settle lets the simulated controllers finish what they are at.
	settle = 10 * time.Second
)

// simulation is one scenario on the simulated carrier.
type simulation struct {
	s         *Scenario
	w         *playbooktest.World
	c         *playbooktest.Carrier
	budgets   []*playbooktest.Budget
	pods      map[string]string // the daemon pod's uid at the alert, by worker
	before    string            // the first DaemonSet's manifest before the fault
	incidents map[string]string // by DaemonSet
	problems  []string
}

// Simulate plays a scenario on the simulated carrier. The story tells what happened, for the message of a test that failed.
func Simulate(ctx context.Context, s Scenario) (seen Seen, story string) {
	w := playbooktest.NewWorld(nil)
	m := &simulation{s: &s, w: w, c: w.Carrier(carrierName), pods: map[string]string{}, incidents: map[string]string{}}
	m.configure()
	m.deploy()
	w.Clock.Advance(settle)
	m.before = m.manifest()
	for _, a := range s.Fault {
		m.do(a)
		w.Clock.Advance(settle)
	}
	for _, name := range s.Alerts {
		id := fmt.Sprintf("PINC%03d", len(m.incidents)+1)
		m.incidents[name] = id
		if _, err := w.Alert(ctx, id, playbook.Target{Carrier: carrierName, Namespace: namespace, DaemonSet: name}); err != nil {
			m.problem("%v", err)
		}
	}
	for n := range s.Carrier.Workers {
		if p := m.daemonPod(Worker(n + 1)); p != nil {
			m.pods[Worker(n+1)] = p.UID()
		}
	}
	for _, t := range s.Then {
		m.plan(t)
	}
	w.Run(ctx, limit)
	return m.seen(), m.story()
}

func (m *simulation) problem(format string, args ...any) {
	m.problems = append(m.problems, fmt.Sprintf(format, args...))
}

func (m *simulation) configure() {
	p, set := &m.w.Policy, m.s.Settings
	p.Mode, p.StopOnAck = set.Mode, set.OnAcknowledge == "stop"
	p.DrainFrom = *set.DrainNamespaces
	p.Timing, p.Limits = set.PolicyTiming(), set.PolicyLimits()
	p.DaemonSet.Reapply = set.Reapply
	p.DaemonSet.EscalationPolicy, p.DaemonSet.Team = EscalationPolicy(m.s.Alerts[0])
	if set.NoPromotion {
		p.DaemonSet.Promotion = ""
	}
}

// deploy makes the carrier as it was before the fault.
func (m *simulation) deploy() {
	carrier := m.s.Carrier
	for n := range carrier.Masters {
		m.c.AddNode(playbooktest.Node{Name: fmt.Sprintf("master-%d", n+1), Allocatable: carrier.PodLimit, Master: true})
	}
	for n := range carrier.Workers {
		m.c.AddNode(playbooktest.Node{Name: Worker(n + 1), Allocatable: carrier.PodLimit, Labels: carrier.Labels[Worker(n+1)]})
	}
	for _, w := range carrier.Full {
		for i := range carrier.PodLimit {
			m.customer(w, i+1)
		}
	}
	m.w.Clock.Advance(settle)
	for _, d := range m.s.DaemonSets {
		if d.IsDeployed() {
			m.create(d)
		} else {
			m.create(d) // so that the namespace is there
			m.c.HumanDelete(namespace, d.Name)
		}
	}
	m.w.Promoter.QueueTime, m.w.Promoter.Fails = time.Duration(carrier.CI.Queue), carrier.CI.Fails
	m.w.Promoter.BuildTime = 2 * time.Second
	m.w.Promoter.Add(carrierName, component, carrier.Deployed, build, func() {
		for _, d := range m.s.DaemonSets {
			if m.c.Set(namespace, d.Name) == nil {
				m.create(d)
			}
		}
	})
}

func (m *simulation) customer(on string, n int) {
	customers := m.s.Carrier.Customers
	kind := "ReplicaSet"
	pod := playbooktest.Pod{Namespace: CustomersNamespace, Node: on}
	name := fmt.Sprintf("master-%s-%d", on, n)
	if customers.Kind == "StatefulSet" {
		kind, pod.Name = customers.Kind, name+"-0"
	}
	m.c.AddOwner(playbooktest.Owner{Namespace: CustomersNamespace, Kind: kind, Name: name, Replicas: customers.Replicas})
	pod.Owner = kind + "/" + name
	m.c.AddPod(pod)
	if customers.MinAvailable != nil {
		m.budgets = append(m.budgets, m.c.AddBudget(playbooktest.Budget{
			Namespace: CustomersNamespace, Name: name, Owners: []string{name}, MinAvailable: *customers.MinAvailable,
		}))
	}
}

func (m *simulation) create(d DaemonSet) {
	m.c.AddSet(playbooktest.DaemonSet{Namespace: namespace, Name: d.Name, Annotations: d.Annotations,
		Spec: playbooktest.DaemonSetSpec{OnDelete: d.OnDelete, NodeSelector: d.NodeSelector}})
}

func (m *simulation) daemonSet(name string) DaemonSet {
	i := slices.IndexFunc(m.s.DaemonSets, func(d DaemonSet) bool { return d.Name == name })
	return m.s.DaemonSets[i] // the file was checked
}

// plan lets a step happen at its time.
func (m *simulation) plan(t Step) {
	later := func() { m.w.Clock.After(time.Duration(t.After), func() { m.do(t.Do) }) }
	switch {
	case t.When == nil:
		later()
	case t.After == 0:
		m.w.When(t.When.String(), func() bool { return m.sees(*t.When) }, func() { m.do(t.Do) })
	default:
		m.w.When(t.When.String(), func() bool { return m.sees(*t.When) }, later)
	}
}

func (m *simulation) sees(w Sight) bool {
	switch w.Seen {
	case Cordoned:
		return m.c.Node(w.On).Mark != nil
	case Gone:
		return m.c.Set(namespace, w.On) == nil
	case InState:
		r, ok := m.w.Ledger.Run(firstRun)
		return ok && string(r.State) == w.On
	case Evicted:
		staying := 0
		for _, p := range m.c.Pods() {
			if p.Namespace == CustomersNamespace && p.Node == w.On && !p.Terminating {
				staying++
			}
		}
		return staying < m.s.Carrier.PodLimit
	}
	return false
}

// daemonPod is the first DaemonSet's pod of a worker, nil when there is none.
func (m *simulation) daemonPod(worker string) *playbooktest.Pod {
	for _, p := range m.c.Pods() {
		if p.App == m.s.DaemonSets[0].Name && p.Pinned == worker && !p.Terminating {
			return p
		}
	}
	return nil
}

// renew replaces the daemon pod of a worker.
func (m *simulation) renew(worker string) {
	if p := m.daemonPod(worker); p != nil {
		m.c.HumanEvict(p)
	}
}

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
	case DeleteSet:
		m.c.HumanDelete(namespace, a.On)
	case CreateSet:
		m.create(m.daemonSet(a.On))
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
	incident := m.incidents[m.s.Alerts[0]]
	human := func(kind playbook.ActKind) { m.w.Pager.Human(incident, kind, person) }
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
	case Recover:
		m.w.Pager.MonitoringResolves(incident)
	case OpenDisk:
		m.w.Pager.OpenDisk(carrierName)
	case CloseDisk:
		m.w.Pager.CloseDisks(carrierName)
	case Join:
		in := m.w.Pager.Trigger("PINC900", "the same alert from another region")
		m.w.Ledger.JoinRun(firstRun, playbook.RunIncident{ID: in.ID, Number: in.Number, Title: in.Title, URL: in.URL})
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
		m.w.Ledger.Cancel(firstRun, person)
	case Approve:
		r, _ := m.w.Ledger.Run(firstRun)
		m.w.Ledger.Approve(firstRun, r.PlanHash, person)
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

// manifest is what people own of the first DaemonSet, as text.
func (m *simulation) manifest() string {
	d := m.c.Set(namespace, m.s.DaemonSets[0].Name)
	if d == nil {
		return ""
	}
	var notes []string
	for k, v := range d.Annotations {
		if !strings.HasPrefix(k, "drydock.") {
			notes = append(notes, k+"="+v)
		}
	}
	return fmt.Sprintf("%+v %v", d.Spec, sorted(notes))
}

// seen reports how the night ended.
func (m *simulation) seen() Seen {
	seen := Seen{Runs: map[string]Run{}, Broken: append(m.problems, m.w.Violations()...), Left: m.left()}
	for _, id := range m.w.Ledger.Runs() {
		r, _ := m.w.Ledger.Run(id)
		out := Run{Outcome: r.Outcome}
		for _, t := range m.w.Ledger.Ticks(id) {
			out.States = append(out.States, t.To)
			if t.Confirmed {
				out.Findings = append(out.Findings, t.Finding)
			}
		}
		out.States = slices.Compact(out.States)
		for _, i := range r.Intents {
			out.Intents = append(out.Intents, Intent{Lane: i.Lane, Kind: i.Action.Kind(), Result: i.Result,
				PromisedAt: i.PromisedAt, SettledAt: i.SettledAt})
		}
		for _, i := range r.Incidents {
			in := m.w.Pager.Get(i.ID)
			notes := make([]string, 0, len(in.Notes))
			for _, n := range in.Notes {
				notes = append(notes, n.Text)
			}
			out.Incidents = append(out.Incidents, Incident{ID: i.ID, Status: in.Status, Escalated: in.Escalations, Notes: strings.Join(notes, "\n")})
		}
		seen.Runs[r.Target.DaemonSet] = out
	}
	return seen
}

func (m *simulation) left() Left {
	l := Left{DaemonSet: Unchanged}
	for _, n := range m.c.Nodes() {
		if n.Unschedulable {
			l.Cordoned = append(l.Cordoned, n.Name)
		}
		if n.Mark != nil {
			l.Marked = append(l.Marked, n.Name)
		}
		if uid := m.pods[n.Name]; uid != "" && !slices.ContainsFunc(m.c.Pods(), func(p *playbooktest.Pod) bool { return p.UID() == uid }) {
			l.Lost = append(l.Lost, n.Name)
		}
	}
	switch m.manifest() {
	case "":
		l.DaemonSet = Absent
	case m.before:
	default:
		l.DaemonSet = Changed
		if m.before == "" { // deployed meanwhile, as it should have been
			l.DaemonSet = Unchanged
		}
	}
	return l
}

func (m *simulation) story() string {
	var b strings.Builder
	for _, id := range m.w.Ledger.Runs() {
		b.WriteString(m.w.Ledger.Dump(id))
	}
	return b.String()
}
