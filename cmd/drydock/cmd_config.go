package main

import (
	"cmp"
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

func newConfig(a *app) *cobra.Command {
	cmd := &cobra.Command{Use: "config", Short: "Check the configuration, or print its JSON Schema", Args: cobra.NoArgs, RunE: helpOnly}
	cmd.AddCommand(
		&cobra.Command{
			Use:   "check",
			Short: "Check the configuration; secrets may be unset",
			Long: `Check the configuration: unknown keys, values, and how they fit together. All mistakes are shown at once.
Secrets may be unset and carriers out of reach: nothing outside the file is read.`,
			Example: "  drydock config check --config drydock.yaml",
			Args:    exactArgs(0),
			RunE: func(*cobra.Command, []string) error {
				cfg, err := a.config()
				if err != nil {
					return err
				}
				summary := configSummary{
					Valid: true, File: cmp.Or(cfg.file, "built-in"), Mode: string(cfg.Mode), Carriers: len(cfg.Carriers),
					DaemonSets: len(cfg.DaemonSets),
				}
				return a.print(summary, func(w io.Writer) {
					fmt.Fprintf(w, "%s is valid: mode %s, carriers listed: %d, DaemonSets: %d\n",
						summary.File, summary.Mode, summary.Carriers, summary.DaemonSets)
				})
			},
		},
		&cobra.Command{
			Use:     "schema",
			Short:   "Print the configuration's JSON Schema",
			Example: "  drydock config schema > drydock.schema.json",
			Args:    exactArgs(0),
			RunE:    func(*cobra.Command, []string) error { return writeJSON(a.stdout, configSchema()) },
		},
	)
	return cmd
}

type configSummary struct {
	Valid      bool   `json:"valid"`
	File       string `json:"file"`
	Mode       string `json:"mode"`
	Carriers   int    `json:"carriers"`
	DaemonSets int    `json:"daemonsets"`
}

// helpOnly is a command that exists for its subcommands.
func helpOnly(cmd *cobra.Command, _ []string) error {
	if err := cmd.Help(); err != nil {
		return err
	}
	return &exitError{code: exitUsage}
}
