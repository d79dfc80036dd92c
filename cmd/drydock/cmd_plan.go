package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/drydock/drydock/api"
	"github.com/drydock/drydock/playbook"
)

func newPlan(a *app) *cobra.Command {
	var flags targetFlags
	cmd := &cobra.Command{
		Use:   "plan CARRIER DAEMONSET",
		Short: "Print what would be done about a DaemonSet now; changes nothing",
		Long: `Look at a DaemonSet on a carrier once and print what would be done about it, as if the finding were confirmed by a
second look: every action, with the disruption budgets of the pods counted in, and the plan's hash, which is what an
approver approves. It needs neither a server nor a database, and its client refuses to write.

What other runs have used up of Drydock's own budgets is not known here; a run's own plan counts it in.

Exit 0 when it is healthy or something would be done, 1 when it is not healthy and nothing would be done, 3 when that
can not be told.`,
		Example: `  drydock plan prod-dal10-carrier3 node-exporter
  drydock plan prod-dal10-carrier3 node-exporter -o json | jq -r .plan_hash
  kubectl drydock plan node-exporter -n monitoring`,
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := flags.find(a, args)
			if err != nil {
				return err
			}
			p := a.forecast(cmd.Context(), s, time.Now())
			if err := a.printText(p, func(w io.Writer) error { return a.terminal().forecast(w, p) }); err != nil {
				return err
			}
			return p.exit()
		},
	}
	flags.register(a, cmd)
	cmd.Args = flags.args(a)
	return cmd
}

// forecast is what "drydock plan" prints.
type forecast struct {
	Carrier   string           `json:"carrier"`
	Namespace string           `json:"namespace"`
	DaemonSet string           `json:"daemonset"`
	Finding   playbook.Finding `json:"finding"`
	Why       string           `json:"why"`
	Mode      playbook.Mode    `json:"mode"`
	// Next is the state that a run would go to; Outcome is how it would end there instead of acting, and Because says why.
	Next    playbook.State    `json:"next"`
	Outcome *playbook.Outcome `json:"outcome"`
	Because string            `json:"because"`

	Plan     []api.PlannedAction `json:"plan"`
	PlanHash string              `json:"plan_hash"`
	// Blocked are evictions that a disruption budget forbids at this moment: they would be tried again for evict_wait.
	Blocked  []string           `json:"blocked"`
	Refused  []playbook.Refusal `json:"refused"`
	Nodes    []playbook.Verdict `json:"nodes"`
	Readings []api.Reading      `json:"readings"`
}

func (a *app) forecast(ctx context.Context, s *sight, now time.Time) forecast {
	run := newcomer(s.target, s.policy, now)
	o := playbook.Observation{At: now.UTC(), Target: s.target, Ledger: playbook.Known(playbook.LedgerFacts{})}
	d := look(ctx, s, &o, func() (playbook.Decision, []playbook.Want) {
		d := playbook.Forecast(s.policy, run, o)
		return d, d.Wants
	}, a.promotions)
	shown := api.NewDiagnosis(s.target, o.Compact(), d.Diagnosis, d.Plan)
	f := forecast{
		Carrier: s.target.Carrier, Namespace: s.target.Namespace, DaemonSet: s.target.DaemonSet, Finding: d.Diagnosis.Finding,
		Why: d.Diagnosis.Why, Mode: s.policy.Mode, Next: d.To, Because: d.Why, Plan: shown.Plan, PlanHash: d.PlanHash,
		Blocked: blocked(o, d.Plan), Refused: d.Refused, Nodes: shown.Nodes, Readings: shown.Readings,
	}
	if f.Refused == nil {
		f.Refused = []playbook.Refusal{}
	}
	if d.Outcome != "" {
		f.Outcome = &d.Outcome
	}
	return f
}

