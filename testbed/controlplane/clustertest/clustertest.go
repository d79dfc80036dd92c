// Package clustertest gives a package's tests one control plane that they share:
// starting one costs ten seconds, and two at once starve each other on two cores.
// Each test then takes a namespace, and a node when it breaks one, for itself.
package clustertest

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/drydock/drydock/testbed/controlplane"
)

// Run is a package's TestMain but for its end: it starts a control plane, puts it
// in cluster, runs the tests, stops the control plane and returns the exit code.
// A control plane that can not be started or stopped fails the package.
func Run(ctx context.Context, m *testing.M, opts controlplane.Options, cluster **controlplane.Cluster) int {
	started, err := controlplane.Start(ctx, opts)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	*cluster = started
	code := m.Run()
	if err := started.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// Cleanup calls undo after the test, with a minute of its own: the test's
// context has ended by then.
func Cleanup(t *testing.T, undo func(context.Context) error) {
	t.Helper()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
		defer cancel()
		if err := undo(ctx); err != nil {
			t.Error(err)
		}
	})
}
