package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/drydock/drydock/store/privatepg"
)

// pickupResult is how long after its answer a webhook's carrier is first asked, in turns with how long a notification of
// Postgres takes, both at the same rate.
type pickupResult struct {
	Pickup timing `json:"pickup"`
	Notify timing `json:"notify"`
	// What a webhook takes up to and with its run's first ticks, in processor time.
	Product  time.Duration `json:"drydock_cpu_ns"`
	Database time.Duration `json:"database_cpu_ns"`
	Ticks    float64       `json:"ticks_per_webhook"`
}

const (
	pickupEvery  = 20 * time.Millisecond // 50 a second
	pickupWindow = 200                   // webhooks or notifications
)

func measurePickup(ctx context.Context, b *bench) ([]row, any, error) {
	var pickups, notifications []time.Duration
	first := &firstReads{at: map[string]time.Time{}}
	var r pickupResult
	err := withProduct(ctx, b, "all", first.asked, func(p *product, _ *carrierAPI, server *privatepg.Server) error {
		g := &generator{address: p.address, secret: []byte(webhookSecret)}
		product, database := r.spent(p, server)
		for round := range b.rounds + 1 {
			b.log.Info("waiting for carriers to be read", "round", round, "of", b.rounds)
			some, err := pickUp(ctx, g, first)
			if err != nil {
				return err
			}
			others, err := notifications50(ctx, server.DSN())
			if err != nil {
				return err
			}
			if round > 0 {
				pickups, notifications = append(pickups, some...), append(notifications, others...)
			}
		}
		productNow, databaseNow := r.spent(p, server)
		n := g.sent.Load()
		r.Product, r.Database = (productNow-product)/time.Duration(n), (databaseNow-database)/time.Duration(n)
		return r.count(ctx, server.DSN(), n)
	})
	if err != nil {
		return nil, nil, err
	}
	r.Pickup, r.Notify = timingOf(pickups), timingOf(notifications)
	return []row{{
		what: "Webhook answered to first read of the carrier, 50/s", drydock: r.Pickup.String(), limit: "LISTEN/NOTIFY: " + r.Notify.String(),
		ratio: ratio(r.Pickup.P50, r.Notify.P50), goal: "p50 < 10 ms, p99 < 50 ms",
	}, {
		what:    "Processor time for it",
		drydock: fmt.Sprintf("%s, %s of Postgres, with %.1f ticks", short(r.Product), short(r.Database), r.Ticks),
	}}, r, nil
}

func (r *pickupResult) spent(p *product, server *privatepg.Server) (product, database time.Duration) {
	own, _ := readCPU(p.cmd.Process.Pid)
	return own.own, cpuSpent(server.PID()).database
}

// count tells how many ticks there were for each webhook.
func (r *pickupResult) count(ctx context.Context, dsn string, webhooks int64) error {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return fmt.Errorf("count ticks: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var ticks int64
	if err := conn.QueryRow(ctx, `SELECT coalesce(sum(tick_seq - 1), 0)::bigint FROM runs`).Scan(&ticks); err != nil {
		return fmt.Errorf("count ticks: %w", err)
	}
	r.Ticks = float64(ticks) / float64(webhooks)
	return nil
}

// firstReads notes when each carrier's DaemonSet was first asked for.
type firstReads struct {
	mu sync.Mutex
	at map[string]time.Time // by "carrier/daemonset"
}

func readKey(i int64) string { return carrierName(i) + "/" + daemonSetName(i) }

func (f *firstReads) asked(path string) {
	now := time.Now()
	carrier, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	_, daemonSet, found := strings.Cut(path, "/namespaces/"+namespace+"/daemonsets/")
	if !found {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if key := carrier + "/" + daemonSet; f.at[key].IsZero() {
		f.at[key] = now
	}
}

func (f *firstReads) of(i int64) time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.at[readKey(i)]
}

// pickUp sends a window of webhooks, each at its time, and waits until their carriers were read.
func pickUp(ctx context.Context, g *generator, first *firstReads) ([]time.Duration, error) {
	begin := g.sent.Load()
	answered := make([]time.Time, pickupWindow)
	failed := make(chan error, pickupWindow)
	clients := make(chan *client, 16)
	for range cap(clients) {
		c, err := g.dial(ctx)
		if err != nil {
			return nil, err
		}
		defer func() { _ = c.conn.Close() }()
		clients <- c
	}
	var all sync.WaitGroup
	tick := time.NewTicker(pickupEvery)
	defer tick.Stop()
	for n := range pickupWindow {
		<-tick.C
		i := g.sent.Add(1) - 1
		all.Go(func() {
			c := <-clients
			if err := c.send(i); err != nil {
				failed <- err
			}
			answered[n] = time.Now()
			clients <- c
		})
	}
	all.Wait()
	close(failed)
	if err := <-failed; err != nil {
		return nil, err
	}
	var took []time.Duration
	deadline := time.Now().Add(20 * time.Second)
	for n := range pickupWindow {
		for first.of(begin + int64(n)).IsZero() {
			if time.Now().After(deadline) {
				return nil, fmt.Errorf("the carrier of webhook %d was never read", n)
			}
			<-tick.C
		}
		// A worker may be quicker than the answer's way back.
		took = append(took, max(0, first.of(begin+int64(n)).Sub(answered[n])))
	}
	return took, nil
}

// notifications50 sends notifications at the same rate and tells how long each takes to the other session.
func notifications50(ctx context.Context, dsn string) (took []time.Duration, err error) {
	listener, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	defer func() { err = errors.Join(err, listener.Close(ctx)) }()
	sender, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return nil, fmt.Errorf("notify: %w", err)
	}
	defer func() { err = errors.Join(err, sender.Close(ctx)) }()
	if _, err := listener.Exec(ctx, `LISTEN bench`); err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	tick := time.NewTicker(pickupEvery)
	defer tick.Stop()
	for range pickupWindow {
		<-tick.C
		began := time.Now()
		if _, err := sender.Exec(ctx, `NOTIFY bench`); err != nil {
			return nil, fmt.Errorf("notify: %w", err)
		}
		if _, err := listener.WaitForNotification(ctx); err != nil {
			return nil, fmt.Errorf("listen: %w", err)
		}
		took = append(took, time.Since(began))
	}
	return took, nil
}
