package main

import (
	"context"
	"log/slog"

	"github.com/drydock/drydock/playbook"
)

type runKey struct{}

// nameRun puts the run's id on every line that is logged under a tick's context, whichever package logs it.
func nameRun(ctx context.Context, s playbook.Step) (context.Context, func(string, error)) {
	if s.Name == playbook.StepTick {
		ctx = context.WithValue(ctx, runKey{}, s.Run)
	}
	return ctx, func(string, error) {}
}

// runHandler adds the context's run to a record that does not name one.
type runHandler struct {
	slog.Handler
	named bool // by a logger made With it
}

const runAttr = "run"

// Handle implements slog.Handler.
func (h runHandler) Handle(ctx context.Context, r slog.Record) error {
	if run, ok := ctx.Value(runKey{}).(string); ok && !h.named && !names(r) {
		r = r.Clone()
		r.AddAttrs(slog.String(runAttr, run))
	}
	return h.Handler.Handle(ctx, r)
}

func names(r slog.Record) bool {
	found := false
	r.Attrs(func(a slog.Attr) bool { found = a.Key == runAttr; return !found })
	return found
}

// WithAttrs implements slog.Handler.
func (h runHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	named := h.named
	for _, a := range attrs {
		named = named || a.Key == runAttr
	}
	return runHandler{h.Handler.WithAttrs(attrs), named}
}

// WithGroup implements slog.Handler.
func (h runHandler) WithGroup(name string) slog.Handler {
	return runHandler{h.Handler.WithGroup(name), h.named}
}
