package privatepg

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
)

// tempDir is short enough for a socket, and below a directory that only we
// can enter.
func tempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "drydock-privatepg-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	data := filepath.Join(dir, "data")
	if err := os.Mkdir(data, 0o700); err != nil {
		t.Fatal(err)
	}
	return data
}

// usable lists the identities that this machine allows: where root may make
// no user namespaces, the others are all there is.
func usable(t *testing.T) []identity {
	t.Helper()
	found, err := Find(t.Context(), os.Getenv)
	if err != nil {
		t.Fatal(err)
	}
	var as []identity
	for _, id := range identities() {
		if _, err := pick(t.Context(), []identity{id}, found[0]); err != nil {
			t.Logf("not on this machine: %v", err)
			continue
		}
		as = append(as, id)
	}
	if len(as) == 0 {
		t.Fatal("this machine allows no way to run Postgres")
	}
	return as
}

func options(t *testing.T, dir string) Options {
	return Options{Dir: dir, Log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))}
}

func mustStart(t *testing.T, opts Options, as []identity) *Server {
	t.Helper()
	s, err := start(t.Context(), opts, as)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return s
}

func mustStop(t *testing.T, s *Server) {
	t.Helper()
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func query[T any](t *testing.T, dsn, sql string) T {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	var v T
	if err := conn.QueryRow(t.Context(), sql).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

func execute(t *testing.T, dsn, sql string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// TestLives starts, stops and starts again on the same data, with every
// identity that this machine allows, changing it on the way: a data directory
// may move to a machine that forbids user namespaces.
func TestLives(t *testing.T) {
	dir := tempDir(t)
	opts := options(t, dir)
	as := usable(t)
	as = append(as, as[0])
	for i, id := range as {
		t.Run(fmt.Sprintf("%d %s", i, id.name), func(t *testing.T) {
			s := mustStart(t, opts, []identity{id})
			if fsync := query[string](t, s.DSN(), `SHOW fsync`); fsync != "on" {
				t.Errorf("fsync is %s", fsync)
			}
			if addresses := query[string](t, s.DSN(), `SHOW listen_addresses`); addresses != "" {
				t.Errorf("it listens on %q", addresses)
			}
			execute(t, s.DSN(), `CREATE TABLE IF NOT EXISTS start(n int)`)
			if n := query[int](t, s.DSN(), `INSERT INTO start SELECT count(*)+1 FROM start RETURNING n`); n != i+1 {
				t.Errorf("row of start %d says %d: earlier ones are lost", i+1, n)
			}
			group, err := syscall.Getpgid(s.PID())
			if err != nil || group == syscall.Getpgrp() {
				t.Errorf("it is in our process group (%v), where a Ctrl-C reaches it", err)
			}
			mustStop(t, s)
			if pids, err := processesIn(filepath.Join(dir, "pg")); err != nil || len(pids) > 0 {
				t.Errorf("after the stop processes %v remain (%v)", pids, err)
			}
			mustStop(t, s)
		})
	}
}

func TestThrowaway(t *testing.T) {
	t.Parallel()
	opts := options(t, tempDir(t))
	opts.Throwaway = true
	s := mustStart(t, opts, identities())
	if fsync := query[string](t, s.DSN(), `SHOW fsync`); fsync != "off" {
		t.Errorf("fsync is %s", fsync)
	}
}

func TestLongDirectory(t *testing.T) {
	t.Parallel()
	opts := options(t, filepath.Join(tempDir(t), strings.Repeat("long/", 20)))
	opts.Throwaway = true
	s := mustStart(t, opts, identities())
	query[int](t, s.DSN(), `SELECT 1`)
	socket := s.socket
	if !strings.HasPrefix(socket, "/tmp/") {
		t.Fatalf("its socket is in %q, not in a short directory", socket)
	}
	mustStop(t, s)
	if _, err := os.Stat(socket); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket's directory is left: %v", err)
	}
}

// TestKill9 kills the server while rows are being committed: none that was
// acknowledged may be lost, and the next start needs no help.
func TestKill9(t *testing.T) {
	t.Parallel()
	opts := options(t, tempDir(t))
	s := mustStart(t, opts, identities())
	conn, err := pgx.Connect(t.Context(), s.DSN())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), `CREATE TABLE row(n int PRIMARY KEY)`); err != nil {
		t.Fatal(err)
	}
	acknowledged := 0
	for {
		if acknowledged == 200 {
			// The server dies somewhere in the commits that follow.
			if err := syscall.Kill(s.PID(), syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := conn.Exec(t.Context(), `INSERT INTO row VALUES ($1)`, acknowledged+1); err != nil {
			break
		}
		acknowledged++
	}
	<-s.Exited()
	mustStop(t, s)

	s = mustStart(t, opts, identities())
	if n := query[int](t, s.DSN(), fmt.Sprintf(`SELECT count(*) FROM row WHERE n <= %d`, acknowledged)); n != acknowledged {
		t.Errorf("%d of %d acknowledged rows are there", n, acknowledged)
	}
}

// TestStalePidFile is a container that starts again: the pid in the file is
// alive, and is somebody else.
func TestStalePidFile(t *testing.T) {
	t.Parallel()
	opts := options(t, tempDir(t))
	mustStop(t, mustStart(t, opts, identities()))
	stranger := exec.CommandContext(t.Context(), "sleep", "600")
	if err := stranger.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stranger.Wait() }()
	defer func() { _ = stranger.Process.Kill() }()
	stale := fmt.Sprintf("%d\n%s/pg\n1700000000\n5432\n/tmp\n\n  1 1\nready\n", stranger.Process.Pid, opts.Dir)
	if err := os.WriteFile(filepath.Join(opts.Dir, "pg", "postmaster.pid"), []byte(stale), 0o600); err != nil {
		t.Fatal(err)
	}
	s := mustStart(t, opts, identities())
	query[int](t, s.DSN(), `SELECT 1`)
}

func TestUnfinishedInitdb(t *testing.T) {
	t.Parallel()
	opts := options(t, tempDir(t))
	opts.Throwaway = true
	half := filepath.Join(opts.Dir, "pg.new-1")
	if err := os.MkdirAll(filepath.Join(half, "base"), 0o700); err != nil {
		t.Fatal(err)
	}
	mustStart(t, opts, identities())
	if _, err := os.Stat(half); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the unfinished cluster is left: %v", err)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	opts := options(t, dir)
	s := mustStart(t, opts, identities())

	t.Run("second owner", func(t *testing.T) {
		_, err := Start(t.Context(), opts)
		if !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), strconv.Itoa(os.Getpid())) {
			t.Fatalf("got %v, want ErrInUse and the owner's pid", err)
		}
		query[int](t, s.DSN(), `SELECT 1`)
	})
	mustStop(t, s)

	t.Run("other major version", func(t *testing.T) {
		version := filepath.Join(dir, "pg", "PG_VERSION")
		before, err := os.ReadFile(version)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(version, []byte("9\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err = Start(t.Context(), opts)
		if !errors.Is(err, ErrOtherVersion) || !strings.Contains(err.Error(), "postgresql-9") {
			t.Fatalf("got %v, want ErrOtherVersion and what to install", err)
		}
		// The refusal gave the directory free again.
		if err := os.WriteFile(version, before, 0o600); err != nil {
			t.Fatal(err)
		}
		mustStop(t, mustStart(t, opts, identities()))
	})

	t.Run("no binaries", func(t *testing.T) {
		opts := options(t, tempDir(t))
		opts.BinDir = "/nonexistent"
		if _, err := Start(t.Context(), opts); !errors.Is(err, ErrNoBinaries) {
			t.Fatalf("got %v, want ErrNoBinaries", err)
		}
		if _, err := Find(t.Context(), func(string) string { return "/nonexistent" }); !errors.Is(err, ErrNoBinaries) {
			t.Fatalf("Find: got %v, want ErrNoBinaries", err)
		}
	})

	t.Run("broken configuration", func(t *testing.T) {
		conf := filepath.Join(dir, "pg", "postgresql.conf")
		if err := os.WriteFile(conf, []byte("no_such_setting = 1\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Start(t.Context(), opts)
		if err == nil || !strings.Contains(err.Error(), "no_such_setting") {
			t.Fatalf("got %v, want the server's own words", err)
		}
	})

	t.Run("no time", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := Start(ctx, options(t, tempDir(t))); !errors.Is(err, context.Canceled) {
			t.Fatalf("got %v, want context.Canceled", err)
		}
	})
}

// TestOwnerDies runs this test binary as an owner of its own and kills it:
// its server must go too, and the next owner must get the directory.
func TestOwnerDies(t *testing.T) {
	t.Parallel()
	for _, id := range usable(t) {
		t.Run(id.name, func(t *testing.T) {
			opts := options(t, tempDir(t))
			owner := exec.CommandContext(t.Context(), os.Args[0])
			owner.Env = append(os.Environ(), "PRIVATEPG_TEST_OWNER="+opts.Dir, "PRIVATEPG_TEST_IDENTITY="+id.name)
			out, err := owner.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			owner.Stderr = t.Output()
			if err := owner.Start(); err != nil {
				t.Fatal(err)
			}
			line, err := bufio.NewReader(out).ReadString('\n')
			if err != nil {
				t.Fatalf("the owner says %q: %v", line, err)
			}
			if err := owner.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = owner.Wait() // "signal: killed"

			// Not after, but while the old server shuts down.
			s := mustStart(t, opts, []identity{id})
			if n := query[int](t, s.DSN(), `SELECT n FROM left_behind`); n != 7 {
				t.Errorf("the row says %d", n)
			}
			pid, err := strconv.Atoi(strings.TrimSpace(line))
			if err != nil {
				t.Fatal(err)
			}
			pids, err := processesIn(filepath.Join(opts.Dir, "pg"))
			if err != nil || slices.Contains(pids, pid) || !slices.Contains(pids, s.PID()) {
				t.Errorf("processes %v work in the cluster, want the new server %d and not the old %d (%v)", pids, s.PID(), pid, err)
			}
		})
	}
}

// TestMain is also the owner that TestOwnerDies kills.
func TestMain(m *testing.M) {
	if dir := os.Getenv("PRIVATEPG_TEST_OWNER"); dir != "" {
		if err := beOwner(context.Background(), dir, os.Getenv("PRIVATEPG_TEST_IDENTITY")); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func beOwner(ctx context.Context, dir, as string) error {
	var chosen []identity
	for _, id := range identities() {
		if id.name == as {
			chosen = append(chosen, id)
		}
	}
	s, err := start(ctx, Options{Dir: dir}, chosen)
	if err != nil {
		return err
	}
	conn, err := pgx.Connect(ctx, s.DSN())
	if err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, `CREATE TABLE left_behind AS SELECT 7 AS n`); err != nil {
		return err
	}
	fmt.Println(s.PID())
	<-s.Exited()
	return errors.New("the server ended though its owner lives")
}

func TestParseVersion(t *testing.T) {
	t.Parallel()
	for out, want := range map[string]int{
		"postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n": 15,
		"postgres (PostgreSQL) 9.6.24\n":                         9,
		"postgres (PostgreSQL) 19beta1\n":                        19,
		"postgres (PostgreSQL) \n":                               0,
		"postgres (EnterpriseDB) 15.1\n":                         0,
		"":                                                       0,
	} {
		b, err := parseVersion("/bin", out)
		if b.Major != want || (err == nil) != (want != 0) {
			t.Errorf("%q: major %d, %v", out, b.Major, err)
		}
	}
}

// A second program finds the server, and is told when there is none.
func TestRunning(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	if _, err := Running(t.Context(), dir); !errors.Is(err, ErrNoCluster) {
		t.Errorf("before the first start: %v", err)
	}
	opts := options(t, dir)
	opts.Throwaway = true
	s := mustStart(t, opts, identities())
	dsn, err := Running(t.Context(), dir)
	if err != nil || query[int](t, dsn, `SELECT 1`) != 1 {
		t.Errorf("%q, %v", dsn, err)
	}
	mustStop(t, s)
	if _, err := Running(t.Context(), dir); !errors.Is(err, ErrNotRunning) {
		t.Errorf("after the stop: %v", err)
	}
}
