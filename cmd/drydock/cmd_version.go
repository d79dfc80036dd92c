package main

import (
	"fmt"
	"io"
	"runtime"

	"github.com/spf13/cobra"
)

func newVersion(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print the version",
		Example: "  drydock version -o json",
		Args:    exactArgs(0),
		RunE: func(*cobra.Command, []string) error {
			out := struct {
				Version string `json:"version"`
				Go      string `json:"go"`
			}{version, runtime.Version()}
			return a.print(out, func(w io.Writer) { fmt.Fprintf(w, "drydock %s (%s)\n", out.Version, out.Go) })
		},
	}
}
