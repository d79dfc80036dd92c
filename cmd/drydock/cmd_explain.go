package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/drydock/drydock/api/client"
	"github.com/drydock/drydock/playbook"
)

func newRunsExplain(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "explain RUN", Short: "Show why a run's newest look found what it found, and what would change that", Args: exactArgs(1), ValidArgsFunction: a.runArg(false),
		Long: `Show each question that the run's newest look asked, in order, with its answer, what it saw, and a change that would turn the
answer around, with the finding that it leads to. The first question that was answered with yes is the finding.`,
		Example: "  drydock runs explain 0198c5d2-7f4e-7a61-9d0e-0d5c2a3b4c5d\n" +
			"  drydock runs explain 0198c5d2-7f4e-7a61-9d0e-0d5c2a3b4c5d -o json | jq -r '.items[] | select(.answer == \"yes\").flip'",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			e, raw, err := read[client.Explanation](c.ExplainRun(cmd.Context(), args[0]))
			if err != nil {
				return err
			}
			questions := make([]playbook.Question, len(e.Items))
			for i, q := range e.Items {
				questions[i] = playbook.Question{Finding: playbook.Finding(q.Finding), Answer: playbook.Answer(q.Answer), Saw: q.Saw, Flip: q.Flip}
			}
			return a.printText(raw, func(w io.Writer) error {
				a.terminal().questions(w, questions)
				return nil
			})
		},
	}
}

// questions lists the questions of a diagnosis in their order; the one that decided it is marked.
func (t terminal) questions(w io.Writer, list []playbook.Question) {
	if len(list) == 0 {
		fmt.Fprintln(w, "no look was taken yet")
	}
	decided := false
	for _, q := range list {
		mark, s := "  ", faint
		switch {
		case q.Answer == playbook.Yes && !decided:
			mark, s, decided = "> ", bold, true
		case q.Answer == playbook.AnswerUnknown:
			s = yellow
		}
		name := string(q.Finding) + ": " + string(q.Answer)
		fmt.Fprintf(w, "%s%s\n", mark, t.paint(s, one(name)))
		fmt.Fprintf(w, "    %s\n", t.wrap(one(q.Saw), 4))
		fmt.Fprintf(w, "    %s\n", t.wrap("if "+one(q.Flip), 4))
	}
}
