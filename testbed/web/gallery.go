// Package web shows the dashboard over nights that were played by simulated carriers, and tests it in Chromium.
package web

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/drydock/drydock/api"
	"github.com/drydock/drydock/incident"
	"github.com/drydock/drydock/playbook"
	"github.com/drydock/drydock/playbook/playbooktest"
)

// Gallery is the dashboard over nights that were played by the simulated carriers: every kind of page is there at once, with the real
// core's words, and the same each time. It needs no database and no carrier.
type Gallery struct {
	mu       sync.Mutex
	runs     []playbook.StoredRun // newest first
	now      time.Time            // when the nights end; from there it goes on with the real clock
	began    time.Time
	switches map[string]string
	heard    []playbook.EventRecord
	audit    []api.AuditRecord
	orders   []string
	orderErr error
}

const (
	carrierA   = "prod-dal10-carrier3"
	carrierB   = "prod-lon04-carrier2"
	carrierC   = "prod-wdc06-carrier17"
	carrierBig = "prod-fra02-carrier9"

	exporter = "node-exporter"
	metricsE = "docker-metrics-endpoint"
	fluentd  = "ibm-kube-fluentd"
	victims  = "kubx-masters"
)

func daemonOf(carrier, name string) playbook.Target {
	namespace := "monitoring"
	if name == fluentd {
		namespace = "ibm-system"
	}
	return playbook.Target{Carrier: carrier, Namespace: namespace, DaemonSet: name}
}

// stageNight makes a carrier of workers on which the DaemonSets run.
func stageNight(w *playbooktest.World, carrier, site string, workers int, sets ...string) *playbooktest.Carrier {
	c := w.Carrier(carrier)
	c.Delays.React, c.Delays.Start = 3*time.Second, 4*time.Second
	for i := range 3 {
		c.AddNode(playbooktest.Node{Name: fmt.Sprintf("%s-master-%02d", site, i+1), Allocatable: 110, Master: true})
	}
	for i := range workers {
		c.AddNode(playbooktest.Node{Name: fmt.Sprintf("%s-worker-%02d", site, i+1), Allocatable: 8})
	}
	for _, name := range sets {
		c.AddSet(playbooktest.DaemonSet{Namespace: daemonOf(carrier, name).Namespace, Name: name})
	}
	return c
}

// fill fills workers with customers' masters, before the DaemonSet's pods come.
func fill(c *playbooktest.Carrier, workers ...string) {
	for _, worker := range workers {
		for i := range 8 - c.Occupancy(worker) {
			name := fmt.Sprintf("master-%s-%d", worker[len(worker)-2:], i+1)
			c.AddOwner(playbooktest.Owner{Namespace: victims, Name: name, Replicas: 2})
			c.AddPod(playbooktest.Pod{Namespace: victims, Node: worker, Owner: "ReplicaSet/" + name})
		}
	}
}

