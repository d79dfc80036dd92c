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
	// What the first alert opens and starts.
	firstIncident = "PINC001"
	firstRun      = "run-01"
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
	before    string            // the first DaemonSet's manifest before the fault
	pods      map[string]string // the daemon pod's uid at the alert, by worker
	set       string            // the first DaemonSet's uid at the alert
	customers []string          // the customers' pods at the alert, by uid
	names     map[string]string // of the runs, by id
	incident  string            // the newest one of the first alert's target, on which people act
	run       string            // and its run
	incidents int
	problems  []string
}

// Simulate plays a scenario on the simulated carrier. The story tells what happened, for the message of a test that failed.
func Simulate(ctx context.Context, s Scenario) (seen Seen, story string) {
	m := simulate(ctx, s)
	return m.seen(), m.story()
}

func simulate(ctx context.Context, s Scenario) *simulation {
	w := playbooktest.NewWorld(nil)
	m := newSimulation(&s, w)
	m.breakIt()
	for _, name := range s.Alerts {
		m.alert(ctx, name)
	}
	m.incident, m.run = firstIncident, firstRun
	m.remember()
	for _, t := range s.Then {
		m.plan(t, 0)
	}
	w.Run(ctx, limit)
	for i, r := range s.Again {
		for _, a := range r.Do {
			m.do(a)
		}
		m.again(ctx, s.RoundName(i), r)
		for _, t := range r.Then {
			m.plan(t, 0)
		}
		w.Run(ctx, limit)
	}
	return m
}

// carrierNumber is the name of the n-th carrier.
func carrierNumber(n int) string {
	if n == 1 {
		return carrierName
	}
	return fmt.Sprintf("%s-%d", carrierName, n)
}

// alert opens an incident about the DaemonSet of a run's name.
func (m *simulation) alert(ctx context.Context, name string) {
	m.incidents++
	m.incident = fmt.Sprintf("PINC%03d", m.incidents)
	var err error
	m.run, err = m.w.Alert(ctx, m.incident, targetOf(name))
	if err != nil {
		m.problem("%v", err)
	}
	m.names[m.run] = name
}

// again begins a round's run.
func (m *simulation) again(ctx context.Context, name string, r Round) {
	if !r.Retrigger {
		daemonSet := m.s.Alerts[0]
		m.alert(ctx, daemonSet)
		m.names[m.run] = name
		return
	}
	var err error
	if m.run, err = m.w.Retrigger(ctx, m.run, person); err != nil {
		m.problem("%v", err)
	}
	m.names[m.run] = name
}

// remember keeps the uids of what must be there at the end.
func (m *simulation) remember() {
	for n := range m.s.Carrier.Workers {
		if p := m.daemonPod(Worker(n + 1)); p != nil {
			m.pods[Worker(n+1)] = p.UID()
		}
	}
	if d := m.c.Set(namespace, m.s.DaemonSets[0].Name); d != nil {
		m.set = d.UID()
	}
	for _, p := range m.c.Pods() {
		if p.Namespace == CustomersNamespace {
			m.customers = append(m.customers, p.UID())
		}
	}
}

// Night makes a night of the sweep of a scenario: the same carriers, fault, alerts and acts, and only the first round. How it
// has to end when no call fails is Simulate's to check; with failures only the invariants are.
func (s Scenario) Night() playbooktest.Scenario {
	n := playbooktest.Scenario{Name: "file " + s.File}
	for _, name := range s.Alerts {
		n.Alerts = append(n.Alerts, targetOf(name))
	}
	n.Setup = func(w *playbooktest.World) {
		m := newSimulation(&s, w)
		m.incident, m.run = firstIncident, firstRun
		m.breakIt()
		for _, t := range s.Then {
			m.plan(t, playbooktest.BeforeAlerts)
		}
	}
	return n
}

// targetOf is what the alert of a run's name is about.
func targetOf(name string) playbook.Target {
	daemonSet, n := AlertOf(name)
	return playbook.Target{Carrier: carrierNumber(n), Namespace: namespace, DaemonSet: daemonSet}
}

func newSimulation(s *Scenario, w *playbooktest.World) *simulation {
	return &simulation{s: s, w: w, c: w.Carrier(carrierName), pods: map[string]string{}, names: map[string]string{}}
}

// breakIt makes the carriers, and what breaks on them before the alert comes.
func (m *simulation) breakIt() {
	m.configure()
	for n := 2; n <= m.s.Carriers(); n++ {
		m.w.SameCarrier(carrierNumber(n), m.c)
	}
	m.deploy()
	m.w.Clock.Advance(settle)
	m.before = m.manifest()
	for _, a := range m.s.Fault {
		m.do(a)
		m.w.Clock.Advance(settle)
	}
}

func (m *simulation) problem(format string, args ...any) {
	m.problems = append(m.problems, fmt.Sprintf(format, args...))
}

func (m *simulation) configure() {
	p, set := &m.w.Policy, m.s.Settings
	p.Mode, p.StopOnAck = set.Mode, set.OnAcknowledge == "stop"
	p.DrainFrom, p.RestartDriver = *set.DrainNamespaces, set.Restart
	p.Timing, p.Limits = set.PolicyTiming(), set.PolicyLimits()
	m.w.Ledger.IneffectiveRuns = p.Limits.IneffectiveRuns
	p.DaemonSet.Reapply = set.Reapply
	p.DaemonSet.EscalationPolicy, p.DaemonSet.Team = EscalationPolicy(m.s.Alerts[0])
	if set.NoPromotion {
		p.DaemonSet.Promotion = ""
	}
}

