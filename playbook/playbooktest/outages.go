package playbooktest

import (
	"time"

	"github.com/drydock/drydock/playbook"
)

// inState is true while the first run is in a state.
func inState(w *World, st playbook.State) func() bool {
	return func() bool {
		r := w.Ledger.runs["run-01"]
		return r != nil && r.run.State == st
	}
}

// outages are nights on which a remote goes away at the worst moment, for longer than any deadline, or something changes
// while Drydock waits. The incident has to be handed over in time, with what is left behind; what is owed is put back as
// soon as the remote is there again.
func outages() []Scenario {
	// Longer than the whole run may take; short, because each of these nights is played some hundred times.
	const forGood = 8 * time.Minute
	hurried := func(p *playbook.Policy) { p.Timing.Deadline = 5 * time.Minute }
	return []Scenario{
		{
			Name:   "the carrier goes away for good during the drain",
			Policy: hurried,
			Setup:  func(w *World) { full(w, "worker-1") },
			Later: func(w *World) {
				c := w.Carrier(defaultCarrier)
				w.When("cordoned", marked(c, "worker-1"), func() {
					c.Unreachable = "dial tcp: i/o timeout"
					w.Clock.After(forGood, func() { c.Unreachable = "" })
				})
			},
			Ends: []End{{Outcome: playbook.OutcomeEscalated, Says: "node worker-1 is cordoned by this run"}}, Did: givenBack,
		},
		{
			Name:   "the API server refuses the create for good",
			Policy: hurried,
			Setup:  func(w *World) { uncovered(w) },
			Later: func(w *World) {
				c := w.Carrier(defaultCarrier)
				w.When("gone", func() bool { return c.Set(defaultNS, defaultDaemon) == nil }, func() {
					c.NoCreate = "admission webhook denied the request"
					w.Clock.After(forGood, func() { c.NoCreate = "" })
				})
			},
			Ends: []End{{Outcome: playbook.OutcomeEscalated, Says: "was deleted for its reapply"}}, Did: reapplied,
		},
		{
			Name:   "the CI goes away for good as it is asked for the promotion",
			Policy: hurried,
			Setup:  func(w *World) { absent(w) },
			Later: func(w *World) {
				w.When("about to promote", promised(w, playbook.KindPromote), func() {
					w.Promoter.Unreachable = "503"
					w.Clock.After(forGood, func() { w.Promoter.Unreachable = "" })
				})
			},
			Ends: handedOver("", "promotion"),
		},
		{
			Name:  "PagerDuty is away at the resolve, and the carrier breaks meanwhile",
			Setup: func(w *World) { healthy(w) },
			Later: func(w *World) {
				w.When("about to resolve", promised(w, playbook.KindResolve), func() {
					w.Pager.Unreachable = "503"
					w.Carrier(defaultCarrier).SetNotReady("worker-2", "kubelet stopped")
					w.Clock.After(2*time.Minute, func() { w.Pager.Unreachable = "" })
				})
			},
			Ends: handedOver(playbook.FindingNodeDown, "kubelet stopped"),
		},
		{
			Name:  "a second incident joins as the first is about to be resolved",
			Setup: func(w *World) { healthy(w) },
			Later: func(w *World) {
				w.When("about to resolve", promised(w, playbook.KindResolve), func() {
					in := w.Pager.Trigger("PINC900", "the same alert from another region")
					w.Ledger.JoinRun("run-01", playbook.RunIncident{ID: in.ID, Number: in.Number, Title: in.Title, URL: in.URL})
				})
			},
			Ends: []End{{Outcome: playbook.OutcomeResolved, Finding: playbook.FindingHealthy}},
		},
		{
			Name:  "the daemon pod takes 40 s to start after the drain",
			Setup: func(w *World) { full(w, "worker-1") },
			Later: func(w *World) { w.Carrier(defaultCarrier).Delays.Start = 40 * time.Second },
			Ends:  []End{repaired}, Did: drained,
		},
		{
			Name: "the node heals while the reapply waits",
			Setup: func(w *World) {
				c := uncovered(w)
				w.Clock.After(5*time.Minute+12*time.Second, func() { c.HumanEvict(podOn(c, defaultDaemon, "worker-2")) })
			},
			Later: func(w *World) {
				w.When("reapplying", inState(w, playbook.Reapplying), func() {
					c := w.Carrier(defaultCarrier)
					w.Clock.After(3*time.Second, func() {
						if s := c.Set(defaultNS, defaultDaemon); s != nil {
							clear(s.forgotten)
							c.wake()
						}
					})
				})
			},
			Ends: []End{{Outcome: playbook.OutcomeResolved, Finding: playbook.FindingHealthy}},
		},
	}
}
