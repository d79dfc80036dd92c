package main

import (
	"context"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/drydock/drydock/migrations"
	"github.com/drydock/drydock/store/privatepg"
	"github.com/drydock/drydock/store/privatepg/pgtest"
)

// TestBackupAndRestore does what docs/operations.md says: a dump of a database in which something is owed is restored into an empty one,
// whose schema is whole and which owes the same.
func TestBackupAndRestore(t *testing.T) {
	t.Parallel()
	d := newTidying(t, newYard("c1", "w1"))
	run := d.begin("c1")
	d.cordon(run, "c1", "w1")
	restored := pgtest.New(t, nil)
	found, err := privatepg.Find(t.Context(), func(string) string { return "" })
	if err != nil || len(found) == 0 {
		t.Fatalf("Postgres' programs: %v, %v", found, err)
	}
	dump := filepath.Join(t.TempDir(), "drydock.dump")
	for _, args := range [][]string{
		{"pg_dump", "--format=custom", "--file=" + dump, d.dsn},
		{"pg_restore", "--no-owner", "--dbname=" + restored, dump},
	} {
		program := filepath.Join(found[0].Dir, args[0])
		if out, err := exec.CommandContext(t.Context(), program, args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v: %s", args, err, out)
		}
	}
	config := writeFile(t, "drydock.yaml", "database_url: {env: DATABASE_URL}\nbackup_key: {env: KEY}\n")
	env := map[string]string{"DATABASE_URL": restored, "KEY": "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="}
	for _, verb := range []string{"status", "up"} {
		if r := drydock(t.Context(), env, "migrate", verb, "--config", config); r.code != exitDone {
			t.Errorf("migrate %s: %+v", verb, r)
		}
	}
	state, err := migrations.Status(t.Context(), restored)
	if err != nil || state.Dirty || len(state.Pending) > 0 {
		t.Errorf("schema %+v, %v", state, err)
	}
	conn, err := pgx.Connect(t.Context(), restored)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	var owed string
	if err := conn.QueryRow(t.Context(), `SELECT run || ' ' || action::text FROM obligations WHERE discharged_at IS NULL`).Scan(&owed); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(owed, run+" ") || !strings.Contains(owed, "w1") {
		t.Errorf("owed is %s", owed)
	}
}
