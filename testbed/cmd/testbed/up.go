package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/drydock/drydock/testbed/controlplane"
)

// up runs one control plane until ctx ends. As soon as it is ready it prints its
// kubeconfig's path, and nothing else, on stdout.
func up(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	flags := flag.NewFlagSet("up", flag.ContinueOnError)
	nodes := flags.Int("nodes", 12, "worker nodes")
	masters := flags.Int("masters", 0, "further nodes with the taint of a control plane node")
	podsPerNode := flags.Int("pods-per-node", 31, "each node's allocatable pods")
	name := flags.String("name", "testbed", "the carrier's name")
	kubeconfigOut := flags.String("kubeconfig-out", "", "write the kubeconfig to this `file` too, and print its path")
	if err := parse(flags, args, stderr); err != nil {
		return err
	}
	if *nodes < 1 || *masters < 0 || *podsPerNode < 1 {
		return fmt.Errorf("%w: --nodes and --pods-per-node must be at least 1, --masters at least 0", errUsage)
	}
	// Before the start of minutes or seconds, not after it.
	if *kubeconfigOut != "" {
		if err := os.MkdirAll(filepath.Dir(*kubeconfigOut), 0o755); err != nil {
			return fmt.Errorf("%w: --kubeconfig-out: %w", errUsage, err)
		}
	}

	start := time.Now()
	fmt.Fprintf(stderr, "testbed: starting Kubernetes %s with %d nodes\n", controlplane.Version, *nodes+*masters)
	cluster, err := controlplane.Start(ctx, controlplane.Options{
		Name:        *name,
		Nodes:       *nodes,
		Masters:     *masters,
		PodsPerNode: *podsPerNode,
		Lease:       leaseFor(*nodes),
		Log:         slog.New(slog.NewTextHandler(stderr, nil)),
		Progress:    stderr,
	})
	if err != nil {
		if ctx.Err() != nil {
			fmt.Fprintln(stderr, "testbed: interrupted while starting")
			return nil
		}
		return err
	}
	defer func() { err = errors.Join(err, cluster.Stop()) }()

	path := cluster.Kubeconfig()
	if *kubeconfigOut != "" {
		if path, err = filepath.Abs(*kubeconfigOut); err != nil {
			return fmt.Errorf("find --kubeconfig-out: %w", err)
		}
		if err := copyFile(cluster.Kubeconfig(), path); err != nil {
			return fmt.Errorf("write --kubeconfig-out: %w", err)
		}
	}
	fmt.Fprintf(stderr, "testbed: ready after %v; interrupt to stop\n", time.Since(start).Round(100*time.Millisecond))
	fmt.Fprintln(stdout, path)

	<-ctx.Done()
	fmt.Fprintln(stderr, "testbed: stopping")
	return nil
}

// leaseFor is a lease with which so many nodes cost at most some 100 writes a second
// (each lease is renewed every quarter of it), and never below the usual 8 s.
func leaseFor(nodes int) time.Duration {
	return max(8, time.Duration(nodes*4/100)) * time.Second
}

// copyFile writes path in one step, so that who waits for the file finds it whole.
func copyFile(from, path string) error {
	content, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	temporary := fmt.Sprintf("%s.%d", path, os.Getpid())
	if err := os.WriteFile(temporary, content, 0o600); err != nil {
		return err
	}
	return os.Rename(temporary, path)
}
