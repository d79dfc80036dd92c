package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/drydock/drydock/api"
	"github.com/drydock/drydock/incident"
	"github.com/drydock/drydock/playbook"
	"github.com/drydock/drydock/store"
	"github.com/drydock/drydock/store/privatepg"
)

// intakeResult is webhook intake and pgbench at one number of connections, a window of each per round.
type intakeResult struct {
	Connections int      `json:"connections"`
	Drydock     []window `json:"drydock"`
	Pgbench     []window `json:"pgbench"`
}

// intakeFacts are the windows, and what both sides wrote to.
type intakeFacts struct {
	Postgres string         `json:"postgres"`
	Sync     time.Duration  `json:"sync_ns"` // one page written and synced to the same disk, the median
	Windows  []intakeResult `json:"windows"`
}

const webhookSecret = "a secret of sixteen bytes or more"

// measureIntake lets Drydock and pgbench write to one Postgres in turns.
func measureIntake(ctx context.Context, b *bench) ([]row, any, error) {
	bin, err := findPgbench(ctx)
	if err != nil {
		return nil, nil, err
	}
	facts := intakeFacts{Postgres: bin.Version}
	if facts.Sync, err = measureSync(b.dir); err != nil {
		return nil, nil, err
	}
	server, stop, err := startPostgres(ctx, bin, b)
	if err != nil {
		return nil, nil, err
	}
	facts.Windows, err = measureBoth(ctx, bin, server, b)
	if err := errors.Join(err, stop()); err != nil {
		return nil, nil, err
	}
	return intakeRows(facts), facts, nil
}

func measureBoth(ctx context.Context, bin privatepg.Binaries, server *privatepg.Server, o *bench) (_ []intakeResult, err error) {
	address, stop, err := serve(ctx, server.DSN())
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	b := &both{
		drydock:    generator{address: address, secret: []byte(webhookSecret)},
		pgbench:    pgbench{path: filepath.Join(bin.Dir, "pgbench"), dsn: server.DSN(), dir: o.dir, payload: body(0)},
		postmaster: server.PID(), log: o.log,
	}
	results, err := b.run(ctx, o.options)
	if err != nil {
		return nil, err
	}
	o.log.Info("counting rows")
	return results, b.count(ctx, server.DSN())
}

func intakeRows(facts intakeFacts) []row {
	var rates, costs []row
	for _, i := range facts.Windows {
		ours, theirs := middle(i.Drydock), middle(i.Pgbench)
		connections := ", connections: " + strconv.Itoa(i.Connections)
		rates = append(rates, row{
			what:    "Webhook intake" + connections,
			drydock: ours.String(),
			limit:   "pgbench: " + theirs.String(),
			ratio:   i.ratio(func(w window) float64 { return w.Rate }),
			goal:    intakeGoals[i.Connections],
		})
		if ours.CPU > 0 && theirs.CPU > 0 {
			costs = append(costs, row{
				what:    "Processor time each" + connections,
				drydock: short(ours.CPU) + ", " + short(ours.Database) + " of it Postgres'",
				limit:   "pgbench: " + short(theirs.CPU) + ", " + short(theirs.Database),
				ratio:   i.ratio(func(w window) float64 { return float64(w.CPU) }),
			})
		}
	}
	return append(append(rates, costs...), row{what: "Disk of both: a page synced", limit: short(facts.Sync), drydock: "PostgreSQL " + facts.Postgres})
}

var intakeGoals = map[int]string{64: ">= 1.0, p99 < 50 ms", 256: ">= 1.2"}

// ratio is the median over the rounds, each of two windows that followed one another.
func (i intakeResult) ratio(figure func(window) float64) string {
	var all []float64
	for n := range i.Drydock {
		all = append(all, figure(i.Drydock[n])/figure(i.Pgbench[n]))
	}
	return fmt.Sprintf("%.2f", median(all))
}

// both are the two sides, and what they wrote so far.
type both struct {
	drydock                  generator
	pgbench                  pgbench
	fromDrydock, fromPgbench int
	postmaster               int // the server's process id
	log                      *slog.Logger
}

func (b *both) run(ctx context.Context, o options) ([]intakeResult, error) {
	var results []intakeResult
	for _, conns := range o.conns {
		r := intakeResult{Connections: conns}
		for round := range o.rounds + 1 {
			b.log.Info("taking webhooks", "connections", conns, "round", round, "of", o.rounds)
			before := cpuSpent(b.postmaster)
			ours, err := b.drydock.run(ctx, conns, time.Duration(o.seconds)*time.Second)
			if err != nil {
				return nil, err
			}
			between := cpuSpent(b.postmaster)
			b.log.Info("running pgbench", "clients", conns, "round", round, "of", o.rounds)
			theirs, err := b.pgbench.run(ctx, conns, o.seconds)
			if err != nil {
				return nil, err
			}
			ours.spent(before, between)
			theirs.spent(between, cpuSpent(b.postmaster))
			b.fromDrydock, b.fromPgbench = b.fromDrydock+ours.Done, b.fromPgbench+theirs.Done
			if round > 0 { // in the first, connections, plans and caches warm up
				b.log.Info("done", "connections", conns, "drydock", ours.String(), "pgbench", theirs.String())
				r.Drydock, r.Pgbench = append(r.Drydock, ours), append(r.Pgbench, theirs)
			}
		}
		results = append(results, r)
	}
	return results, nil
}