// NewGallery plays the nights.
func NewGallery(ctx context.Context) (*Gallery, error) {
	g := &Gallery{switches: map[string]string{}, began: time.Now()}
	w := playbooktest.NewWorld(nil)
	// The nights end about now, and not before: the server bounds its writes by the clock that it is given.
	w.Clock.AdvanceTo(g.began.Add(-30 * time.Minute).UTC())
	w.Policy.Timing.FullConfirm, w.Policy.Timing.Soak = 30*time.Second, time.Minute
	w.Reapply[exporter] = playbook.ReapplyAlways
	incidents := 0
	alert := func(t playbook.Target) error {
		incidents++
		_, err := w.Alert(ctx, fmt.Sprintf("Q2M4DKT3Z%03d", incidents), t)
		return err
	}
	const night = 3 * time.Hour

	// Two full workers, drained one after the other, and the DaemonSet created again.
	a := stageNight(w, carrierA, "dal10", 40)
	fill(a, "dal10-worker-07", "dal10-worker-23")
	w.Clock.Advance(10 * time.Second)
	a.AddSet(playbooktest.DaemonSet{Namespace: "monitoring", Name: exporter})
	w.Clock.Advance(5 * time.Minute)
	if err := alert(daemonOf(carrierA, exporter)); err != nil {
		return nil, err
	}
	w.Run(ctx, night)

	// A pod that crashes: handed over with evidence.
	c := stageNight(w, carrierC, "wdc06", 60)
	c.Node("wdc06-worker-31").Broken = true
	c.AddSet(playbooktest.DaemonSet{Namespace: "ibm-system", Name: fluentd})
	w.Clock.Advance(15 * time.Minute)
	if err := alert(daemonOf(carrierC, fluentd)); err != nil {
		return nil, err
	}
	w.Run(ctx, night)

	// Absent: promoted again.
	b := stageNight(w, carrierB, "lon04", 24)
	w.Promoter.Add(carrierB, "armada-ops", "2.41.7", 412, func() {
		b.AddSet(playbooktest.DaemonSet{Namespace: "monitoring", Name: metricsE})
	})
	b.AddSet(playbooktest.DaemonSet{Namespace: "monitoring", Name: exporter})
	w.Clock.Advance(12 * time.Minute)
	if err := alert(daemonOf(carrierB, metricsE)); err != nil {
		return nil, err
	}
	w.Run(ctx, night)

	// Others resolve it.
	c.SetNotReady("wdc06-worker-12", "kubelet stopped posting status")
	c.AddSet(playbooktest.DaemonSet{Namespace: "monitoring", Name: exporter})
	w.Clock.Advance(9 * time.Minute)
	if err := alert(daemonOf(carrierC, exporter)); err != nil {
		return nil, err
	}
	w.Ledger.Cancel(w.Ledger.Runs()[len(w.Ledger.Runs())-1], "ada")
	w.Run(ctx, night)

	// Two that go on: one drains, and no pod may leave yet; one waits for an approval.
	fill(a, "dal10-worker-11")
	masters := playbooktest.Budget{Namespace: victims, Name: "masters", MinAvailable: 100}
	for _, worker := range []string{"07", "11", "23"} { // those of the first night may have come here
		for i := range 8 {
			masters.Owners = append(masters.Owners, fmt.Sprintf("master-%s-%d", worker, i+1))
		}
	}
	a.AddBudget(masters)
	w.Clock.Advance(10 * time.Second)
	a.AddSet(playbooktest.DaemonSet{Namespace: "monitoring", Name: metricsE})
	w.Clock.Advance(time.Minute)
	if err := alert(daemonOf(carrierA, metricsE)); err != nil {
		return nil, err
	}
	w.Policy.Mode = playbook.ModeApprove
	fill(b, "lon04-worker-05")
	w.Clock.Advance(10 * time.Second)
	b.AddSet(playbooktest.DaemonSet{Namespace: "ibm-system", Name: fluentd})
	w.Clock.Advance(40 * time.Second)
	if err := alert(daemonOf(carrierB, fluentd)); err != nil {
		return nil, err
	}
	w.Run(ctx, 55*time.Second)
	for _, id := range w.Ledger.Runs() {
		g.runs = append(g.runs, w.Ledger.History(id))
	}
	slices.SortStableFunc(g.runs, func(x, y playbook.StoredRun) int { return y.StartedAt.Compare(x.StartedAt) })
	var last time.Time
	for _, r := range g.runs {
		if n := len(r.Ticks); n > 0 && r.Ticks[n-1].At.After(last) {
			last = r.Ticks[n-1].At
		}
	}
	g.now = last.Add(4 * time.Second)
	for i, r := range g.runs {
		g.heard = append(g.heard, playbook.EventRecord{ID: fmt.Sprintf("01HSAMPLE%02d", len(g.runs)-i), Type: "incident.triggered", Incident: r.Incidents[0].ID,
			ReceivedAt: r.StartedAt.Add(-300 * time.Millisecond), Outcome: playbook.EventStarted, Run: r.ID})
		g.audit = append(g.audit, api.AuditRecord{Seq: int64(100 - i), At: r.StartedAt, Who: "drydock", What: "run.start", Why: "incident.triggered", Run: r.ID,
			Carrier: r.Target.Carrier})
	}
	return g, nil
}

