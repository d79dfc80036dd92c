package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/drydock/drydock/incident"
)

func newPagerDuty(a *app) *cobra.Command {
	cmd := &cobra.Command{Use: "pagerduty", Short: "Connect a PagerDuty account", Args: cobra.NoArgs, RunE: helpOnly,
		Example: "  drydock pagerduty connect --secret-file webhook-secret"}
	cmd.AddCommand(newPagerDutyConnect(a))
	return cmd
}

// subscribed are the events that a subscription sends: all that start, join or stop a run.
var subscribed = []string{
	"incident.triggered", "incident.acknowledged", "incident.unacknowledged", "incident.resolved", "incident.reopened", "incident.escalated",
	"incident.delegated", "incident.reassigned", "incident.annotated", "incident.priority_updated", "incident.service_updated",
}

func newPagerDutyConnect(a *app) *cobra.Command {
	var secretFile, service string
	cmd := &cobra.Command{
		Use: "connect", Short: "Make the webhook subscription, and keep its secret", Args: exactArgs(0),
		Long: `Make PagerDuty's webhook subscription to public_url/webhooks/pagerduty, for each of pagerduty.service_ids or, without any,
for the account. PagerDuty shows a subscription's secret this once: it is written to --secret-file (0600, never over another
file), or else printed. Name it in pagerduty.webhook_secrets and start the server again.

Where a subscription to that address exists, nothing is made: exit 1. To rotate a secret, make a second one with --service,
let both secrets be accepted, then delete the old subscription on PagerDuty's page.`,
		Example: "  drydock pagerduty connect --secret-file webhook-secret\n  drydock pagerduty connect --service PABC123 -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := a.config()
			if err != nil {
				return err
			}
			url := cfg.webhookURL()
			s := &secrets{getenv: a.getenv, path: cfg.path}
			token := s.get("pagerduty.token", cfg.PagerDuty.Token)
			switch {
			case s.err() != nil:
				return missingSecrets(s.err())
			case token == "":
				return usagef("pagerduty.token is not configured: the subscription is made with it")
			case url == "":
				return usagef("public_url is not configured: set it to the address at which PagerDuty reaches this server")
			}
			services := cfg.PagerDuty.ServiceIDs
			if service != "" {
				services = []string{service}
			} else if len(services) == 0 {
				services = []string{""} // the account
			}
			if secretFile != "" && len(services) > 1 {
				return usagef("--secret-file holds one secret, and there are %d services: connect each with --service", len(services))
			}
			c, err := incident.New(incident.Config{APIURL: cfg.PagerDuty.APIURL, Token: token, From: cfg.PagerDuty.From})
			if err != nil {
				return usagef("pagerduty: %w", err)
			}
			if service == "" {
				existing, err := c.Subscriptions(cmd.Context())
				if err != nil {
					return pagerDutyError(err)
				}
				for _, s := range existing {
					if s.URL == url {
						return &exitError{exitNo, fmt.Errorf("subscription %s sends to %s already: its secret can not be read again; delete it on PagerDuty's page to make a new one", s.ID, url)}
					}
				}
			}
			keep, err := newSecretFile(secretFile)
			if err != nil {
				return err
			}
			var made []connection
			for _, id := range services {
				m := connection{Service: id, URL: url}
				m.ID, m.Secret, err = c.CreateSubscription(cmd.Context(), incident.Wish{URL: url, Description: "Drydock", Events: subscribed, ServiceID: id})
				if err != nil {
					return errors.Join(pagerDutyError(err), a.printConnections(made))
				}
				made = append(made, m)
			}
			if keep != nil {
				if err := errors.Join(second(keep.WriteString(made[0].Secret+"\n")), keep.Sync(), keep.Close()); err != nil {
					fmt.Fprintf(a.stderr, "drydock: the secret could not be written (%v), so it is printed\n", err)
				} else {
					made[0].Secret, made[0].SecretFile = "", secretFile
				}
			}
			return a.printConnections(made)
		},
	}
	cmd.Flags().StringVar(&secretFile, "secret-file", "", "write the secret there instead of printing it")
	cmd.Flags().StringVar(&service, "service", "", "for this service alone, also where a subscription exists")
	return cmd
}

func second[T any](_ T, err error) error { return err }

// newSecretFile is opened before anything is made: a secret that can not be kept is lost.
func newSecretFile(name string) (*os.File, error) {
	if name == "" {
		return nil, nil
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil, usagef("%s exists: name a file that does not", name)
	}
	if err != nil {
		return nil, usagef("make the secret's file: %w", err)
	}
	return f, nil
}

func pagerDutyError(err error) error {
	code := exitRemote
	switch {
	case errors.Is(err, incident.ErrUnauthorized), errors.Is(err, incident.ErrNotFound):
		code = exitNo
	case errors.Is(err, incident.ErrInvalid):
		code = exitUsage
	}
	if errors.Is(err, incident.ErrAmbiguous) {
		err = fmt.Errorf("%w; look on PagerDuty's page whether it was made, and delete it: its secret is lost", err)
	}
	return &exitError{code, err}
}

// connection is a subscription that was made.
type connection struct {
	ID         string `json:"id"`
	Service    string `json:"service,omitempty"`
	URL        string `json:"url"`
	Secret     string `json:"secret,omitempty"`
	SecretFile string `json:"secret_file,omitempty"`
}

func (a *app) printConnections(made []connection) error {
	if len(made) == 0 {
		return nil
	}
	return a.print(map[string]any{"subscriptions": made}, func(w io.Writer) {
		for _, m := range made {
			fmt.Fprintf(w, "subscription\t%s\nfor\t%s\nsends to\t%s\n", one(m.ID), forWhom(m.Service), one(m.URL))
			if m.SecretFile != "" {
				fmt.Fprintf(w, "secret file\t%s\n", m.SecretFile)
			} else {
				fmt.Fprintf(w, "secret\t%s\n", one(m.Secret))
			}
		}
	})
}

func forWhom(service string) string {
	if service == "" {
		return "the whole account"
	}
	return "service " + one(service)
}
