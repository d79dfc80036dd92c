package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/drydock/drydock/api/client"
)

func newKillSwitch(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "kill-switch", Short: "Stop all changes, or allow them again", Args: cobra.NoArgs, RunE: helpOnly,
		Long: `Stop every new change, on all carriers or on one, or allow changes again. What a run has changed already is still put back.

Without a server and a database it works too: a file data_dir/kill-switch (or data_dir/kill-switch.CARRIER) stops the
replica that sees it. --file makes or removes that file here, so it is for the machine, or the volume, of the server:

  drydock kill-switch on --file --reason 'the database is down'`,
		Example: "  drydock kill-switch on --carrier prod-dal10-carrier3 --reason 'network maintenance'\n  drydock kill-switch off --carrier prod-dal10-carrier3 --reason over",
	}
	cmd.AddCommand(newKillSwitchTo(a, true), newKillSwitchTo(a, false))
	return cmd
}

func newKillSwitchTo(a *app, on bool) *cobra.Command {
	use, short := "off", "Allow changes again"
	if on {
		use, short = "on", "Stop every new change, on all carriers or one; undoing goes on"
	}
	var carrier, reason string
	var file bool
	cmd := &cobra.Command{
		Use: use, Short: short, Args: exactArgs(0),
		Example: "  drydock kill-switch " + use + " --reason 'network maintenance'\n  drydock kill-switch " + use +
			" --carrier prod-dal10-carrier3 --reason 'network maintenance'\n  drydock kill-switch " + use + " --file --reason 'the server does not answer'",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if reason == "" {
				return usagef("--reason is missing: say why, it is kept")
			}
			if file {
				return a.killSwitchByFile(on, carrier, reason)
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			answer, raw, err := read[client.KillSwitch](c.SetKillSwitch(cmd.Context(), client.SetKillSwitch{Engaged: on, Carrier: given[string](carrier), Reason: reason}))
			if err != nil {
				var exit *exitError
				if on && errors.As(err, &exit) && exit.code == exitRemote {
					fmt.Fprintln(a.stderr, "drydock: changes are not stopped by this. On the server's machine, --file stops them without the server and the database")
				}
				return err
			}
			if answer.Engaged && !on {
				fmt.Fprintln(a.stderr, "drydock: changes are still stopped: a kill-switch file, or the switch of all carriers, is engaged")
			}
			return a.printSwitch(raw, answer)
		},
	}
	cmd.Flags().StringVar(&carrier, "carrier", "", "only this carrier")
	cmd.Flags().StringVar(&reason, "reason", "", "why (required)")
	cmd.Flags().BoolVar(&file, "file", false, "by the file in data_dir, without the server: it stops the replica that sees the file")
	return cmd
}

func (a *app) printSwitch(data any, s client.KillSwitch) error {
	return a.print(data, func(w io.Writer) {
		where, why := "all carriers", ""
		if s.Carrier != nil {
			where = *s.Carrier
		}
		if s.Reason != nil {
			why = *s.Reason
		}
		fmt.Fprintf(w, "engaged\t%t\ncarrier\t%s\nreason\t%s\n", s.Engaged, one(where), dash(one(why)))
	})
}

// killSwitchByFile makes or removes the file that stops changes.
func (a *app) killSwitchByFile(on bool, carrier, reason string) error {
	cfg, err := a.config()
	if err != nil {
		return err
	}
	if carrier != "" && !isDNSName(carrier) {
		return usagef("%s is not the name of a carrier", one(carrier))
	}
	dir := cfg.path(cfg.DataDir)
	name := filepath.Join(dir, "kill-switch")
	if carrier != "" {
		name += "." + carrier
	}
	if on {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return remotef("make data_dir: %w", err)
		}
		if err := os.WriteFile(name, []byte(one(reason)+"\n"), 0o600); err != nil {
			return remotef("make the kill switch's file: %w", err)
		}
	} else if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return remotef("remove the kill switch's file: %w", err)
	}
	why := killSwitchFile(dir)(carrier)
	answer := client.KillSwitch{Engaged: why != "", Carrier: given[string](carrier), Reason: given[string](why)}
	if answer.Engaged && !on {
		fmt.Fprintln(a.stderr, "drydock: changes are still stopped: the file of all carriers is there")
	}
	fmt.Fprintln(a.stderr, "drydock: a switch that was set through the server is not changed by the file")
	return a.printSwitch(answer, answer)
}
