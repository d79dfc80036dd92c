package main

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/drydock/drydock/incident"
	"github.com/drydock/drydock/playbook"
	"github.com/drydock/drydock/store"
)

// Every label has a bounded set of values: states, kinds and names out of the code, and carriers out of the configuration. Ids of
// runs and incidents are never labels; the log and the traces have them.

// storeMetrics reads the store's counts when they are asked for. They are the installation's, not one replica's: every replica
// tells the same.
type storeMetrics struct {
	store    *store.Store
	carriers func() []string
	// limits are those of a carrier.
	limits func(carrier string) playbook.Limits
}

const statsTime = 5 * time.Second

var remotes = []string{"carrier", "jenkins", "pagerduty"}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("drydock_"+name, help, labels, nil)
}

var (
	databaseUp      = desc("database_up", "Whether the database answered this scrape. Where it did not, what is counted there is missing.")
	runsActive      = desc("runs_active", "Runs that have not ended, by state.", "state")
	overdueRun      = desc("runs_overdue", "Runs whose tick is late.")
	owedUndos       = desc("obligations", "Undos that are owed.")
	oldestOwed      = desc("oldest_obligation_age_seconds", "Age of the oldest undo that is owed.")
	unsettled       = desc("intents_unsettled", "Promised and not settled, by remote. PagerDuty's are the outbox.", "remote")
	oldestUnsettled = desc("oldest_unsettled_intent_age_seconds", "Age of the oldest intent that is promised and not settled, by remote.", "remote")
	claims          = desc("carrier_claims", "Carriers with a run that may change them.")
	breakers        = desc("breakers_open", "Targets whose breaker is open: runs without effect, one after the other.")
	killSwitches    = desc("kill_switches_engaged", "Kill switches that are engaged in the database.")
	alarms          = desc("self_alerts_raised", "Alerts about Drydock itself that are raised.")
	replicas        = desc("replicas", "Replicas that are alive.")
	jobs            = desc("river_jobs", "River's jobs that are not over, by kind and state.", "kind", "state")
	oldestDue       = desc("river_oldest_due_job_age_seconds", "For how long the oldest job that is due has waited, by kind.", "kind")
	lastWebhook     = desc("last_webhook_timestamp_seconds", "When the newest webhook was stored; missing before the first.")
	budgetLeft      = desc("budget_left", "What is left of a carrier's budget, or of all carriers' where the carrier is empty.", "budget", "carrier")
)

// Describe implements prometheus.Collector.
func (m storeMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{databaseUp, runsActive, overdueRun, owedUndos, oldestOwed, unsettled, oldestUnsettled, claims, breakers,
		killSwitches, alarms, replicas, jobs, oldestDue, lastWebhook, budgetLeft} {
		ch <- d
	}
}

// Collect implements prometheus.Collector. While the database does not answer its counts are missing, which alert rules must ask
// for with absent(); a zero would be a lie.
func (m storeMetrics) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), statsTime)
	defer cancel()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	carriers := m.carriers()
	s, err := m.store.Stats(ctx, carriers...)
	if err != nil {
		gauge(databaseUp, 0)
		return
	}
	gauge(databaseUp, 1)
	for _, state := range playbook.States() {
		if !state.Ended() {
			gauge(runsActive, float64(s.Open[state]), string(state))
		}
	}
	for _, remote := range remotes {
		gauge(unsettled, float64(s.Unsettled[remote]), remote)
		gauge(oldestUnsettled, s.OldestUnsettled[remote].Seconds(), remote)
	}
	for d, n := range map[*prometheus.Desc]int{owedUndos: s.Owed, overdueRun: s.Overdue, claims: s.Claims, breakers: s.Breakers,
		killSwitches: s.KillSwitches, alarms: s.Alarms, replicas: s.Replicas} {
		gauge(d, float64(n))
	}
	gauge(oldestOwed, s.OldestOwed.Seconds())
	for _, kind := range []string{store.Tick{}.Kind(), store.LookUp{}.Kind()} {
		for _, state := range []string{"available", "scheduled", "retryable", "running"} {
			gauge(jobs, float64(s.Jobs[store.JobCount{Kind: kind, State: state}]), kind, state)
		}
		gauge(oldestDue, s.OldestDue[kind].Seconds(), kind)
	}
	if !s.LastEvent.IsZero() {
		gauge(lastWebhook, float64(s.LastEvent.UnixMilli())/1000)
	}
	left := func(scope playbook.Scope, key, carrier string, limit int) {
		if limit == 0 {
			return // nothing is ever left of nothing, and nobody need hear of it
		}
		gauge(budgetLeft, float64(max(0, limit-s.Used[store.Budget{Scope: scope, Key: key}])), string(scope), carrier)
	}
	for _, carrier := range carriers {
		l := m.limits(carrier)
		left(playbook.ScopeEvictionsHour, carrier, carrier, l.EvictionsPerHour)
		left(playbook.ScopeControllerRestart, carrier, carrier, l.RestartsPerDay)
	}
	left(playbook.ScopeEvictionsHourAll, "*", "", m.limits("").EvictionsPerHourAll)
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

// measureSteps measures the ticks of this replica, their steps, and what its calls led to.
func measureSteps(r *prometheus.Registry) playbook.Watch {
	buckets := []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 100}
	ticks := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "drydock_tick_duration_seconds", Help: "How long a tick took, by whether it came to its end.", Buckets: buckets,
	}, []string{"result"})
	steps := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "drydock_tick_step_duration_seconds", Help: "How long a step of a tick took.", Buckets: buckets,
	}, []string{"step"})
	calls := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "drydock_intent_calls_total", Help: "Calls of intents, by kind and result; unknown: its answer was lost.",
	}, []string{"kind", "result"})
	for _, result := range []string{"ok", "failed"} {
		ticks.WithLabelValues(result)
	}
	for _, name := range playbook.StepNames() {
		if name != playbook.StepTick {
			steps.WithLabelValues(string(name))
		}
	}
	r.MustRegister(ticks, steps, calls)
	return func(ctx context.Context, s playbook.Step) (context.Context, func(string, error)) {
		began := time.Now()
		return ctx, func(came string, err error) {
			took := time.Since(began).Seconds()
			if s.Name == playbook.StepTick {
				result := "ok"
				if err != nil {
					result = "failed"
				}
				ticks.WithLabelValues(result).Observe(took)
				return
			}
			steps.WithLabelValues(string(s.Name)).Observe(took)
			if s.Name == playbook.StepCall {
				if err != nil {
					came = "unknown"
				}
				calls.WithLabelValues(string(s.Kind), came).Inc()
			}
		}
	}
}

// measureRate tells what PagerDuty's last answer to this replica left of the rate limit, once there was one.
func measureRate(client *incident.Client) prometheus.Collector { return rateMetric{client} }

type rateMetric struct{ client *incident.Client }

var rateLeft = desc("pagerduty_rate_limit_remaining", "Requests that PagerDuty's last answer left in its window of a minute.")

// Describe implements prometheus.Collector.
func (rateMetric) Describe(ch chan<- *prometheus.Desc) { ch <- rateLeft }

// Collect implements prometheus.Collector.
func (m rateMetric) Collect(ch chan<- prometheus.Metric) {
	if n, ok := m.client.RateRemaining(); ok {
		ch <- prometheus.MustNewConstMetric(rateLeft, prometheus.GaugeValue, float64(n))
	}
}
