package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/drydock/drydock/api"
	"github.com/drydock/drydock/store"
)

// deadMan calls an address once a minute while Drydock works. Whoever listens there raises an alarm when the calls stay out: that
// Drydock is dead nobody inside it can say. One replica calls for all.
type deadMan struct {
	url    string // empty: nobody listens
	store  *store.Store
	parts  []api.Part
	client *http.Client
	log    *slog.Logger
}

const (
	deadManEvery = time.Minute
	deadManTime  = 10 * time.Second
)

func (d *deadMan) run(ctx context.Context) {
	if d.url == "" {
		return
	}
	d.turn(ctx)
	every(ctx, deadManEvery/6, func() { d.turn(ctx) })
}

// turn calls when it is this replica's turn, and it is ready itself.
func (d *deadMan) turn(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, deadManTime)
	defer cancel()
	for _, part := range d.parts {
		if part.Check(ctx) != nil {
			return // another replica may be better off; else the alarm is due
		}
	}
	ours, err := d.store.Turn(ctx, "deadman", deadManEvery-deadManEvery/12)
	if err != nil || !ours {
		return // without the database Drydock does not work
	}
	if err := d.call(ctx); err != nil && ctx.Err() == nil {
		d.log.WarnContext(ctx, "the dead man's address was not reached", "error", err)
	}
}

// call asks the address. The address is a secret, so no error may hold it.
func (d *deadMan) call(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, d.url, nil)
	if err != nil {
		return fmt.Errorf("deadman_url is not an address")
	}
	resp, err := d.client.Do(req)
	if err != nil {
		return fmt.Errorf("no answer from %s", req.URL.Host)
	}
	defer func() { _ = resp.Body.Close() }()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("%s answered %s", req.URL.Host, resp.Status)
	}
	return nil
}
