// Package pgtest gives tests real Postgres databases.
//
// Each test binary that asks for one has a private server of its own, started
// by the first test that needs it and thrown away at the end. The schema is
// applied once, to a template; every test gets a copy of it, in about 40 ms:
//
//	func TestMain(m *testing.M) { pgtest.Main(m) }
//
//	func TestRuns(t *testing.T) {
//		dsn := pgtest.New(t, migrations.Up)
//		...
//
// With TEST_DATABASE_URL set, the databases are made on that server instead,
// and dropped at the end; its role must be allowed to create databases. A
// machine without Postgres fails the test: it never skips it.
//
// The shared server runs without fsync. A test of durability or recovery
// starts one with Start.
package pgtest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/drydock/drydock/store/privatepg"
)

// shared is the server that all tests of a binary use.
var shared struct {
	sync.Mutex
	inMain   bool
	dir      string
	server   *privatepg.Server // nil when TEST_DATABASE_URL names one
	admin    *url.URL
	template string // a database that migrate has prepared
	made     []string
}

// Main runs the tests of a package and removes what New left behind. It does
// not return.
func Main(m *testing.M) {
	shared.inMain = true
	code := m.Run()
	if err := closeShared(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "pgtest:", err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// New makes a database for one test and returns its DSN. migrate applies the
// schema, for the whole binary once; nil makes an empty database.
func New(t testing.TB, migrate func(ctx context.Context, dsn string) error) string {
	t.Helper()
	dsn, err := clone(t.Context(), migrate)
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	return dsn
}

func clone(ctx context.Context, migrate func(context.Context, string) error) (string, error) {
	shared.Lock() // Postgres copies a template for one at a time anyway
	defer shared.Unlock()
	if !shared.inMain {
		return "", errors.New("this package has no func TestMain(m *testing.M) { pgtest.Main(m) }")
	}
	if err := openShared(ctx); err != nil {
		return "", err
	}
	template := "template0"
	if migrate != nil {
		if shared.template == "" {
			name, err := createDatabase(ctx, template)
			if err != nil {
				return "", err
			}
			if err := migrate(ctx, dsnOf(name)); err != nil {
				return "", fmt.Errorf("migrate the template database: %w", err)
			}
			shared.template = name
		}
		template = shared.template
	}
	name, err := createDatabase(ctx, template)
	if err != nil {
		return "", err
	}
	return dsnOf(name), nil
}

// openShared starts the server unless it runs. It outlives the test whose
// context this is.
func openShared(ctx context.Context) error {
	if shared.admin != nil {
		return nil
	}
	address := os.Getenv("TEST_DATABASE_URL")
	if address == "" {
		dir, err := shortTempDir()
		if err != nil {
			return err
		}
		shared.dir = dir
		shared.server, err = privatepg.Start(ctx, privatepg.Options{Dir: dir, Throwaway: true})
		if err != nil {
			return err
		}
		address = shared.server.DSN()
	}
	admin, err := url.Parse(address)
	if err != nil || admin.Scheme == "" {
		return errors.New("TEST_DATABASE_URL must be a URL: postgres://user:password@host/database")
	}
	shared.admin = admin
	return nil
}

func closeShared(ctx context.Context) error {
	shared.Lock()
	defer shared.Unlock()
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	var errs []error
	if shared.server != nil {
		errs = append(errs, shared.server.Stop(ctx))
	} else if len(shared.made) > 0 {
		errs = append(errs, dropAll(ctx))
	}
	if shared.dir != "" {
		errs = append(errs, os.RemoveAll(shared.dir))
	}
	return errors.Join(errs...)
}

func dropAll(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, shared.admin.String())
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	var errs []error
	for _, name := range shared.made {
		_, err := conn.Exec(ctx, "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)")
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// createDatabase copies a template to a database with a random name, so that
// test binaries can share a server.
func createDatabase(ctx context.Context, template string) (string, error) {
	conn, err := pgx.Connect(ctx, shared.admin.String())
	if err != nil {
		return "", err
	}
	defer conn.Close(ctx)
	name := fmt.Sprintf("drydock_test_%x", random())
	if _, err := conn.Exec(ctx, "CREATE DATABASE "+name+" TEMPLATE "+template); err != nil {
		return "", fmt.Errorf("create database from %s: %w", template, err)
	}
	shared.made = append(shared.made, name)
	return name, nil
}

func random() []byte {
	b := make([]byte, 8)
	_, _ = rand.Read(b) // never fails
	return b
}

func dsnOf(database string) string {
	u := *shared.admin
	u.Path = "/" + database
	return u.String()
}

// shortTempDir makes a directory in which a socket's path stays within 107
// characters, unlike in t.TempDir with its test's name.
func shortTempDir() (string, error) {
	return os.MkdirTemp("/tmp", "drydock-pgtest-")
}

// Cluster is a server of a test's own, with fsync on, that survives being
// killed. Its DSN stays the same over restarts.
type Cluster struct {
	opts   privatepg.Options
	server *privatepg.Server
}

// Start starts a Cluster, which is stopped and removed when the test ends.
func Start(t testing.TB) *Cluster {
	t.Helper()
	dir, err := shortTempDir()
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	c := &Cluster{opts: privatepg.Options{Dir: dir, Log: log}}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 30*time.Second)
		defer cancel()
		if c.server != nil {
			if err := c.server.Stop(ctx); err != nil {
				t.Errorf("pgtest: %v", err)
			}
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("pgtest: %v", err)
		}
	})
	c.start(t)
	return c
}

func (c *Cluster) start(t testing.TB) {
	t.Helper()
	server, err := privatepg.Start(t.Context(), c.opts)
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	c.server = server
}

// DSN is the URL of the cluster's database.
func (c *Cluster) DSN() string { return c.server.DSN() }

// Kill ends the server as kill -9 does, and returns when it is gone. The
// database is down until Restart.
func (c *Cluster) Kill(t testing.TB) {
	t.Helper()
	if err := syscall.Kill(c.server.PID(), syscall.SIGKILL); err != nil {
		t.Fatalf("pgtest: kill Postgres: %v", err)
	}
	<-c.server.Exited()
}

// Restart starts the server again; one that runs is shut down first.
func (c *Cluster) Restart(t testing.TB) {
	t.Helper()
	if err := c.server.Stop(t.Context()); err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	c.start(t)
}
