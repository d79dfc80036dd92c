package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/spf13/cobra"
)

// runView is what the tables show of a run.
type runView struct {
	ID        string     `json:"id"`
	Carrier   string     `json:"carrier"`
	Namespace string     `json:"namespace"`
	DaemonSet string     `json:"daemonset"`
	State     string     `json:"state"`
	Finding   string     `json:"finding"`
	Why       string     `json:"why"`
	Outcome   *string    `json:"outcome"`
	StartedAt time.Time  `json:"started_at"`
	Finished  *time.Time `json:"finished_at"`
	Intents   []struct {
		Seq    int    `json:"seq"`
		Kind   string `json:"kind"`
		Target struct {
			Kind, Namespace, Name string
		} `json:"target"`
		Result *string `json:"result"`
	} `json:"intents"`
}

func newRuns(a *app) *cobra.Command {
	cmd := &cobra.Command{Use: "runs", Short: "List, show, watch, retrigger and cancel runs on a server", Args: cobra.NoArgs, RunE: helpOnly}
	cmd.AddCommand(newRunsList(a), newRunsGet(a), newRunsWatch(a), newRunsRetrigger(a), newRunsCancel(a),
		newRunsApprove(a))
	return cmd
}

func newRunsList(a *app) *cobra.Command {
	filters := url.Values{}
	cmd := &cobra.Command{
		Use: "list", Short: "List runs, newest first", Args: exactArgs(0),
		Example: "  drydock runs list --carrier prod-dal10-carrier3 --limit 10\n  drydock runs list --outcome escalated -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			for _, name := range runFilters {
				if flag := cmd.Flags().Lookup(name); flag.Changed {
					filters.Set(name, flag.Value.String())
				}
			}
			var page struct {
				Items []runView `json:"items"`
				Next  *string   `json:"next_cursor"`
			}
			raw, err := c.get(cmd.Context(), "/api/v1/runs?"+filters.Encode(), &page)
			if err != nil {
				return err
			}
			return a.print(raw, func(w io.Writer) {
				fmt.Fprintln(w, "ID\tCARRIER\tDAEMONSET\tSTATE\tFINDING\tSTARTED")
				for _, r := range page.Items {
					fmt.Fprintf(w, "%s\t%s\t%s/%s\t%s\t%s\t%s\n", r.ID, r.Carrier, r.Namespace, r.DaemonSet, r.State, r.Finding,
						r.StartedAt.Format(time.RFC3339))
				}
				if page.Next != nil {
					fmt.Fprintf(a.stderr, "there are more: add --cursor %s\n", *page.Next)
				}
			})
		},
	}
	for _, name := range runFilters {
		cmd.Flags().String(name, "", "as in GET /api/v1/runs")
	}
	return cmd
}

var runFilters = []string{"carrier", "daemonset", "namespace", "state", "finding", "outcome", "incident", "trigger", "since", "until", "limit", "cursor"}

func newRunsGet(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "get RUN", Short: "Show a run", Args: exactArgs(1), Example: "  drydock runs get 0198... -o json",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			var r runView
			raw, err := c.get(cmd.Context(), runPath(args[0]), &r)
			if err != nil {
				return err
			}
			return a.print(raw, func(w io.Writer) { runTable(w, r) })
		},
	}
}

func runPath(id string) string { return "/api/v1/runs/" + url.PathEscape(id) }

func runTable(w io.Writer, r runView) {
	fmt.Fprintf(w, "id\t%s\ncarrier\t%s\ndaemonset\t%s/%s\nstate\t%s\nfinding\t%s\nwhy\t%s\nstarted\t%s\n", r.ID, r.Carrier,
		r.Namespace, r.DaemonSet, r.State, r.Finding, r.Why, r.StartedAt.Format(time.RFC3339))
	if r.Finished != nil {
		fmt.Fprintf(w, "finished\t%s\n", r.Finished.Format(time.RFC3339))
	}
	if len(r.Intents) > 0 {
		fmt.Fprintln(w, "\nSEQ\tACTION\tON\tRESULT")
	}
	for _, i := range r.Intents {
		result := "open"
		if i.Result != nil {
			result = *i.Result
		}
		name := i.Target.Name
		if i.Target.Namespace != "" {
			name = i.Target.Namespace + "/" + name
		}
		fmt.Fprintf(w, "%d\t%s\t%s %s\t%s\n", i.Seq, i.Kind, i.Target.Kind, name, result)
	}
}

const watchEvery = 2 * time.Second

func newRunsWatch(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "watch RUN", Short: "Follow a run to its end, one line per change", Args: exactArgs(1),
		Long: "Follow a run to its end, one line per change (JSON lines with -o json). Exit 0 when it resolved, else 1.",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			last := ""
			ticker := time.NewTicker(watchEvery)
			defer ticker.Stop()
			for {
				var r runView
				raw, err := c.get(cmd.Context(), runPath(args[0]), &r)
				if err != nil {
					return err
				}
				if line := r.State + " " + r.Finding + " " + r.Why + strconv.Itoa(len(r.Intents)); line != last {
					last = line
					if err := a.watchLine(raw, r); err != nil {
						return err
					}
				}
				if r.Outcome != nil {
					if *r.Outcome != "resolved" {
						return answerNo()
					}
					return nil
				}
				select {
				case <-cmd.Context().Done():
					return &exitError{exitRemote, cmd.Context().Err()}
				case <-ticker.C:
				}
			}
		},
	}
}

