package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/drydock/drydock/migrations"
	"github.com/drydock/drydock/playbook"
	"github.com/drydock/drydock/store/privatepg/pgtest"
)

// breaker is a proxy in front of Postgres that cuts a connection at its next COMMIT, once.
type breaker struct {
	t        *testing.T
	listener net.Listener
	network  string
	address  string

	mu   sync.Mutex
	cut  cutPoint
	cuts int
}

type cutPoint int

const (
	cutNever  cutPoint = iota
	cutBefore          // the COMMIT never reaches the server
	cutAfter           // it does, and its answer is lost
)

// newBreaker returns the proxy and the DSN that goes through it.
func newBreaker(t *testing.T, dsn string) (*breaker, string) {
	t.Helper()
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	b := &breaker{t: t}
	b.network, b.address = pgconn.NetworkAddress(config.Host, config.Port)
	if b.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.listener.Close() })
	go b.accept()
	port := b.listener.Addr().(*net.TCPAddr).Port
	proxied := "host=127.0.0.1 port=" + strconv.Itoa(port) + " sslmode=disable user=" + config.User + " dbname=" + config.Database
	if config.Password != "" {
		proxied += " password=" + config.Password
	}
	return b, proxied
}

func (b *breaker) arm(p cutPoint) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.cut, b.cuts = p, 0
}

func (b *breaker) count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.cuts
}

// take returns the cut point if it is armed, and disarms it.
func (b *breaker) take() cutPoint {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.cut
	if p != cutNever {
		b.cuts++
	}
	b.cut = cutNever
	return p
}

func (b *breaker) accept() {
	for {
		client, err := b.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial(b.network, b.address)
		if err != nil {
			_ = client.Close()
			continue
		}
		go b.relay(client, server)
	}
}

// bindCommit is in the message that has the prepared COMMIT run, behind the empty name of its portal: pgx names a statement
// after its text.
var bindCommit = func() []byte {
	digest := sha256.Sum256([]byte("COMMIT"))
	return fmt.Appendf(nil, "\x00stmtcache_%x\x00", digest[:24])
}()

func (b *breaker) relay(client, server net.Conn) {
	defer client.Close()
	defer server.Close()
	answered := make(chan struct{}) // the server's answers can not be passed on any more
	go func() {
		defer close(answered)
		defer client.Close()
		_, _ = io.Copy(client, server)
	}()
	buf := make([]byte, 64<<10)
	for {
		n, err := client.Read(buf)
		if err != nil {
			return
		}
		cut := cutNever
		if bytes.Contains(buf[:n], bindCommit) {
			cut = b.take()
		}
		switch cut {
		case cutBefore:
			return
		case cutAfter:
			_ = client.Close()
			_, _ = server.Write(buf[:n])
			<-answered // so the server has committed
			return
		case cutNever:
			if _, err := server.Write(buf[:n]); err != nil {
				return
			}
		}
	}
}

// TestAmbiguousCommit breaks the connection at the COMMIT of each kind of write, before and after the server got it. Every
// write must be done once, and answered as done.
func TestAmbiguousCommit(t *testing.T) {
	t.Parallel()
	dsn := pgtest.New(t, migrations.Up)
	broken, proxied := newBreaker(t, dsn)
	f := openFixture(t, proxied, "one/1")
	for name, point := range map[string]cutPoint{"lost on its way": cutBefore, "its answer lost": cutAfter} {
		t.Run(name, func(t *testing.T) {
			f := &fixture{T: t, Store: f.Store, dsn: proxied}
			id := f.start("P-"+strconv.Itoa(int(point)), target("c1", strconv.Itoa(int(point)))).ID
			h := f.acquire(id)
			check := func(what string) {
				t.Helper()
				if broken.count() != 1 {
					t.Errorf("%s: the connection was cut %d times, want once", what, broken.count())
				}
			}

			c := f.commitOf(h, func(c *playbook.Commit) {
				c.Promises = []playbook.Promise{{Action: cordonOf(id), Reservations: []playbook.Reservation{
					{Scope: playbook.ScopeEvictionsRun, Key: id, Amount: 3, Limit: 3}}}}
			})
			broken.arm(point)
			run, err := f.Commit(t.Context(), h, c)
			f.must(err)
			check("commit")
			f.same("version", run.Version, c.Run.Version+1)
			f.same("intents", len(run.Intents), 1)

			broken.arm(point)
			f.must(f.Begin(t.Context(), h, 1, time.Now().Add(time.Minute)))
			check("begin")

			broken.arm(point)
			run, err = f.Settle(t.Context(), h, 1, playbook.Settlement{Result: playbook.Happened, Receipt: "r"})
			f.must(err)
			check("settle")
			f.same("version", run.Version, c.Run.Version+2)
			stored := f.run(id)
			f.same("as stored", stored.Run, run)
			f.same("ticks", len(stored.Ticks), 1)

			broken.arm(point)
			a := triggered("x"+name, "PX-"+name, target("c2", name))
			record := f.intake(a)
			check("intake")
			f.same("event", []any{record.Outcome, record.Duplicate}, []any{playbook.EventStarted, false})
			f.same("runs", scan[int](f, `SELECT count(*) FROM runs WHERE daemonset = $1`, name), 1)
		})
	}
}

