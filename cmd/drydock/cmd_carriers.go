package main

import (
	"github.com/spf13/cobra"

	"github.com/drydock/drydock/api/client"
)

func newCarriers(a *app) *cobra.Command {
	cmd := &cobra.Command{Use: "carriers", Short: "Say which installation of Drydock acts on a carrier", Args: cobra.NoArgs, RunE: helpOnly,
		Example: "  drydock carriers confirm prod-dal10-carrier3 --reason 'restored last night'"}
	cmd.AddCommand(newCarriersConfirm(a))
	return cmd
}

func newCarriersConfirm(a *app) *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use: "confirm CARRIER", Short: "Make the server's installation and database the ones that act on a carrier", Args: exactArgs(1),
		Long: `The Lease kube-system/drydock on a carrier names the one installation of Drydock that may act there, and counts its changes.
After a database was restored from a backup, or when another installation is gone for good, Drydock does nothing on the carrier
until an admin confirms. Look at the carrier first: cordoned nodes and deleted DaemonSets that this database does not know of
are yours to put right.`,
		Example: "  drydock carriers confirm prod-dal10-carrier3 --reason 'restored last night, no node was cordoned since'",
		RunE: func(cmd *cobra.Command, args []string) error {
			if reason == "" {
				return usagef("--reason is missing: say why, it is kept")
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			return printOrder(a)(c.ConfirmCarrier(cmd.Context(), args[0], &client.ConfirmCarrierParams{}, client.ConfirmCarrier{Reason: reason}))
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why (required)")
	return cmd
}
