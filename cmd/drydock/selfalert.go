package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/drydock/drydock/incident"
)

// selfAlert pages people about Drydock itself, through a service that Drydock does not watch. Without one configured it only
// logs.
type selfAlert struct {
	alerter *incident.SelfAlerter // nil: not configured
	log     *slog.Logger
}

const pageTime = time.Minute

func newSelfAlert(cfg *Config, s *resolved, log *slog.Logger) (*selfAlert, error) {
	if cfg.SelfAlert == nil {
		log.Warn("self_alert is not configured: trouble of Drydock itself is only logged")
		return &selfAlert{log: log}, nil
	}
	alerter, err := incident.NewSelfAlerter(incident.SelfAlerterConfig{EventsURL: cfg.SelfAlert.EventsURL, RoutingKey: s.selfAlertKey})
	if err != nil {
		return nil, usagef("%w", err)
	}
	return &selfAlert{alerter: alerter, log: log}, nil
}

// page raises an alert. It does not wait for it: whoever calls has something to do.
func (a *selfAlert) page(ctx context.Context, key, summary string) {
	a.log.ErrorContext(ctx, "self-alert", "key", key, "summary", summary)
	a.send(ctx, func(ctx context.Context) error {
		return a.alerter.Trigger(ctx, incident.SelfAlert{DedupKey: key, Summary: summary, Source: hostname()})
	})
}

// over takes the alert back.
func (a *selfAlert) over(ctx context.Context, key string) {
	a.log.InfoContext(ctx, "self-alert is over", "key", key)
	a.send(ctx, func(ctx context.Context) error { return a.alerter.Resolve(ctx, key) })
}

func (a *selfAlert) send(ctx context.Context, what func(context.Context) error) {
	if a.alerter == nil {
		return
	}
	ctx = context.WithoutCancel(ctx)
	go func() {
		ctx, cancel := context.WithTimeout(ctx, pageTime)
		defer cancel()
		if err := what(ctx); err != nil {
			a.log.ErrorContext(ctx, "self-alert could not be sent", "error", err)
		}
	}()
}

// tell raises an alert and waits until it was taken. Raising it again pages nobody twice.
func (a *selfAlert) tell(ctx context.Context, key, summary string) error {
	a.log.ErrorContext(ctx, "self-alert", "key", key, "summary", summary)
	if a.alerter == nil {
		return nil
	}
	return a.alerter.Trigger(ctx, incident.SelfAlert{DedupKey: key, Summary: summary, Source: hostname()})
}

// takeBack ends an alert and waits until that was taken.
func (a *selfAlert) takeBack(ctx context.Context, key string) error {
	a.log.InfoContext(ctx, "self-alert is over", "key", key)
	if a.alerter == nil {
		return nil
	}
	return a.alerter.Resolve(ctx, key)
}

// signatures is told when three webhooks in a row were refused, and when one was accepted again. The subscription's id is
// not proven: it comes with a request that was refused.
func (a *selfAlert) signatures(subscription string, raised bool) {
	const key = "drydock-bad-signatures"
	ctx := context.Background()
	if !raised {
		a.over(ctx, key)
		return
	}
	a.page(ctx, key, "Drydock refused three webhooks in a row for their signature (subscription "+dash(subscription)+
		"): PagerDuty switches the subscription off for a day. Check pagerduty.webhook_secrets")
}

// quarantined is told of a run on which Drydock itself failed again and again.
func (a *selfAlert) quarantined(run, panicked string) {
	a.page(context.Background(), "drydock-quarantined-"+run, "Drydock failed on run "+run+" three times and handed it over: "+panicked)
}
