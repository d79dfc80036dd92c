// Package privatepg runs a Postgres server of Drydock's own, from binaries
// that the machine already has. It is what serve uses when the configuration
// names no database, and what the tests run on.
//
// The server listens on a unix socket only, in a directory that only its owner
// can enter. Its cluster is kept in the data directory and survives restarts,
// crashes of the server and of Drydock, with fsync on. It is tied to its
// starter: when Drydock dies, however it dies, Postgres shuts down too.
//
// Postgres refuses to run as root. For root, the server runs in a user
// namespace in which root has another number, so that its files stay root's
// and no account is needed; where the machine forbids user namespaces (many
// containers do), it runs as the account postgres, else nobody, which then
// owns the cluster's files.
//
// One process owns a data directory; a second is refused. A cluster is never
// opened by another major version of Postgres than the one that made it.
package privatepg

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// What callers may want to tell apart in an error of Start.
var (
	ErrNoBinaries   = errors.New("no PostgreSQL server binaries found")
	ErrInUse        = errors.New("data directory is in use")
	ErrOtherVersion = errors.New("cluster is of another PostgreSQL version")
)

// Role is the database's superuser, and the owner of all that Drydock keeps.
const Role = "drydock"

// Options say where and how to run a server.
type Options struct {
	// Dir is the data directory, made when absent. The cluster is in Dir/pg.
	Dir string
	// Log receives the server's own messages and what Start does.
	Log *slog.Logger
	// Throwaway trades all durability for speed: what a crash leaves is
	// worthless. For tests; never for measuring durability or recovery.
	Throwaway bool
	// Connections is how many there may be at one time. 0: 100, or 300 of a
	// throwaway.
	Connections int
	// BinDir holds initdb and postgres. Empty: the fitting one of Find.
	BinDir string
}

// Server is a running Postgres.
type Server struct {
	dsn    string
	log    *slog.Logger
	proc   *child
	owner  *os.File // the lock on the data directory
	socket string   // a directory outside the data directory, to be removed; may be empty

	stopping atomic.Bool
}

// Start makes the cluster if there is none yet, starts its server and returns
// when it takes connections. ctx bounds the start alone; the server runs until
// Stop. Recovery after a crash may take a while: it is waited for and logged.
// Errors wrap ErrNoBinaries, ErrInUse or ErrOtherVersion where they apply.
func Start(ctx context.Context, opts Options) (*Server, error) {
	s, err := start(ctx, opts, identities())
	if err != nil {
		return nil, fmt.Errorf("start private Postgres: %w", err)
	}
	return s, nil
}

func start(ctx context.Context, opts Options, as []identity) (_ *Server, err error) {
	if opts.Dir == "" {
		return nil, errors.New("no data directory given")
	}
	dir, err := filepath.Abs(opts.Dir)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make data directory: %w", err)
	}
	// The kernel names processes' directories without symbolic links.
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return nil, fmt.Errorf("resolve data directory: %w", err)
	}
	log := opts.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}

	owner, err := lock(filepath.Join(dir, "pg.lock"))
	if err != nil {
		return nil, err
	}
	s := &Server{log: log, owner: owner}
	defer func() {
		if err != nil {
			s.release()
		}
	}()

	c := cluster{dir: filepath.Join(dir, "pg"), throwaway: opts.Throwaway, connections: opts.Connections}
	if c.bin, err = c.choose(ctx, opts.BinDir); err != nil {
		return nil, err
	}
	if c.as, err = pick(ctx, as, c.bin); err != nil {
		return nil, err
	}
	if err := c.awaitPredecessor(ctx, log); err != nil {
		return nil, err
	}
	if err := c.ensure(ctx, log); err != nil {
		return nil, err
	}
	socket, err := c.socketDir(dir)
	if err != nil {
		return nil, err
	}
	if filepath.Dir(socket) != dir {
		s.socket = socket
	}
	s.dsn = dsn(socket)

	if s.proc, err = spawn(c.command("postgres", c.serverArgs(socket)...), log); err != nil {
		return nil, fmt.Errorf("run %s/postgres: %w", c.bin.Dir, err)
	}
	if err := s.awaitReady(ctx, c); err != nil {
		s.proc.kill()
		return nil, err
	}
	go s.watch()
	log.Info("private Postgres is ready", "dir", c.dir, "version", c.bin.Version, "runs_as", c.as.name, "fsync", !opts.Throwaway)
	return s, nil
}

