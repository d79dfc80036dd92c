package controlplane

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/drydock/drydock/testbed/await"
)

// Version is the Kubernetes release that kubebox is built from.
const Version = "v1.37.2"

// startPatience bounds a start, the building of kubebox not counted. It takes
// three to five seconds on two idle cores, and much longer on busy ones.
const startPatience = 5 * time.Minute

const (
	controllerManagerUser = "system:kube-controller-manager"
	schedulerUser         = "system:kube-scheduler"
)

//go:embed stages.yaml
var stages []byte

// Options say what cluster to start. The zero value is a good one: 12 nodes with
// room for 31 pods each, as the runbook's carriers have it.
type Options struct {
	// Name names the cluster, its kubeconfig's context and, by default, its
	// nodes. Default: testbed.
	Name string
	// Dir keeps data, kubeconfigs and logs. Default: a temporary directory that
	// Stop removes. A directory that is named here stays.
	Dir string
	// Nodes is the number of worker nodes. Default: 12. None at all: -1.
	Nodes int
	// Masters is the number of further nodes with the label and the taint of a
	// control plane node. With one or more, the controller manager appears as a
	// mirror pod in kube-system on the first of them, with its log.
	Masters int
	// PodsPerNode is each node's allocatable.pods. Default: 31.
	PodsPerNode int
	// NodePrefix comes before each worker's number. Default: <Name>-worker-.
	NodePrefix string
	// EditNode, if set, may change each node, masters first, before it is created.
	EditNode func(*corev1.Node)
	// Bare starts etcd and the API server alone, without nodes: all that admission
	// and authorization need, for a fifth of the work.
	Bare bool
	// Lease is the length of the nodes' leases, in whole seconds, 4 s or more: a
	// dead node is noticed after 1.25 of it. A lease is renewed every quarter of
	// it, so thousands of nodes want a longer one (5,000 were measured with
	// 200 s). Default: 8 s.
	Lease time.Duration
	// LeaderElection is the controller manager's. Default: 4 s, 3 s, 1 s.
	LeaderElection LeaderElection
	// Log gets what happens to the components. Default: nothing is logged.
	Log *slog.Logger
	// Progress gets lines of progress when kubebox must be built first, which
	// takes minutes. Default: stderr.
	Progress io.Writer
}

// LeaderElection is how soon another controller manager, or the same one after a
// restart, may lead. Kubernetes' own defaults are 15 s, 10 s and 2 s.
type LeaderElection struct {
	Lease, RenewDeadline, RetryPeriod time.Duration
}

