// Command bench measures Drydock on this machine, each figure beside a limit that is measured in the same run, and prints
// one table with the ratios. A file each measures one thing:
//
//   - decide: one decision (playbook.Decide) at 500 and 5,000 nodes, against a bare pass over the same nodes and pods;
//   - intake: durable webhook intake through the real HTTP handler and inbox, against pgbench writing the same rows;
//   - burst: 10,000 webhooks at one time, to a process of its own;
//   - pickup: from a webhook's answer until its carrier is read, against LISTEN/NOTIFY;
//   - diagnose: drydock diagnose on real API servers, against bare LISTs and against kubectl;
//   - repair: from an alert until its carrier is whole again, against a script of the bare calls;
//   - start: from the start of the process until it is ready; the size of the binary;
//   - idle: the memory of an idle Drydock with 500 carriers, against an idle HTTP server that links client-go;
//   - history: pages of five million runs, for each set of filters, against fetches of one run by its primary key;
//   - pages: the dashboard's pages in Chromium, against an empty page;
//   - queue: 100,000 incidents an hour, simulated from measured costs.
//
// A figure alone says how busy the machine was; a ratio of two that were measured in turns says how far Drydock is from
// what is possible here. No figure is judged: the goals stand beside them. What fails the bench is a wrong result: an answer
// other than 202, or rows that are not in the database afterwards.
//
//	make bench
//	cd testbed && go run ./bench -only intake,decide -json raw.json
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
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// measurement measures one thing: it gives lines of the table, and what they were made from.
type measurement struct {
	name string // for -only, and in the raw results
	run  func(context.Context, *bench) (rows []row, raw any, err error)
}

// measurements are in the order of the table.
var measurements = []measurement{
	{"decide", measureDecide},
	{"intake", measureIntake},
	{"burst", measureBurst},
	{"pickup", measurePickup},
	{"diagnose", measureDiagnose},
	{"repair", measureRepair},
	{"start", measureStart},
	{"idle", measureIdle},
	{"history", measureHistory},
	{"pages", measurePages},
	{"queue", measureQueue},
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	var err error
	switch args := os.Args[1:]; {
	case len(args) == 1 && args[0] == bareServer:
		err = serveBare(ctx)
	case len(args) == 4 && args[0] == bareLists:
		err = readBare(ctx, args[1], args[2], args[3])
	default:
		err = run(ctx, args, os.Stdout, os.Stderr)
	}
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
	rounds  int    // windows of each side
	dir     string // where databases are made
	bin     string // where the programs of "make build testbed" are
	json    string // file for the raw results
	profile string // file for a CPU profile
	conns   []int
	nodes   []int  // of the carriers that are diagnosed
	history string // directory of a history that is kept; empty: a new one, which is removed
	buffers string // the shared_buffers of the history's Postgres
	runs    int    // of the history
	ticks   int    // of each of them
	pages   int    // first pages of each set of filters, and as many deep ones
}

// bench is what measurements share.
type bench struct {
	options
	log *slog.Logger
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	b := &bench{options: options{conns: []int{1, 16, 64, 256}, nodes: []int{100, 1000, 5000}}, log: slog.New(slog.NewTextHandler(stderr, nil))}
	chosen := measurements
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.IntVar(&b.seconds, "seconds", 3, "length of one window of the intake")
	flags.IntVar(&b.rounds, "rounds", 5, "windows of each side; medians are printed")
	// Not the default for temporary files: where that is in memory, fsync costs nothing and the figures mean nothing.
	flags.StringVar(&b.dir, "dir", "/var/tmp", "directory on the disk to measure; databases are made there and removed")
	flags.StringVar(&b.bin, "bin", "../bin", "directory of the programs that make build testbed makes")
	flags.StringVar(&b.json, "json", "", "write the raw results to this file")
	flags.StringVar(&b.profile, "cpuprofile", "", "write a CPU profile, load generators included, to this file")
	flags.Func("conns", "numbers of connections of the intake, as 1,64", func(list string) (err error) {
		b.conns, err = numbers(list)
		return err
	})
	flags.StringVar(&b.history, "history", "", "directory to keep the filled history in; asked again if it is there (default: made in -dir and removed)")
	flags.StringVar(&b.buffers, "buffers", "4GB", "cache of the history's Postgres, set when it is filled: what pages read is 1.6 GB for each million runs")
	flags.IntVar(&b.runs, "runs", 5_000_000, "runs of the history")
	flags.IntVar(&b.ticks, "ticks", 3, "ticks of each run of the history")
	flags.IntVar(&b.pages, "pages", 300, "pages to ask the history for, of each set of filters")
	flags.Func("nodes", "nodes of the carriers that are diagnosed, as 100,1000", func(list string) (err error) {
		b.nodes, err = numbers(list)
		return err
	})
	flags.Func("only", "the measurements to make, as intake,decide", func(list string) (err error) {
		chosen, err = choose(list)
		return err
	})
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 || b.seconds < 1 || b.rounds < 1 || b.runs < 1000 || b.ticks < 1 || b.pages < 10 {
		return errors.New("no arguments, -seconds, -rounds and -ticks of at least 1, -runs of 1000 and -pages of 10")
	}
	stop, err := profileTo(b.profile)
	if err != nil {
		return err
	}
	defer stop()
	r := results{Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH, CPUs: runtime.NumCPU(), Load: loadAverage(),
		Raw: map[string]any{}}
	for _, m := range chosen {
		rows, raw, err := m.run(ctx, b)
		if err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
		r.rows = append(r.rows, rows...)
		r.Raw[m.name] = raw
	}
	if b.json != "" {
		if err := writeJSON(b.json, r); err != nil {
			return err
		}
	}
	return r.writeTable(stdout)
}

// choose finds measurements by their names.
func choose(list string) ([]measurement, error) {
	var chosen []measurement
	for name := range strings.SplitSeq(list, ",") {
		i := slices.IndexFunc(measurements, func(m measurement) bool { return m.name == name })
		if i < 0 {
			return nil, fmt.Errorf("there is no measurement %q", name)
		}
		chosen = append(chosen, measurements[i])
	}
	return chosen, nil
}

func numbers(list string) ([]int, error) {
	var all []int
	for text := range strings.SplitSeq(list, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			return nil, fmt.Errorf("%q is not a number of 1 or more", text)
		}
		all = append(all, n)
	}
	return all, nil
}

// profileTo starts a CPU profile, where one is asked for.
func profileTo(path string) (stop func(), err error) {
	if path == "" {
		return func() {}, nil
	}
	f, err := os.Create(path)
	if err != nil {
		return nil, fmt.Errorf("make the profile's file: %w", err)
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, errors.Join(fmt.Errorf("start the CPU profile: %w", err), f.Close())
	}
	return func() { pprof.StopCPUProfile(); _ = f.Close() }, nil
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
