package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/drydock/drydock/api"
	"github.com/drydock/drydock/playbook"
	"github.com/drydock/drydock/playbook/kube"
)

func newDiagnose(a *app) *cobra.Command {
	var namespace string
	cmd := &cobra.Command{
		Use:   "diagnose CARRIER DAEMONSET",
		Short: "Find out why a DaemonSet is not running everywhere; changes nothing",
		Long: `Look at a DaemonSet on a carrier once, say why it is not running on every node and what would be done about it.
It changes nothing, and needs neither a server nor a database.
Exit 0 when it is healthy, 3 when that can not be told, else 1.`,
		Example: `  drydock diagnose prod-dal10-carrier3 node-exporter
  drydock diagnose prod-dal10-carrier3 my-agent -n tools -o json`,
		Args: exactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := a.config()
			if err != nil {
				return err
			}
			registry, err := cfg.registry(kube.Options{Version: version, ReadOnly: true})
			if err != nil {
				return usagef("%v", err)
			}
			// As parse does: titles are not particular about case, and Kubernetes' names have none.
			t := playbook.Target{Carrier: strings.ToLower(args[0]), Namespace: namespace, DaemonSet: strings.ToLower(args[1])}
			if t.Namespace == "" {
				t.Namespace = cfg.namespaceOf(t.DaemonSet)
			}
			names, err := registry.Names()
			switch {
			case err != nil:
				return usagef("%v", err)
			case len(names) == 0:
				return usagef("no carriers are configured: list them under carriers, or name a carrier_dir")
			case !slices.Contains(names, t.Carrier):
				return usagef("carrier %s is not configured: there are %s", t.Carrier, strings.Join(names, ", "))
			case t.Namespace == "":
				return usagef("the namespace of DaemonSet %s is not in the configuration: name it with -n", t.DaemonSet)
			case !isDNSName(t.DaemonSet), !isDNSLabel(t.Namespace):
				return usagef("%s/%s is not the name of a DaemonSet", t.Namespace, t.DaemonSet)
			}
			c := &carriers{registry: registry, policy: cfg.policies(""), now: time.Now}
			d, err := c.Diagnose(cmd.Context(), t)
			if err != nil {
				return err
			}
			if err := a.print(d, func(w io.Writer) { diagnosisTable(w, d) }); err != nil {
				return err
			}
			if d.Finding == playbook.FindingHealthy {
				return nil
			}
			if d.Finding == playbook.FindingUnknown {
				return &exitError{code: exitRemote}
			}
			return answerNo()
		},
	}
	cmd.Flags().StringVarP(&namespace, "namespace", "n", "", "namespace of the DaemonSet (else the configuration's)")
	return cmd
}

// manyNodes is from when on the table leaves out nodes with nothing the matter.
const manyNodes = 20

func diagnosisTable(w io.Writer, d api.Diagnosis) {
	fmt.Fprintf(w, "carrier\t%s\ndaemonset\t%s/%s\n", d.Carrier, d.Namespace, d.DaemonSet)
	confirmed := ""
	if !d.Confirmed {
		confirmed = " (one look; not confirmed)"
	}
	fmt.Fprintf(w, "finding\t%s%s\nwhy\t%s\n", d.Finding, confirmed, d.Why)
	for i, a := range d.Plan {
		label := ""
		if i == 0 {
			label = "plan"
		}
		fmt.Fprintf(w, "%s\t%d. %s\n", label, i+1, a)
	}
	for _, r := range d.Readings {
		if !r.Known {
			fmt.Fprintf(w, "not read\t%s: %s\n", r.Name, r.Why)
		}
	}
	if len(d.Nodes) == 0 {
		return
	}
	fmt.Fprintln(w, "\nNODE\tVERDICT\tWHY")
	hidden := 0
	for _, n := range d.Nodes {
		if n.Verdict == playbook.VerdictCovered && len(d.Nodes) > manyNodes {
			hidden++
			continue
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", n.Node, n.Verdict, n.Why)
	}
	if hidden > 0 {
		fmt.Fprintf(w, "and %d more\t%s\t\n", hidden, playbook.VerdictCovered)
	}
}
