package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"
)

// startResult is cold starts on a migrated database, in turns with a process of the same binary that only tells its version.
type startResult struct {
	Ready   []time.Duration `json:"ready_ns"`
	Version []time.Duration `json:"version_ns"`
	Binary  int64           `json:"binary_bytes"`
}

func measureStart(ctx context.Context, b *bench) ([]row, any, error) {
	r, err := startOften(ctx, b)
	if err != nil {
		return nil, nil, err
	}
	return []row{
		{
			what: "Cold start to ready, 500 carriers", drydock: short(median(r.Ready)), limit: "drydock version: " + short(median(r.Version)),
			ratio: ratio(median(r.Ready), median(r.Version)), goal: "< 500 ms",
		},
		{what: "Binary", drydock: mebibytes(r.Binary), goal: "< 60 MiB"},
	}, r, nil
}

func startOften(ctx context.Context, b *bench) (r startResult, err error) {
	binary, err := b.program("drydock")
	if err != nil {
		return r, err
	}
	info, err := os.Stat(binary)
	if err != nil {
		return r, fmt.Errorf("look at the binary: %w", err)
	}
	r.Binary = info.Size()
	bin, err := findPgbench(ctx)
	if err != nil {
		return r, err
	}
	server, stop, err := startPostgres(ctx, bin, b)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	api, err := serveCarrierAPI(ctx, nil)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, api.stop()) }()
	for round := range b.rounds + 1 {
		b.log.Info("starting Drydock", "round", round, "of", b.rounds)
		dir, err := os.MkdirTemp(b.dir, "drydock-bench-")
		if err != nil {
			return r, fmt.Errorf("make Drydock's directory: %w", err)
		}
		p, err := startProduct(ctx, b, dir, "all", server.DSN(), api)
		if err != nil {
			return r, errors.Join(err, os.RemoveAll(dir))
		}
		if err := errors.Join(p.stop(), os.RemoveAll(dir)); err != nil {
			return r, err
		}
		began := time.Now()
		if err := exec.CommandContext(ctx, binary, "version").Run(); err != nil {
			return r, fmt.Errorf("run drydock version: %w", err)
		}
		if round > 0 { // the binary comes from the disk in the first
			r.Ready, r.Version = append(r.Ready, p.ready), append(r.Version, time.Since(began))
		}
	}
	return r, nil
}