// AddBig adds a run on a carrier of many nodes. It is written down, not played: only its size matters.
func (g *Gallery) AddBig(nodes int) {
	const id = "run-big"
	began := g.now.Add(-6 * time.Minute)
	look := func(after time.Duration, full int, from, to playbook.State) playbook.Tick {
		t := playbook.Tick{At: began.Add(after), From: from, To: to, Finding: playbook.FindingNodeFull, Confirmed: true, Why: fmt.Sprintf("%d nodes are full", full)}
		var read []playbook.Node
		for i := range nodes {
			v := playbook.Verdict{Node: fmt.Sprintf("kube-fra02-cr9-w%05d.cloud.ibm", i+1), Verdict: playbook.VerdictCovered}
			switch {
			case i%113 == 9:
				v.Verdict, v.Why = playbook.VerdictNodeDown, "the node is not ready: kubelet stopped posting status"
			case i%1667 == 77 && full > 0:
				full--
				v.Verdict, v.Why = playbook.VerdictNodeFull, "8 of 8 pods, and the daemon pod waits"
				n := playbook.Node{Name: v.Node, Expected: true, Ready: true, Allocatable: 8}
				if to == playbook.Draining {
					n.Unschedulable, n.CordonedBy = true, &playbook.Mark{Run: id, Carrier: carrierBig}
				}
				read = append(read, n)
			}
			if v.Verdict != playbook.VerdictCovered {
				t.Diagnosis.Missing++
			}
			t.Diagnosis.Verdicts = append(t.Diagnosis.Verdicts, v)
		}
		t.Diagnosis.Expected, t.Diagnosis.Finding = nodes, playbook.FindingNodeFull
		t.Observation.Nodes = playbook.Known(read)
		return t
	}
	g.runs = append(g.runs, playbook.StoredRun{
		Run: playbook.Run{ID: id, Target: daemonOf(carrierBig, exporter), Trigger: playbook.TriggerWebhook, Mode: playbook.ModeAct, State: playbook.Draining,
			Finding: playbook.FindingNodeFull, Confirmed: true, Why: "3 nodes are full", StartedAt: began, Deadline: began.Add(45 * time.Minute),
			Incidents: []playbook.RunIncident{{ID: "Q2M4DKT3Z999", Number: 3786999, Title: "not_running_all_node-exporter", URL: "https://pagerduty.example/Q2M4DKT3Z999"}}},
		Ticks: []playbook.StoredTick{{Seq: 1, Tick: look(2*time.Second, 3, playbook.Queued, playbook.Triage)},
			{Seq: 2, Tick: look(3*time.Minute, 3, playbook.Triage, playbook.Draining)}, {Seq: 3, Tick: look(5*time.Minute, 2, playbook.Draining, playbook.Draining)}},
	})
}

