package pgtest

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
)

func TestMain(m *testing.M) { Main(m) }

func run(t *testing.T, dsn, sql string) error {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		return err
	}
	defer conn.Close(t.Context())
	_, err = conn.Exec(t.Context(), sql)
	return err
}

func TestNew(t *testing.T) {
	migrations := 0
	migrate := func(ctx context.Context, dsn string) error {
		migrations++
		return run(t, dsn, `CREATE TABLE here(n int PRIMARY KEY)`)
	}
	for range 3 {
		// Each copy has the table, and no row of another test.
		if err := run(t, New(t, migrate), `INSERT INTO here VALUES (1)`); err != nil {
			t.Fatal(err)
		}
	}
	if migrations != 1 {
		t.Errorf("migrated %d times", migrations)
	}
	if err := run(t, New(t, nil), `CREATE TABLE here(n int)`); err != nil {
		t.Errorf("a database without migrations is not empty: %v", err)
	}
}

func TestCluster(t *testing.T) {
	c := Start(t)
	dsn := c.DSN()
	if err := run(t, dsn, `CREATE TABLE kept(n int)`); err != nil {
		t.Fatal(err)
	}
	c.Kill(t)
	if err := run(t, dsn, `SELECT 1`); err == nil {
		t.Error("the killed server answers")
	}
	c.Restart(t)
	if c.DSN() != dsn {
		t.Errorf("the DSN was %s and is %s", dsn, c.DSN())
	}
	if err := run(t, dsn, `INSERT INTO kept VALUES (1)`); err != nil {
		t.Error(err)
	}
	c.Restart(t)
	if err := run(t, dsn, `INSERT INTO kept VALUES (2)`); err != nil {
		t.Error(err)
	}
}
