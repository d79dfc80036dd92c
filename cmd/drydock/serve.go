package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/spf13/cobra"

	"github.com/drydock/drydock/migrations"
)

const (
	tokenFile = "token"

	headerTime   = 5 * time.Second
	readTime     = 15 * time.Second
	writeTime    = 60 * time.Second
	idleTime     = 60 * time.Second
	maxHeader    = 16 << 10
	shutdownTime = 5 * time.Second
	// noticeTime is how long a replica that is told to stop goes on answering, so that a load balancer or kube-proxy has taken it
	// out before connections are refused. Nobody balances to a loopback address.
	noticeTime = 5 * time.Second
)

func newServe(a *app) *cobra.Command {
	var noMigrate bool
	var logFormat, logLevel string
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the server: webhooks, runs, API and dashboard",
		Long: `Run the server. It migrates the database, takes PagerDuty's webhooks, works runs and serves the API and the dashboard,
until it is interrupted. With no database_url it starts a private Postgres in data_dir.`,
		Example: "  drydock serve --config drydock.yaml",
		Args:    exactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := a.config()
			if err != nil {
				return err
			}
			log, err := newLog(a, logFormat, logLevel)
			if err != nil {
				return err
			}
			return serve(cmd.Context(), a, cfg, log, !noMigrate)
		},
	}
	cmd.Flags().BoolVar(&noMigrate, "no-migrate", false, "do not bring the schema up to date; it must be")
	cmd.Flags().StringVar(&logFormat, "log-format", "text", "text or json; on stderr")
	cmd.Flags().StringVar(&logLevel, "log-level", "info", "debug, info, warn or error")
	return cmd
}

func newLog(a *app, format, level string) (*slog.Logger, error) {
	options := &slog.HandlerOptions{}
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, usagef("--log-level %q is not one of debug, info, warn, error", level)
	}
	options.Level = l
	switch format {
	case "text":
		return slog.New(runHandler{Handler: slog.NewTextHandler(a.stderr, options)}), nil
	case "json":
		return slog.New(runHandler{Handler: slog.NewJSONHandler(a.stderr, options)}), nil
	}
	return nil, usagef("--log-format %q is not one of text, json", format)
}

// serve runs until ctx ends or something that it can not do without does.
func serve(ctx context.Context, a *app, cfg *Config, log *slog.Logger, migrate bool) error {
	if err := cfg.checkServing(); err != nil {
		return err
	}
	for _, warning := range cfg.missingFiles() {
		log.Warn("a file of the configuration is missing", "what", warning)
	}
	s, err := resolve(cfg, a.getenv)
	if err != nil {
		return err
	}
	// The address first: a second server on it is found out before anything is started.
	var listen net.ListenConfig
	listener, err := listen.Listen(ctx, "tcp", cfg.Listen)
	if err != nil {
		return usagef("listen: %w: stop what uses the address, or change listen", err)
	}
	defer func() { _ = listener.Close() }() // closed already, once the server ran

	db, err := openDatabase(ctx, cfg, &secrets{getenv: a.getenv, path: cfg.path}, log)
	if err != nil {
		return err
	}
	defer db.close(log)
	if err := awaitDatabase(ctx, db.url, log); err != nil {
		return err
	}
	if err := bringUp(ctx, db.url, migrate); err != nil {
		return err
	}
	traces, err := newTracer(a.getenv, log)
	if err != nil {
		return err
	}
	w, err := wire(ctx, cfg, s, db, traces, log)
	if err != nil {
		return err
	}
	defer w.close()

	server := &http.Server{
		Handler: w.handler, ReadHeaderTimeout: headerTime, ReadTimeout: readTime, WriteTimeout: writeTime, IdleTimeout: idleTime,
		MaxHeaderBytes: maxHeader, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	server.RegisterOnShutdown(w.endStreams)
	// Said before the first request is answered: whoever sees /readyz answer finds it written. Connections wait until then.
	fmt.Fprintf(a.stderr, "drydock is ready: dashboard http://%s%s\n", listener.Addr(), w.loginPath)
	failed := make(chan error, 1)
	go func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			failed <- remotef("serve http: %w", err)
		}
	}()
	working, stopWorking := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() {
		defer close(done)
		tracing, stopTracing := context.WithCancel(context.WithoutCancel(ctx))
		var all sync.WaitGroup
		all.Go(func() { traces.run(tracing) })
		w.work(working)
		stopTracing() // after the last tick, which it still tells of
		all.Wait()
	}()

	select {
	case <-ctx.Done():
		w.stopping.Store(true)
		log.Info("stopping: running ticks end, nothing new is taken")
	case <-db.exited():
		err = remotef("the private Postgres ended by itself; the log says why. Start Drydock again: nothing that was promised is lost")
	case err = <-failed:
	}
	stopWorking()
	if ctx.Err() != nil && !cfg.onLoopback() {
		// /readyz fails by now, and until those who send here have noticed they are answered.
		select {
		case <-time.After(noticeTime):
		case <-db.exited():
		}
	}
	// Webhooks that are being stored are answered; new ones are refused and come again.
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTime)
	defer cancel()
	if e := server.Shutdown(stopping); e != nil {
		_ = server.Close()
	}
	<-done
	return err
}

const (
	// databaseTime is what a database that does not answer is given at the start: it may be recovering from a crash, or start
	// together with us.
	databaseTime  = 30 * time.Second
	databaseAgain = 500 * time.Millisecond
	databaseTold  = 5 * time.Second // how often it is said that we still wait; one try does not take longer either
)

// awaitDatabase waits until the database answers. An answer that is a refusal, of the password for example, ends the wait.
func awaitDatabase(ctx context.Context, url string, log *slog.Logger) error {
	began := time.Now()
	told := began.Add(-databaseTold)
	ctx, cancel := context.WithTimeout(ctx, databaseTime)
	defer cancel()
	for {
		err := connectOnce(ctx, url)
		if err == nil {
			return nil
		}
		var refused *pgconn.PgError
		if errors.As(err, &refused) && refused.Code != pgerrcode.CannotConnectNow {
			return remotef("connect to the database: %w", err)
		}
		if time.Since(told) >= databaseTold {
			told = time.Now()
			log.WarnContext(ctx, "database does not answer; waiting for it", "waited", told.Sub(began).Round(time.Second), "for", databaseTime, "error", err)
		}
		select {
		case <-time.After(databaseAgain):
		case <-ctx.Done():
			return remotef("connect to the database: %w", err)
		}
	}
}

func connectOnce(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, databaseTold)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	_ = conn.Close(ctx)
	return nil
}

// bringUp migrates, or makes sure that nothing is left to migrate.
func bringUp(ctx context.Context, url string, migrate bool) error {
	if migrate {
		if err := migrations.Up(ctx, url); err != nil {
			return remotef("%w", err)
		}
		return nil
	}
	state, err := migrations.Status(ctx, url)
	switch {
	case err != nil:
		return remotef("%w", err)
	case state.TooNew():
		return remotef("%w", migrations.TooNewError{State: state})
	case state.Dirty || len(state.Pending) > 0:
		return usagef("the schema is not up to date (version %d of %d): run \"drydock migrate up\"", state.Version, state.Latest)
	}
	return nil
}

// hostname names this replica.
func hostname() string {
	name, err := os.Hostname()
	if err != nil {
		return "unknown"
	}
	return name
}
