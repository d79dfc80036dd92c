package privatepg

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// cluster is a directory of Postgres' data, and what runs it.
type cluster struct {
	dir       string
	bin       Binaries
	as        identity
	throwaway bool
	// connections is Options.Connections.
	connections int
}

func (c cluster) pidFile() string { return filepath.Join(c.dir, "postmaster.pid") }

// lock makes this process the owner of a data directory. The kernel frees the
// lock when the process ends, however it ends.
func lock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock file: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		defer f.Close()
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		text, _ := os.ReadFile(path) // the pid only makes the message better
		return nil, fmt.Errorf("%w: process %s owns %s", ErrInUse, strings.TrimSpace(string(text)), filepath.Dir(path))
	}
	err = errors.Join(f.Truncate(0), second(f.WriteString(strconv.Itoa(os.Getpid())+"\n")))
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("write lock file: %w", err)
	}
	return f, nil
}

// unlock gives the data directory free. Closing alone would do so only when no
// child that another goroutine is just starting holds a copy of the file.
func unlock(f *os.File) {
	_ = syscall.Flock(int(f.Fd()), syscall.LOCK_UN)
	_ = f.Close()
}

func second[T any](_ T, err error) error { return err }

// predecessorPatience is how long the server of an owner that died may take
// for its shutdown. After a kill -9 of the owner it was gone in 2 s.
const predecessorPatience = 30 * time.Second

// awaitPredecessor makes sure that nobody else works in the cluster. We hold
// the lock, so a server that still runs lost its owner and is shutting down.
// Then a pid file that is left is stale. Postgres would see that too, unless
// the pid belongs to another process by now, as after each restart of a
// container; then it would refuse to start for ever.
func (c cluster) awaitPredecessor(ctx context.Context, log *slog.Logger) error {
	ctx, cancel := context.WithTimeout(ctx, predecessorPatience)
	defer cancel()
	poll := time.NewTicker(50 * time.Millisecond)
	defer poll.Stop()
	for said := false; ; said = true {
		pids, err := processesIn(c.dir)
		if errors.Is(err, errors.ErrUnsupported) {
			return nil // Postgres' own check of the pid file must do
		}
		if err != nil {
			return fmt.Errorf("look for another server: %w", err)
		}
		if len(pids) == 0 {
			break
		}
		if !said {
			log.Info("waiting for the private Postgres of an earlier process to end", "pids", pids)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: processes %v still work in %s: %w", ErrInUse, pids, c.dir, ctx.Err())
		case <-poll.C:
		}
	}
	if err := os.Remove(c.pidFile()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove stale pid file: %w", err)
	}
	return nil
}

// ensure makes the cluster unless it is there, and gives its files to the
// identity that will run it.
func (c cluster) ensure(ctx context.Context, log *slog.Logger) error {
	_, err := os.Stat(filepath.Join(c.dir, "PG_VERSION"))
	switch {
	case errors.Is(err, os.ErrNotExist):
		return c.create(ctx, log)
	case err != nil:
		return fmt.Errorf("look at the cluster: %w", err)
	}
	return c.as.take(c.dir)
}

