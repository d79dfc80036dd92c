package migrations_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/drydock/drydock/migrations"
	"github.com/drydock/drydock/store/privatepg/pgtest"
)

// The file whose index is not built to its end, and the one before it.
const (
	indexFile   = 112
	beforeIndex = 111
	indexName   = "ticks_by_observation"
	indexTable  = "ticks"
)

// indexState is the index's object id, 0 when there is none, and whether it is valid.
func indexState(t *testing.T, conn *pgx.Conn) (id uint32, valid bool) {
	t.Helper()
	err := conn.QueryRow(t.Context(), `SELECT coalesce(max(indexrelid), 0), coalesce(bool_and(indisvalid), false) FROM pg_index
		WHERE indexrelid = to_regclass($1)::oid`, indexName).Scan(&id, &valid)
	if err != nil {
		t.Fatal(err)
	}
	return id, valid
}

// holdTable begins a transaction that has written to the index's table: an index that is built beside it waits for its end.
func holdTable(t *testing.T, dsn string) (end func()) {
	t.Helper()
	tx, err := connect(t, dsn).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `LOCK TABLE `+indexTable+` IN ROW EXCLUSIVE MODE`); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := tx.Rollback(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// awaitBuilder waits until the index is being built, and returns the process that does it.
func awaitBuilder(t *testing.T, conn *pgx.Conn) (pid int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		err := conn.QueryRow(ctx, `SELECT coalesce(max(pid), 0) FROM pg_stat_progress_create_index WHERE index_relid = to_regclass($1)::oid`, indexName).Scan(&pid)
		if err != nil {
			t.Fatal(err)
		}
		if pid != 0 {
			return pid
		}
		<-tick.C
	}
}

func wantMended(t *testing.T, dsn string) {
	t.Helper()
	if s := status(t, dsn); s.Dirty || s.Version != s.Latest {
		t.Errorf("the database is at %+v", s)
	}
	if id, valid := indexState(t, connect(t, dsn)); id == 0 || !valid {
		t.Errorf("index %s: id %d, valid %t", indexName, id, valid)
	}
}

// TestIndexNotBuilt: the index is cancelled in the middle, which leaves an invalid one and a dirty version. The next start drops
// it and builds it again.
func TestIndexNotBuilt(t *testing.T) {
	t.Parallel()
	dsn := pgtest.New(t, nil)
	if err := migrations.UpTo(beforeIndex)(t.Context(), dsn); err != nil {
		t.Fatal(err)
	}
	watch := connect(t, dsn)
	end := holdTable(t, dsn)
	upgraded := make(chan error, 1)
	go func() { upgraded <- migrations.Up(t.Context(), dsn) }()
	if _, err := watch.Exec(t.Context(), `SELECT pg_cancel_backend($1)`, awaitBuilder(t, watch)); err != nil {
		t.Fatal(err)
	}
	if err := <-upgraded; err == nil {
		t.Fatal("the upgrade did not notice that its index was not built")
	}
	end()
	if s := status(t, dsn); !s.Dirty || s.Version != indexFile {
		t.Fatalf("the database is at %+v, want it dirty at %d", s, indexFile)
	}
	if id, valid := indexState(t, watch); id == 0 || valid {
		t.Fatalf("index %s: id %d, valid %t; want one that is not valid", indexName, id, valid)
	}
	if err := migrations.Up(t.Context(), dsn); err != nil {
		t.Fatal(err)
	}
	wantMended(t, dsn)
}

// TestIndexOfADeadReplica: the replica that began the index is dead, its statement goes on in Postgres. The next one waits for
// it, and keeps the index that it gets.
func TestIndexOfADeadReplica(t *testing.T) {
	t.Parallel()
	dsn := pgtest.New(t, nil)
	if err := migrations.UpTo(beforeIndex)(t.Context(), dsn); err != nil {
		t.Fatal(err)
	}
	watch, dead := connect(t, dsn), connect(t, dsn)
	if _, err := watch.Exec(t.Context(), `UPDATE schema_migrations SET version = $1, dirty = true`, indexFile); err != nil {
		t.Fatal(err)
	}
	end := holdTable(t, dsn)
	built := make(chan error, 1)
	go func() {
		_, err := dead.Exec(t.Context(), `CREATE INDEX CONCURRENTLY `+indexName+` ON `+indexTable+` (observation)`)
		built <- err
	}()
	awaitBuilder(t, watch)
	first, _ := indexState(t, watch)
	impatient, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := migrations.Up(impatient, dsn); err == nil {
		t.Error("the upgrade did not wait for the index")
	}
	upgraded := make(chan error, 1)
	go func() { upgraded <- migrations.Up(t.Context(), dsn) }()
	end()
	if err := <-built; err != nil {
		t.Errorf("the dead replica's index: %v", err)
	}
	if err := <-upgraded; err != nil {
		t.Fatal(err)
	}
	wantMended(t, dsn)
	if id, _ := indexState(t, watch); id != first {
		t.Errorf("the index was built twice: %d, before it was %d", id, first)
	}
}

// TestIndexNeverBegun: the replica died between the mark and the statement.
func TestIndexNeverBegun(t *testing.T) {
	t.Parallel()
	dsn := pgtest.New(t, nil)
	if err := migrations.UpTo(beforeIndex)(t.Context(), dsn); err != nil {
		t.Fatal(err)
	}
	if _, err := connect(t, dsn).Exec(t.Context(), `UPDATE schema_migrations SET version = $1, dirty = true`, indexFile); err != nil {
		t.Fatal(err)
	}
	if err := migrations.Up(t.Context(), dsn); err != nil {
		t.Fatal(err)
	}
	wantMended(t, dsn)
}
