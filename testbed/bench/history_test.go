package main

import (
	"log/slog"
	"strings"
	"testing"
)

// The whole of it, on a history as short as has any depth: every page is held against its filter.
func TestHistory(t *testing.T) {
	t.Parallel()
	b := &bench{options: options{dir: t.TempDir(), buffers: "64MB", runs: 3000, ticks: 1, pages: 10}, log: slog.New(slog.NewTextHandler(t.Output(), nil))}
	some := []shape{shapes()[0], shapes()[7], shapes()[len(shapes())-1]}
	result, err := askHistory(t.Context(), b, some)
	if err != nil {
		t.Fatal(err)
	}
	rows := result.rows()
	if len(rows) != len(some)+1 || result.Month.Runs == 0 || result.Month.Stopped || result.Bytes == 0 {
		t.Errorf("%d lines, %+v", len(rows), result)
	}
	if first := result.Shapes[0]; first.Deep.Calls == 0 || first.Blocks < 10 || !strings.Contains(rows[0].drydock, "blocks") {
		t.Errorf("no filter: %+v, %+v", first, rows[0])
	}
}
