package standin

import (
	"context"
	"fmt"
	"sync"
)

// Background runs what a stand-in does on its own, such as sending webhooks. The
// zero value is ready; what is asked for before Start waits for it.
type Background struct {
	mu      sync.Mutex
	running sync.WaitGroup
	run     func(f func(context.Context)) // Nil before Start.
	waiting []func(context.Context)
}

// Go runs f in a goroutine of its own, with a context that ends with that of
// Start. Once that has ended, it does nothing.
func (b *Background) Go(f func(context.Context)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.run == nil {
		b.waiting = append(b.waiting, f)
		return
	}
	b.run(f)
}

// Start lets functions run until ctx ends. It may be called once.
func (b *Background) Start(ctx context.Context) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.run = func(f func(context.Context)) {
		if ctx.Err() == nil {
			b.running.Go(func() { f(ctx) })
		}
	}
	for _, f := range b.waiting {
		b.run(f)
	}
	b.waiting = nil
}

// Wait returns when nothing runs any more. Call it after Start's context has
// ended: nothing new begins then.
func (b *Background) Wait() {
	// With the lock taken once, a Go that began before the end has counted itself.
	b.mu.Lock()
	running := &b.running
	b.mu.Unlock()
	running.Wait()
}

// Changes wakes those who wait for a condition. The zero value is ready.
type Changes struct {
	mu   sync.Mutex
	next chan struct{} // Closed at the next change; nil while nobody waits.
}

// Tell says that something changed.
func (c *Changes) Tell() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.next != nil {
		close(c.next)
		c.next = nil
	}
}

func (c *Changes) wait() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.next == nil {
		c.next = make(chan struct{})
	}
	return c.next
}

// WaitFor returns when cond is true. It asks at once and after every change. The
// error is ctx's.
func (c *Changes) WaitFor(ctx context.Context, cond func() bool) error {
	for {
		changed := c.wait() // Before cond, so that no change falls in between.
		if cond() {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("wait for a condition: %w", ctx.Err())
		}
	}
}
