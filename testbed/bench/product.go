package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/drydock/drydock/store/privatepg"
)

// product is a running "drydock serve" with 500 carriers, all on one stand-in for an API server.
type product struct {
	cmd     *exec.Cmd
	address string
	ready   time.Duration // from the start of the process until /readyz said so
}

// carrierAPI stands in for the API servers of all carriers: it refuses every request and tells what was asked.
type carrierAPI struct {
	server      *http.Server
	address     string
	connections atomic.Int64      // that were opened
	asked       func(path string) // called for each request; may be nil
	served      chan error
}

func serveCarrierAPI(ctx context.Context, asked func(path string)) (*carrierAPI, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen on loopback: %w", err)
	}
	a := &carrierAPI{address: listener.Addr().String(), asked: asked, served: make(chan error, 1)}
	a.server = &http.Server{
		ReadHeaderTimeout: 5 * time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if a.asked != nil {
				a.asked(r.URL.Path)
			}
			http.Error(w, "nobody is home", http.StatusServiceUnavailable)
		}),
		ConnState: func(_ net.Conn, state http.ConnState) {
			if state == http.StateNew {
				a.connections.Add(1)
			}
		},
	}
	go func() { a.served <- a.server.Serve(listener) }()
	return a, nil
}

func (a *carrierAPI) stop() error {
	err := a.server.Close()
	if e := <-a.served; !errors.Is(e, http.ErrServerClosed) {
		err = errors.Join(err, e)
	}
	return err
}

// productDaemonSets are those that a product's configuration lists: webhooks up to carriers * productDaemonSets name them.
const productDaemonSets = 40

// configure writes the configuration and the kubeconfigs into a new directory and returns the configuration's path.
func configure(dir, role, address string, api *carrierAPI) (string, error) {
	var text bytes.Buffer
	fmt.Fprintf(&text, "listen: %s\ndatabase_url: {env: DATABASE_URL}\nbackup_key: {env: BACKUP_KEY}\nrole: %s\nmode: observe\n"+
		"pagerduty: {webhook_secrets: [{env: WEBHOOK_SECRET}]}\ntiming: {tick: 15s}\ncarriers:\n", address, role)
	for i := range int64(carriers) {
		name := carrierName(i)
		file := filepath.Join(dir, name+".kubeconfig")
		kubeconfig := fmt.Sprintf("apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters: [{name: c, cluster: {server: 'http://%s/%s'}}]\n"+
			"contexts: [{name: c, context: {cluster: c, user: u}}]\nusers: [{name: u, user: {token: t}}]\n", api.address, name)
		if err := os.WriteFile(file, []byte(kubeconfig), 0o600); err != nil {
			return "", fmt.Errorf("write a kubeconfig: %w", err)
		}
		fmt.Fprintf(&text, "  - {name: %s, kubeconfig: %s}\n", name, file)
	}
	text.WriteString("daemonsets:\n")
	for i := range int64(productDaemonSets) {
		fmt.Fprintf(&text, "  - {name: %s, namespace: %s}\n", daemonSetName(i*carriers), namespace)
	}
	path := filepath.Join(dir, "drydock.yaml")
	if err := os.WriteFile(path, text.Bytes(), 0o600); err != nil {
		return "", fmt.Errorf("write the configuration: %w", err)
	}
	return path, nil
}

// program finds one of the programs that the Makefile builds.
func (b *bench) program(name string) (string, error) {
	path, err := filepath.Abs(filepath.Join(b.bin, name))
	if err != nil {
		return "", fmt.Errorf("find %s: %w", name, err)
	}
	if _, err := os.Stat(path); err != nil {
		return "", &missingError{fmt.Errorf("find %s: %w: run make build testbed, or set -bin", name, err)}
	}
	return path, nil
}

// startProduct starts Drydock on a database that is at hand, and waits until it is ready.
func startProduct(ctx context.Context, b *bench, dir, role, dsn string, api *carrierAPI) (*product, error) {
	binary, err := b.program("drydock")
	if err != nil {
		return nil, err
	}
	// The port is free until Drydock takes it, or the start fails.
	hold, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("find a free port: %w", err)
	}
	address := hold.Addr().String()
	config, err := configure(dir, role, address, api)
	if err := errors.Join(err, hold.Close()); err != nil {
		return nil, err
	}
	output, err := os.Create(filepath.Join(dir, "drydock.log"))
	if err != nil {
		return nil, fmt.Errorf("make Drydock's log: %w", err)
	}
	defer output.Close()
	cmd := exec.CommandContext(ctx, binary, "serve", "--config", config)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, output, output
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "DATABASE_URL=" + dsn, "WEBHOOK_SECRET=" + webhookSecret,
		"BACKUP_KEY=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start Drydock: %w", err)
	}
	p := &product{cmd: cmd, address: address}
	if err := awaitReady(ctx, "http://"+address+"/readyz"); err != nil {
		said, _ := os.ReadFile(output.Name())
		return nil, errors.Join(fmt.Errorf("start Drydock: %w: it said: %s", err, said), p.stop())
	}
	p.ready = time.Since(began)
	return p, nil
}

// awaitReady asks until the answer is 200, for half a minute.
func awaitReady(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	pause := time.NewTicker(2 * time.Millisecond)
	defer pause.Stop()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return fmt.Errorf("ask whether it is ready: %w", err)
		}
		answer, err := http.DefaultClient.Do(req)
		if err == nil {
			_ = answer.Body.Close()
			if answer.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-pause.C:
		case <-ctx.Done():
			return fmt.Errorf("it was not ready in time: %w", errors.Join(err, context.Cause(ctx)))
		}
	}
}

// stop ends the process at once: what it leaves in the database is thrown away.
func (p *product) stop() error {
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop Drydock: %w", err)
	}
	var ended *exec.ExitError
	if err := p.cmd.Wait(); err != nil && !errors.As(err, &ended) {
		return fmt.Errorf("stop Drydock: %w", err)
	}
	return nil
}

// memory reads one line of a process' memory, in bytes: VmRSS is what it has now, VmHWM the most that it ever had.
func memory(process *os.Process, line string) (int64, error) {
	if err := process.Signal(syscall.Signal(0)); err != nil {
		return 0, fmt.Errorf("read the memory of process %d: %w", process.Pid, err)
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", process.Pid))
	if err != nil {
		return 0, fmt.Errorf("read the memory of process %d: %w", process.Pid, err)
	}
	for l := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(l, line+":"); ok {
			kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
			if err != nil {
				return 0, fmt.Errorf("read the memory of process %d: %w", process.Pid, err)
			}
			return kib << 10, nil
		}
	}
	return 0, fmt.Errorf("read the memory of process %d: no line %s", process.Pid, line)
}

func mebibytes(bytes int64) string { return fmt.Sprintf("%.1f MiB", float64(bytes)/(1<<20)) }

// withProduct runs Drydock on a new database for as long as use takes.
func withProduct(ctx context.Context, b *bench, role string, asked func(string), use func(p *product, api *carrierAPI, server *privatepg.Server) error) (err error) {
	bin, err := findPgbench(ctx)
	if err != nil {
		return err
	}
	server, stop, err := startPostgres(ctx, bin, b)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	api, err := serveCarrierAPI(ctx, asked)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, api.stop()) }()
	dir, err := os.MkdirTemp(b.dir, "drydock-bench-")
	if err != nil {
		return fmt.Errorf("make Drydock's directory: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	p, err := startProduct(ctx, b, dir, role, server.DSN(), api)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	return use(p, api, server)
}