func (a *app) watchLine(raw json.RawMessage, r runView) error {
	if a.output == outputTable {
		_, err := fmt.Fprintf(a.stdout, "%s  %-20s %-16s %s\n", time.Now().UTC().Format("15:04:05"), r.State, r.Finding, r.Why)
		return err
	}
	return json.NewEncoder(a.stdout).Encode(raw)
}

func newRunsRetrigger(a *app) *cobra.Command {
	var reason, incidentID string
	cmd := &cobra.Command{
		Use: "retrigger RUN | --incident ID", Short: "Start a new run of a run's target, or of an incident", Args: cobra.MaximumNArgs(1),
		Example: "  drydock runs retrigger 0198... --reason 'disk was cleaned'\n  drydock runs retrigger --incident Q1ABCDEF --reason 'webhook was lost'",
		RunE: func(cmd *cobra.Command, args []string) error {
			var path string
			switch {
			case len(args) == 1 && incidentID == "":
				path = runPath(args[0]) + "/retrigger"
			case len(args) == 0 && incidentID != "":
				path = "/api/v1/incidents/" + url.PathEscape(incidentID) + "/retrigger"
			default:
				return usagef("name either a run or --incident")
			}
			_, err := a.order(cmd, http.MethodPost, path, map[string]string{"reason": reason})
			return err
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why; it is kept with the run (required)")
	cmd.Flags().StringVar(&incidentID, "incident", "", "a PagerDuty incident's id")
	return cmd
}

func newRunsCancel(a *app) *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use: "cancel RUN", Short: "Stop a run at its next safe point; what it changed is put back", Args: exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			_, err := a.order(cmd, http.MethodPost, runPath(args[0])+"/cancel", map[string]string{"reason": reason})
			return err
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why")
	return cmd
}

func newRunsApprove(a *app) *cobra.Command {
	var hash string
	cmd := &cobra.Command{
		Use: "approve RUN [PLAN-HASH]", Short: "Approve the plan that a run waits for", Args: cobra.RangeArgs(1, 2),
		Example: "  drydock runs approve 0198... --plan-hash 5f3a...",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 2 {
				if hash != "" && hash != args[1] {
					return usagef("two plan hashes are named: give one")
				}
				hash = args[1]
			}
			if hash == "" {
				return usagef("--plan-hash is missing: it is plan_hash in \"drydock runs get %s -o json\"", args[0])
			}
			_, err := a.order(cmd, http.MethodPost, runPath(args[0])+"/approve", map[string]string{"plan_hash": hash})
			return err
		},
	}
	cmd.Flags().StringVar(&hash, "plan-hash", "", "the hash of the plan that you looked at (required)")
	return cmd
}

// order sends an order, prints the answer and returns it.
func (a *app) order(cmd *cobra.Command, method, path string, body any) (answer map[string]any, err error) {
	c, err := a.client()
	if err != nil {
		return nil, err
	}
	raw, err := c.do(cmd.Context(), method, path, body)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(raw, &answer); err != nil {
		return nil, remotef("the server's answer can not be read: %w", err)
	}
	return answer, a.print(raw, func(w io.Writer) {
		for _, key := range []string{"id", "state", "engaged", "carrier", "reason"} {
			if v, ok := answer[key]; ok && v != nil {
				fmt.Fprintf(w, "%s\t%v\n", key, v)
			}
		}
	})
}

func newKillSwitch(a *app) *cobra.Command {
	cmd := &cobra.Command{Use: "kill-switch", Short: "Stop all changes, or allow them again", Args: cobra.NoArgs, RunE: helpOnly}
	for _, on := range []bool{true, false} {
		use, short := "off", "Allow changes again"
		if on {
			use, short = "on", "Stop every new change, on all carriers or one; undoing goes on"
		}
		var carrier, reason string
		child := &cobra.Command{
			Use: use, Short: short, Args: exactArgs(0), Example: "  drydock kill-switch " + use + " --carrier prod-dal10-carrier3 --reason 'network maintenance'",
			RunE: func(cmd *cobra.Command, _ []string) error {
				if reason == "" {
					return usagef("--reason is missing: say why, it is kept")
				}
				answer, err := a.order(cmd, http.MethodPut, "/api/v1/kill-switch", map[string]any{"engaged": on, "carrier": carrier, "reason": reason})
				if engaged, _ := answer["engaged"].(bool); err == nil && engaged && !on {
					fmt.Fprintln(a.stderr, "drydock: changes are still stopped: a kill-switch file, or the switch of all carriers, is engaged")
				}
				return err
			},
		}
		child.Flags().StringVar(&carrier, "carrier", "", "only this carrier")
		child.Flags().StringVar(&reason, "reason", "", "why (required)")
		cmd.AddCommand(child)
	}
	return cmd
}