// Handler serves the gallery with a token for each role, named after it, and with a login server where there is one.
func (g *Gallery) Handler(oidc *api.Identifier) (http.Handler, error) {
	rules, err := incident.NewRules(incident.RuleConfig{})
	if err != nil {
		return nil, err
	}
	verifier, err := incident.NewVerifier([]string{"secret"}, func(string, bool) {})
	if err != nil {
		return nil, err
	}
	var tokens api.Tokens
	for name, role := range map[string]api.Role{"viewer": api.Viewer, "operator": api.Operator, "approver": api.Approver, "admin": api.Admin} {
		tokens = append(tokens, api.Token{Name: name, Role: role, SHA256: sha256.Sum256([]byte("tok-" + name))})
	}
	works := func(context.Context) error { return nil }
	return api.New(api.Options{
		Intake: g, History: g, Orders: g, Keys: g, Incidents: g, Carriers: g, Signatures: verifier, Rules: rules, Tokens: tokens,
		Policy: func(t playbook.Target) playbook.Policy {
			p := playbooktest.TestPolicy()
			if t.Carrier == carrierB {
				p.Mode = playbook.ModeApprove
			}
			if t.DaemonSet == fluentd {
				p.DaemonSet.Team, p.DaemonSet.EscalationPolicy = "armada-api", "PARMAPI"
			}
			return p
		},
		DaemonSets: []playbook.Target{daemonOf("", exporter), daemonOf("", metricsE), daemonOf("", fluentd)},
		Parts:      []api.Part{{Name: "database", Check: works}, {Name: "worker", Check: works}, {Name: "stopping", Check: works}},
		OIDC:       oidc, Metrics: prometheus.NewRegistry(), Log: slog.New(slog.DiscardHandler), Now: g.clock, NewID: func() string { return "run-new" },
		Version: "v1.0.0",
	}), nil
}

func (g *Gallery) clock() time.Time { return g.now.Add(time.Since(g.began)) }

// goOn lets a run go on: to a state, for a reason.
func (g *Gallery) goOn(id string, to playbook.State, why string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i := range g.runs {
		r := &g.runs[i]
		if r.ID != id {
			continue
		}
		t := r.Ticks[len(r.Ticks)-1]
		t.Seq, t.At, t.From, t.To, t.Why = t.Seq+1, g.clock(), r.State, to, why
		r.Ticks = append(slices.Clone(r.Ticks), t)
		r.State, r.Why = to, why
		if to.Ended() {
			r.Outcome, r.FinishedAt = playbook.Outcome(to), g.clock()
		}
	}
}

func (g *Gallery) find(id string) (playbook.StoredRun, error) {
	for _, r := range g.runs {
		if r.ID == id {
			return r, nil
		}
	}
	return playbook.StoredRun{}, playbook.ErrNoRun
}

func (g *Gallery) Accept(context.Context, playbook.Arrival) (playbook.EventRecord, error) {
	return playbook.EventRecord{}, errors.New("the gallery takes no webhook")
}

func (g *Gallery) Events(_ context.Context, _ []string, limit int, _ string) (api.EventPage, error) {
	return api.EventPage{Events: g.heard[:min(limit, len(g.heard))]}, nil
}

func (g *Gallery) Runs(_ context.Context, f playbook.RunFilter) (playbook.RunPage, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	var page playbook.RunPage
	after := f.Cursor == ""
	for _, r := range g.runs {
		if r.ID == f.Cursor {
			after = true
			continue
		}
		if !after || f.Carrier != "" && r.Target.Carrier != f.Carrier || f.DaemonSet != "" && r.Target.DaemonSet != f.DaemonSet ||
			f.State != "" && r.State != f.State || f.Outcome != "" && r.Outcome != f.Outcome || f.Finding != "" && r.Finding != f.Finding {
			continue
		}
		if len(page.Runs) == f.Limit {
			page.Next = page.Runs[len(page.Runs)-1].ID
			break
		}
		page.Runs = append(page.Runs, r.Run)
	}
	return page, nil
}

func (g *Gallery) Run(_ context.Context, id string) (playbook.StoredRun, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.find(id)
}

func (g *Gallery) Changes(_ context.Context, id string, after int64) (playbook.RunChanges, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	r, err := g.find(id)
	c := playbook.RunChanges{Run: r.Run, Last: int64(len(r.Ticks))}
	for i := range r.Ticks {
		if seq := int64(i + 1); seq > after {
			c.Changes = append(c.Changes, playbook.RunChange{Seq: seq, Tick: &r.Ticks[i]})
		}
	}
	return c, err
}

func (g *Gallery) LastChange(_ context.Context, id string) (int64, bool, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	r, err := g.find(id)
	return int64(len(r.Ticks)), r.State.Ended(), err
}