// TestKilledBackends kills every session of the store while ticks commit.
func TestKilledBackends(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(o *Options) { o.LeaseTTL = 30 * time.Second })
	id := f.start("P1", target("c1", "a")).ID
	h := f.acquire(id)
	run, _, err := f.Load(t.Context(), h)
	f.must(err)
	killer, err := pgx.Connect(t.Context(), f.dsn)
	f.must(err)
	defer killer.Close(context.WithoutCancel(t.Context()))

	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	wg.Go(func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			<-tick.C
			_, _ = killer.Exec(ctx, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
				WHERE datname = current_database() AND pid <> pg_backend_pid()`)
		}
	})
	for n := 1; n <= 40; n++ {
		run, err = f.Commit(t.Context(), h, playbook.Commit{Run: run, Store: true, NextTick: run.StartedAt.Add(time.Hour),
			Promises: []playbook.Promise{{Action: playbook.Annotate{Incident: "P1", Marker: strconv.Itoa(n)}}},
			Tick:     playbook.Tick{At: run.StartedAt, From: run.State, To: run.State}})
		f.must(err)
		if run.Ticks != n || len(run.Intents) != n {
			t.Fatalf("after %d commits there are %d ticks and %d intents", n, run.Ticks, len(run.Intents))
		}
	}
	stop()
	wg.Wait()
	// Its last order may still be under way on the server.
	_ = killer.Close(t.Context())
	f.until("the killer is gone", func() bool {
		left := 1
		err := f.pool.QueryRow(t.Context(), `SELECT count(*) FROM pg_stat_activity WHERE pid = $1`, killer.PgConn().PID()).Scan(&left)
		return err == nil && left == 0
	})
	f.pool.Reset()
	f.same("tick_seq", scan[int](f, `SELECT tick_seq FROM runs WHERE id = $1`, id), 41)
	f.same("as stored", f.run(id).Run, run)
}

// TestOutage stops Postgres as kill -9 does, in the middle of a tick, for a time that is shorter than the lease.
func TestOutage(t *testing.T) {
	t.Parallel()
	cluster := pgtest.Start(t)
	if err := migrations.Up(t.Context(), cluster.DSN()); err != nil {
		t.Fatal(err)
	}
	f := openFixture(t, cluster.DSN(), "one/1", func(o *Options) { o.LeaseTTL = 60 * time.Second })
	id := f.start("P1", target("c1", "a")).ID
	h := f.acquire(id)
	c := f.commitOf(h, nil)
	cluster.Kill(t)
	done := make(chan error, 1)
	go func() {
		_, err := f.Commit(t.Context(), h, c)
		done <- err
	}()
	cluster.Restart(t)
	f.must(<-done)
	f.same("ticks", f.run(id).Ticks[0].Seq, 1)

	// Without a database nothing is claimed to be written, and the wait ends with the caller's patience.
	c = f.commitOf(h, nil)
	cluster.Kill(t)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err := f.Commit(ctx, h, c)
	f.wantError(err, context.DeadlineExceeded)
	if _, err := f.Intake(t.Context(), acknowledged("1", "P1")); err == nil {
		t.Error("an event was taken without a database")
	}
	cluster.Restart(t)
}

// TestRestartsUnderLoad restarts and kills Postgres while events come in and runs tick. Every event that was answered as stored is
// stored, once; none that is stored was started twice; and afterwards everything goes on by itself.
func TestRestartsUnderLoad(t *testing.T) {
	t.Parallel()
	cluster := pgtest.Start(t)
	if err := migrations.Up(t.Context(), cluster.DSN()); err != nil {
		t.Fatal(err)
	}
	f := openFixture(t, cluster.DSN(), "one/1", func(o *Options) { o.Log = slog.New(slog.DiscardHandler) })
	f.working(Worker{Advance: func(ctx context.Context, run string) error {
		return f.tickOnce(ctx, run, func(c *playbook.Commit, now time.Time) {
			c.Run.State, c.NextTick = playbook.Verifying, now
			if c.Run.Ticks >= 3 {
				c.Run.State, c.Run.Outcome, c.NextTick = playbook.StateResolved, playbook.OutcomeResolved, time.Time{}
			}
		})
	}})
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var mu sync.Mutex
	taken := map[string]string{} // event -> run
	refused := 0
	var senders sync.WaitGroup
	for sender := range 8 {
		senders.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				name := fmt.Sprintf("%d-%d", sender, n)
				a := triggered(name, "P-"+name, target("c"+strconv.Itoa(sender), name))
				// As PagerDuty does: again and again until it is taken.
				for taking := true; taking; {
					try, cancel := context.WithTimeout(t.Context(), 5*time.Second)
					record, err := f.Intake(try, a)
					cancel()
					mu.Lock()
					if taking = err != nil; taking {
						refused++
					} else {
						taken["e-"+name] = record.Run
					}
					mu.Unlock()
				}
			}
		})
	}
	count := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(taken)
	}
	// The worker itself must be up before Postgres goes: to start it again is the caller's part.
	f.until("runs end", func() bool { return scan[int](f, `SELECT count(*) FROM runs WHERE state = 'resolved'`) > 0 })
	for round := range 4 {
		before := count()
		f.until("events come in", func() bool { return count() > before+50 })
		if round%2 == 0 {
			cluster.Kill(t)
		}
		cluster.Restart(t)
	}
	before := count()
	f.until("events come in after the last restart", func() bool { return count() > before+50 })
	stop()
	senders.Wait()
	f.until("every run has ended", func() bool {
		return scan[int](f, `SELECT count(*) FROM runs WHERE state <> 'resolved'`) == 0
	})
	t.Logf("%d events were stored through 2 kills and 2 restarts; %d tries were refused", len(taken), refused)
	if refused == 0 {
		t.Error("no try was refused: Postgres was never away")
	}
	f.same("events", scan[int](f, `SELECT count(*) FROM events`), len(taken))
	f.same("runs", scan[int](f, `SELECT count(*) FROM runs`), len(taken))
	f.same("incidents", scan[int](f, `SELECT count(*) FROM run_incidents`), len(taken))
	rows, err := f.pool.Query(t.Context(), `SELECT event_id, run FROM events`)
	f.must(err)
	stored := map[string]string{}
	f.must(scanTexts(rows, stored))
	f.same("events with their runs", stored, taken)
	f.same("ticks beyond the runs' own numbers", scan[int](f, `SELECT count(*) FROM runs r WHERE ticks <> (SELECT count(*) FROM ticks t WHERE t.run = r.id)`), 0)
}

// TestAFrozenReplicaHoldsUpNobody: a process that is frozen in its transaction may have a lock that others wait for; here it is the
// one of all audited commits. Another replica's commit waits for it, and keeps its lease.
func TestAFrozenReplicaHoldsUpNobody(t *testing.T) {
	t.Parallel()
	patient := func(o *Options) { o.LeaseTTL = 6 * time.Second }
	frozen := newFixture(t, patient)
	awake := openFixture(t, frozen.dsn, "two/1", patient)
	run := awake.start("Q1", target("c1", "d1"))
	tx, err := frozen.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }() // it was ended for it
	_, err = tx.Exec(t.Context(), `INSERT INTO audit (entry) VALUES ('{"why":"it is frozen here"}')`)
	frozen.must(err)

	h := awake.acquire(run.ID)
	awake.commit(h, func(c *playbook.Commit) { c.Run.State, c.Tick.To = playbook.Triage, playbook.Triage })
	awake.must(h.Context().Err())
	if got := scan[int](awake, `SELECT count(*) FROM audit WHERE entry->>'why' = 'it is frozen here'`); got != 0 {
		t.Errorf("the frozen replica's entry is there %d times", got)
	}
}

// Postgres answers the COMMIT of a transaction in which a statement has failed with ROLLBACK and no error: that is not taken for done.
func TestCommitOfAFailedTransaction(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	err := f.inTx(t.Context(), func(tx pgx.Tx) error {
		_, _ = tx.Exec(t.Context(), `SELECT 1/0`) // a mistake: its error is lost
		return nil
	})
	f.wantError(err, pgx.ErrTxCommitRollback)
}
