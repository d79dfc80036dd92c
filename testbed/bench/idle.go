package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/drydock/drydock/store/privatepg"
)

// idleResult is what doing nothing takes.
type idleResult struct {
	Drydock     int64 `json:"drydock_bytes"`
	Bare        int64 `json:"bare_server_bytes"`
	Connections int64 `json:"connections_to_carriers"`
}

// idleTime is how long both are left alone before one looks.
const idleTime = 20 * time.Second

func measureIdle(ctx context.Context, b *bench) ([]row, any, error) {
	var r idleResult
	err := withProduct(ctx, b, "all", nil, func(p *product, api *carrierAPI, _ *privatepg.Server) (err error) {
		bare, stop, err := startBare(ctx)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, stop()) }()
		b.log.Info("leaving Drydock alone", "for", idleTime)
		select {
		case <-time.After(idleTime):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if r.Drydock, err = memory(p.cmd.Process, "VmRSS"); err != nil {
			return err
		}
		r.Connections = api.connections.Load()
		r.Bare, err = memory(bare, "VmRSS")
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	return []row{
		{
			what: "Idle, 500 carriers", drydock: mebibytes(r.Drydock), limit: "idle HTTP server with client-go: " + mebibytes(r.Bare),
			ratio: ratio(float64(r.Drydock), float64(r.Bare)), goal: "< 80 MiB",
		},
		{what: "Idle, connections to carriers", drydock: fmt.Sprint(r.Connections), goal: "0"},
	}, r, nil
}

// bareServer is the argument that makes this program an idle HTTP server with client-go linked, and nothing else.
const bareServer = "bare-server"

// serveBare says its address on stdout and answers until it is killed.
func serveBare(ctx context.Context) error {
	client, err := kubernetes.NewForConfig(&rest.Config{Host: "127.0.0.1:1"})
	if err != nil {
		return fmt.Errorf("make a client: %w", err)
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listen on loopback: %w", err)
	}
	if _, err := fmt.Fprintln(os.Stdout, listener.Addr()); err != nil {
		return fmt.Errorf("tell the address: %w", err)
	}
	server := &http.Server{ReadHeaderTimeout: 5 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprint(w, client.RESTClient().APIVersion())
	})}
	return server.Serve(listener)
}

func startBare(ctx context.Context) (*os.Process, func() error, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, nil, fmt.Errorf("find this program: %w", err)
	}
	cmd := exec.CommandContext(ctx, self, bareServer)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, nil, fmt.Errorf("start the bare server: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, nil, fmt.Errorf("start the bare server: %w", err)
	}
	p := &product{cmd: cmd}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("start the bare server: %w", err), p.stop())
	}
	return cmd.Process, p.stop, nil
}
