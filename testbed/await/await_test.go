package await

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestUntil(t *testing.T) {
	errMissing := errors.New("two nodes are missing")
	errGone := errors.New("the server has exited")
	tests := map[string]struct {
		check func(ctx context.Context, calls int) error
		want  []string // Parts of the error; none: success.
		calls int      // 0: not compared.
	}{
		"true at once": {check: func(context.Context, int) error { return nil }, calls: 1},
		"true at the third": {check: func(_ context.Context, calls int) error {
			if calls < 3 {
				return errMissing
			}
			return nil
		}, calls: 3},
		"never":    {check: func(context.Context, int) error { return Never(errGone) }, want: []string{"wait for the nodes", errGone.Error()}, calls: 1},
		"runs out": {check: func(context.Context, int) error { return errMissing }, want: []string{"wait for the nodes", "deadline exceeded", errMissing.Error()}},
		"runs out in a call": {check: func(ctx context.Context, calls int) error {
			if calls == 1 {
				return errMissing
			}
			<-ctx.Done()
			return ctx.Err()
		}, want: []string{errMissing.Error()}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				calls := 0
				err := Until(ctx, "the nodes", func(ctx context.Context) error {
					calls++
					return test.check(ctx, calls)
				})
				if len(test.want) == 0 && err != nil {
					t.Fatalf("Until() = %v, want success", err)
				}
				for _, part := range test.want {
					if err == nil || !strings.Contains(err.Error(), part) {
						t.Errorf("Until() = %v, want it to contain %q", err, part)
					}
				}
				if test.calls != 0 && calls != test.calls {
					t.Errorf("check was called %d times, want %d", calls, test.calls)
				}
			})
		})
	}
}
