package main

import (
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/drydock/drydock/api/client"
	"github.com/drydock/drydock/playbook"
)

func newRuns(a *app) *cobra.Command {
	cmd := &cobra.Command{Use: "runs", Short: "List, show, watch, explain, retrigger and cancel runs on a server", Args: cobra.NoArgs, RunE: helpOnly,
		Example: "  drydock runs list --outcome escalated\n  drydock runs watch 0198c5d2-7f4e-7a61-9d0e-0d5c2a3b4c5d"}
	cmd.AddCommand(newRunsList(a), newRunsGet(a), newRunsWatch(a), newRunsExplain(a), newRunsRetrigger(a), newRunsCancel(a),
		newRunsApprove(a), newRunsBackup(a))
	return cmd
}

// runFilters are the parameters of GET /api/v1/runs, as flags.
type runFilters struct {
	carrier, daemonset, namespace, state, finding, outcome, incident, trigger, since, until, cursor string

	limit int
}

func (f *runFilters) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.carrier, "carrier", "", "only runs of this carrier")
	flags.StringVar(&f.daemonset, "daemonset", "", "only runs of DaemonSets of this name")
	flags.StringVar(&f.namespace, "namespace", "", "only runs of DaemonSets in this namespace")
	flags.StringVar(&f.state, "state", "", "only runs in this state")
	flags.StringVar(&f.finding, "finding", "", "only runs with this finding")
	flags.StringVar(&f.outcome, "outcome", "", "only runs that ended like this: resolved, escalated or stood_down")
	flags.StringVar(&f.incident, "incident", "", "only runs of this PagerDuty incident")
	flags.StringVar(&f.trigger, "trigger", "", "only runs that were started by this: webhook, reconcile or retrigger")
	flags.StringVar(&f.since, "since", "", "only runs that began at or after this time (RFC 3339)")
	flags.StringVar(&f.until, "until", "", "only runs that began before this time (RFC 3339)")
	flags.IntVar(&f.limit, "limit", 0, "how many at most, 1 to 200 (else 50)")
	flags.StringVar(&f.cursor, "cursor", "", "go on where an earlier list ended")
	offer := func(flag string, values []string) {
		_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
	}
	offer("state", texts(playbook.States()))
	offer("finding", texts(playbook.Findings()))
	offer("outcome", []string{"resolved", "escalated", "stood_down"})
	offer("trigger", []string{"webhook", "reconcile", "retrigger"})
}

func texts[S ~string](list []S) []string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = string(s)
	}
	return out
}

// given is nil for a flag that was not given.
func given[S ~string](s string) *S {
	if s == "" {
		return nil
	}
	v := S(s)
	return &v
}

func (f *runFilters) params() (*client.ListRunsParams, error) {
	p := &client.ListRunsParams{
		Carrier: given[string](f.carrier), Daemonset: given[string](f.daemonset), Namespace: given[string](f.namespace),
		State: given[client.State](f.state), Finding: given[client.Finding](f.finding), Outcome: given[client.Outcome](f.outcome),
		Incident: given[string](f.incident), Trigger: given[client.Trigger](f.trigger), Cursor: given[string](f.cursor),
	}
	if f.limit != 0 {
		p.Limit = &f.limit
	}
	for _, t := range []struct {
		flag, text string
		into       **time.Time
	}{{"since", f.since, &p.Since}, {"until", f.until, &p.Until}} {
		if t.text == "" {
			continue
		}
		at, err := time.Parse(time.RFC3339, t.text)
		if err != nil {
			return nil, usagef("--%s %q is not a time like 2026-11-22T08:00:00Z", t.flag, t.text)
		}
		*t.into = &at
	}
	return p, nil
}

