package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/drydock/drydock/api"
	"github.com/drydock/drydock/playbook"
)

func newDiagnose(a *app) *cobra.Command {
	var flags targetFlags
	var explain bool
	cmd := &cobra.Command{
		Use:   "diagnose CARRIER DAEMONSET",
		Short: "Find out why a DaemonSet is not running everywhere; changes nothing",
		Long: `Look at a DaemonSet on a carrier once, say why it is not running on every node and what would be done about it.
It changes nothing, and needs neither a server nor a database.

The picture has one cell per node, in the order of the nodes:
  .  covered          F  node_full        U  uncovered    D  disk      R  no_room
  X  node_down        M  malfunctioning   r  rolling_out  -  excluded  ?  unknown

With --kubeconfig or --context, and as the kubectl plugin (a link named kubectl-drydock to this program), it looks
through kubectl's own configuration: CARRIER may then be left out, or be the name of a context.

Exit 0 when it is healthy, 3 when that can not be told, else 1.`,
		Example: `  drydock diagnose prod-dal10-carrier3 node-exporter
  drydock diagnose prod-dal10-carrier3 my-agent -n tools -o json
  drydock diagnose prod-dal10-carrier3 node-exporter --explain
  drydock diagnose --context staging node-exporter
  kubectl drydock diagnose node-exporter -n monitoring`,
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := flags.find(a, args)
			if err != nil {
				return err
			}
			d, o := diagnose(cmd.Context(), s.carrier, s.target, s.policy, time.Now())
			answer := diagnosisAnswer{Diagnosis: d}
			if explain {
				answer.Questions = playbook.Explain(s.policy, o, playbook.Memory{})
			}
			if err := a.printText(answer, func(w io.Writer) error { return a.terminal().diagnosis(w, answer) }); err != nil {
				return err
			}
			return exitOf(d.Finding)
		},
	}
	flags.register(a, cmd)
	cmd.Flags().BoolVar(&explain, "explain", false, "show each question, what it saw, and what would turn its answer around")
	cmd.Args = flags.args(a)
	return cmd
}

// diagnosisAnswer is what "drydock diagnose" prints; the questions only with --explain.
type diagnosisAnswer struct {
	api.Diagnosis
	Questions []playbook.Question `json:"questions,omitempty"`
}

// exitOf is nil for healthy, else the exit code that a finding stands for.
func exitOf(f playbook.Finding) error {
	switch f {
	case playbook.FindingHealthy:
		return nil
	case playbook.FindingUnknown:
		return &exitError{code: exitRemote}
	case playbook.FindingDeleting, playbook.FindingAbsent, playbook.FindingControllerStuck, playbook.FindingRefused,
		playbook.FindingRollingOut, playbook.FindingDisk, playbook.FindingNodeFull, playbook.FindingUncovered, playbook.FindingNoRoom,
		playbook.FindingNodeDown, playbook.FindingMalfunctioning, playbook.FindingNotSelected:
	}
	return answerNo()
}

func (t terminal) diagnosis(w io.Writer, d diagnosisAnswer) error {
	t.headline(w, d.Diagnosis)
	if len(d.Nodes) > 0 {
		fmt.Fprintln(w)
		t.picture(w, d.Nodes)
	}
	if err := t.missingNodes(w, d.Nodes); err != nil {
		return err
	}
	if len(d.Plan) > 0 {
		fmt.Fprintf(w, "\n%s\n", t.paint(bold, "plan, once a second look confirms the finding"))
		for i, a := range d.Plan {
			fmt.Fprintln(w, t.clip(fmt.Sprintf("%3d. %s", i+1, one(a.String()))))
		}
	}
	if len(d.Questions) > 0 {
		fmt.Fprintln(w)
		t.questions(w, d.Questions)
	}
	return nil
}

// headline is the target, the finding and the reason, and what could not be read.
func (t terminal) headline(w io.Writer, d api.Diagnosis) {
	fmt.Fprintf(w, "%s on %s\n", t.paint(bold, d.Namespace+"/"+d.DaemonSet), t.paint(bold, one(d.Carrier)))
	confirmed := ""
	if !d.Confirmed && d.Finding != playbook.FindingUnknown {
		confirmed = " (one look; not confirmed)"
	}
	text := t.wrap(string(d.Finding)+confirmed+": "+one(d.Why), 2)
	fmt.Fprintln(w, t.paint(styleOf(d.Finding), string(d.Finding))+strings.TrimPrefix(text, string(d.Finding)))
	for _, r := range d.Readings {
		if !r.Known {
			fmt.Fprintln(w, t.wrap("not read: "+one(r.Name)+": "+one(r.Why), 2))
		}
	}
}

func styleOf(f playbook.Finding) style {
	switch f {
	case playbook.FindingHealthy:
		return green
	case playbook.FindingUnknown, playbook.FindingRollingOut, playbook.FindingDeleting:
		return yellow
	case playbook.FindingAbsent, playbook.FindingControllerStuck, playbook.FindingRefused, playbook.FindingDisk,
		playbook.FindingNodeFull, playbook.FindingUncovered, playbook.FindingNoRoom, playbook.FindingNodeDown,
		playbook.FindingMalfunctioning, playbook.FindingNotSelected:
	}
	return red
}

// mostNodes bounds the list of nodes with something the matter; -o json has them all.
const mostNodes = 40

// missingNodes lists the nodes that the DaemonSet should run on and does not. Where there are few nodes, all are listed.
func (t terminal) missingNodes(w io.Writer, nodes []playbook.Verdict) error {
	const few = 10
	var rows []playbook.Verdict
	for _, n := range nodes {
		if len(nodes) <= few || n.Verdict != playbook.VerdictCovered && n.Verdict != playbook.VerdictExcluded {
			rows = append(rows, n)
		}
	}
	if len(rows) == 0 {
		return nil
	}
	err := t.tabulate(w, func(w io.Writer) {
		fmt.Fprintln(w, "\nNODE\tVERDICT\tWHY")
		for _, n := range rows[:min(len(rows), mostNodes)] {
			fmt.Fprintf(w, "%s\t%s\t%s\n", one(n.Node), n.Verdict, one(n.Why))
		}
	})
	if over := len(rows) - mostNodes; over > 0 {
		fmt.Fprintf(w, "and %d more (-o json lists all)\n", over)
	}
	return err
}

// sentence begins a text with a capital letter.
func sentence(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}