func (g *Gallery) RunStats(_ context.Context, f playbook.StatsFilter) (playbook.RunStats, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := playbook.RunStats{}
	for _, r := range g.runs {
		if len(f.Carriers) > 0 && !slices.Contains(f.Carriers, r.Target.Carrier) {
			continue
		}
		s.Total.Runs++
		switch r.Outcome {
		case playbook.OutcomeResolved:
			s.Total.Resolved++
			s.Total.Repairs++
			s.Total.P50, s.Total.P95 = 214*time.Second, 402*time.Second
		case playbook.OutcomeEscalated:
			s.Total.Escalated++
		case playbook.OutcomeStoodDown:
			s.Total.StoodDown++
		default:
			s.Total.Active++
		}
	}
	return s, nil
}

func (g *Gallery) Audit(_ context.Context, f api.AuditFilter) (api.AuditPage, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	var page api.AuditPage
	for _, e := range g.audit {
		if (f.Run == "" || e.Run == f.Run) && (f.Carrier == "" || e.Carrier == f.Carrier) {
			page.Entries = append(page.Entries, e)
		}
	}
	return page, nil
}

func (g *Gallery) Spent(context.Context, string) (api.Spent, error) {
	return api.Spent{Used: map[string]int{"cordoned_nodes " + carrierA: 1, "evictions_hour " + carrierA: 11, "evictions_hour_all *": 14}}, nil
}

func (g *Gallery) Breaker(_ context.Context, t playbook.Target) (time.Time, []string, error) {
	if t.Carrier == carrierC && t.DaemonSet == fluentd {
		return g.now.Add(41 * time.Minute), []string{"a", "b", "c"}, nil
	}
	return time.Time{}, nil, nil
}

func (g *Gallery) record(by, what, why, run string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.orders = append(g.orders, what+" "+run+" by "+by)
	g.audit = append([]api.AuditRecord{{Seq: int64(101 + len(g.orders)), At: g.now, Who: by, What: what, Why: why, Run: run}}, g.audit...)
}

func (g *Gallery) Retrigger(_ context.Context, s playbook.Start) (playbook.Run, error) {
	if g.orderErr != nil {
		return playbook.Run{}, g.orderErr
	}
	g.record(s.RequestedBy, "run.retrigger", s.Reason, s.RunID)
	r := playbook.Run{ID: s.RunID, Target: s.Target, Incidents: []playbook.RunIncident{s.Incident}, Trigger: s.Trigger, Mode: s.Mode, RetriggeredFrom: s.RetriggeredFrom,
		RequestedBy: s.RequestedBy, Reason: s.Reason, State: playbook.Queued, StartedAt: g.clock(), Deadline: g.clock().Add(s.Deadline)}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.runs = append([]playbook.StoredRun{{Run: r}}, g.runs...)
	return r, nil
}

func (g *Gallery) Cancel(_ context.Context, id, by, reason string) error {
	if g.orderErr != nil {
		return g.orderErr
	}
	g.record(by, "run.cancel", reason, id)
	g.goOn(id, playbook.Unwinding, "the run was cancelled by "+by)
	return nil
}

func (g *Gallery) Approve(_ context.Context, id, _, by string) error {
	if g.orderErr != nil {
		return g.orderErr
	}
	g.record(by, "run.approve", "the plan was looked at and approved", id)
	g.goOn(id, playbook.Draining, "the plan was approved by "+by)
	return nil
}

func (g *Gallery) KillSwitch(_ context.Context, carrier string) (api.KillSwitch, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, key := range []string{"", carrier} {
		if why, ok := g.switches[key]; ok {
			return api.KillSwitch{Engaged: true, Carrier: carrier, Reason: why}, nil
		}
	}
	return api.KillSwitch{Carrier: carrier}, nil
}

func (g *Gallery) SetKillSwitch(_ context.Context, k api.KillSwitch, _ string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.switches, k.Carrier)
	if k.Engaged {
		g.switches[k.Carrier] = k.Reason
	}
	return nil
}

func (g *Gallery) ConfirmCarrier(context.Context, string, string, string) error { return nil }