// DSN is the URL of the server's database, for pgx.
func (s *Server) DSN() string { return s.dsn }

// PID is the process id of the server.
func (s *Server) PID() int { return s.proc.cmd.Process.Pid }

// Exited is closed when the server has ended, by Stop or by itself. A server
// that ended by itself is not started again: its owner should end too.
func (s *Server) Exited() <-chan struct{} { return s.proc.exited }

// Stop disconnects all clients, writes a checkpoint and ends the server. When
// ctx ends before that is done, the server is ended at once, which loses
// nothing that was committed but makes the next start replay the log; Stop
// then returns ctx's error. Stopping twice is safe.
func (s *Server) Stop(ctx context.Context) error {
	defer s.release()
	s.stopping.Store(true)
	s.proc.signal(syscall.SIGINT) // Postgres' "fast shutdown"
	select {
	case <-s.proc.exited:
		return nil
	case <-ctx.Done():
		s.proc.kill()
		return fmt.Errorf("stop private Postgres: %w", ctx.Err())
	}
}

// watch says so when the server ends though nobody stopped it.
func (s *Server) watch() {
	<-s.proc.exited
	if !s.stopping.Load() {
		s.log.Error("private Postgres ended by itself", "error", s.proc.err, "last_output", s.proc.out.tail())
	}
}

// release gives up what a start took, except the process.
func (s *Server) release() {
	if s.socket != "" {
		_ = os.RemoveAll(s.socket)
	}
	unlock(s.owner)
}

// awaitReady waits until the server says in its pid file that it takes
// connections. It is what pg_ctl does: trying to connect instead would fill
// the server's log with refusals.
func (s *Server) awaitReady(ctx context.Context, c cluster) error {
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	say := time.NewTicker(10 * time.Second)
	defer say.Stop()
	pid := strconv.Itoa(s.PID())
	for {
		// Line 1 is the process id, line 8 the state.
		text, err := os.ReadFile(c.pidFile())
		if lines := strings.Split(string(text), "\n"); err == nil &&
			len(lines) > 7 && lines[0] == pid && strings.TrimSpace(lines[7]) == "ready" {
			return nil
		}
		select {
		case <-s.proc.exited:
			return fmt.Errorf("the server ended: %w: %s", s.proc.err, s.proc.out.tail())
		case <-ctx.Done():
			return fmt.Errorf("wait for the server: %w: %s", ctx.Err(), s.proc.out.tail())
		case <-say.C:
			s.log.Info("private Postgres is still starting", "dir", c.dir)
		case <-poll.C:
		}
	}
}

// child is a process that dies with this one.
type child struct {
	cmd    *exec.Cmd
	out    *lineLog
	exited chan struct{} // closed after err is set
	err    error
}

// spawn starts cmd. The kernel's promise to signal a child when its parent
// dies is about the parent's thread: the one that starts it must live on, so
// a goroutine keeps it until the child has ended.
func spawn(cmd *exec.Cmd, log *slog.Logger) (*child, error) {
	c := &child{cmd: cmd, out: &lineLog{log: log}, exited: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = c.out, c.out
	// A killed server's orphans may hold its output open for a moment.
	cmd.WaitDelay = 5 * time.Second
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		c.err = cmd.Wait()
		if c.err == nil {
			c.err = errors.New("exit status 0")
		}
		close(c.exited)
	}()
	return c, <-started
}

// signal is best effort: the process may have ended.
func (c *child) signal(sig os.Signal) { _ = c.cmd.Process.Signal(sig) }

// kill ends the process at once: first the server's own immediate shutdown,
// which takes its children along.
func (c *child) kill() {
	c.signal(syscall.SIGQUIT)
	select {
	case <-c.exited:
	case <-time.After(5 * time.Second):
		c.signal(syscall.SIGKILL)
		<-c.exited
	}
}
