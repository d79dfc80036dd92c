// Command bench measures Drydock on this machine, each figure beside a limit that is measured in the same run, and prints
// one table with the ratios:
//
//   - one decision (playbook.Decide) at 500 and 5,000 nodes, against a bare pass over the same nodes and pods;
//   - durable webhook intake through the real HTTP handler and inbox, against pgbench writing the same rows.
//
// A figure alone says how busy the machine was; a ratio of two that were measured in turns says how far Drydock is from
// what is possible here. No figure is judged. What fails the bench is a wrong result: an answer other than 202, or rows
// that are not in the database afterwards.
//
//	make bench
//	cd testbed && go run ./bench -json raw.json
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"runtime/pprof"
	"strings"
	"syscall"

	"github.com/drydock/drydock/store/privatepg"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	switch {
	case err == nil:
		return
	case errors.Is(err, flag.ErrHelp):
	default:
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
	}
	var missing *missingError
	if errors.As(err, &missing) || errors.Is(err, flag.ErrHelp) {
		os.Exit(2)
	}
	os.Exit(1)
}

// options are the flags.
type options struct {
	seconds int    // of one window; pgbench takes whole seconds
	rounds  int    // windows of each side per number of connections
	dir     string // where the database is made
	json    string // file for the raw results
	profile string // file for a CPU profile of the intake
	conns   []int
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	o := options{conns: []int{1, 16, 64}}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.IntVar(&o.seconds, "seconds", 3, "length of one window of the intake")
	flags.IntVar(&o.rounds, "rounds", 3, "windows of each side; medians are printed")
	// Not the default for temporary files: where that is in memory, fsync costs nothing and the figures mean nothing.
	flags.StringVar(&o.dir, "dir", "/var/tmp", "directory on the disk to measure; the database is made there and removed")
	flags.StringVar(&o.json, "json", "", "write the raw results to this file")
	flags.StringVar(&o.profile, "cpuprofile", "", "write a CPU profile of the intake, load generator included, to this file")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 || o.seconds < 1 || o.rounds < 1 {
		return errors.New("no arguments, and -seconds and -rounds of at least 1")
	}
	log := slog.New(slog.NewTextHandler(stderr, nil))

	r := results{Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH, CPUs: runtime.NumCPU(), Load: loadAverage()}
	bin, err := findPgbench(ctx)
	if err != nil {
		return err
	}
	if r.Decide, err = measureDecide(ctx, o.rounds, log); err != nil {
		return err
	}
	if err := r.measureIntake(ctx, bin, o, log); err != nil {
		return err
	}
	if o.json != "" {
		if err := writeJSON(o.json, r); err != nil {
			return err
		}
	}
	return r.print(stdout)
}

// measureIntake runs the intake under the profiler, where one is asked for.
func (r *results) measureIntake(ctx context.Context, bin privatepg.Binaries, o options, log *slog.Logger) (err error) {
	if o.profile != "" {
		f, err := os.Create(o.profile)
		if err != nil {
			return fmt.Errorf("make the profile's file: %w", err)
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return fmt.Errorf("start the CPU profile: %w", err)
		}
		defer pprof.StopCPUProfile()
	}
	r.Postgres, r.Intake, err = measureIntake(ctx, bin, o, log)
	return err
}

func writeJSON(path string, r results) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the raw results: %w", err)
	}
	if err := os.WriteFile(path, append(text, '\n'), 0o600); err != nil {
		return fmt.Errorf("write the raw results: %w", err)
	}
	return nil
}

// loadAverage is the machine's own word on how busy it was before the bench; empty where there is none.
func loadAverage() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return ""
	}
	first, _, _ := strings.Cut(string(text), " ")
	return first
}
