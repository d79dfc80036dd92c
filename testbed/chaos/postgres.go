package chaos

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/drydock/drydock/store/privatepg"
)

// postgres is the database that the replicas share. It syncs, as a production one does; its socket's path stays
// the same over restarts, and so does the address.
type postgres struct {
	dir  string
	log  *slog.Logger
	pool *pgxpool.Pool // our own, to look

	mu     sync.Mutex
	server *privatepg.Server
	away   spans
}

func startPostgres(ctx context.Context, dir string, log *slog.Logger) (*postgres, error) {
	p := &postgres{dir: dir, log: log}
	if err := p.start(ctx); err != nil {
		return nil, err
	}
	config, err := pgxpool.ParseConfig(p.server.DSN())
	if err != nil {
		return nil, fmt.Errorf("connect to Postgres: %w", err)
	}
	config.MaxConns = 4
	if p.pool, err = pgxpool.NewWithConfig(ctx, config); err != nil {
		return nil, fmt.Errorf("connect to Postgres: %w", err)
	}
	return p, nil
}

// dsn is the address for all.
func (p *postgres) dsn() string { return p.pool.Config().ConnString() }

func (p *postgres) start(ctx context.Context) error {
	server, err := privatepg.Start(ctx, privatepg.Options{Dir: p.dir, Log: p.log})
	if err != nil {
		return err
	}
	p.server = server
	return nil
}

// restart shuts the server down in order, which breaks every connection, and starts it again.
func (p *postgres) restart(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.away.begin()
	defer p.away.end()
	if err := p.server.Stop(ctx); err != nil {
		return err
	}
	return p.start(ctx)
}

// kill kills the postmaster, whose backends then end by themselves, and starts it again: it replays its log.
func (p *postgres) kill(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.away.begin()
	defer p.away.end()
	if err := syscall.Kill(p.server.PID(), syscall.SIGKILL); err != nil {
		return fmt.Errorf("kill the postmaster: %w", err)
	}
	<-p.server.Exited()
	// It has ended; this gives up the lock on its directory.
	if err := p.server.Stop(ctx); err != nil {
		return err
	}
	return p.start(ctx)
}

// stop ends the server; ctx may have ended.
func (p *postgres) stop(ctx context.Context) error {
	p.pool.Close()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopPatience)
	defer cancel()
	return p.server.Stop(ctx)
}

// spans are stretches of time; the last one may be open.
type spans struct {
	mu   sync.Mutex
	list []span
}

type span struct{ from, to time.Time }

func (s *spans) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = append(s.list, span{from: time.Now()})
}

func (s *spans) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list[len(s.list)-1].to = time.Now()
}

// within sums up how much of the stretch from a to b the spans cover.
func (s *spans) within(a, b time.Time) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	var sum time.Duration
	for _, one := range s.list {
		from, to := one.from, one.to
		if to.IsZero() || to.After(b) {
			to = b
		}
		if from.Before(a) {
			from = a
		}
		sum += max(0, to.Sub(from))
	}
	return sum
}
