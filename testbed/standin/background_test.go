package standin

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
)

func TestBackground(t *testing.T) {
	t.Parallel()
	var b Background
	var changes Changes
	var ran atomic.Int64
	count := func(context.Context) { ran.Add(1); changes.Tell() }
	b.Go(count)
	if ran.Load() != 0 {
		t.Error("ran before Start")
	}
	ctx, cancel := context.WithCancel(t.Context())
	b.Start(ctx)
	b.Go(count)
	b.Go(func(ctx context.Context) { <-ctx.Done(); count(ctx) })
	if err := changes.WaitFor(t.Context(), func() bool { return ran.Load() == 2 }); err != nil {
		t.Fatal(err)
	}
	cancel()
	b.Go(count)
	b.Wait()
	if n := ran.Load(); n != 3 {
		t.Errorf("%d ran, want 3: one after the end", n)
	}
	if err := changes.WaitFor(ctx, func() bool { return false }); !errors.Is(err, context.Canceled) {
		t.Errorf("waiting with an ended context: %v", err)
	}
}
