// Package store keeps everything that must survive in Postgres: the webhook inbox, the runs with their ticks, the ledger of
// what was promised and is owed, and the jobs that wake the runs.
//
// Three ideas carry it.
//
// The database decides who acts. A tick holds the lease of its target, with a generation; every write of a tick is one
// transaction whose first statement locks that lease and checks it by the database's clock. Whoever lost the lease can
// write nothing, however long it slept. What it may still do to a carrier is the carrier's own preconditions' to stop.
//
// River only wakes. A job is one tick of one run, and carries the tick's number; a commit that leaves a run alive inserts
// the next tick's job in the same transaction, and thereby makes every older job a no-op. So it does not matter if a job is
// lost, late or delivered twice: lost ones are made again by the sweeper.
//
// A write is known or it is not over. When the connection breaks during a COMMIT, the write is tried again; the lease's row
// lock makes it wait for the first try's end, and the id that every write leaves in the run tells whether that one counted.
//
// The package knows no policy: limits come with the reservations, deadlines with the runs.
package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"

	"github.com/drydock/drydock/playbook"
)

// Options say how to open a Store. Only DatabaseURL, Node and BackupKey are needed.
type Options struct {
	// DatabaseURL is a Postgres URL or keyword string; the schema must be up to date (package migrations).
	DatabaseURL string
	// Node names this process in leases: "<identity>/<something new at each start>". See TakeOver for the identity.
	Node string
	// BackupKey is the 32 bytes that encrypt manifests at rest (AES-256-GCM).
	BackupKey []byte

	LeaseTTL time.Duration // default 3 s; renewed each third of it
	// FileSwitch gives the reason of a kill switch that is engaged outside the database for a carrier, or everywhere; empty:
	// none is. It is asked in every commit that promises a change, so it must be quick.
	FileSwitch func(carrier string) string
	// IneffectiveRuns opens a target's breaker: so many runs in a row that changed something and resolved nothing. Default 3.
	IneffectiveRuns int
	// ReadOnly opens the store for its history alone: Postgres refuses every write, and Node and BackupKey are not needed.
	ReadOnly bool
	// HistoryTimeout bounds a query of the history, by Postgres' statement_timeout. Default 5 s.
	HistoryTimeout time.Duration
	MaxConns       int32 // of the pool, default 16; three more are the leases'
	Log            *slog.Logger
}

// Store is Drydock's database. It implements playbook.Ledger.
type Store struct {
	opts Options
	log  *slog.Logger
	pool *pgxpool.Pool
	// renewals is a pool of the leases' own: a pool full of working ticks must not starve the renewals that keep them alive.
	renewals *pgxpool.Pool
	jobs     *river.Client[pgx.Tx] // inserts jobs; Work makes the one that works them
	seal     sealer

	arrivals   chan arrival
	rung       chan struct{} // see ring
	closing    chan struct{} // closed when no more events are taken
	committers sync.WaitGroup
}

var _ playbook.Ledger = (*Store)(nil)

// Open connects to the database and starts taking events. ctx bounds the opening alone; Close ends the Store.
func Open(ctx context.Context, opts Options) (*Store, error) {
	opts.LeaseTTL = cmp.Or(opts.LeaseTTL, 3*time.Second)
	opts.IneffectiveRuns = cmp.Or(opts.IneffectiveRuns, 3)
	opts.HistoryTimeout = cmp.Or(opts.HistoryTimeout, 5*time.Second)
	opts.MaxConns = cmp.Or(opts.MaxConns, 16)
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	if opts.FileSwitch == nil {
		opts.FileSwitch = func(string) string { return "" }
	}
	if opts.ReadOnly {
		opts.Node = "reader" // it never promises
		if opts.BackupKey == nil {
			opts.BackupKey = make([]byte, 32) // and never seals; one that reads manifests brings the key
		}
	}
	if opts.Node == "" {
		return nil, errors.New("open store: Node is empty: leases must name their holder")
	}
	seal, err := newSealer(opts.BackupKey)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	s := &Store{opts: opts, log: opts.Log, seal: seal, arrivals: make(chan arrival), closing: make(chan struct{}),
		rung: make(chan struct{}, 1)}
	if s.pool, err = connect(ctx, opts, "drydock", opts.MaxConns); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	if s.renewals, err = connect(ctx, opts, "drydock leases", 3); err != nil {
		s.pool.Close()
		return nil, fmt.Errorf("open store: %w", err)
	}
	if s.jobs, err = s.insertOnlyClient(); err != nil {
		s.closePools()
		return nil, fmt.Errorf("open store: %w", err)
	}
	for range committers {
		s.committers.Go(func() { s.commitArrivals(context.WithoutCancel(ctx)) })
	}
	s.committers.Go(func() { s.tellWorkers(context.WithoutCancel(ctx)) })
	return s, nil
}

// connect makes a pool whose sessions can not hold a row lock for ever: a half-open connection is found out by keepalives,
// and a transaction that its client left idle is ended. That comes well before a lease lapses: a replica that is frozen with a lock
// of the audit log or of a run holds up the others' commits, and their leases' renewals behind those. With 10 s all lost theirs.
func connect(ctx context.Context, opts Options, name string, conns int32) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(opts.DatabaseURL)
	if err != nil {
		return nil, fmt.Errorf("read database_url: %w", err) // pgx keeps the password out of it
	}
	config.MaxConns = conns
	config.ConnConfig.ConnectTimeout = cmp.Or(config.ConnConfig.ConnectTimeout, 5*time.Second)
	for key, value := range map[string]string{
		"application_name":                    name,
		"idle_in_transaction_session_timeout": strconv.FormatInt((opts.LeaseTTL / 2).Milliseconds(), 10),
		"tcp_keepalives_idle":                 "5",
		"tcp_keepalives_interval":             "2",
		"tcp_keepalives_count":                "3",
		"timezone":                            "UTC",
		// Every statement here has an index. A plan that is cached while a table is small must use it too: the table grows. And
		// none depends on its arguments' values, so it is planned once per connection, not five times and then now and again:
		// measured at 1.5 ms of processor time per webhook instead of 2.4 with one connection, 0.63 instead of 0.74 with 16.
		"enable_seqscan":  "off",
		"plan_cache_mode": "force_generic_plan",
		// A statement that reads a handful of rows is never worth compiling, whatever a plan is thought to cost.
		"jit": "off",
	} {
		if _, set := config.ConnConfig.RuntimeParams[key]; !set {
			config.ConnConfig.RuntimeParams[key] = value
		}
	}
	if opts.ReadOnly {
		config.ConnConfig.RuntimeParams["default_transaction_read_only"] = "on"
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("make a connection pool: %w", err)
	}
	if err := pool.Ping(ctx); err != nil {
		pool.Close()
		return nil, fmt.Errorf("connect to the database: %w", err)
	}
	return pool, nil
}

// Close stops taking events, when those under way were answered, and closes the connections. Work must have returned and every
// hold been released. It is called once.
func (s *Store) Close() {
	close(s.closing)
	s.committers.Wait()
	s.closePools()
}

func (s *Store) closePools() {
	s.renewals.Close()
	s.pool.Close()
}

// Ping reports whether the database answers.
func (s *Store) Ping(ctx context.Context) error {
	if err := s.pool.Ping(ctx); err != nil {
		return fmt.Errorf("ping the database: %w", err)
	}
	return nil
}

// newID makes a UUIDv7: unique, and in the order of their making.
func newID() (string, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return "", fmt.Errorf("make an id: %w", err)
	}
	return id.String(), nil
}
