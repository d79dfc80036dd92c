package chaos

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httputil"
	"net/url"

	"github.com/drydock/drydock/testbed/standin"
)

// newDoor is the load balancer before the replicas: it gives each request to one of them, without looking whether it is alive.
// What it can not deliver is a 502, which PagerDuty sends again.
func newDoor(ctx context.Context, addr string, replicas []*replica) (*standin.Listener, error) {
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			to := replicas[rand.IntN(len(replicas))]
			r.SetURL(&url.URL{Scheme: "http", Host: to.address})
		},
		Transport: &http.Transport{MaxIdleConnsPerHost: 32},
		// A replica that was killed breaks connections; that is the point.
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
	}
	return standin.Listen(ctx, addr, proxy)
}