// create runs initdb in a directory beside the final one and renames it when
// all is done: a start that is killed half-way leaves no half cluster.
func (c cluster) create(ctx context.Context, log *slog.Logger) error {
	parent := filepath.Dir(c.dir)
	halves, _ := filepath.Glob(c.dir + ".new-*") // an error means a malformed pattern
	for _, half := range halves {
		if err := os.RemoveAll(half); err != nil {
			return fmt.Errorf("remove unfinished cluster: %w", err)
		}
	}
	log.Info("making the private Postgres cluster", "dir", c.dir, "version", c.bin.Version)
	half, err := os.MkdirTemp(parent, filepath.Base(c.dir)+".new-")
	if err != nil {
		return fmt.Errorf("make cluster directory: %w", err)
	}
	if err := c.as.take(half); err != nil {
		return err
	}
	args := []string{
		"-D", half, "-U", Role, "--encoding=UTF8", "--locale=C",
		// Whoever can enter the socket's directory is let in; nobody else can try.
		"--auth-local=trust", "--auth-host=reject",
	}
	if c.throwaway {
		args = append(args, "--no-sync")
	} else {
		args = append(args, "--data-checksums")
	}
	initdb, err := spawn(c.command("initdb", args...), log)
	if err != nil {
		return fmt.Errorf("run %s/initdb: %w", c.bin.Dir, err)
	}
	select {
	case <-initdb.exited:
	case <-ctx.Done():
		initdb.kill()
		return fmt.Errorf("make the cluster: %w", ctx.Err())
	}
	if !initdb.cmd.ProcessState.Success() {
		return fmt.Errorf("make the cluster: initdb: %w: %s", initdb.err, initdb.out.tail())
	}
	if err := os.Rename(half, c.dir); err != nil {
		return fmt.Errorf("move the cluster to its place: %w", err)
	}
	return c.syncDir(parent)
}

// syncDir makes the rename survive a power cut.
func (c cluster) syncDir(dir string) error {
	if c.throwaway {
		return nil
	}
	f, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	return nil
}

// longestSocketDir leaves room for "/.s.PGSQL.5432" in the 107 characters
// that a socket's path may have.
const longestSocketDir = 107 - len("/.s.PGSQL.5432")

// socketDir makes the directory of the server's socket: in the data directory
// if its path is short enough, else a temporary one.
func (c cluster) socketDir(dir string) (string, error) {
	socket := filepath.Join(dir, "pg-socket")
	err := error(nil)
	if len(socket) <= longestSocketDir {
		err = os.MkdirAll(socket, 0o700)
	} else {
		socket, err = os.MkdirTemp("/tmp", "drydock-pg-")
	}
	if err != nil {
		return "", fmt.Errorf("make socket directory: %w", err)
	}
	return socket, c.as.take(socket)
}

func (c cluster) serverArgs(socket string) []string {
	settings := map[string]string{
		"listen_addresses":        "",
		"unix_socket_directories": socket,
		"unix_socket_permissions": "0700",
		"port":                    "5432", // only part of the socket's name
		"cluster_name":            "drydock",
		"logging_collector":       "off",
		"log_destination":         "stderr",
		"log_line_prefix":         "",
		"log_checkpoints":         "off",
		// Refused statements are their sender's matter and are told there.
		"log_min_messages": "log",
		// Settings of a process that uses this one Postgres alone.
		"max_connections":                     strconv.Itoa(cmp.Or(c.connections, 100)),
		"idle_in_transaction_session_timeout": "60s",
	}
	if c.throwaway {
		settings["fsync"] = "off"
		settings["synchronous_commit"] = "off"
		settings["full_page_writes"] = "off"
		settings["autovacuum"] = "off"
		settings["max_connections"] = strconv.Itoa(cmp.Or(c.connections, 300))
	}
	args := []string{"-D", c.dir}
	for name, value := range settings {
		args = append(args, "-c", name+"="+value)
	}
	return args
}

// command is one of the cluster's binaries, run as its identity, with an
// environment of its own: a stray PGDATA must not matter, and Drydock's
// secrets are not Postgres' business.
func (c cluster) command(name string, args ...string) *exec.Cmd {
	// The binaries look for each other and for their files beside their own
	// path, and that they take from their zeroth argument.
	path := filepath.Join(c.bin.Dir, name)
	return &exec.Cmd{
		Path:        path,
		Args:        append([]string{path}, args...),
		Env:         []string{"PATH=" + os.Getenv("PATH"), "LD_LIBRARY_PATH=" + os.Getenv("LD_LIBRARY_PATH"), "LC_ALL=C", "TZ=UTC"},
		Dir:         "/",
		SysProcAttr: c.as.attr(),
	}
}