func (g *Gallery) ClaimKey(context.Context, string, string, []byte) (bool, error) { return false, nil }
func (g *Gallery) KeepKey(context.Context, string, string) error                  { return nil }
func (g *Gallery) FreeKey(context.Context, string, string) error                  { return nil }

func (g *Gallery) Read(_ context.Context, id string) (api.IncidentNow, error) {
	for _, r := range g.runs {
		for _, i := range r.Incidents {
			if i.ID == id {
				return api.IncidentNow{Incident: i, Open: true, Target: r.Target}, nil
			}
		}
	}
	return api.IncidentNow{}, api.ErrNoIncident
}

func (g *Gallery) Names() []string { return []string{carrierA, carrierBig, carrierB, carrierC} }

func (g *Gallery) Reach(context.Context) []api.CarrierStatus {
	var list []api.CarrierStatus
	for _, name := range g.Names() {
		s := api.CarrierStatus{Name: name, Mode: "act", Reachable: true, Version: "v1.37.2"}
		if name == carrierBig {
			s = api.CarrierStatus{Name: name, Mode: "act", Why: "Get \"https://172.20.0.9:6443/version\": connection refused"}
		}
		list = append(list, s)
	}
	return list
}

func (g *Gallery) Diagnose(_ context.Context, t playbook.Target) (api.Diagnosis, error) {
	for _, r := range g.runs {
		if r.Target != t {
			continue
		}
		for _, tick := range r.Ticks {
			if tick.Finding != playbook.FindingNodeFull {
				continue
			}
			return api.NewDiagnosis(t, tick.Observation, tick.Diagnosis, tick.Plan), nil
		}
	}
	return api.NewDiagnosis(t, playbook.Observation{Nodes: playbook.Unknown[[]playbook.Node]("connection refused")},
		playbook.Diagnosis{Finding: playbook.FindingUnknown, Why: "the nodes could not be read: connection refused"}, nil), nil
}

// hostile is text as a stranger might choose it: markup, directions, and a great length.
var hostile = strings.Join([]string{"<script>alert(1)</script>", "\"><img src=x onerror=alert(2)>", "\u202egnp.exe\u202c", "{{.}}", "javascript:alert(3)"}, " ") +
	strings.Repeat(" long", 2000)

// makeHostile gives a copy of a run hostile texts wherever they come from outside.
func (g *Gallery) makeHostile() error {
	r, err := g.find("run-01")
	if err != nil {
		return err
	}
	r.ID, r.Why = "run-hostile", hostile
	r.Ticks, r.Incidents, r.Intents = slices.Clone(r.Ticks), slices.Clone(r.Incidents), slices.Clone(r.Intents)
	last := &r.Ticks[len(r.Ticks)-1]
	last.Why = hostile
	last.Diagnosis.Verdicts = append(slices.Clone(last.Diagnosis.Verdicts), playbook.Verdict{Node: hostile, Verdict: playbook.VerdictUnknown, Why: hostile})
	last.Diagnosis.Questions = append(slices.Clone(last.Diagnosis.Questions), playbook.Question{Finding: "odd", Answer: playbook.AnswerUnknown, Saw: hostile, Flip: hostile})
	last.Observation.Evidence = playbook.Known([]playbook.Evidence{{Source: hostile, Text: hostile}})
	r.Incidents = append(r.Incidents, playbook.RunIncident{ID: "QHOSTILE", Number: 9, Title: hostile, URL: "javascript:alert(4)"})
	r.Intents = append(r.Intents, playbook.Intent{Seq: 99, Lane: "pagerduty/Q", Action: playbook.Annotate{Incident: "QHOSTILE", Text: hostile}, PromisedAt: r.StartedAt, Detail: hostile})
	g.runs = append(g.runs, r)
	return nil
}

func (g *Gallery) setOrderError(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.orderErr = err
}

// given lists the orders that were carried out.
func (g *Gallery) given() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.orders)
}