// deploy makes the carrier as it was before the fault.
func (m *simulation) deploy() {
	carrier := m.s.Carrier
	if carrier.SlowCollector != 0 {
		m.c.Delays.Orphan = time.Duration(carrier.SlowCollector)
	}
	for n := range carrier.Masters {
		m.c.AddNode(playbooktest.Node{Name: fmt.Sprintf("master-%d", n+1), Allocatable: carrier.PodLimit, Master: true})
	}
	for n := range carrier.Workers {
		w := Worker(n + 1)
		m.c.AddNode(playbooktest.Node{Name: w, Allocatable: carrier.PodLimit, Labels: carrier.Labels[w],
			Short: carrier.Short[w], Cramped: slices.Contains(carrier.Cramped, w)})
		if carrier.Short[w] != "" || slices.Contains(carrier.Cramped, w) {
			m.c.AddPod(playbooktest.Pod{Namespace: "kube-system", Name: "hog-" + w, Node: w}) // what has taken it
		}
	}
	for _, w := range carrier.Full {
		for i := range carrier.PodLimit {
			m.customer(w, i+1)
		}
	}
	m.w.Clock.Advance(settle)
	for _, d := range m.s.DaemonSets {
		m.create(d)
		if !d.IsDeployed() { // it was created so that the namespace is there
			m.c.HumanDelete(namespace, d.Name)
		}
	}
	m.w.Promoter.QueueTime, m.w.Promoter.Fails = time.Duration(carrier.CI.Queue), carrier.CI.Fails
	m.w.Promoter.BuildTime = 2 * time.Second
	known := build
	if carrier.Deployed == "" {
		known = 0
	}
	m.w.Promoter.Add(carrierName, component, carrier.Deployed, known, func() {
		for _, d := range m.s.DaemonSets {
			if m.c.Set(namespace, d.Name) == nil {
				m.create(d)
			}
		}
	})
}

// critical is the priority of a system-critical class.
const critical = 2_000_000_000

func (m *simulation) customer(on string, n int) {
	customers := m.s.Carrier.Customers
	pod := playbooktest.Pod{Namespace: CustomersNamespace, Node: on, LocalStorage: customers.LocalStorage, Mirror: customers.Kind == Mirror}
	if customers.Critical {
		pod.Priority = critical
	}
	switch customers.Bound {
	case "volume":
		pod.Claim = "data"
	case "selector":
		pod.OnlyOn = on
	}
	name := fmt.Sprintf("master-%s-%d", on, n)
	if customers.Kind == Bare || customers.Kind == Mirror {
		m.c.AddPod(pod)
		return
	}
	kind := "ReplicaSet"
	if customers.Kind == "StatefulSet" {
		kind, pod.Name = customers.Kind, name+"-0"
	}
	m.c.AddOwner(playbooktest.Owner{Namespace: CustomersNamespace, Kind: kind, Name: name, Replicas: customers.Replicas})
	pod.Owner = kind + "/" + name
	m.c.AddPod(pod)
	if customers.MinAvailable != nil {
		m.budget(name, *customers.MinAvailable)
	}
}

func (m *simulation) budget(of string, minAvailable int) {
	m.budgets = append(m.budgets, m.c.AddBudget(playbooktest.Budget{
		Namespace: CustomersNamespace, Name: of, Owners: []string{of}, MinAvailable: minAvailable,
	}))
}

func (m *simulation) create(d DaemonSet) { m.c.AddSet(m.spec(d)) }

func (m *simulation) spec(d DaemonSet) playbooktest.DaemonSet {
	set := playbooktest.DaemonSet{Namespace: namespace, Name: d.Name, Annotations: d.Annotations, Labels: d.Labels,
		Spec: playbooktest.DaemonSetSpec{OnDelete: d.OnDelete, NodeSelector: d.NodeSelector, OnMasters: d.OnMasters}}
	if d.Operator {
		set.Owners = []string{"ConfigMap/operator"}
	}
	return set
}

func (m *simulation) daemonSet(name string) DaemonSet {
	i := slices.IndexFunc(m.s.DaemonSets, func(d DaemonSet) bool { return d.Name == name })
	return m.s.DaemonSets[i] // the file was checked
}

// plan lets a step happen at its time; the alert comes a while from now.
func (m *simulation) plan(t Step, alert time.Duration) {
	later := func() { m.w.Clock.After(time.Duration(t.After), func() { m.do(t.Do) }) }
	switch {
	case t.When == nil:
		m.w.Clock.After(alert+time.Duration(t.After), func() { m.do(t.Do) })
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
		r, ok := m.w.Ledger.Run(m.run)
		return ok && string(r.State) == w.On
	case Restarts:
		return slices.ContainsFunc(m.c.Effects, func(e playbooktest.Effect) bool { return e.Action.Kind() == playbook.KindRestart })
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
		out := RunOf(r, m.w.Ledger.Ticks(id))
		for _, i := range r.Incidents {
			in := m.w.Pager.Get(i.ID)
			notes := make([]string, 0, len(in.Notes))
			for _, n := range in.Notes {
				notes = append(notes, n.Text)
			}
			out.Incidents = append(out.Incidents, Incident{ID: i.ID, Status: in.Status, Escalated: in.Escalations, Notes: strings.Join(notes, "\n"),
				Count: len(notes), End: i.End})
		}
		seen.Runs[m.names[id]] = out
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
	alive := map[string]bool{}
	for _, p := range m.c.Pods() {
		alive[p.UID()] = true
	}
	for _, uid := range m.customers {
		if !alive[uid] {
			l.Moved++
		}
	}
	if d := m.c.Set(namespace, m.s.DaemonSets[0].Name); d != nil && m.set != "" {
		l.Recreated = d.UID() != m.set
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
