// Command chart renders and lints a Helm chart: chart lint DIR | chart template DIR.
package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/drydock/drydock/testbed/chart"
)

//go:generate sh -c "go run . template ../../../deploy/helm/drydock > ../../../deploy/kubernetes/drydock.yaml.new && mv ../../../deploy/kubernetes/drydock.yaml.new ../../../deploy/kubernetes/drydock.yaml"

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 2 {
		return errors.New("want: chart lint DIR, or chart template DIR")
	}
	switch args[0] {
	case "lint":
		return chart.Lint(args[1])
	case "template":
		manifests, err := chart.Template(args[1], nil)
		if err != nil {
			return err
		}
		fmt.Println("# Drydock as plain manifests: what the chart in deploy/helm renders with its own values. Edit config, image and secrets.")
		_, err = os.Stdout.Write(manifests)
		return err
	}
	return fmt.Errorf("unknown command %q", args[0])
}
