package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/drydock/drydock/migrations"
	"github.com/drydock/drydock/store/privatepg"
)

// startPostgres makes a database that syncs, with Drydock's tables.
func startPostgres(ctx context.Context, bin privatepg.Binaries, b *bench) (_ *privatepg.Server, stop func() error, err error) {
	dir, err := os.MkdirTemp(b.dir, "drydock-bench-")
	if err != nil {
		return nil, nil, fmt.Errorf("make the database's directory: %w", err)
	}
	// pgbench has a connection for each client, where Drydock is content with a few.
	server, err := privatepg.Start(ctx, privatepg.Options{Dir: dir, Log: b.log, BinDir: bin.Dir, Connections: 300})
	if err != nil {
		return nil, nil, errors.Join(err, os.RemoveAll(dir))
	}
	stop = func() error {
		stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		defer cancel()
		return errors.Join(server.Stop(stopping), os.RemoveAll(dir))
	}
	if err = migrations.Up(ctx, server.DSN()); err == nil {
		err = checkDurable(ctx, server.DSN())
	}
	if err != nil {
		return nil, nil, errors.Join(err, stop())
	}
	return server, stop, nil
}

// checkDurable refuses to measure a Postgres that does not sync.
func checkDurable(ctx context.Context, dsn string) error {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return fmt.Errorf("check that Postgres syncs: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for _, name := range []string{"fsync", "synchronous_commit", "full_page_writes"} {
		var value string
		if err := conn.QueryRow(ctx, `SELECT current_setting($1)`, name).Scan(&value); err != nil {
			return fmt.Errorf("check that Postgres syncs: %w", err)
		}
		if value != "on" {
			return fmt.Errorf("check that Postgres syncs: %s is %s", name, value)
		}
	}
	return nil
}

// measureSync tells what writing and syncing one page of the disk takes, the median.
func measureSync(dir string) (time.Duration, error) {
	f, err := os.CreateTemp(dir, "drydock-bench-sync-")
	if err != nil {
		return 0, fmt.Errorf("measure the disk: %w", err)
	}
	defer os.Remove(f.Name()) //nolint:errcheck // a page in a directory for temporary files
	defer f.Close()
	page := make([]byte, 8192)
	var all []time.Duration
	for range 50 {
		began := time.Now()
		if _, err := f.WriteAt(page, 0); err != nil {
			return 0, fmt.Errorf("measure the disk: %w", err)
		}
		if err := f.Sync(); err != nil {
			return 0, fmt.Errorf("measure the disk: %w", err)
		}
		all = append(all, time.Since(began))
	}
	return median(all), nil
}