func (o Options) withDefaults() Options {
	if o.Name == "" {
		o.Name = "testbed"
	}
	if o.Nodes == 0 {
		o.Nodes = 12
	}
	o.Nodes = max(o.Nodes, 0)
	if o.PodsPerNode == 0 {
		o.PodsPerNode = 31
	}
	if o.NodePrefix == "" {
		o.NodePrefix = o.Name + "-worker-"
	}
	if o.Lease == 0 {
		o.Lease = 8 * time.Second
	}
	if o.LeaderElection == (LeaderElection{}) {
		o.LeaderElection = LeaderElection{Lease: 4 * time.Second, RenewDeadline: 3 * time.Second, RetryPeriod: time.Second}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Progress == nil {
		o.Progress = os.Stderr
	}
	return o
}

func (o Options) validate() error {
	switch {
	case o.Masters < 0:
		return fmt.Errorf("option Masters: %d is negative", o.Masters)
	case o.PodsPerNode < 0:
		return fmt.Errorf("option PodsPerNode: %d is negative", o.PodsPerNode)
	case o.Lease < 4*time.Second || o.Lease%time.Second != 0:
		return fmt.Errorf("option Lease: %v is not a number of whole seconds from 4 s on", o.Lease)
	}
	return nil
}

// Cluster is a running control plane. Its methods may be called from several
// goroutines at once.
type Cluster struct {
	options    Options
	log        *slog.Logger
	dir        string
	ownDir     bool // We made dir, so Stop removes it.
	ports      ports
	ca         *authority
	kubeconfig string
	config     *rest.Config
	client     *kubernetes.Clientset
	processes  map[string]*process
}

// Start starts a cluster and returns when all its nodes are Ready and free of
// Kubernetes' own taints. It finds or builds kubebox first ([Kubebox]). When it
// fails, nothing is left running.
func Start(ctx context.Context, options Options) (*Cluster, error) {
	options = options.withDefaults()
	if err := options.validate(); err != nil {
		return nil, err
	}
	kubebox, err := Kubebox(ctx, options.Progress)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	c := &Cluster{options: options, log: options.Log.With("cluster", options.Name)}
	if err := c.start(ctx, kubebox); err != nil {
		return nil, errors.Join(fmt.Errorf("start cluster %s: %w", options.Name, err), c.Stop())
	}
	return c, nil
}

func (c *Cluster) start(ctx context.Context, kubebox string) error {
	if err := c.prepare(); err != nil {
		return err
	}
	c.processes = c.newProcesses(kubebox)

	// The API server retries until etcd answers.
	for _, component := range []string{Etcd, APIServer} {
		if err := c.processes[component].start(); err != nil {
			return err
		}
	}
	if err := c.WaitForAPIServer(ctx); err != nil {
		return err
	}
	if c.options.Bare {
		return nil
	}
	if err := c.createCRDs(ctx, kubebox); err != nil {
		return err
	}
	for _, component := range []string{ControllerManager, Scheduler, Kwok} {
		if err := c.processes[component].start(); err != nil {
			return err
		}
	}
	if err := c.AddNodes(ctx, c.ownNodes()...); err != nil {
		return err
	}
	return c.createPodLogs(ctx)
}

// prepare writes all files and makes the client.
func (c *Cluster) prepare() error {
	c.dir = c.options.Dir
	if c.dir == "" {
		dir, err := os.MkdirTemp("", "drydock-testbed-")
		if err != nil {
			return fmt.Errorf("make directory: %w", err)
		}
		c.dir, c.ownDir = dir, true
	}
	dir, err := filepath.Abs(c.dir)
	if err != nil {
		return fmt.Errorf("find directory %s: %w", c.dir, err)
	}
	c.dir = dir
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	if c.ports, err = freePorts(); err != nil {
		return err
	}
	if c.ca, err = writePKI(c.dir, time.Now()); err != nil {
		return err
	}
	if c.kubeconfig, err = c.IssueKubeconfig("admin", adminGroup); err != nil {
		return err
	}
	for user, groups := range map[string][]string{controllerManagerUser: nil, schedulerUser: nil, "kwok": {adminGroup}} {
		if _, err := c.IssueKubeconfig(user, groups...); err != nil {
			return err
		}
	}
	for name, content := range map[string][]byte{"scheduler.yaml": c.schedulerConfig(), "kwok.yaml": c.kwokConfig()} {
		if err := os.WriteFile(c.file(name), content, 0o600); err != nil {
			return fmt.Errorf("write configuration: %w", err)
		}
	}
	if c.config, err = clientcmd.BuildConfigFromFlags("", c.kubeconfig); err != nil {
		return fmt.Errorf("read kubeconfig: %w", err)
	}
	c.config.QPS = -1 // No limit of the client's own: tests create things in bulk.
	if c.client, err = kubernetes.NewForConfig(c.config); err != nil {
		return fmt.Errorf("make client: %w", err)
	}
	return nil
}

// WaitForAPIServer waits until the API server says that it is ready, as it does
// some seconds after StartComponent started it again.
func (c *Cluster) WaitForAPIServer(ctx context.Context) error {
	return await.Until(ctx, "the API server", func(ctx context.Context) error {
		for _, component := range []string{Etcd, APIServer} {
			if p := c.processes[component]; p.exits.Load() > 0 {
				return await.Never(fmt.Errorf("%s exited while starting, its log ends with:\n%s", component, p.logTail()))
			}
		}
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		return c.client.RESTClient().Get().AbsPath("/readyz").Do(ctx).Error()
	})
}

// createCRDs creates the custom resources by which kwok finds pods' logs. It must
// happen before kwok starts.
func (c *Cluster) createCRDs(ctx context.Context, kubebox string) error {
	printed, err := exec.CommandContext(ctx, kubebox, "kwok-crds").Output()
	if err != nil {
		return fmt.Errorf("print kwok's CRDs: %w", err)
	}
	var list struct{ Items []json.RawMessage }
	if err := json.Unmarshal(printed, &list); err != nil {
		return fmt.Errorf("parse kwok's CRDs: %w", err)
	}
	const path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
	for _, item := range list.Items {
		err := c.client.RESTClient().Post().AbsPath(path).Body([]byte(item)).Do(ctx).Error()
		if err != nil {
			return fmt.Errorf("create CRD: %w", err)
		}
	}
	return await.Until(ctx, "kwok's CRDs to be served", func(ctx context.Context) error {
		for _, resource := range []string{"logs", "clusterlogs"} {
			if err := c.client.RESTClient().Get().AbsPath(kwokAPI, resource).Do(ctx).Error(); err != nil {
				return err
			}
		}
		return nil
	})
}

// Kubeconfig is the path of an administrator's kubeconfig.
func (c *Cluster) Kubeconfig() string { return c.kubeconfig }

// Client is an administrator's client, without a limit of its own on requests.
func (c *Cluster) Client() kubernetes.Interface { return c.client }

// RESTConfig is an administrator's client configuration, the caller's to change.
func (c *Cluster) RESTConfig() *rest.Config { return rest.CopyConfig(c.config) }

// Name is the name given in the options.
func (c *Cluster) Name() string { return c.options.Name }

// LogPath is the file with all that a component has written.
func (c *Cluster) LogPath(component string) string { return c.file(component + ".log") }

// KillComponent kills a component and keeps it down. It returns when the
// component is gone.
func (c *Cluster) KillComponent(component string) error {
	p, ok := c.processes[component]
	if !ok {
		return fmt.Errorf("kill component %q: want one of %q", component, Components)
	}
	p.stop(syscall.SIGKILL)
	return nil
}

// StartComponent starts a component that KillComponent killed; it does nothing if
// the component is running. It does not wait for what the component will do:
// the controller manager leads only when its earlier lease has run out.
func (c *Cluster) StartComponent(component string) error {
	p, ok := c.processes[component]
	if !ok {
		return fmt.Errorf("start component %q: want one of %q", component, Components)
	}
	return p.start()
}

// Restarts counts how often a component has exited by itself and was started again.
func (c *Cluster) Restarts(component string) int {
	if p, ok := c.processes[component]; ok {
		return int(p.exits.Load())
	}
	return 0
}

// Stop stops all components and removes the cluster's directory, unless the
// options named one. It may be called more than once.
func (c *Cluster) Stop() error {
	for _, component := range slices.Backward(Components) {
		if p, ok := c.processes[component]; ok {
			p.stop(syscall.SIGTERM)
		}
	}
	if c.ownDir {
		if err := os.RemoveAll(c.dir); err != nil {
			return fmt.Errorf("remove directory of cluster %s: %w", c.options.Name, err)
		}
	}
	return nil
}

// post creates an object of a kind that client-go has no types for.
func (c *Cluster) post(ctx context.Context, object any, path ...string) error {
	body, err := json.Marshal(object)
	if err != nil {
		return fmt.Errorf("encode object: %w", err)
	}
	return c.client.RESTClient().Post().AbsPath(path...).Body(bytes.TrimSpace(body)).Do(ctx).Error()
}
