package scenario

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"sync"

	"k8s.io/client-go/tools/clientcmd"
)

// door is a TCP port that leads to an API server while it is open. TLS goes through untouched. Shut, it refuses connections,
// and those that were open break.
type door struct {
	to   string
	addr string

	mu       sync.Mutex
	listener net.Listener
	conns    map[net.Conn]bool
}

// newDoor opens a door to the API server of a kubeconfig and writes a kubeconfig that leads through it.
func newDoor(ctx context.Context, kubeconfig, file string) (*door, error) {
	config, err := clientcmd.LoadFromFile(kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("read kubeconfig: %w", err)
	}
	d := &door{addr: "127.0.0.1:0", conns: map[net.Conn]bool{}}
	for _, cluster := range config.Clusters {
		server, err := url.Parse(cluster.Server)
		if err != nil {
			return nil, fmt.Errorf("read kubeconfig: %w", err)
		}
		d.to = server.Host
		if err := d.open(ctx); err != nil {
			return nil, err
		}
		cluster.Server = "https://" + d.addr
	}
	if d.to == "" {
		return nil, errors.New("read kubeconfig: it names no cluster")
	}
	if err := clientcmd.WriteToFile(*config, file); err != nil {
		return nil, fmt.Errorf("write kubeconfig: %w", err)
	}
	return d, nil
}

// open lets connections through, on the same port as before.
func (d *door) open(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.listener != nil {
		return nil
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", d.addr)
	if err != nil {
		return fmt.Errorf("open the door to %s: %w", d.to, err)
	}
	d.listener, d.addr = l, l.Addr().String()
	go d.serve(ctx, l)
	return nil
}

// shut refuses connections and breaks those that are open.
func (d *door) shut() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.listener != nil {
		_ = d.listener.Close()
		d.listener = nil
	}
	for c := range d.conns {
		_ = c.Close()
	}
	clear(d.conns)
}

func (d *door) serve(ctx context.Context, l net.Listener) {
	for {
		in, err := l.Accept()
		if err != nil {
			return // shut
		}
		go d.pass(ctx, in)
	}
}

func (d *door) pass(ctx context.Context, in net.Conn) {
	defer func() { _ = in.Close() }() // broken by the other side, or shut
	var dialer net.Dialer
	out, err := dialer.DialContext(ctx, "tcp", d.to)
	if err != nil {
		return
	}
	defer func() { _ = out.Close() }()
	if !d.keep(in, out) {
		return
	}
	defer d.forget(in, out)
	done := make(chan struct{}, 2)
	for _, way := range [][2]net.Conn{{in, out}, {out, in}} {
		go func() {
			_, _ = io.Copy(way[0], way[1]) // an end of either side ends both
			done <- struct{}{}
		}()
	}
	<-done
}

func (d *door) keep(conns ...net.Conn) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.listener == nil {
		return false
	}
	for _, c := range conns {
		d.conns[c] = true
	}
	return true
}

func (d *door) forget(conns ...net.Conn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range conns {
		delete(d.conns, c)
	}
}
