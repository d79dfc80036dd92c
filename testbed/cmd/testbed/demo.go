package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/drydock/drydock/testbed/demo"
)

// showDemo breaks two carriers in the ways of the runbook and shows how Drydock
// repairs them.
func showDemo(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	once := flags.Bool("once", false, "end after the repairs, with an error if they did not end as they should")
	keep := flags.String("keep", "", "keep all logs and files in this `directory`")
	drydock := flags.String("drydock", "", "the drydock binary (default: the one next to this program)")
	if err := parse(flags, args, stderr); err != nil {
		return err
	}
	if *drydock == "" {
		self, err := os.Executable()
		if err != nil {
			return fmt.Errorf("find drydock: %w", err)
		}
		*drydock = filepath.Join(filepath.Dir(self), "drydock")
	}
	return demo.Run(ctx, demo.Options{Drydock: *drydock, Once: *once, Keep: *keep, Out: stdout})
}
