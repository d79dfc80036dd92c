package main

import (
	"bufio"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/drydock/drydock/store/privatepg"
)

// missingError says that the machine lacks something that can be installed.
type missingError struct{ err error }

func (e *missingError) Error() string { return e.err.Error() }
func (e *missingError) Unwrap() error { return e.err }

// findPgbench returns the best of the machine's Postgres installations that has a pgbench beside it.
func findPgbench(ctx context.Context) (privatepg.Binaries, error) {
	found, err := privatepg.Find(ctx, os.Getenv)
	if err != nil {
		return privatepg.Binaries{}, &missingError{err}
	}
	for _, bin := range found {
		if _, err := exec.LookPath(filepath.Join(bin.Dir, "pgbench")); err == nil {
			return bin, nil
		}
	}
	return privatepg.Binaries{}, &missingError{fmt.Errorf("no pgbench beside %s/postgres: install the package that has it "+
		"(Debian, Ubuntu: apt-get install postgresql-%d), or set PG_BIN to a directory that holds initdb, postgres and pgbench",
		found[0].Dir, found[0].Major)}
}

// pgbenchScript writes the rows of one webhook.
//
//go:embed rows.pgbench.sql
var pgbenchScript string

// pgbench writes rows with Postgres' own load generator.
type pgbench struct {
	path, dsn string
	dir       string // for its script and logs
	payload   string
	windows   int64 // run so far; keeps their keys apart
}

// keysPerWindow is more than one client can write in a window.
const keysPerWindow = 10_000_000

// run keeps clients busy for so many seconds. Each transaction's latency comes from pgbench's log.
func (p *pgbench) run(ctx context.Context, clients, seconds int) (window, error) {
	dir, err := os.MkdirTemp(p.dir, "pgbench-")
	if err != nil {
		return window{}, fmt.Errorf("make pgbench's directory: %w", err)
	}
	defer os.RemoveAll(dir) //nolint:errcheck // its parent is removed in the end
	script := filepath.Join(dir, "rows.sql")
	if err := os.WriteFile(script, []byte(pgbenchScript), 0o600); err != nil {
		return window{}, fmt.Errorf("write pgbench's script: %w", err)
	}
	cmd := exec.CommandContext(ctx, p.path, "--no-vacuum", "--protocol=prepared", "--file="+script,
		"--client="+strconv.Itoa(clients), "--jobs="+strconv.Itoa(min(clients, runtime.NumCPU())), "--time="+strconv.Itoa(seconds),
		"--define=n="+strconv.FormatInt(p.windows*keysPerWindow, 10), "--define=payload="+p.payload,
		"--log", "--log-prefix="+filepath.Join(dir, "log"), p.dsn)
	p.windows++
	// Nothing of the caller's PGHOST and the like.
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LD_LIBRARY_PATH=" + os.Getenv("LD_LIBRARY_PATH"), "LC_ALL=C"}
	if out, err := cmd.CombinedOutput(); err != nil {
		return window{}, fmt.Errorf("run pgbench: %w: %s", errors.Join(err, ctx.Err()), strings.TrimSpace(string(out)))
	}
	logs, err := filepath.Glob(filepath.Join(dir, "log.*")) // one of each thread
	if err != nil {
		return window{}, fmt.Errorf("look for pgbench's logs: %w", err)
	}
	var all pgbenchLog
	for _, path := range logs {
		if err := all.read(path); err != nil {
			return window{}, err
		}
	}
	return summarize(all.latencies, all.last.Sub(all.first))
}

// pgbenchLog is what pgbench noted of its transactions.
type pgbenchLog struct {
	latencies   []time.Duration
	first, last time.Time // the first begin, the last end
}

func (l *pgbenchLog) read(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("read pgbench's log: %w", err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if err := l.add(lines.Text()); err != nil {
			return fmt.Errorf("read pgbench's log: %w", err)
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read pgbench's log: %w", err)
	}
	return nil
}

// add reads a line: client, transaction, microseconds taken, script, and the end's time as seconds and microseconds.
func (l *pgbenchLog) add(line string) error {
	fields := strings.Fields(line)
	if len(fields) < 6 {
		return fmt.Errorf("line %q has fewer than 6 fields", line)
	}
	var numbers [3]int64
	for i, field := range []string{fields[2], fields[4], fields[5]} {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return fmt.Errorf("line %q: %w", line, err) // a failed transaction says so in words
		}
		numbers[i] = n
	}
	took := time.Duration(numbers[0]) * time.Microsecond
	end := time.Unix(numbers[1], numbers[2]*1000)
	if begin := end.Add(-took); l.first.IsZero() || begin.Before(l.first) {
		l.first = begin
	}
	if end.After(l.last) {
		l.last = end
	}
	l.latencies = append(l.latencies, took)
	return nil
}