func newRunsList(a *app) *cobra.Command {
	var filters runFilters
	var watch bool
	cmd := &cobra.Command{
		Use: "list", Short: "List runs, newest first", Args: exactArgs(0),
		Long: `List runs, newest first, a page at a time. With --watch the list is followed by a line for each run that begins, moves or
ends, until it is interrupted.`,
		Example: `  drydock runs list --carrier prod-dal10-carrier3 --limit 10
  drydock runs list --outcome escalated --since 2026-11-01T00:00:00Z -o json
  drydock runs list -w`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			params, err := filters.params()
			if err != nil {
				return err
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			if watch {
				return a.watchRuns(cmd.Context(), c, params)
			}
			page, raw, err := read[client.RunPage](c.ListRuns(cmd.Context(), params))
			if err != nil {
				return err
			}
			if err := a.print(raw, func(w io.Writer) { runRows(w, page.Items, true) }); err != nil {
				return err
			}
			if page.NextCursor != nil && a.output == outputTable {
				fmt.Fprintf(a.stderr, "there are more: add --cursor %s\n", *page.NextCursor)
			}
			return nil
		},
	}
	filters.register(cmd)
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "then follow what happens to them")
	return cmd
}

func runRows(w io.Writer, runs []client.Run, head bool) {
	if head {
		fmt.Fprintln(w, "ID\tCARRIER\tDAEMONSET\tSTATE\tFINDING\tSTARTED")
	}
	for _, r := range runs {
		fmt.Fprintf(w, "%s\t%s\t%s/%s\t%s\t%s\t%s\n", one(r.ID), one(r.Carrier), one(r.Namespace), one(r.Daemonset), one(string(r.State)),
			dash(one(string(r.Finding))), r.StartedAt.Format(time.RFC3339))
	}
}

// runArg completes the ids of the newest runs.
func (a *app) runArg(active bool) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		c, err := a.clientWith(&http.Client{Timeout: 2 * time.Second})
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		page, _, err := read[client.RunPage](c.ListRuns(cmd.Context(), &client.ListRunsParams{}))
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var ids []string
		for _, r := range page.Items {
			if !active || r.Outcome == nil {
				ids = append(ids, cobra.CompletionWithDesc(r.ID, one(r.Carrier+" "+r.Namespace+"/"+r.Daemonset+", "+string(r.State))))
			}
		}
		return ids, cobra.ShellCompDirectiveNoFileComp
	}
}

func newRunsGet(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "get RUN", Short: "Show a run with its ticks and what it did", Args: exactArgs(1), ValidArgsFunction: a.runArg(false),
		Example: "  drydock runs get 0198c5d2-7f4e-7a61-9d0e-0d5c2a3b4c5d\n  drydock runs get 0198c5d2-7f4e-7a61-9d0e-0d5c2a3b4c5d -o json | jq .intents",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			r, raw, err := read[client.RunDetail](c.GetRun(cmd.Context(), args[0], &client.GetRunParams{}))
			if err != nil {
				return err
			}
			t := a.terminal()
			return a.printText(raw, func(w io.Writer) error { return t.run(w, r) })
		},
	}
}

func (t terminal) run(w io.Writer, r client.RunDetail) error {
	facts := [][2]string{
		{"id", r.ID}, {"carrier", r.Carrier}, {"daemonset", r.Namespace + "/" + r.Daemonset}, {"mode", string(r.Mode)}, {"state", string(r.State)},
		{"finding", string(r.Finding)}, {"why", r.Why}, {"trigger", string(r.Trigger)}, {"started", r.StartedAt.Format(time.RFC3339)},
	}
	if r.RetriggeredFrom != nil {
		facts = append(facts, [2]string{"after run", *r.RetriggeredFrom})
	}
	if r.FinishedAt != nil {
		facts = append(facts, [2]string{"finished", r.FinishedAt.Format(time.RFC3339)})
	} else if r.Deadline != nil {
		facts = append(facts, [2]string{"deadline", r.Deadline.Format(time.RFC3339)})
	}
	if r.PlanHash != nil && *r.PlanHash != "" {
		facts = append(facts, [2]string{"plan hash", *r.PlanHash})
	}
	for _, in := range r.Incidents {
		end := "open"
		if in.End != nil {
			end = string(*in.End)
		}
		facts = append(facts, [2]string{"incident", fmt.Sprintf("%s (%s) %s", in.ID, end, in.URL)})
	}
	for _, f := range facts {
		fmt.Fprintf(w, "%-10s %s\n", f[0], t.wrap(dash(one(f[1])), 11))
	}
	return t.tabulate(w, func(w io.Writer) {
		if len(r.Ticks) > 0 {
			fmt.Fprintln(w, "\nTICK\tAT\tSTATE\tFINDING\tWHY")
		}
		for _, k := range r.Ticks {
			fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\n", k.Seq, k.At.UTC().Format(time.TimeOnly), one(string(k.To)), dash(one(string(k.Finding))), one(k.Why))
		}
		if len(r.Intents) > 0 {
			fmt.Fprintln(w, "\nINTENT\tAT\tACTION\tON\tRESULT")
		}
		for _, i := range r.Intents {
			fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\n", i.Seq, i.PromisedAt.UTC().Format(time.TimeOnly), one(string(i.Kind)), objectName(i.Target), intentResult(i))
		}
	})
}

