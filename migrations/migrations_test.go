package migrations_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/drydock/drydock/migrations"
	"github.com/drydock/drydock/store/privatepg/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func connect(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	return conn
}

// schema lists everything that migrations can make, so that two states of a
// database can be compared: columns, indexes, constraints, functions, types.
func schema(t *testing.T, dsn string) []string {
	t.Helper()
	rows, err := connect(t, dsn).Query(t.Context(), `
		SELECT format('column %s.%s %s null=%s default=%s', table_name, column_name, data_type, is_nullable, column_default)
		  FROM information_schema.columns WHERE table_schema = 'public' AND table_name <> 'schema_migrations'
		UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' AND tablename <> 'schema_migrations'
		UNION ALL SELECT format('constraint %s %s', conname, pg_get_constraintdef(oid)) FROM pg_constraint
		  WHERE connamespace = 'public'::regnamespace AND conrelid IS DISTINCT FROM to_regclass('schema_migrations')
		UNION ALL SELECT pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND prokind IN ('f', 'p')
		UNION ALL SELECT format('trigger %s', pg_get_triggerdef(oid)) FROM pg_trigger WHERE NOT tgisinternal
		UNION ALL SELECT format('type %s', typname) FROM pg_type WHERE typnamespace = 'public'::regnamespace AND typtype IN ('e', 'd', 'r')
		ORDER BY 1`)
	if err != nil {
		t.Fatal(err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func status(t *testing.T, dsn string) migrations.State {
	t.Helper()
	s, err := migrations.Status(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestUpDownUp takes every file back, one by one, and applies all again: each
// down file must undo its up file fully, or the second way up fails.
func TestUpDownUp(t *testing.T) {
	dsn := pgtest.New(t, nil)
	before := status(t, dsn)
	if before.Version != 0 || len(before.Pending) == 0 {
		t.Fatalf("an empty database is at %+v", before)
	}
	empty := schema(t, dsn)

	if err := migrations.Up(t.Context(), dsn); err != nil {
		t.Fatal(err)
	}
	first := schema(t, dsn)
	if s := status(t, dsn); s.Version != s.Latest || len(s.Pending) != 0 || s.Dirty || s.Newer {
		t.Errorf("after Up the database is at %+v", s)
	}
	if err := migrations.Up(t.Context(), dsn); err != nil {
		t.Errorf("Up with nothing to do: %v", err)
	}

	for range before.Pending {
		if err := migrations.Down(t.Context(), dsn); err != nil {
			t.Fatalf("at %+v: %v", status(t, dsn), err)
		}
	}
	if diff := cmp.Diff(empty, schema(t, dsn)); diff != "" {
		t.Errorf("the down files leave something (-empty +left):\n%s", diff)
	}
	if err := migrations.Down(t.Context(), dsn); err == nil {
		t.Error("Down below the first file is no error")
	}

	if err := migrations.Up(t.Context(), dsn); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(first, schema(t, dsn)); diff != "" {
		t.Errorf("the second way up differs (-first +second):\n%s", diff)
	}
}

// TestReplicas starts four at once on an empty database, as a rolling update
// does: all must find it ready, and none may fail.
func TestReplicas(t *testing.T) {
	dsn := pgtest.New(t, nil)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if err := migrations.Up(t.Context(), dsn); err != nil {
				t.Error(err)
				return
			}
			if s, err := migrations.Status(t.Context(), dsn); err != nil || len(s.Pending) > 0 {
				t.Errorf("after Up the database is at %+v (%v)", s, err)
			}
		})
	}
	wg.Wait()
}

// TestWaitObeysContext is a replica that is told to stop while another one
// migrates.
func TestWaitObeysContext(t *testing.T) {
	dsn := pgtest.New(t, nil)
	holder := connect(t, dsn)
	if _, err := holder.Exec(t.Context(), `SELECT pg_advisory_lock($1)`, migrations.LockKey); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- migrations.Up(ctx, dsn) }()
	asking := connect(t, dsn)
	deadline, cancelDeadline := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancelDeadline()
	for n := 0; n == 0; {
		if err := asking.QueryRow(deadline, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
			AND query LIKE 'SELECT pg_try_advisory_lock%'`).Scan(&n); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	if s := status(t, dsn); s.Version != 0 {
		t.Errorf("something was applied without the lock: %+v", s)
	}
}

func TestDirty(t *testing.T) {
	dsn := pgtest.New(t, migrations.Up)
	const audit = 123 // tables and triggers: nobody can tell from outside how far it came
	if _, err := connect(t, dsn).Exec(t.Context(), `UPDATE schema_migrations SET dirty = true, version = $1`, audit); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(context.Context, string) error{"up": migrations.Up, "down": migrations.Down} {
		var dirty migrations.DirtyError
		if err := change(t.Context(), dsn); !errors.As(err, &dirty) || dirty.Version != audit {
			t.Errorf("%s: got %v, want a DirtyError of version %d", name, err, audit)
		}
	}
}

// TestNewerDatabase is an old replica that starts during a rolling upgrade.
func TestNewerDatabase(t *testing.T) {
	dsn := pgtest.New(t, migrations.Up)
	if _, err := connect(t, dsn).Exec(t.Context(), `UPDATE schema_migrations SET version = 999999`); err != nil {
		t.Fatal(err)
	}
	if err := migrations.Up(t.Context(), dsn); err != nil {
		t.Errorf("Up: %v", err)
	}
	if s := status(t, dsn); !s.Newer || s.Version != 999999 {
		t.Errorf("the database is at %+v", s)
	}
	if err := migrations.Down(t.Context(), dsn); err == nil {
		t.Error("Down takes back a file that this binary does not have")
	}
}

func TestDatabaseDown(t *testing.T) {
	for name, dsn := range map[string]string{
		"nobody listens": "postgres://drydock@/postgres?host=/nonexistent",
		"no DSN":         "postgres://%",
	} {
		if err := migrations.Up(t.Context(), dsn); err == nil {
			t.Errorf("%s: Up returns no error", name)
		}
		if _, err := migrations.Status(t.Context(), dsn); err == nil {
			t.Errorf("%s: Status returns no error", name)
		}
	}
}

// TestFileNames keeps the rules of the package comment: pairs, and one of the
// two kinds of numbers.
func TestFileNames(t *testing.T) {
	shape := regexp.MustCompile(`^[0-9]{6}_[a-z0-9_]+\.(up|down)\.sql$`)
	names, err := fs.Glob(os.DirFS("."), "*.sql")
	if err != nil || len(names) == 0 {
		t.Fatalf("%d files, %v", len(names), err)
	}
	for _, name := range names {
		if !shape.MatchString(name) {
			t.Errorf("%s is not named NNNNNN_name.up.sql or .down.sql", name)
		}
		other := strings.Replace(name, ".up.", ".down.", 1)
		if other == name {
			other = strings.Replace(name, ".down.", ".up.", 1)
		}
		if _, err := os.Stat(other); err != nil {
			t.Errorf("%s has no %s", name, other)
		}
	}
}
