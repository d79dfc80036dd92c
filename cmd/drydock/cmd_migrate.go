package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/drydock/drydock/migrations"
	"github.com/drydock/drydock/store/privatepg"
)

func newMigrate(a *app) *cobra.Command {
	cmd := &cobra.Command{Use: "migrate", Short: "Bring the database's schema up to date", Args: cobra.NoArgs, RunE: helpOnly,
		Example: "  drydock migrate status"}
	step := func(use, short, example string, do func(context.Context, string) error) *cobra.Command {
		return &cobra.Command{
			Use: use, Short: short, Example: "  " + example, Args: exactArgs(0),
			RunE: func(cmd *cobra.Command, _ []string) error {
				if do == nil {
					return a.statusOfDatabase(cmd.Context())
				}
				return a.withDatabase(cmd.Context(), func(ctx context.Context, url string) error {
					if err := do(ctx, url); err != nil {
						return remotef("%w", err)
					}
					err := a.migrateStatus(ctx, url)
					var exit *exitError
					if errors.As(err, &exit) && exit.code == exitNo {
						return nil // what was asked for is done
					}
					return err
				})
			},
		}
	}
	cmd.AddCommand(
		step("up", "Apply all pending migrations", "drydock migrate up", migrations.Up),
		step("down", "Take the last migration back, with the data that only it held", "drydock migrate down", migrations.Down),
		step("status", "Print where the database stands; exit 1 when migrations are pending", "drydock migrate status -o json", nil),
	)
	return cmd
}

// statusOfDatabase looks at the private Postgres also while a server runs it.
func (a *app) statusOfDatabase(ctx context.Context) error {
	cfg, err := a.config()
	if err != nil {
		return err
	}
	if cfg.DatabaseURL == nil {
		if url, err := privatepg.Running(ctx, cfg.path(cfg.DataDir)); err == nil {
			return a.migrateStatus(ctx, url)
		}
	}
	return a.withDatabase(ctx, a.migrateStatus)
}

type migrationStatus struct {
	Version uint   `json:"version"`
	Latest  uint   `json:"latest"`
	Dirty   bool   `json:"dirty"`
	Pending []uint `json:"pending"`
}

func (a *app) migrateStatus(ctx context.Context, url string) error {
	s, err := migrations.Status(ctx, url)
	if err != nil {
		return remotef("%w", err)
	}
	out := migrationStatus{Version: s.Version, Latest: s.Latest, Dirty: s.Dirty, Pending: s.Pending}
	if out.Pending == nil {
		out.Pending = []uint{}
	}
	err = a.print(out, func(w io.Writer) {
		fmt.Fprintf(w, "version\t%d of %d\npending\t%d\n", out.Version, out.Latest, len(out.Pending))
		if out.Dirty {
			fmt.Fprintf(w, "dirty\t%v\n", migrations.DirtyError{Version: s.Version})
		}
	})
	if err == nil && (s.Dirty || len(s.Pending) > 0) {
		return answerNo()
	}
	return err
}

// withDatabase opens the configured or private Postgres for one command.
func (a *app) withDatabase(ctx context.Context, use func(ctx context.Context, url string) error) error {
	cfg, err := a.config()
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(a.stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	db, err := openDatabase(ctx, cfg, &secrets{getenv: a.getenv, path: cfg.path}, log)
	if err != nil {
		return err
	}
	defer db.close(log)
	return use(ctx, db.url)
}
