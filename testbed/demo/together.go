package demo

import (
	"context"
	"errors"
	"sync"
)

// together does all the work at the same time and returns when all of it has
// ended. The first error ends the context of the rest, and is returned alone:
// what the others then say is of its making.
func together(ctx context.Context, work ...func(context.Context) error) error {
	shared, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var running sync.WaitGroup
	for _, do := range work {
		running.Go(func() {
			if err := do(shared); err != nil {
				cancel(err) // Only the first one counts.
			}
		})
	}
	running.Wait()
	if err := context.Cause(shared); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return context.Cause(ctx)
}
