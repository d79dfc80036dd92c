// Package await waits for conditions on a control plane. A check says what is
// still missing by returning an error, so that a wait that runs out names it.
package await

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Every is the pause between two checks. A loopback API server answers in a few
// milliseconds, so a short pause costs little and keeps tests quick.
const Every = 50 * time.Millisecond

// Until calls check until it returns nil. It fails when ctx ends, naming what it
// waited for and what check last missed, or at once when check returns a Never.
func Until(ctx context.Context, what string, check func(context.Context) error) error {
	ticker := time.NewTicker(Every)
	defer ticker.Stop()
	var missing error
	for {
		err := check(ctx)
		if err == nil {
			return nil
		}
		if never, ok := errors.AsType[never](err); ok {
			return fmt.Errorf("wait for %s: %w", what, never.err)
		}
		// A check that ctx cut short has nothing to tell about the condition.
		if ctx.Err() == nil || missing == nil {
			missing = err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w, last seen: %w", what, context.Cause(ctx), missing)
		case <-ticker.C:
		}
	}
}

// Never marks an error after which the condition can not come true any more.
func Never(err error) error { return never{err} }

type never struct{ err error }

func (n never) Error() string { return n.err.Error() }
func (n never) Unwrap() error { return n.err }
