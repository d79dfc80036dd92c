// Command drydock takes PagerDuty's word that a DaemonSet is not running on every node of a carrier, finds out why,
// repairs the carrier by the runbook and proves it, or hands the incident over with the evidence.
//
// This package is where everything meets. main only calls run, which is the whole program as a function of its
// arguments and environment, so that tests use it as a user does. The files are named after what they hold: config*.go
// reads drydock.yaml, one cmd_*.go per subcommand, wire.go builds the server, pager.go introduces PagerDuty (incident)
// to the core (playbook), which do not know each other.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
)

// version is stamped by the build.
var version = "dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := runAs(ctx, os.Args[0], os.Args[1:], os.Getenv, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// Exit codes of the contract.
const (
	exitDone   = 0
	exitNo     = 1 // the answer is "no": no rule matched, not healthy, the server refused
	exitUsage  = 2 // usage or configuration
	exitRemote = 3 // a remote system failed, or the finding is unknown
)

// exitError ends the program with a code. A nil err prints nothing: the answer itself is on stdout.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error {
	return &exitError{exitUsage, fmt.Errorf(format, args...)}
}

func remotef(format string, args ...any) error {
	return &exitError{exitRemote, fmt.Errorf(format, args...)}
}

// answerNo says that the printed answer is "no".
func answerNo() error { return &exitError{code: exitNo} }

// run is the program. It returns the exit code.
func run(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) int {
	return runAs(ctx, "drydock", args, getenv, stdout, stderr)
}

// runAs is run under the name by which the program was started: as kubectl-drydock it is a plugin of kubectl.
func runAs(ctx context.Context, name string, args []string, getenv func(string) string, stdout, stderr io.Writer) int {
	root := newRoot(&app{getenv: getenv, stdout: stdout, stderr: stderr, plugin: strings.HasPrefix(filepath.Base(name), "kubectl-")})
	root.SetArgs(append([]string{}, args...)) // not nil: cobra would take the program's own instead
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitDone
	}
	var exit *exitError
	if !errors.As(err, &exit) {
		// What cobra itself reports: an unknown command or flag, a wrong number of arguments.
		fmt.Fprintf(stderr, "drydock: %v\nSee drydock --help.\n", err)
		return exitUsage
	}
	if exit.err != nil {
		fmt.Fprintf(stderr, "drydock: %v\n", exit.err)
	}
	return exit.code
}
