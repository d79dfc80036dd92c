package demo

import (
	"context"
	"errors"
	"testing"
)

func TestTogether(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	fails := func(context.Context) error { return broken }
	waits := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	works := func(context.Context) error { return nil }

	if err := together(t.Context(), works, works); err != nil {
		t.Errorf("got %v from work that succeeded", err)
	}
	if err := together(t.Context(), waits, fails, works); !errors.Is(err, broken) || errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the first error alone", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := together(ctx, waits); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want that of the caller's context", err)
	}
}
