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
// marked dirty, and nothing is applied until a person has looked; only an
// index that was not built to its end is put right without one.
//
// Files are applied while older replicas work. So a file only adds: tables,
// indexes, columns that may be left out of an INSERT. A lock that it does not
// get within lockTimeout is given up, because everybody who comes later waits
// behind it, and the file is tried again. An index on a table that grows is
// built CONCURRENTLY, which holds up nobody and must be the file's only
// statement. A change that older replicas can not work with comes a version
// later than the code that can do without it, and raises oldest_schema.
package migrations

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"time"

	"github.com/golang-migrate/migrate/v4"
	"github.com/golang-migrate/migrate/v4/database"
	pgxdriver "github.com/golang-migrate/migrate/v4/database/pgx/v5"
	"github.com/golang-migrate/migrate/v4/source"
	"github.com/golang-migrate/migrate/v4/source/iofs"
	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
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
	Oldest  uint   // the lowest Latest of a binary that can work on this schema; 0 when it does not say
}

// TooNew reports whether a newer binary has changed the schema so that this
// one can not work with it any more.
func (s State) TooNew() bool { return s.Oldest > s.Latest }

// TooNewError says that this binary is too old for the database.
type TooNewError struct{ State State }

func (e TooNewError) Error() string {
	return fmt.Sprintf("database is at migration %d and needs a binary that knows migration %d; this one knows %d: use a newer one",
		e.State.Version, e.State.Oldest, e.State.Latest)
}

// DirtyError says that a migration was interrupted, so that nobody knows
// whether its file took effect.
type DirtyError struct{ Version uint }

func (e DirtyError) Error() string {
	if index, err := concurrentIndex(e.Version); err == nil && index != "" {
		return fmt.Sprintf("database is marked dirty at migration %d, whose index %s was not built to its end: drydock migrate up, or the "+
			"next start, builds it again", e.Version, index)
	}
	return fmt.Sprintf("database is marked dirty at migration %d: compare the schema with migrations/%06d_*.up.sql, "+
		"then UPDATE schema_migrations SET dirty = false, with version %d if the file took effect, else the number before it",
		e.Version, e.Version, e.Version)
}

// Up applies every pending file. Replicas that call it together wait for each
// other, and all but one find nothing left to do. A database that a newer
// binary has migrated is left as it is, without an error: during a rolling
// upgrade old replicas start beside new ones. When that newer schema is one
// that this binary can not work with, the error is a TooNewError. When ctx
// ends, Up stops after the file it is in and returns ctx's error; calling it
// again goes on.
func Up(ctx context.Context, dsn string) error {
	return change(ctx, dsn, func(s State) error {
		if s.TooNew() {
			return TooNewError{State: s}
		}
		for _, version := range s.Pending {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := apply(ctx, dsn, s.Version, version); err != nil {
				return err
			}
			s.Version = version
		}
		return nil
	})
}

const (
	// lockTimeout is how long a file may wait for a lock. Everybody who asks
	// for the table after it waits behind it, and a replica whose lease can
	// not be renewed for 2.5 s stops working.
	lockTimeout = "1s"
	// lockPause is how long the others may go on before the next try.
	lockPause = 500 * time.Millisecond
	lockTries = 120
)

