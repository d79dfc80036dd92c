package main

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/drydock/drydock/playbook"
	"github.com/drydock/drydock/store"
)

// storeMetrics reads the store's counts when they are asked for.
type storeMetrics struct{ store *store.Store }

const statsTime = 2 * time.Second

var (
	runsActive = prometheus.NewDesc("drydock_runs_active", "Runs that have not ended, by state.", []string{"state"}, nil)
	owedUndos  = prometheus.NewDesc("drydock_obligations", "Undos that are owed.", nil, nil)
	oldestOwed = prometheus.NewDesc("drydock_oldest_obligation_age_seconds", "Age of the oldest undo that is owed.", nil, nil)
	unsettled  = prometheus.NewDesc("drydock_intents_unsettled", "Promised and not settled, by remote.", []string{"remote"}, nil)
	overdueRun = prometheus.NewDesc("drydock_runs_overdue", "Runs whose tick is late.", nil, nil)
)

// Describe implements prometheus.Collector.
func (m storeMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{runsActive, owedUndos, oldestOwed, unsettled, overdueRun} {
		ch <- d
	}
}

// Collect implements prometheus.Collector. While the database does not answer these are missing; the others are not.
func (m storeMetrics) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), statsTime)
	defer cancel()
	s, err := m.store.Stats(ctx)
	if err != nil {
		return
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	for _, state := range playbook.States() {
		if !state.Ended() {
			gauge(runsActive, float64(s.Open[state]), string(state))
		}
	}
	for _, remote := range []string{"carrier", "jenkins", "pagerduty"} {
		gauge(unsettled, float64(s.Unsettled[remote]), remote)
	}
	gauge(owedUndos, float64(s.Owed))
	gauge(oldestOwed, s.OldestOwed.Seconds())
	gauge(overdueRun, float64(s.Overdue))
}

// countRuns counts ended runs and how long they took, and what our protections refused.
func countRuns(r *prometheus.Registry) func(before, after playbook.Run, d playbook.Decision) {
	ended := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "drydock_runs_total", Help: "Runs that ended here, by trigger, finding and outcome.",
	}, []string{"trigger", "finding", "outcome"})
	took := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "drydock_run_duration_seconds", Help: "How long runs took.", Buckets: []float64{30, 60, 120, 300, 600, 1200, 2700, 5400},
	}, []string{"outcome"})
	refused := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "drydock_safety_blocks_total", Help: "Changes that a protection refused, by its name.",
	}, []string{"guard"})
	for _, name := range playbook.Refusals() {
		refused.WithLabelValues(name) // zero is a figure too
	}
	r.MustRegister(ended, took, refused)
	return func(before, after playbook.Run, d playbook.Decision) {
		for _, no := range d.Refused {
			refused.WithLabelValues(no.Name).Inc()
		}
		if before.State.Ended() || !after.State.Ended() {
			return
		}
		ended.WithLabelValues(string(after.Trigger), string(after.Finding), string(after.Outcome)).Inc()
		took.WithLabelValues(string(after.Outcome)).Observe(after.FinishedAt.Sub(after.StartedAt).Seconds())
	}
}