// blocked names the planned evictions whose disruption budget allows none now.
func blocked(o playbook.Observation, plan []playbook.Action) []string {
	list := []string{}
	for _, a := range plan {
		evict, ok := a.(playbook.Evict)
		if !ok {
			continue
		}
		pods, _ := o.NodePods[evict.Node].Get()
		for _, c := range pods.Candidates {
			if c.UID == evict.UID && c.Budgets > 0 && c.Allowed <= 0 {
				list = append(list, fmt.Sprintf("the disruption budget of pod %s/%s allows no eviction; were it to stay so, node %s is given back as it was",
					c.Namespace, c.Name, evict.Node))
			}
		}
	}
	return list
}

// held reports whether the run would end without doing what is planned. In mode observe it always would: then the plan is
// what mode act would do.
func (f forecast) held() bool { return f.Outcome != nil && f.Mode != playbook.ModeObserve }

func (f forecast) exit() error {
	if len(f.Plan) > 0 && !f.held() {
		return nil
	}
	return exitOf(f.Finding)
}

func (t terminal) forecast(w io.Writer, f forecast) error {
	t.headline(w, api.Diagnosis{Carrier: f.Carrier, Namespace: f.Namespace, DaemonSet: f.DaemonSet, Finding: f.Finding, Confirmed: true,
		Why: f.Why, Readings: f.Readings})
	if err := t.missingNodes(w, missing(f.Nodes)); err != nil {
		return err
	}
	fmt.Fprintln(w)
	switch {
	case f.Finding == playbook.FindingUnknown:
		fmt.Fprintln(w, t.wrap("Nothing would be changed while it can not be read; at the deadline the incident is handed over.", 0))
		return nil
	case f.Finding == playbook.FindingHealthy:
		fmt.Fprintln(w, t.wrap("Nothing would be changed: it is watched for the soak time, and the incident is resolved.", 0))
		return nil
	case len(f.Plan) == 0 && f.Outcome == nil:
		fmt.Fprintln(w, t.wrap(fmt.Sprintf("Nothing would be changed now: the run waits (%s) and looks again.", f.Next), 0))
	case len(f.Plan) == 0 || f.held():
		text := "Nothing would be changed: " + ends(*f.Outcome)
		if f.Because != f.Why {
			text += ": " + one(f.Because)
		}
		fmt.Fprintln(w, t.wrap(text+".", 0))
	default:
		if err := t.actions(w, f); err != nil {
			return err
		}
	}
	for _, b := range f.Blocked {
		fmt.Fprintln(w, t.wrap("blocked now: "+one(b), 2))
	}
	for _, no := range f.Refused {
		if !strings.Contains(f.Why+f.Because, no.Why) {
			fmt.Fprintln(w, t.wrap("left out: "+one(no.Why)+" ("+no.Name+")", 2))
		}
	}
	return nil
}

func ends(o playbook.Outcome) string {
	if o == playbook.OutcomeEscalated {
		return "it is handed over"
	}
	return "the run stands down"
}

func (t terminal) actions(w io.Writer, f forecast) error {
	title := "would be done:"
	switch f.Mode {
	case playbook.ModeObserve:
		title = "mode observe: nothing is changed. In mode act this would be done:"
	case playbook.ModeApprove:
		title = "mode approve: this would be done once a person has approved it:"
	case playbook.ModeAct:
	}
	fmt.Fprintln(w, t.wrap(sentence(title), 0))
	for i, a := range f.Plan {
		fmt.Fprintln(w, t.clip(fmt.Sprintf("%3d. %s", i+1, one(a.String()))))
	}
	fmt.Fprintf(w, "plan hash %s\n", t.paint(bold, f.PlanHash))
	return nil
}

// missing are the nodes with something the matter.
func missing(nodes []playbook.Verdict) []playbook.Verdict {
	var out []playbook.Verdict
	for _, n := range nodes {
		if n.Verdict != playbook.VerdictCovered && n.Verdict != playbook.VerdictExcluded {
			out = append(out, n)
		}
	}
	return out
}