func objectName(o client.Object) string {
	return one(playbook.Ref{Kind: o.Kind, Namespace: o.Namespace, Name: o.Name}.String())
}

func intentResult(i client.Intent) string {
	if i.Result == nil {
		return "open"
	}
	return one(string(*i.Result))
}

func newRunsRetrigger(a *app) *cobra.Command {
	var reason, incidentID string
	cmd := &cobra.Command{
		Use: "retrigger RUN | --incident ID", Short: "Start a new run of a run's target, or of an incident", Args: cobra.MaximumNArgs(1),
		Example:           "  drydock runs retrigger 0198c5d2-7f4e-7a61-9d0e-0d5c2a3b4c5d --reason 'disk was cleaned'\n  drydock runs retrigger --incident Q1ABCDEF --reason 'webhook was lost'",
		ValidArgsFunction: a.runArg(false),
		RunE: func(cmd *cobra.Command, args []string) error {
			if (len(args) == 1) == (incidentID != "") {
				return usagef("name either a run or --incident")
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			body := client.Retrigger{Reason: reason}
			if len(args) == 1 {
				return printOrder(a)(c.RetriggerRun(cmd.Context(), args[0], &client.RetriggerRunParams{}, body))
			}
			return printOrder(a)(c.RetriggerIncident(cmd.Context(), incidentID, &client.RetriggerIncidentParams{}, body))
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why; it is kept with the run (required)")
	cmd.Flags().StringVar(&incidentID, "incident", "", "a PagerDuty incident's id")
	return cmd
}

func newRunsCancel(a *app) *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use: "cancel RUN", Short: "Stop a run at its next safe point; what it changed is put back", Args: exactArgs(1), ValidArgsFunction: a.runArg(true),
		Example: "  drydock runs cancel 0198c5d2-7f4e-7a61-9d0e-0d5c2a3b4c5d --reason 'we repair it by hand'",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			return printOrder(a)(c.CancelRun(cmd.Context(), args[0], &client.CancelRunParams{}, client.Cancel{Reason: given[string](reason)}))
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why")
	return cmd
}

func newRunsApprove(a *app) *cobra.Command {
	var hash string
	cmd := &cobra.Command{
		Use: "approve RUN [PLAN-HASH]", Short: "Approve the plan that a run waits for", Args: cobra.RangeArgs(1, 2), ValidArgsFunction: a.runArg(true),
		Example: "  drydock runs approve 0198c5d2-7f4e-7a61-9d0e-0d5c2a3b4c5d --plan-hash 5f3ad01be2c99a10",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 2 {
				if hash != "" && hash != args[1] {
					return usagef("two plan hashes are named: give one")
				}
				hash = args[1]
			}
			if hash == "" {
				return usagef("--plan-hash is missing: \"drydock runs get %s\" shows it, and the newest note has the plan", one(args[0]))
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			return printOrder(a)(c.ApproveRun(cmd.Context(), args[0], &client.ApproveRunParams{}, client.Approve{PlanHash: hash}))
		},
	}
	cmd.Flags().StringVar(&hash, "plan-hash", "", "the hash of the plan that you looked at (required)")
	return cmd
}

// printOrder prints what became of an order.
func printOrder(a *app) func(*http.Response, error) error {
	return func(resp *http.Response, err error) error {
		answer, raw, err := read[map[string]any](resp, err)
		if err != nil {
			return err
		}
		return a.print(raw, func(w io.Writer) { orderRows(w, answer) })
	}
}

func orderRows(w io.Writer, answer map[string]any) {
	for _, key := range []string{"id", "state", "plan_hash", "engaged", "carrier", "reason"} {
		if v, ok := answer[key]; ok && v != nil {
			fmt.Fprintf(w, "%s\t%s\n", key, one(fmt.Sprint(v)))
		}
	}
}
