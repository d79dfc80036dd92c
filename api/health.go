package api

import (
	"context"
	"maps"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/drydock/drydock/incident"
)

const readyTimeout = 2 * time.Second

// ready asks every part of the server at once. A carrier or PagerDuty out of reach does not make the server unready:
// it still takes webhooks, and another replica would reach no more.
func (s *Server) ready(c *gin.Context) error {
	ctx, cancel := context.WithTimeout(c.Request.Context(), readyTimeout)
	defer cancel()
	var (
		mu    sync.Mutex
		wg    sync.WaitGroup
		parts = map[string]string{}
		bad   bool
	)
	for _, part := range s.Parts {
		wg.Go(func() {
			err := check(ctx, part)
			mu.Lock()
			defer mu.Unlock()
			parts[part.Name] = "ok"
			if err != nil {
				parts[part.Name], bad = "failing", true
				s.log.WarnContext(ctx, "part is not ready", "part", part.Name, "error", err)
			}
		})
	}
	wg.Wait()
	if bad {
		var failing []string
		for _, name := range sorted(parts) {
			if parts[name] != "ok" {
				failing = append(failing, name)
			}
		}
		return detailed{error: errNotReady, detail: "not working: " + strings.Join(failing, ", ") + "; the log says why", parts: parts}
	}
	c.JSON(http.StatusOK, gin.H{"status": "ok", "parts": parts})
	return nil
}

// check keeps a part that does not answer from holding up the probe.
func check(ctx context.Context, part Part) error {
	done := make(chan error, 1)
	go func() { done <- part.Check(ctx) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// metrics are what this package counts.
type metrics struct {
	events        *prometheus.CounterVec
	badSignatures prometheus.Counter
	requests      *prometheus.CounterVec
	duration      *prometheus.HistogramVec
}

func newMetrics(r *prometheus.Registry, version string) metrics {
	m := metrics{
		events: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "drydock_webhook_events_total", Help: "Webhook events by type and by what became of them.",
		}, []string{"event_type", "outcome"}),
		badSignatures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "drydock_webhook_bad_signatures_total", Help: "Webhooks refused for their signature; PagerDuty switches the subscription off after three.",
		}),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "drydock_http_requests_total", Help: "HTTP requests by route and status.",
		}, []string{"route", "code"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "drydock_http_request_duration_seconds", Help: "How long HTTP requests took.", Buckets: prometheus.DefBuckets,
		}, []string{"route"}),
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "drydock_build_info", Help: "Always 1; the labels say what runs.",
		ConstLabels: prometheus.Labels{"version": version, "go": runtime.Version()},
	})
	build.Set(1)
	r.MustRegister(m.events, m.badSignatures, m.requests, m.duration, build)
	// All our names begin alike, the runtime's too.
	prometheus.WrapRegistererWithPrefix("drydock_", r).MustRegister(
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// eventLabel bounds the metric's label: types come from outside.
func eventLabel(e incident.Event) string {
	switch e.Type {
	case incident.TypeTriggered, incident.TypeAcknowledged, incident.TypeUnacknowledged, incident.TypeResolved,
		incident.TypeReopened, incident.TypeEscalated, incident.TypeDelegated, incident.TypeReassigned, incident.TypeAnnotated,
		incident.TypePing, string(incident.KindOrchestration):
		return e.Type
	}
	return "other"
}

// sorted lists a map's keys in order.
func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
