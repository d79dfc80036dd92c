package scenario

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"github.com/drydock/drydock/playbook"
	"github.com/drydock/drydock/playbook/playbooktest/scenariofile"
	"github.com/drydock/drydock/testbed/controlplane"
)

// stage is what the scenarios share. Everything on it starts when it is first needed.
type stage struct {
	ctx context.Context // of everything that runs until stop
	dir string
	all []scenariofile.Scenario
	key [32]byte // of all servers
	// databases are empty ones with the schema, by the settings of the server that they are for.
	databases map[common]string

	// without names the right that a scenario is played without, by its file; see rights.go.
	without map[string]string
	// together, if set, is how many scenarios take the controller's right at the same time, instead of taking turns.
	together *gathering

	binary     func() (string, error)
	shared     func() (*controlplane.Cluster, error)
	disruptive func() (*controlplane.Cluster, error)
	// turn is held by the scenario that plays on the disruptive control plane.
	turn sync.Mutex

	mu      sync.Mutex
	servers map[common]func() (*server, error)
	stops   []func() error
}

// newStage makes a stage for the scenarios. ctx is the life of all that will run; dir takes the files.
func newStage(ctx context.Context, dir string, all []scenariofile.Scenario, databases map[common]string) *stage {
	st := &stage{ctx: ctx, dir: dir, all: all, databases: databases, servers: map[common]func() (*server, error){}}
	_, _ = rand.Read(st.key[:]) // it never fails
	st.binary = sync.OnceValues(st.build)
	// Many scenarios at once keep the machine busy: a lease of Kubernetes' own default length is not lost by that.
	calm := controlplane.LeaderElection{Lease: 15 * time.Second, RenewDeadline: 10 * time.Second, RetryPeriod: 2 * time.Second}
	st.shared = sync.OnceValues(func() (*controlplane.Cluster, error) { return st.startCluster("shared", calm) })
	st.disruptive = sync.OnceValues(func() (*controlplane.Cluster, error) {
		return st.startCluster("disruptive", controlplane.LeaderElection{}) // the short default: a dead leader is soon seen
	})
	return st
}

// build compiles the product as it is in this repository.
func (st *stage) build() (string, error) {
	binary := filepath.Join(st.dir, "drydock")
	cmd := exec.CommandContext(st.ctx, "go", "build", "-buildvcs=false", "-o", binary, "./cmd/drydock")
	cmd.Dir = filepath.Join("..", "..")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build drydock: %w\n%s", err, out)
	}
	return binary, nil
}

func (st *stage) startCluster(name string, election controlplane.LeaderElection) (*controlplane.Cluster, error) {
	cluster, err := controlplane.Start(st.ctx, controlplane.Options{
		Name: name, Dir: filepath.Join(st.dir, name), Nodes: -1, Masters: 1, LeaderElection: election, Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	if err != nil {
		return nil, err
	}
	st.atStop(cluster.Stop)
	return cluster, st.bound(cluster)
}

func (st *stage) atStop(f func() error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.stops = append(st.stops, f)
}

// cluster is the control plane for a scenario.
func (st *stage) cluster(s *scenariofile.Scenario) (*controlplane.Cluster, error) {
	if s.Disrupts() {
		return st.disruptive()
	}
	return st.shared()
}

// common is what one server has the same for all its scenarios.
type common struct {
	Disrupts      bool // which control plane
	Timing        playbook.Timing
	Limits        playbook.Limits
	OnAcknowledge string
}

func commonOf(s *scenariofile.Scenario) common {
	return common{s.Disrupts(), s.Settings.PolicyTiming(), s.Settings.PolicyLimits(), s.Settings.OnAcknowledge}
}

// server is the Drydock for a scenario.
func (st *stage) server(s *scenariofile.Scenario) (*server, error) {
	with := commonOf(s)
	st.mu.Lock()
	get := st.servers[with]
	if get == nil {
		name := fmt.Sprintf("drydock-%d", len(st.servers)+1)
		get = sync.OnceValues(func() (*server, error) { return st.startServer(name, with) })
		st.servers[with] = get
	}
	st.mu.Unlock()
	return get()
}

// stop ends everything, what was started last first: Drydock may still have to put something back.
func (st *stage) stop() error {
	var errs []error
	for i := len(st.stops) - 1; i >= 0; i-- {
		errs = append(errs, st.stops[i]())
	}
	return errors.Join(errs...)
}
