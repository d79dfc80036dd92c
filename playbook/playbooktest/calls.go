package playbooktest

import "github.com/drydock/drydock/playbook"

// calls are nights that are there because no other one makes their calls.
func calls() []Scenario {
	return []Scenario{
		{
			Name:   "node full, drained, and PagerDuty is told that somebody is at it",
			Setup:  func(w *World) { full(w, "worker-1") },
			Policy: func(p *playbook.Policy) { p.Acknowledge = true },
			Ends:   []End{repaired}, Did: drained,
		},
	}
}
