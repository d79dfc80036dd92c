package main

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/spf13/pflag"
	"sigs.k8s.io/kwok/kustomize/crd"
	"sigs.k8s.io/kwok/pkg/config"
	"sigs.k8s.io/kwok/pkg/kwok/cmd"
	"sigs.k8s.io/kwok/pkg/log"
	"sigs.k8s.io/kwok/pkg/utils/signals"
	"sigs.k8s.io/yaml"
)

// kwok plays the kubelets: it renews node leases and moves nodes and pods through
// the Stages that it is given. Its configuration and log flags are read before
// the command exists, because the command's defaults come from the configuration.
func kwok() int {
	resetGlobalFlags()
	flags := pflag.NewFlagSet("kwok", pflag.ContinueOnError)
	flags.ParseErrorsAllowlist.UnknownFlags = true
	flags.Usage = func() {}

	ctx, _ := log.InitFlags(signals.SetupSignalContext(), flags)
	ctx, err := config.InitFlags(ctx, flags)
	if err != nil {
		fmt.Fprintln(os.Stderr, "kwok: read configuration:", err)
		return 1
	}
	command := cmd.NewCommand(ctx)
	command.PersistentFlags().AddFlagSet(flags)
	if err := command.ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "kwok:", err)
		return 1
	}
	return 0
}

// kwokCRDs prints the CustomResourceDefinitions that kwok must find on the API
// server to serve pod logs, as one JSON list.
func kwokCRDs() int {
	list := struct {
		APIVersion string            `json:"apiVersion"`
		Kind       string            `json:"kind"`
		Items      []json.RawMessage `json:"items"`
	}{APIVersion: "v1", Kind: "List"}
	for _, manifest := range [][]byte{crd.Logs, crd.ClusterLogs} {
		item, err := yaml.YAMLToJSON(manifest)
		if err != nil {
			fmt.Fprintln(os.Stderr, "kwok-crds: convert manifest:", err)
			return 1
		}
		list.Items = append(list.Items, item)
	}
	if err := json.NewEncoder(os.Stdout).Encode(list); err != nil {
		fmt.Fprintln(os.Stderr, "kwok-crds: print:", err)
		return 1
	}
	return 0
}
