package privatepg

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Binaries is a directory that holds initdb and postgres.
type Binaries struct {
	Dir     string
	Version string // as postgres reports it: "15.18"
	Major   int
}

// Where packages put the binaries: Debian, the PostgreSQL project's RPMs,
// Alpine, and Homebrew on both kinds of Mac.
var places = []string{
	"/usr/lib/postgresql/*/bin",
	"/usr/pgsql-*/bin",
	"/usr/libexec/postgresql*",
	"/opt/homebrew/opt/postgresql@*/bin",
	"/usr/local/opt/postgresql@*/bin",
}

// Find lists the machine's PostgreSQL binaries, the best first: $PG_BIN alone
// if it is set; else the directory in PATH that has both initdb and postgres
// (Debian's has only wrappers), then the newest of where packages put them.
// With none at all the error wraps ErrNoBinaries and says what to install.
func Find(ctx context.Context, getenv func(string) string) ([]Binaries, error) {
	if dir := getenv("PG_BIN"); dir != "" {
		b, err := inspect(ctx, dir)
		if err != nil {
			return nil, fmt.Errorf("PG_BIN: %w: %w", ErrNoBinaries, err)
		}
		return []Binaries{b}, nil
	}
	var found []Binaries
	for _, pattern := range places {
		// The only error of Glob is a malformed pattern.
		dirs, _ := filepath.Glob(pattern)
		for _, dir := range dirs {
			if b, err := inspect(ctx, dir); err == nil {
				found = append(found, b)
			}
		}
	}
	slices.SortStableFunc(found, func(a, b Binaries) int { return cmp.Compare(b.Major, a.Major) })
	for _, dir := range filepath.SplitList(getenv("PATH")) {
		if b, err := inspect(ctx, dir); err == nil {
			found = append([]Binaries{b}, found...)
			break
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("look for PostgreSQL: %w", err)
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("%w: install them (Debian, Ubuntu: apt-get install postgresql), "+
			"or set PG_BIN to the directory of initdb and postgres, or database_url to a server", ErrNoBinaries)
	}
	return found, nil
}

// inspect asks the postgres in dir for its version.
func inspect(ctx context.Context, dir string) (Binaries, error) {
	for _, name := range []string{"initdb", "postgres"} {
		if _, err := exec.LookPath(filepath.Join(dir, name)); err != nil {
			return Binaries{}, err
		}
	}
	out, err := exec.CommandContext(ctx, filepath.Join(dir, "postgres"), "-V").Output()
	if err != nil {
		return Binaries{}, fmt.Errorf("run %s/postgres -V: %w", dir, err)
	}
	return parseVersion(dir, string(out))
}

// parseVersion reads "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)".
func parseVersion(dir, out string) (Binaries, error) {
	_, rest, ok := strings.Cut(out, "(PostgreSQL) ")
	fields := strings.Fields(rest)
	if !ok || len(fields) == 0 {
		return Binaries{}, fmt.Errorf("%s/postgres -V says %q, which names no version", dir, strings.TrimSpace(out))
	}
	// A version may be "15.18" or, before a release, "19beta1".
	digits := len(fields[0]) - len(strings.TrimLeft(fields[0], "0123456789"))
	major, err := strconv.Atoi(fields[0][:digits])
	if err != nil {
		return Binaries{}, fmt.Errorf("%s/postgres -V says %q, which names no version", dir, strings.TrimSpace(out))
	}
	return Binaries{Dir: dir, Version: fields[0], Major: major}, nil
}

// choose picks the binaries for a cluster: those of the version that made it,
// or the best for one that is yet to be made.
func (c cluster) choose(ctx context.Context, binDir string) (Binaries, error) {
	getenv := os.Getenv
	if binDir != "" {
		getenv = func(string) string { return binDir }
	}
	found, err := Find(ctx, getenv)
	if err != nil {
		return Binaries{}, err
	}
	text, err := os.ReadFile(filepath.Join(c.dir, "PG_VERSION"))
	if errors.Is(err, os.ErrNotExist) {
		return found[0], nil
	}
	if err != nil {
		return Binaries{}, fmt.Errorf("read the cluster's version: %w", err)
	}
	made := strings.TrimSpace(string(text))
	var have []string
	for _, b := range found {
		if strconv.Itoa(b.Major) == made {
			return b, nil
		}
		have = append(have, fmt.Sprintf("%s in %s", b.Version, b.Dir))
	}
	return Binaries{}, fmt.Errorf("%w: %s was made by PostgreSQL %s, and here is only %s: install postgresql-%s, or move the data with pg_dump",
		ErrOtherVersion, c.dir, made, strings.Join(have, ", "), made)
}
