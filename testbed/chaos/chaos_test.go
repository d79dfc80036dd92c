package chaos

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/drydock/drydock/playbook"
)

// What a night brings. The defaults are for every day, when all of these tests but the storm run at the same time (some two
// minutes); make soak has the large numbers, and runs them one after the other.
var (
	seed            = flag.Uint64("seed", 0, "draws the night; 0: a new one, which is printed")
	kills           = flag.Int("kills", 10, "kill -9 of a replica")
	freezes         = flag.Int("freezes", 3, "freezes of a replica")
	longestFreeze   = flag.Duration("longest-freeze", 6*time.Second, "of the freezes, from 1 s")
	restarts        = flag.Int("restarts", 1, "restarts of Postgres")
	gap             = flag.Duration("gap", 3*time.Second, "between two of them, on average")
	postmasterKills = flag.Int("postmaster-kills", 1, "kill -9 of the postmaster")
)

// build compiles the product as it is in this repository, once.
var build = sync.OnceValues(func() (string, error) {
	file := filepath.Join(workDir, "drydock")
	cmd := exec.Command("go", "build", "-buildvcs=false", "-o", file, "./cmd/drydock")
	cmd.Dir = filepath.Join("..", "..")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build drydock: %w\n%s", err, out)
	}
	return file, nil
})

var workDir string

func TestMain(m *testing.M) {
	flag.Parse()
	// A stage waits most of the time: on two cores, four of them are not starved.
	if f := flag.Lookup("test.parallel"); f.Value.String() == f.DefValue {
		if err := f.Value.Set("4"); err != nil {
			panic(err)
		}
	}
	dir, err := os.MkdirTemp("", "chaos-")
	if err != nil {
		panic(err)
	}
	workDir = dir
	code := m.Run()
	if err := os.RemoveAll(dir); err != nil {
		panic(err)
	}
	os.Exit(code)
}

// drawn is the seed of this run.
func drawn(t *testing.T) uint64 {
	t.Helper()
	s := *seed
	if s == 0 {
		s = uint64(time.Now().UnixNano() % 1_000_000)
	}
	t.Logf("seed %d: run it again with  go test ./chaos -run '^%s$' -seed %d", s, t.Name(), s)
	return s
}

func testLog() *slog.Logger {
	level := slog.LevelWarn
	if testing.Verbose() {
		level = slog.LevelInfo
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
}

// raise starts a stage, for as long as the test runs.
func raise(t *testing.T, o options) *stage {
	t.Helper()
	var err error
	if o.binary, err = build(); err != nil {
		t.Fatal(err)
	}
	o.log = testLog()
	s, err := newStage(t.Context(), o)
	t.Cleanup(func() {
		if err := s.stop(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("logs and configuration are in %s", s.dir)
		} else if err := os.RemoveAll(s.dir); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newNight(t *testing.T, o options) *night {
	t.Helper()
	n := &night{stage: raise(t, o)}
	if err := n.newWatch(n.cluster.Client()); err != nil {
		t.Fatal(err)
	}
	return n
}

// report fails the test with what was seen to be wrong.
func (n *night) report(t *testing.T) {
	t.Helper()
	for _, w := range n.wrong {
		t.Error(w)
	}
	for what, times := range n.summary(n.log) {
		t.Logf("%4d  %s", times, what)
	}
	for _, in := range n.pager.Incidents() {
		if in.ServiceID == selfServiceID {
			t.Logf("people were paged: %s", in.Title)
		}
	}
	t.Logf("%d reapplies; the longest time that a DaemonSet was away: %v", n.watch.reapply, n.watch.longest)
}

// TestReplicas kills and freezes three replicas and their Postgres while runs are under way on four carriers.
func TestReplicas(t *testing.T) {
	t.Parallel()
	drawn := drawn(t)
	n := newNight(t, options{seed: drawn, replicas: 3, carriers: 4, mode: playbook.ModeAct, deadline: 8 * time.Minute})
	d := n.newDisturber()
	p := plan{kills: *kills, freezes: *freezes, restarts: *restarts, postmasterKills: *postmasterKills,
		shortest: time.Second, longest: max(*longestFreeze, 2*time.Second), gap: *gap}
	enough, stop := context.WithCancel(t.Context())
	disturbed := make(chan error, 1)
	go func() {
		defer stop()
		if err := n.postgres.underWay(t.Context()); err != nil {
			disturbed <- err
			return
		}
		disturbed <- d.run(t.Context(), p.schedule(drawn))
	}()
	if err := n.breakAll(t.Context(), enough); err != nil {
		t.Error(err)
	}
	if err := <-disturbed; err != nil {
		t.Error(err)
	}
	if err := n.judgeAll(t.Context()); err != nil {
		t.Error(err)
	}
	n.report(t)
	for what, times := range d.done {
		t.Logf("%4d  %s", times, what)
	}
	if len(d.takeovers) == 0 {
		t.Error("no run was taken over: nothing was proven")
	}
	for _, what := range []act{killReplica, freezeReplica} {
		for _, quiet := range []bool{true, false} {
			count, p50, p99, longest := d.quantiles(what, quiet)
			t.Logf("take-over after a %s (only those with no other hit before it: %v): %d measured, p50 %v, p99 %v, longest %v", what, quiet, count,
				p50.Round(time.Millisecond), p99.Round(time.Millisecond), longest.Round(time.Millisecond))
		}
	}
}
