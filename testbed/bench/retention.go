package main

import (
	"context"
	"fmt"
	"time"

	"github.com/drydock/drydock/playbook"
	"github.com/drydock/drydock/store"
)

// month is what retention deletes, and forgetFor how long it may take.
const (
	month     = 30 * 24 * time.Hour
	forgetFor = 10 * time.Minute
)

// forgetting is retention at work on the oldest month, and the pages and fetches that were asked for beside it.
type forgetting struct {
	Runs    int           `json:"runs"`
	Took    time.Duration `json:"took"`
	Bytes   int64         `json:"wal_bytes"`
	Pages   timing        `json:"pages_beside"`
	Key     timing        `json:"primary_key_beside"`
	Stopped bool          `json:"stopped,omitempty"` // before the month was gone
}

// forget lets retention delete the oldest month, and looks whether it is in the way of those who read.
func (h *historian) forget(ctx context.Context, dsn string) (f forgetting, err error) {
	st, err := store.Open(ctx, store.Options{DatabaseURL: dsn, Node: "bench/2", BackupKey: make([]byte, 32), Log: h.log})
	if err != nil {
		return f, err
	}
	defer st.Close()
	var oldest time.Time
	var before int64
	if err := h.conn.QueryRow(ctx, `SELECT (SELECT min(started_at) FROM runs), pg_current_wal_lsn() - '0/0'::pg_lsn`).Scan(&oldest, &before); err != nil {
		return f, fmt.Errorf("measure retention: %w", err)
	}
	h.log.Info("deleting the oldest month")
	deleting, cancel := context.WithTimeout(ctx, forgetFor)
	defer cancel()
	began := time.Now()
	done := make(chan error, 1)
	go func() {
		gone, err := st.Forget(deleting, store.Retention{Runs: time.Since(oldest) - month})
		f.Runs, f.Took = gone.Runs, time.Since(began)
		done <- err
	}()
	var pages, keys []time.Duration
	for {
		select {
		case err := <-done:
			if f.Stopped = deleting.Err() != nil; err != nil && !f.Stopped {
				return f, err
			}
			var after int64
			if err := h.conn.QueryRow(ctx, `SELECT pg_current_wal_lsn() - '0/0'::pg_lsn`).Scan(&after); err != nil {
				return f, fmt.Errorf("measure retention: %w", err)
			}
			f.Bytes, f.Pages, f.Key = after-before, timingOf(pages), timingOf(keys)
			return f, nil
		case <-time.After(10 * time.Millisecond):
		}
		_, page, err := h.page(ctx, playbook.RunFilter{})
		if err != nil {
			return f, err
		}
		key, err := h.fetch(ctx, h.newest)
		if err != nil {
			return f, err
		}
		pages, keys = append(pages, page), append(keys, key)
	}
}
