// Command testbed runs real Kubernetes control planes with fake nodes, for trying
// Drydock out and for its tests.
//
//	testbed build            build kubebox, the control plane's binary
//	testbed up --nodes 50    run one control plane until interrupted
//	testbed demo             break two carriers and watch Drydock repair them
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
)

// A subcommand reads its own flags. Data goes to stdout, all else to stderr.
type subcommand func(ctx context.Context, args []string, stdout, stderr io.Writer) error

var subcommands = map[string]subcommand{
	"build": build,
	"demo":  showDemo,
	"up":    up,
}

// errUsage marks errors of the command line, which exit with 2.
var errUsage = errors.New("usage")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 || subcommands[args[0]] == nil {
		names := make([]string, 0, len(subcommands))
		for name := range subcommands {
			names = append(names, name)
		}
		slices.Sort(names)
		fmt.Fprintf(stderr, "usage: testbed %s [flags]\n", strings.Join(names, "|"))
		return 2
	}
	err := subcommands[args[0]](ctx, args[1:], stdout, stderr)
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return 0
	case errors.Is(err, errUsage):
		fmt.Fprintln(stderr, "testbed:", err)
		return 2
	default:
		fmt.Fprintln(stderr, "testbed:", err)
		return 1
	}
}

// parse reads a subcommand's flags; it has no other arguments.
func parse(flags *flag.FlagSet, args []string, stderr io.Writer) error {
	flags.SetOutput(stderr)
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return err
		}
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("%w: %s takes no argument %q", errUsage, flags.Name(), flags.Arg(0))
	}
	return nil
}
