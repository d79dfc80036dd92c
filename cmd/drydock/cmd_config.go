package main

import (
	"cmp"
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

func newConfig(a *app) *cobra.Command {
	cmd := &cobra.Command{Use: "config", Short: "Check the configuration, or print its JSON Schema", Args: cobra.NoArgs, RunE: helpOnly,
		Example: "  drydock config check --config drydock.yaml"}
	cmd.AddCommand(
		&cobra.Command{
			Use:   "check",
			Short: "Check the configuration; secrets may be unset",
			Long: `Check the configuration: unknown keys, values, and how they fit together. All mistakes are shown at once.
Secrets may be unset and carriers out of reach: no file that the configuration names is read. Files of carriers that are
not there are warned of on stderr.`,
			Example: "  drydock config check --config drydock.yaml",
			Args:    exactArgs(0),
			RunE: func(*cobra.Command, []string) error {
				cfg, err := a.config()
				if err != nil {
					return err
				}
				if err := cfg.checkServing(); err != nil {
					return err
				}
				for _, warning := range cfg.missingFiles() {
					fmt.Fprintf(a.stderr, "drydock: warning: %s\n", warning)
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
			RunE: func(*cobra.Command, []string) error {
				schema := configSchema()
				return a.print(schema, func(w io.Writer) { _ = writeJSON(w, schema) }) // print tells of a failed write
			},
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