// count makes sure that everything that was answered is in the database, and nothing else.
func (b *both) count(ctx context.Context, dsn string) error {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return fmt.Errorf("count rows: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	// Without statistics, which the tables are too young for, nested loops look cheap.
	if _, err := conn.Exec(ctx, `SET enable_nestloop = off`); err != nil {
		return fmt.Errorf("count rows: %w", err)
	}
	const whole = `SELECT count(*) FROM runs r JOIN events e ON e.run = r.id JOIN river_job j ON j.args ->> 'run' = r.id`
	for _, c := range []struct {
		what, sql string
		args      []any
		want      int
	}{
		{"webhooks with event, run, incident and job", whole + ` JOIN run_incidents i ON i.run = r.id WHERE r.namespace = $1 AND e.outcome = 'started'`,
			[]any{namespace}, b.fromDrydock},
		{"pgbench's triples", whole + ` WHERE r.namespace = $1`, []any{"benchmarks"}, b.fromPgbench},
		{"events", `SELECT count(*) FROM events`, nil, b.fromDrydock + b.fromPgbench},
		{"runs", `SELECT count(*) FROM runs`, nil, b.fromDrydock + b.fromPgbench},
		{"jobs", `SELECT count(*) FROM river_job`, nil, b.fromDrydock + b.fromPgbench},
	} {
		var got int
		if err := conn.QueryRow(ctx, c.sql, c.args...).Scan(&got); err != nil {
			return fmt.Errorf("count %s: %w", c.what, err)
		}
		if got != c.want {
			return fmt.Errorf("the database has %d %s, and %d were answered", got, c.what, c.want)
		}
	}
	return nil
}

// serve answers webhooks on loopback as "drydock serve --role ingest" does: the real handler, signatures, title rules and
// inbox, with its log formatted and thrown away. Nothing works the jobs.
func serve(ctx context.Context, dsn string) (address string, stop func() error, err error) {
	log := slog.New(slog.NewTextHandler(io.Discard, nil)) //nolint:sloglint // a handler that discards formats nothing
	signatures, err := incident.NewVerifier([]string{webhookSecret}, nil)
	if err != nil {
		return "", nil, err
	}
	var known []incident.DaemonSet
	for i := range int64(daemonSets) {
		known = append(known, incident.DaemonSet{Name: daemonSetName(i * carriers), Namespace: namespace})
	}
	rules, err := incident.NewRules(incident.RuleConfig{DaemonSets: known})
	if err != nil {
		return "", nil, err
	}
	var names carrierNames
	for i := range int64(carriers) {
		names.list = append(names.list, carrierName(i))
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, fmt.Errorf("listen on loopback: %w", err)
	}
	st, err := store.Open(ctx, store.Options{DatabaseURL: dsn, Node: "bench/1", BackupKey: make([]byte, 32), Log: log})
	if err != nil {
		_ = listener.Close()
		return "", nil, err
	}
	policy := actingPolicy()
	server := &http.Server{ReadHeaderTimeout: 5 * time.Second, Handler: api.New(api.Options{
		Intake: inbox{st}, Carriers: names, Signatures: signatures, Rules: rules, Metrics: prometheus.NewRegistry(), Log: log, Now: time.Now,
		Policy: func(playbook.Target) playbook.Policy { return policy },
		NewID:  func() string { return uuid.Must(uuid.NewV7()).String() },
	})}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	return listener.Addr().String(), func() error {
		err := server.Close()
		if e := <-served; !errors.Is(e, http.ErrServerClosed) {
			err = errors.Join(err, e)
		}
		st.Close()
		return err
	}, nil
}

// inbox is the store's, as the API writes to it.
type inbox struct{ store *store.Store }

func (i inbox) Accept(ctx context.Context, a playbook.Arrival) (playbook.EventRecord, error) {
	return i.store.Intake(ctx, a)
}

// carrierNames are configured carriers of which a webhook needs only the names.
type carrierNames struct {
	api.Carriers
	list []string
}

func (c carrierNames) Names() []string { return c.list }

// median is the middle value, the lower one of two.
func median[T int64 | float64 | time.Duration](values []T) T { return quantile(values, 0.5) }

// quantile is the value below which the share q of all values lies.
func quantile[T int64 | float64 | time.Duration](values []T, q float64) T {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[int(q*float64(len(sorted)-1))]
}
