package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/drydock/drydock/playbook"
	"github.com/drydock/drydock/playbook/kube"
)

// targetFlags say which DaemonSet of which carrier a command looks at.
type targetFlags struct {
	namespace  string
	kubeconfig string
	context    string
}

func (f *targetFlags) register(a *app, cmd *cobra.Command) {
	cmd.Flags().StringVarP(&f.namespace, "namespace", "n", "", "namespace of the DaemonSet (else the configuration's)")
	cmd.Flags().StringVar(&f.kubeconfig, "kubeconfig", "", "look through this kubeconfig instead of the configured one")
	cmd.Flags().StringVar(&f.context, "context", "", "look through this context of kubectl's configuration")
	cmd.ValidArgsFunction = f.complete(a)
}

// sight is a target, with what is needed to look at it. Its carrier can change nothing.
type sight struct {
	target  playbook.Target
	policy  playbook.Policy
	carrier playbook.Carrier
}

// find turns the arguments into a sight. A carrier is one of the configuration; with --kubeconfig or --context, and as a
// plugin of kubectl, it is a context of kubectl's configuration, and may be left out for the current one.
func (f *targetFlags) find(a *app, args []string) (*sight, error) {
	cfg, err := a.config()
	if err != nil {
		return nil, err
	}
	// As parse does: titles are not particular about case, and Kubernetes' names have none.
	t := playbook.Target{DaemonSet: strings.ToLower(args[len(args)-1]), Namespace: f.namespace}
	if t.Namespace == "" {
		t.Namespace = cfg.namespaceOf(t.DaemonSet)
	}
	switch {
	case t.Namespace == "":
		return nil, usagef("the namespace of DaemonSet %s is not in the configuration: name it with -n", t.DaemonSet)
	case !isDNSName(t.DaemonSet), !isDNSLabel(t.Namespace):
		return nil, usagef("%s/%s is not the name of a DaemonSet", t.Namespace, t.DaemonSet)
	}
	if len(args) == 2 {
		t.Carrier = strings.ToLower(args[0])
	}
	registry, err := cfg.registry(kube.Options{Version: version, ReadOnly: true})
	if err != nil {
		return nil, usagef("%w", err)
	}
	names, namesErr := registry.Names()
	configured := slices.Contains(names, t.Carrier)
	if f.kubeconfig != "" || f.context != "" || a.plugin && !configured {
		return f.throughContext(cfg, t, args)
	}
	if !configured {
		return nil, noSuchCarrier(t.Carrier, names, namesErr)
	}
	if namesErr != nil {
		fmt.Fprintf(a.stderr, "drydock: warning: %v\n", namesErr)
	}
	c := &carriers{registry: registry}
	return &sight{target: t, policy: cfg.policies("")(t), carrier: c.open(t.Carrier)}, nil
}

// throughContext looks through kubectl's own configuration. Without flags the carrier's name is the context's: looking at
// whatever is current under the name of a carrier that was mistyped would show the wrong one.
func (f *targetFlags) throughContext(cfg *Config, t playbook.Target, args []string) (*sight, error) {
	context := f.context
	if context == "" && f.kubeconfig == "" && len(args) == 2 {
		context = args[0]
	}
	carrier, name, err := kube.OpenContext(f.kubeconfig, context, kube.Options{Version: version, ReadOnly: true})
	if err != nil {
		return nil, usagef("%w", err)
	}
	if t.Carrier == "" {
		t.Carrier = strings.ToLower(name)
	}
	// The policy of the carrier of that name, where there is one; else the defaults.
	return &sight{target: t, policy: cfg.policies("")(t), carrier: carrier}, nil
}

func noSuchCarrier(name string, names []string, err error) error {
	switch {
	case name == "":
		return usagef("no carrier is named: give CARRIER, or --context for one of kubectl's contexts")
	case err != nil:
		return usagef("carrier %s is not configured: there are %s, and %w", name, orNone(names), err)
	case len(names) == 0:
		return usagef("no carriers are configured: list them under carriers, name a carrier_dir, or give --kubeconfig or --context")
	}
	return usagef("carrier %s is not configured: there are %s", name, strings.Join(names, ", "))
}

func orNone(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

// complete offers the configured carriers, then the configured DaemonSets.
func (f *targetFlags) complete(a *app) cobra.CompletionFunc {
	return func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		cfg, err := a.config()
		if err != nil || len(args) > 1 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var offers []string
		if len(args) == 0 {
			if registry, err := cfg.registry(kube.Options{}); err == nil {
				offers, _ = registry.Names() // those that can be told
			}
		} else {
			for _, d := range cfg.DaemonSets {
				offers = append(offers, d.Name)
			}
		}
		return offers, cobra.ShellCompDirectiveNoFileComp
	}
}

// targetArgs allows CARRIER DAEMONSET, and DAEMONSET alone where a context stands for the carrier.
func (f *targetFlags) args(a *app) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == 1 && (a.plugin || f.kubeconfig != "" || f.context != "") {
			return nil
		}
		return exactArgs(2)(cmd, args)
	}
}
