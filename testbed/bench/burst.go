package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/drydock/drydock/store/privatepg"
)

// burstResult is many webhooks that came at one time.
type burstResult struct {
	Webhooks int           `json:"webhooks"`
	P50      time.Duration `json:"p50_ns"` // since the burst began
	P99      time.Duration `json:"p99_ns"`
	Longest  time.Duration `json:"longest_ns"`
	Memory   int64         `json:"peak_bytes"`
}

const (
	burstWebhooks    = 10_000
	burstConnections = 1_000
)

func measureBurst(ctx context.Context, b *bench) ([]row, any, error) {
	r := burstResult{Webhooks: burstWebhooks}
	err := withProduct(ctx, b, "ingest", nil, func(p *product, _ *carrierAPI, _ *privatepg.Server) error {
		b.log.Info("sending a burst", "webhooks", burstWebhooks, "connections", burstConnections)
		g := generator{address: p.address, secret: []byte(webhookSecret)}
		answered, err := g.burst(ctx, burstConnections, burstWebhooks)
		if err != nil {
			return err
		}
		r.P50, r.P99, r.Longest = quantile(answered, 0.5), quantile(answered, 0.99), quantile(answered, 1)
		r.Memory, err = memory(p.cmd.Process, "VmHWM")
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	return []row{
		{
			what: fmt.Sprintf("Burst of %d webhooks", r.Webhooks), drydock: fmt.Sprintf("answered after p50 %s, p99 %s, longest %s", short(r.P50), short(r.P99), short(r.Longest)),
			goal: "none over 5 s",
		},
		{what: "Burst, memory at its peak", drydock: mebibytes(r.Memory), goal: "< 256 MiB"},
	}, r, nil
}

// burst sends n webhooks that all exist from the beginning, over so many connections, and tells when after the beginning
// each was answered.
func (g *generator) burst(ctx context.Context, conns, n int) ([]time.Duration, error) {
	clients := make([]*client, conns)
	for i := range clients {
		c, err := g.dial(ctx)
		if err != nil {
			return nil, err
		}
		defer func() { _ = c.conn.Close() }()
		clients[i] = c
	}
	answered := make([]time.Duration, n)
	failed := make(chan error, conns)
	var next atomic.Int64
	var all sync.WaitGroup
	began := time.Now()
	for _, c := range clients {
		all.Go(func() {
			for {
				i := next.Add(1) - 1
				if i >= int64(n) {
					return
				}
				if err := c.send(g.sent.Add(1) - 1); err != nil {
					failed <- err
					return
				}
				answered[i] = time.Since(began)
			}
		})
	}
	all.Wait()
	close(failed)
	var err error
	for e := range failed {
		err = errors.Join(err, e)
	}
	return answered, err
}
