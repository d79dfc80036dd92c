package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/drydock/drydock/store"
)

func newAudit(a *app) *cobra.Command {
	cmd := &cobra.Command{Use: "audit", Short: "Verify the audit log", Args: cobra.NoArgs, RunE: helpOnly, Example: "  drydock audit verify"}
	cmd.AddCommand(&cobra.Command{
		Use: "verify", Short: "Verify the audit log's chain of hashes", Args: exactArgs(0),
		Long: `Read the whole audit log from the database (database_url, or the private Postgres in data_dir) and make every hash again:
an entry that was changed, taken out or put in later breaks the chain. Entries that were cut off at the end do not: keep
the printed head elsewhere, with the number of entries, and compare the next time.

Exit 0 when the chain is whole, 1 when it is broken.`,
		Example: "  drydock audit verify --config drydock.yaml\n  drydock audit verify -o json | jq -r .head",
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := a.config()
			if err != nil {
				return err
			}
			return a.databaseToRead(cmd.Context(), cfg, func(ctx context.Context, url string) error {
				report, err := store.VerifyAudit(ctx, url)
				if err != nil {
					return remotef("%w", err)
				}
				return a.printAudit(report)
			})
		},
	})
	return cmd
}

type auditAnswer struct {
	Whole   bool   `json:"whole"`
	Entries int64  `json:"entries"`
	Head    string `json:"head"`
	// Broken is the entry at which the chain breaks first; null when it is whole.
	Broken *int64  `json:"broken"`
	Why    *string `json:"why"`
}

func (a *app) printAudit(r store.AuditReport) error {
	answer := auditAnswer{Whole: r.Broken == 0, Entries: r.Entries, Head: r.Head}
	if !answer.Whole {
		answer.Broken, answer.Why = &r.Broken, &r.Why
	}
	err := a.print(answer, func(w io.Writer) {
		if answer.Whole {
			fmt.Fprintf(w, "the chain is whole: %d entries\nhead %s\n", r.Entries, dash(r.Head))
			return
		}
		fmt.Fprintf(w, "the chain is broken at entry %d: %s\n", r.Broken, one(r.Why))
	})
	if err == nil && !answer.Whole {
		return answerNo()
	}
	return err
}
