package store

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/drydock/drydock/migrations"
	"github.com/drydock/drydock/playbook"
	"github.com/drydock/drydock/playbook/playbooktest"
	"github.com/drydock/drydock/store/privatepg/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// fixture is a store on a database of its own.
type fixture struct {
	*testing.T
	*Store
	dsn string
}

func testOptions(t testing.TB, dsn, node string) Options {
	return Options{DatabaseURL: dsn, Node: node, BackupKey: []byte("0123456789abcdef0123456789abcdef"), MaxConns: 8,
		Log: slog.New(slog.NewTextHandler(t.Output(), nil))}
}

func newFixture(t *testing.T, change ...func(*Options)) *fixture {
	t.Helper()
	return openFixture(t, pgtest.New(t, migrations.Up), "one/1", change...)
}

// openFixture opens one more store, as another replica, on a database.
func openFixture(t *testing.T, dsn, node string, change ...func(*Options)) *fixture {
	t.Helper()
	opts := testOptions(t, dsn, node)
	for _, c := range change {
		c(&opts)
	}
	s, err := Open(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return &fixture{T: t, Store: s, dsn: dsn}
}

func (f *fixture) exec(sql string, args ...any) {
	f.Helper()
	if _, err := f.pool.Exec(f.Context(), sql, args...); err != nil {
		f.Fatalf("%s: %v", sql, err)
	}
}

// scan reads one row of one column.
func scan[T any](f *fixture, sql string, args ...any) T {
	f.Helper()
	var v T
	if err := f.pool.QueryRow(f.Context(), sql, args...).Scan(&v); err != nil {
		f.Fatalf("%s: %v", sql, err)
	}
	return v
}

func (f *fixture) must(err error) {
	f.Helper()
	if err != nil {
		f.Fatal(err)
	}
}

// until polls a condition, for at most 20 s.
func (f *fixture) until(what string, condition func() bool) {
	f.Helper()
	deadline := time.Now().Add(20 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		if time.Now().After(deadline) {
			f.Fatalf("waited too long for: %s", what)
		}
		<-tick.C
	}
}

func target(carrier, daemonset string) playbook.Target {
	return playbook.Target{Carrier: carrier, Namespace: "monitoring", DaemonSet: daemonset}
}

func startOf(incident string, t playbook.Target) playbook.Start {
	return playbook.Start{Target: t, Incident: playbook.RunIncident{ID: incident, Number: 7, Title: "title of " + incident, URL: "https://pd/" + incident},
		Trigger: playbook.TriggerWebhook, Mode: playbook.ModeAct, Deadline: 45 * time.Minute}
}

func (f *fixture) start(incident string, t playbook.Target) playbook.Run {
	f.Helper()
	r, err := f.StartRun(f.Context(), startOf(incident, t))
	f.must(err)
	return r
}

func (f *fixture) acquire(run string) playbook.Hold {
	f.Helper()
	h, err := f.Acquire(f.Context(), run)
	f.must(err)
	f.Cleanup(h.Release)
	return h
}

// commitOf is the commit of a tick in which nothing changes but what change does.
func (f *fixture) commitOf(h playbook.Hold, change func(*playbook.Commit)) playbook.Commit {
	f.Helper()
	r, now, err := f.Load(f.Context(), h)
	f.must(err)
	c := playbook.Commit{Run: r, Store: true, NextTick: now.Add(time.Minute),
		Tick: playbook.Tick{At: now, From: r.State, To: r.State, Observation: playbook.Observation{At: now}}}
	if change != nil {
		change(&c)
	}
	return c
}

func (f *fixture) commit(h playbook.Hold, change func(*playbook.Commit)) playbook.Run {
	f.Helper()
	r, err := f.Commit(f.Context(), h, f.commitOf(h, change))
	f.must(err)
	return r
}

// move commits a run into a state, and gives the lease back.
func (f *fixture) move(run string, to playbook.State) playbook.Run {
	f.Helper()
	h := f.acquire(run)
	defer h.Release()
	return f.commit(h, func(c *playbook.Commit) {
		c.Run.State, c.Tick.To = to, to
		if to.Ended() {
			c.Run.Outcome, c.NextTick = playbook.Outcome(to), time.Time{}
		}
	})
}

func cordonOf(run string) playbook.Cordon {
	return playbook.Cordon{Node: "w1", UID: "u1", ResourceVersion: "7", Mark: playbook.Mark{Installation: "i", Run: run}}
}

// conforming opens the doors of the conformance suite.
type conforming struct{ *fixture }

func (c conforming) StartRun(ctx context.Context, st playbook.Start) error {
	links, err := c.Links(ctx, []string{st.Incident.ID})
	if err != nil {
		return err
	}
	_, _, err = c.Reconcile(ctx, st, links[st.Incident.ID].Run)
	return err
}

func (c conforming) SetKillSwitch(ctx context.Context, carrier, reason string) error {
	if reason == "" {
		return c.ReleaseKillSwitch(ctx, KillSwitch{Carrier: carrier, By: "test"})
	}
	return c.EngageKillSwitch(ctx, KillSwitch{Carrier: carrier, Reason: reason, By: "test"})
}

func (c conforming) ExpireLease(_ context.Context, run string) error {
	c.exec(`UPDATE leases SET expires_at = clock_timestamp() WHERE target = (SELECT target FROM runs WHERE id = $1)`, run)
	return nil
}

func (c conforming) Age(_ context.Context, d time.Duration) error {
	c.exec(`UPDATE runs SET started_at = started_at - $1::interval, finished_at = finished_at - $1::interval, deadline = deadline - $1::interval`, d)
	c.exec(`UPDATE reservations SET at = at - $1::interval, expires_at = expires_at - $1::interval`, d)
	c.exec(`UPDATE ticks SET at = at - $1::interval, observed_at = observed_at - $1::interval`, d)
	return nil
}

func TestLedgerConforms(t *testing.T) {
	t.Parallel()
	playbooktest.LedgerTest(t, func(t *testing.T) playbooktest.LedgerUnderTest { return conforming{newFixture(t)} })
}

func TestOpenRefusesBadOptions(t *testing.T) {
	t.Parallel()
	dsn := pgtest.New(t, migrations.Up)
	for name, change := range map[string]func(*Options){
		"no node":       func(o *Options) { o.Node = "" },
		"short key":     func(o *Options) { o.BackupKey = []byte("short") },
		"no such place": func(o *Options) { o.DatabaseURL = "host=/nonexistent user=x dbname=x" },
	} {
		opts := testOptions(t, dsn, "one/1")
		change(&opts)
		if s, err := Open(t.Context(), opts); err == nil {
			s.Close()
			t.Errorf("%s: opened", name)
		}
	}
}

func (f *fixture) wantError(err, want error) {
	f.Helper()
	if !errors.Is(err, want) {
		f.Errorf("got error %v, want %v", err, want)
	}
}

func (f *fixture) wantErrorAs(err error, target any) {
	f.Helper()
	if !errors.As(err, target) {
		f.Fatalf("got error %v, want a %T", err, target)
	}
}
