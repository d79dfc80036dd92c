package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/drydock/drydock/api/client"
)

func newStats(a *app) *cobra.Command {
	var since, until, carrier string
	var minutes int
	cmd := &cobra.Command{
		Use: "stats", Short: "Print counts, times to repair, hours saved and the shadow scorecard", Args: exactArgs(0),
		Long: `Print what became of the runs of the last 30 days (or of another time): by outcome and finding, how long repairs took, how
many hours of people that saved, and for carriers in mode observe how right Drydock would have been.`,
		Example: "  drydock stats\n  drydock stats --carrier prod-dal10-carrier3 --since 2026-01-01T00:00:00Z\n  drydock stats -o json | jq .hours_saved",
		RunE: func(cmd *cobra.Command, _ []string) error {
			params := &client.GetStatsParams{Carrier: given[string](carrier)}
			if minutes != 0 {
				params.MinutesByHand = &minutes
			}
			for _, t := range []struct {
				flag, text string
				into       **time.Time
			}{{"since", since, &params.Since}, {"until", until, &params.Until}} {
				if t.text == "" {
					continue
				}
				at, err := time.Parse(time.RFC3339, t.text)
				if err != nil {
					return usagef("--%s %q is not a time like 2026-11-22T08:00:00Z", t.flag, t.text)
				}
				*t.into = &at
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			s, raw, err := read[client.Stats](c.GetStats(cmd.Context(), params))
			if err != nil {
				return err
			}
			return a.print(raw, func(w io.Writer) { statsRows(w, s) })
		},
	}
	cmd.Flags().StringVar(&since, "since", "", "from this time on (RFC 3339; else 30 days)")
	cmd.Flags().StringVar(&until, "until", "", "up to this time (RFC 3339; else now)")
	cmd.Flags().StringVar(&carrier, "carrier", "", "only this carrier")
	cmd.Flags().IntVar(&minutes, "minutes-by-hand", 0, "how long a person takes for an incident, for the hours saved (else 30)")
	return cmd
}

func statsRows(w io.Writer, s client.Stats) {
	fmt.Fprintf(w, "from\t%s\nto\t%s\nruns\t%d\nhours saved\t%.1f (at %d minutes by hand)\n", s.Since.UTC().Format(time.RFC3339),
		s.Until.UTC().Format(time.RFC3339), s.Counts.Runs, s.HoursSaved, s.MinutesByHand)
	fmt.Fprintln(w, "\nFINDING\tRUNS\tRESOLVED\tESCALATED\tSTOOD DOWN\tACTIVE\tREPAIRS\tP50\tP95")
	row := func(name string, c client.Counts, r client.RepairTime) {
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%s\t%s\n", one(name), c.Runs, c.Resolved, c.Escalated, c.StoodDown, c.Active, r.Repairs,
			seconds(r.P50Seconds), seconds(r.P95Seconds))
	}
	for _, f := range s.ByFinding {
		row(string(f.Finding), f.Counts, f.TimeToRepair)
	}
	row("all", s.Counts, s.TimeToRepair)
	if len(s.Shadow.ByFinding) == 0 {
		return
	}
	fmt.Fprintln(w, "\nOBSERVED\tWOULD\tRUNS\tRIGHT\tWRONG\tUNDECIDED\tPRECISION")
	shadow := func(name, would string, s client.Scores) {
		precision := "-"
		if s.Precision != nil {
			precision = fmt.Sprintf("%.0f %%", *s.Precision*100)
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%d\t%d\t%s\n", one(name), dash(one(would)), s.Runs, s.Right, s.Wrong, s.Undecided, precision)
	}
	for _, f := range s.Shadow.ByFinding {
		shadow(string(f.Finding), string(f.Would), f.Scores)
	}
	shadow("all", "", s.Shadow.Total)
}

func seconds(s *float32) string {
	if s == nil {
		return "-"
	}
	return (time.Duration(*s) * time.Second).String()
}
