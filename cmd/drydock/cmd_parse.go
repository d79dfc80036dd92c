package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/drydock/drydock/incident"
)

func newParse(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "parse TITLE",
		Short:   "Show what an incident's title says",
		Long:    "Show which carrier and DaemonSet an incident's title names. It needs no database, network or secret.\nExit 1 when no rule matches.",
		Example: `  drydock parse -o json '#3475713: blumemix.containers-kubernetes.prod-dal10-carrier3.not_running_all_ibm-kube-fluentd_demonsets.us-south'`,
		Args:    exactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			cfg, err := a.config()
			if err != nil {
				return err
			}
			rules, err := incident.NewRules(cfg.ruleConfig())
			if err != nil {
				return usagef("%v", err)
			}
			m := rules.Parse(args[0])
			if err := a.print(m, func(w io.Writer) { parseTable(w, m) }); err != nil {
				return err
			}
			if !m.Matched {
				return answerNo()
			}
			return nil
		},
	}
}

func parseTable(w io.Writer, m incident.Match) {
	if !m.Matched {
		fmt.Fprintf(w, "no match: %s\n", m.Reason)
		return
	}
	for _, row := range [][2]string{
		{"rule", m.Rule}, {"alert", m.Alert}, {"carrier", m.Carrier}, {"daemonset", m.DaemonSet},
		{"namespace", m.Namespace}, {"region", m.Region},
	} {
		fmt.Fprintf(w, "%s\t%s\n", row[0], dash(row[1]))
	}
}
