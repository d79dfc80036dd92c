package standin

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"time"
)

// Listener serves a handler until it is closed.
type Listener struct {
	URL    string // http://127.0.0.1:port, without a trailing slash.
	server *http.Server
}

// Listen serves h on addr until ctx ends or the listener is closed; an empty
// addr is a free port on loopback. It returns when the port answers.
func Listen(ctx context.Context, addr string, h http.Handler) (*Listener, error) {
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", addr, err)
	}
	l := &Listener{
		URL:    "http://" + ln.Addr().String(),
		server: &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second},
	}
	go func() { _ = l.server.Serve(ln) }()
	context.AfterFunc(ctx, func() { _ = l.server.Close() })
	return l, nil
}

// Close stops listening and drops all open connections.
func (l *Listener) Close() error { return l.server.Close() }