// apply applies the next file, again and again while it does not get its locks.
func apply(ctx context.Context, dsn string, from, version uint) error {
	timeout := lockTimeout
	index, err := concurrentIndex(version)
	if err != nil {
		return err
	}
	if index != "" {
		timeout = "0" // it waits for others, and nobody for it
	}
	return withMigrate(ctx, dsn, timeout, func(m *migrate.Migrate) error {
		for try := 1; ; try++ {
			err := m.Steps(1)
			if err == nil || !isLockTimeout(err) || try == lockTries {
				return err
			}
			// The file was one transaction, and is undone. Version -1 is none.
			before := int(from)
			if before == 0 {
				before = -1
			}
			if err := m.Force(before); err != nil {
				return fmt.Errorf("take back the mark of migration %d: %w", version, err)
			}
			if err := pause(ctx, lockPause); err != nil {
				return err
			}
		}
	})
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func isLockTimeout(err error) bool {
	var file database.Error
	if errors.As(err, &file) {
		err = file.OrigErr // it has no Unwrap
	}
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == pgerrcode.LockNotAvailable
}

var indexBeside = regexp.MustCompile(`(?m)^CREATE (?:UNIQUE )?INDEX CONCURRENTLY (\w+) ON `)

// concurrentIndex is the index that a file builds beside those who write; empty when it builds none.
func concurrentIndex(version uint) (string, error) {
	names, err := fs.Glob(files, fmt.Sprintf("%06d_*.up.sql", version))
	if err != nil || len(names) != 1 {
		return "", fmt.Errorf("embedded file of migration %d: there are %d (%w)", version, len(names), err)
	}
	text, err := files.ReadFile(names[0])
	if err != nil {
		return "", fmt.Errorf("read embedded file %s: %w", names[0], err)
	}
	if found := indexBeside.FindSubmatch(text); found != nil {
		return string(found[1]), nil
	}
	return "", nil
}

// mend puts right what an index leaves behind that was not built to its end: it is there and not valid, and the version is dirty.
// Its file is that one statement, so what became of it can be seen, which no other dirty version allows. The lock is held.
func mend(ctx context.Context, conn *pgx.Conn, s State) (State, error) {
	index, err := concurrentIndex(s.Version)
	if err != nil || index == "" {
		return s, DirtyError{Version: s.Version}
	}
	all, err := versions()
	if err != nil {
		return s, err
	}
	// The replica that began may be dead, and its statement go on: it notices when it has ended. Whoever waited for it inside
	// Postgres would be waited for by it.
	for {
		var building bool
		err := conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_stat_progress_create_index WHERE index_relid = to_regclass($1)::oid)`, index).Scan(&building)
		if err != nil {
			return s, fmt.Errorf("look whether index %s is being built: %w", index, err)
		}
		if !building {
			break
		}
		if err := pause(ctx, lockPoll); err != nil {
			return s, fmt.Errorf("wait until index %s is built: %w", index, err)
		}
	}
	var valid bool
	err = conn.QueryRow(ctx, `SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass($1)::oid`, index).Scan(&valid)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return s, fmt.Errorf("look for index %s: %w", index, err)
	}
	if !valid {
		if _, err := conn.Exec(ctx, `DROP INDEX CONCURRENTLY IF EXISTS `+pgx.Identifier{index}.Sanitize()); err != nil {
			return s, fmt.Errorf("drop index %s, which is not valid: %w", index, err)
		}
		s.Version = all[slices.Index(all, s.Version)-1]
	}
	if _, err := conn.Exec(ctx, `UPDATE schema_migrations SET version = $1, dirty = false`, int64(s.Version)); err != nil {
		return s, fmt.Errorf("take back the mark of index %s: %w", index, err)
	}
	return state(ctx, conn)
}

// Down takes back the last applied file, and with it the data that only that
// file's tables and columns held. With nothing applied it is an error.
func Down(ctx context.Context, dsn string) error {
	return change(ctx, dsn, func(s State) error {
		if s.Version == 0 {
			return errors.New("no migration is applied")
		}
		if s.Newer {
			return fmt.Errorf("database is at migration %d, of a newer binary than this one (%d): use that binary", s.Version, s.Latest)
		}
		return withMigrate(ctx, dsn, "0", func(m *migrate.Migrate) error { return m.Steps(-1) })
	})
}

// Status reads where the database stands and changes nothing. It waits for
// nobody: a replica that waits in golang-migrate for the lock of one that
// builds an index concurrently would be waited for by that index.
func Status(ctx context.Context, dsn string) (State, error) {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return State{}, fmt.Errorf("migrate: connect: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	return state(ctx, conn)
}

const lockPoll = 100 * time.Millisecond

// change runs apply while holding the lock, and refuses a dirty database that can not be mended.
func change(ctx context.Context, dsn string, apply func(State) error) error {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return fmt.Errorf("migrate: connect: %w", err)
	}
	// Closing the connection frees the lock.
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	// Asked for again and again, not waited for: an index that is built concurrently waits until every statement that runs has
	// ended, one that waits for this lock included.
	for {
		var ours bool
		if err := conn.QueryRow(ctx, `SELECT pg_try_advisory_lock($1)`, lockKey).Scan(&ours); err != nil {
			return fmt.Errorf("migrate: ask for the lock: %w", err)
		}
		if ours {
			break
		}
		if err := pause(ctx, lockPoll); err != nil {
			return fmt.Errorf("migrate: wait for another replica's migration: %w", err)
		}
	}
	s, err := state(ctx, conn)
	if err != nil {
		return err
	}
	if s.Dirty {
		if s, err = mend(ctx, conn, s); err != nil {
			return fmt.Errorf("migrate: %w", err)
		}
	}
	if err := apply(s); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	return nil
}

func withMigrate(ctx context.Context, dsn, lockTimeout string, use func(*migrate.Migrate) error) error {
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		return err
	}
	config.RuntimeParams["lock_timeout"] = lockTimeout
	db := stdlib.OpenDB(*config)
	defer func() { _ = db.Close() }()
	// golang-migrate's driver takes no context; a database that does not
	// answer must be found out before it.
	if err := db.PingContext(ctx); err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	driver, err := pgxdriver.WithInstance(db, &pgxdriver.Config{})
	if err != nil {
		return fmt.Errorf("open database: %w", err)
	}
	defer func() { _ = driver.Close() }()
	src, err := iofs.New(files, ".")
	if err != nil {
		return fmt.Errorf("read embedded files: %w", err)
	}
	m, err := migrate.NewWithInstance("embedded", src, "postgres", driver)
	if err != nil {
		return err
	}
	return use(m)
}

// state reads the version as golang-migrate keeps it.
func state(ctx context.Context, conn *pgx.Conn) (State, error) {
	all, err := versions()
	if err != nil {
		return State{}, err
	}
	s := State{Latest: all[len(all)-1]}
	err = conn.QueryRow(ctx, `SELECT version, dirty FROM schema_migrations LIMIT 1`).Scan(&s.Version, &s.Dirty)
	if err != nil && !isMissing(err) {
		return State{}, fmt.Errorf("migrate: read version: %w", err)
	}
	err = conn.QueryRow(ctx, `SELECT version FROM oldest_schema LIMIT 1`).Scan(&s.Oldest)
	if err != nil && !isMissing(err) {
		return State{}, fmt.Errorf("migrate: read the oldest schema that may be known: %w", err)
	}
	for _, v := range all {
		if v > s.Version {
			s.Pending = append(s.Pending, v)
		}
	}
	s.Newer = s.Version > s.Latest
	return s, nil
}

// isMissing reports whether a table, or its one row, is not there.
func isMissing(err error) bool {
	var pg *pgconn.PgError
	return errors.Is(err, pgx.ErrNoRows) || errors.As(err, &pg) && pg.Code == pgerrcode.UndefinedTable
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
