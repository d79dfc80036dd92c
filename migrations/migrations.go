// Package migrations holds the database schema as numbered SQL files and
// applies them with golang-migrate.
//
// Two kinds of files share the one sequence of numbers. NNNNNN_river_VVV is
// version VVV of River's own schema, copied from the River module that go.mod
// names; River's versions can not share a file, because version 004 adds a
// value to an enum that a later one uses, which Postgres allows only after a
// commit. All other files are Drydock's. The numbers of the first River files
// begin at 000001 and Drydock's at 000100; golang-migrate applies only what is
// numbered above the database's version, so every later file, River's too,
// takes the next number above the highest.
//
// After an upgrade of River the package's test fails until its new versions
// are here; go test ./migrations -update writes them.
//
// A file is sent to Postgres as one statement group and thus is one
// transaction, unless it says otherwise. A file that fails leaves the version
// marked dirty, and nothing is applied until a person has looked.
package migrations

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/golang-migrate/migrate/v4"
	pgxdriver "github.com/golang-migrate/migrate/v4/database/pgx/v5"
	"github.com/golang-migrate/migrate/v4/source"
	"github.com/golang-migrate/migrate/v4/source/iofs"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
)

//go:embed *.sql
var files embed.FS

// lockKey is the advisory lock that one replica at a time holds while it
// migrates. golang-migrate has a lock of its own, but waits for it without
// obeying a context, and its Close then waits too.
const lockKey = 0x6472_7964_6f63_6b21 // "drydock!"

// State is where a database stands.
type State struct {
	Version uint   // of the last file applied; 0 when none is
	Latest  uint   // of the last file in this binary
	Dirty   bool   // the file of Version did not end; a person must look
	Pending []uint // files in this binary that are not applied yet
	Newer   bool   // the database has been migrated by a newer binary
}

// DirtyError says that a migration was interrupted, so that nobody knows
// whether its file took effect.
type DirtyError struct{ Version uint }

func (e DirtyError) Error() string {
	return fmt.Sprintf("database is marked dirty at migration %d: compare the schema with migrations/%06d_*.up.sql, "+
		"then UPDATE schema_migrations SET dirty = false, with version %d if the file took effect, else the number before it",
		e.Version, e.Version, e.Version)
}

// Up applies every pending file. Replicas that call it together wait for each
// other, and all but one find nothing left to do. A database that a newer
// binary has migrated is left as it is, without an error: during a rolling
// upgrade old replicas start beside new ones. When ctx ends, Up stops after
// the file it is in and returns ctx's error; calling it again goes on.
func Up(ctx context.Context, dsn string) error {
	return change(ctx, dsn, func(m *migrate.Migrate, s State) error {
		if len(s.Pending) == 0 {
			return nil
		}
		return m.Up()
	})
}

// Down takes back the last applied file, and with it the data that only that
// file's tables and columns held. With nothing applied it is an error.
func Down(ctx context.Context, dsn string) error {
	return change(ctx, dsn, func(m *migrate.Migrate, s State) error {
		if s.Version == 0 {
			return errors.New("no migration is applied")
		}
		if s.Newer {
			return fmt.Errorf("database is at migration %d, of a newer binary than this one (%d): use that binary", s.Version, s.Latest)
		}
		return m.Steps(-1)
	})
}

// Status reads where the database stands and changes nothing, except that it
// makes the empty table of versions in a database that has none.
func Status(ctx context.Context, dsn string) (State, error) {
	var s State
	err := withMigrate(ctx, dsn, func(m *migrate.Migrate) (err error) {
		s, err = state(m)
		return err
	})
	return s, err
}

// change runs apply while holding the lock, and refuses a dirty database.
func change(ctx context.Context, dsn string, apply func(*migrate.Migrate, State) error) error {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return fmt.Errorf("migrate: connect: %w", err)
	}
	// Closing the connection frees the lock.
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	if _, err := conn.Exec(ctx, `SELECT pg_advisory_lock($1)`, lockKey); err != nil {
		return fmt.Errorf("migrate: wait for another replica's migration: %w", err)
	}

	return withMigrate(ctx, dsn, func(m *migrate.Migrate) error {
		s, err := state(m)
		if err != nil {
			return err
		}
		if s.Dirty {
			return DirtyError{Version: s.Version}
		}
		stop := context.AfterFunc(ctx, func() { m.GracefulStop <- true })
		defer stop()
		if err := apply(m, s); err != nil {
			return err
		}
		// A graceful stop returns nil though files may be left.
		return ctx.Err()
	})
}

func withMigrate(ctx context.Context, dsn string, use func(*migrate.Migrate) error) error {
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	db := stdlib.OpenDB(*config)
	defer func() { _ = db.Close() }()
	// golang-migrate's driver takes no context; a database that does not
	// answer must be found out before it.
	if err := db.PingContext(ctx); err != nil {
		return fmt.Errorf("migrate: connect: %w", err)
	}
	driver, err := pgxdriver.WithInstance(db, &pgxdriver.Config{})
	if err != nil {
		return fmt.Errorf("migrate: open database: %w", err)
	}
	defer func() { _ = driver.Close() }()
	src, err := iofs.New(files, ".")
	if err != nil {
		return fmt.Errorf("migrate: read embedded files: %w", err)
	}
	m, err := migrate.NewWithInstance("embedded", src, "postgres", driver)
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	if err := use(m); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	return nil
}

func state(m *migrate.Migrate) (State, error) {
	all, err := versions()
	if err != nil {
		return State{}, err
	}
	s := State{Latest: all[len(all)-1]}
	version, dirty, err := m.Version()
	switch {
	case errors.Is(err, migrate.ErrNilVersion):
	case err != nil:
		return State{}, fmt.Errorf("read version: %w", err)
	default:
		s.Version, s.Dirty = version, dirty
	}
	for _, v := range all {
		if v > s.Version {
			s.Pending = append(s.Pending, v)
		}
	}
	s.Newer = s.Version > s.Latest
	return s, nil
}

// versions lists the numbers of the embedded files, in order.
func versions() ([]uint, error) {
	names, err := fs.Glob(files, "*.up.sql")
	if err != nil {
		return nil, fmt.Errorf("list embedded files: %w", err)
	}
	var all []uint
	for _, name := range names {
		parsed, err := source.DefaultParse(name)
		if err != nil {
			return nil, fmt.Errorf("embedded file %s: %w", name, err)
		}
		all = append(all, parsed.Version)
	}
	slices.Sort(all)
	return all, nil
}
