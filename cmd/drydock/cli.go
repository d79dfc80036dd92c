package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"
)

// app is what every subcommand shares: the environment, the outputs and the flags that are everywhere.
type app struct {
	getenv         func(string) string
	stdout, stderr io.Writer

	// plugin: the program was started by kubectl, as "kubectl drydock".
	plugin bool

	configFile string
	output     string
	server     string
	token      string
}

// Values of -o.
const (
	outputTable = "table"
	outputJSON  = "json"
	outputYAML  = "yaml"
)

func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "drydock",
		Short: "Repair DaemonSets that are not running on all nodes of a carrier",
		Long: `Drydock takes PagerDuty's word that a DaemonSet is not running on every node of a carrier,
finds out why, repairs the carrier by the runbook and proves it, or hands the incident over.`,
		Example: `  drydock parse 'blumemix.containers-kubernetes.prod-dal10-carrier3.not_running_all_node-exporter_demonsets.us-south'
  drydock diagnose prod-dal10-carrier3 node-exporter
  drydock serve --config drydock.yaml`,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE:          helpOnly,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Name() == cobra.ShellCompRequestCmd || cmd.Name() == cobra.ShellCompNoDescRequestCmd {
				return nil // a shell asks while a command is being typed
			}
			if !slices.Contains([]string{outputTable, outputJSON, outputYAML}, a.output) {
				return usagef("-o %q is not one of table, json, yaml", a.output)
			}
			// Also for commands that read no configuration: a file that is named and not there is a mistake everywhere.
			if _, err := os.Stat(a.configFile); a.configFile != "" && errors.Is(err, fs.ErrNotExist) {
				return noSuchConfig(a.configFile)
			}
			return nil
		},
	}
	if a.plugin {
		root.Annotations = map[string]string{cobra.CommandDisplayNameAnnotation: "kubectl drydock"}
	}
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	flags := root.PersistentFlags()
	flags.StringVar(&a.configFile, "config", a.getenv("DRYDOCK_CONFIG"), "configuration file (else $DRYDOCK_CONFIG, else ./drydock.yaml)")
	flags.StringVarP(&a.output, "output", "o", outputTable, "table, json or yaml")
	flags.StringVar(&a.server, "server", a.getenv("DRYDOCK_URL"), "address of a Drydock server (else $DRYDOCK_URL, else the configuration's listen)")
	flags.StringVar(&a.token, "token", "", "API token (else $DRYDOCK_TOKEN, else data_dir/token)")
	_ = root.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(
		[]string{outputTable, outputJSON, outputYAML}, cobra.ShellCompDirectiveNoFileComp))
	root.AddCommand(
		newServe(a), newMigrate(a), newParse(a), newDiagnose(a), newPlan(a), newReplay(a), newStats(a), newAudit(a), newConfig(a), newToken(a),
		newVersion(a), newRuns(a), newKillSwitch(a), newCarriers(a), newDoctor(a), newPagerDuty(a),
	)
	root.InitDefaultCompletionCmd()
	if completion, _, err := root.Find([]string{"completion"}); err == nil {
		completion.Example = "  source <(drydock completion bash)\n  drydock completion zsh > \"${fpath[1]}/_drydock\"\n  drydock completion fish > ~/.config/fish/completions/drydock.fish"
		completion.Args, completion.RunE = cobra.NoArgs, helpOnly // of its own, an unknown shell is answered with help and exit 0
	}
	return root
}

// helpOnly is a command that exists for its subcommands. What it prints was not asked for, so it goes to stderr.
func helpOnly(cmd *cobra.Command, _ []string) error {
	cmd.SetOut(cmd.ErrOrStderr())
	if err := cmd.Help(); err != nil {
		return err
	}
	return &exitError{code: exitUsage}
}

// config loads the configuration that the flags name.
func (a *app) config() (*Config, error) { return loadConfig(a.configFile) }

// exactArgs is cobra's, with the command's own usage line in the error.
func exactArgs(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != n {
			return usagef("%d arguments instead of %d: usage is %s", len(args), n, cmd.UseLine())
		}
		return nil
	}
}

// print writes data to stdout in the form that -o asks for. table writes the rows of a table.
func (a *app) print(data any, table func(w io.Writer)) error {
	return a.printText(data, func(w io.Writer) error { return a.terminal().tabulate(w, table) })
}

// printText is print for an answer that is more than a table.
func (a *app) printText(data any, text func(w io.Writer) error) error {
	if err := a.write(data, text); err != nil {
		return remotef("write the answer: %w", err)
	}
	return nil
}

func (a *app) write(data any, text func(w io.Writer) error) error {
	switch a.output {
	case outputJSON:
		return writeJSON(a.stdout, data)
	case outputYAML:
		// By way of JSON, so that names and forms are the same in both.
		b, err := json.Marshal(data)
		if err != nil {
			return fmt.Errorf("encode answer: %w", err)
		}
		if b, err = yaml.JSONToYAML(b); err != nil {
			return fmt.Errorf("encode answer: %w", err)
		}
		_, err = a.stdout.Write(b)
		return err
	}
	return text(a.stdout)
}

func writeJSON(w io.Writer, data any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(data)
}

// dash shows an empty cell.
func dash(s string) string { return cmp.Or(s, "-") }
