package main

import (
	"context"
	"flag"
	"fmt"
	"io"

	"github.com/drydock/drydock/testbed/controlplane"
)

// build builds kubebox, if need be, and prints its path.
func build(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("build", flag.ContinueOnError)
	if err := parse(flags, args, stderr); err != nil {
		return err
	}
	path, err := controlplane.Build(ctx, stderr)
	if err != nil {
		return err
	}
	fmt.Fprintln(stdout, path)
	return nil
}
