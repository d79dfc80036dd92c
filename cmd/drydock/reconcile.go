package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/drydock/drydock/incident"
	"github.com/drydock/drydock/playbook"
	"github.com/drydock/drydock/store"
)

const (
	// reconcilePoll is how often a replica asks whether the next round is due and nobody's yet.
	reconcilePoll = 5 * time.Second
	// webhookTime is what a new incident's webhook is given to come by itself, so that the run says "webhook".
	webhookTime = 10 * time.Second
	// looksPerRound bounds the incidents that one round reads, each of which takes up to four requests.
	looksPerRound = 40

	webhookPath = "/webhooks/pagerduty"
)

// reconciler makes up for what no webhook told of. It lists the open incidents and gives a run to each that has had none since
// it was last triggered or reopened; and it looks whether PagerDuty still sends the webhooks at all. One replica does it for all.
type reconciler struct {
	store     *store.Store
	find      *lookup
	services  []string
	publicURL string
	rules     string // the configured ones, as text
	period    time.Duration
	alert     *selfAlert
	now       func() time.Time
	log       *slog.Logger

	young  map[string]bool // incidents whose webhook may still be on its way, as of the last round
	denied bool            // the token may not list subscriptions; that was logged
}

func newReconciler(st *store.Store, find *lookup, cfg *Config, alert *selfAlert, log *slog.Logger) *reconciler {
	return &reconciler{store: st, find: find, services: cfg.PagerDuty.ServiceIDs, publicURL: cfg.PublicURL, rules: fmt.Sprint(cfg.ruleConfig()),
		period: cfg.PagerDuty.ReconcileEvery.std(), alert: alert, now: time.Now, log: log}
}

// run makes rounds until ctx ends: one at the start, whatever the others do, because nobody may have listened until then.
func (r *reconciler) run(ctx context.Context) {
	poll := min(reconcilePoll, r.period)
	_, err := r.store.Turn(ctx, "reconcile", 0)
	r.warn(ctx, "turn to reconcile was not taken", err)
	r.round(ctx)
	every(ctx, poll, func() {
		due := len(r.young) > 0
		if !due {
			due, err = r.store.Turn(ctx, "reconcile", r.period-poll)
			r.warn(ctx, "turn to reconcile was not taken", err)
		}
		if due {
			r.round(ctx)
		}
	})
}

func (r *reconciler) warn(ctx context.Context, what string, err error) {
	if err != nil && ctx.Err() == nil {
		r.log.WarnContext(ctx, "reconciliation did not complete; it is tried again", "what", what, "error", err)
	}
}

func (r *reconciler) round(ctx context.Context) {
	r.warn(ctx, "open incidents were not all reconciled", r.incidents(ctx))
	r.warn(ctx, "webhook subscriptions were not looked at", r.subscriptions(ctx))
}

// incidents looks at all open incidents. Only what may ask for a run is read one by one, and only once until it changes:
// reading each each minute would use up the rate limit.
func (r *reconciler) incidents(ctx context.Context) error {
	open, err := r.find.client.OpenIncidents(ctx, r.services)
	if err != nil {
		return err
	}
	// After the list: a run that is over by now was over before its incident is read again.
	ids := make([]string, 0, len(open))
	for _, in := range open {
		ids = append(ids, in.ID)
	}
	links, err := r.store.Links(ctx, ids)
	if err != nil {
		return err
	}
	looks, err := r.store.Looks(ctx, ids)
	if err != nil {
		return err
	}
	left := looksPerRound
	young := map[string]bool{}
	var failed []error
	for _, in := range open {
		link := links[in.ID]
		switch {
		case link.Run == "" && r.now().Sub(in.CreatedAt) < webhookTime && !r.young[in.ID]:
			young[in.ID] = true
		case !r.asks(in, link) || looks[in.ID] == r.lookState(in, link):
		case left == 0:
			r.log.InfoContext(ctx, "reconciliation: the other incidents are read in the next round", "at_most", looksPerRound)
			r.young = young
			return errors.Join(failed...)
		default:
			left--
			if err := r.one(ctx, in, link); err != nil {
				failed = append(failed, fmt.Errorf("incident %s: %w", in.ID, err))
			}
		}
	}
	r.young = young
	return errors.Join(failed...)
}

// asks reports whether an open incident, as it was listed, may ask for a run.
func (r *reconciler) asks(in incident.Incident, link store.Link) bool {
	m := r.find.rules.Parse(in.Title)
	switch {
	case m.Matched && !r.find.knows(m.Carrier), !m.Matched && !m.NeedsDetails:
		return false
	case link.Run == "":
		return true
	case !link.Ended:
		return false
	case link.Outcome == playbook.OutcomeResolved:
		return true // and it is open
	}
	return runIncident(in).OpenedAt.After(link.OpenedAt) // its status has changed since: perhaps by a reopening
}

// lookState is what must change before an incident is read again: its status, its alerts, its run, or what we can make of it.
func (r *reconciler) lookState(in incident.Incident, link store.Link) string {
	text := fmt.Sprint(in.Status, in.LastStatusChangeAt.Unix(), in.AlertCount, link.Run, r.rules, r.find.carriers())
	return fmt.Sprintf("%x", sha256.Sum256([]byte(text)))
}

// one reads an incident and starts the run that it asks for.
func (r *reconciler) one(ctx context.Context, in incident.Incident, link store.Link) error {
	start, reason, err := r.find.look(ctx, in.ID, link)
	if err != nil {
		return err
	}
	if start == nil {
		r.log.DebugContext(ctx, "open incident asks for no run", "incident", in.ID, "reason", reason)
		return r.store.NoteLook(ctx, in.ID, r.lookState(in, link))
	}
	start.Trigger = playbook.TriggerReconcile
	outcome, run, err := r.store.Reconcile(ctx, *start, link.Run)
	if err == nil && outcome != playbook.EventFollowed {
		r.log.InfoContext(ctx, "open incident without a run was found", "incident", in.ID, "outcome", outcome, "run", run, "after", link.Run)
	}
	return err
}

// subscriptions looks for webhook subscriptions of ours that PagerDuty has disabled: until somebody enables them, everything
// that happens is thrown away. People are told, and they are enabled.
func (r *reconciler) subscriptions(ctx context.Context) error {
	all, err := r.find.client.Subscriptions(ctx)
	if errors.Is(err, incident.ErrUnauthorized) {
		if !r.denied {
			r.log.WarnContext(ctx, "pagerduty.token may not list webhook subscriptions: that PagerDuty disables one will go unnoticed", "error", err)
		}
		r.denied = true
		return nil
	}
	if err != nil {
		return err
	}
	r.denied = false
	raised, err := r.store.Alarms(ctx)
	if err != nil {
		return err
	}
	var failed []error
	for _, s := range all {
		if !r.ours(s.URL) {
			continue
		}
		key := "drydock-subscription-" + s.ID
		switch known := slices.Contains(raised, key); {
		case s.Disabled:
			failed = append(failed, r.enable(ctx, s, key, known))
		case known:
			if err := r.alert.takeBack(ctx, key); err != nil {
				failed = append(failed, err)
				continue
			}
			failed = append(failed, r.store.EndAlarm(ctx, key))
		}
	}
	return errors.Join(failed...)
}

func (r *reconciler) enable(ctx context.Context, s incident.Subscription, key string, known bool) error {
	enabled := r.find.client.EnableSubscription(ctx, s.ID)
	if known {
		return enabled // people were told already
	}
	done := "it was enabled again"
	if enabled != nil {
		done = "it could not be enabled again, do it by hand: " + enabled.Error()
	}
	err := r.alert.tell(ctx, key, "PagerDuty had disabled the webhook subscription "+s.ID+" of Drydock, after three webhooks in a row that were refused; "+
		"what happened meanwhile is found by reconciliation. "+done+". Look for the reason: pagerduty.webhook_secrets, a proxy in front of Drydock")
	if err == nil {
		err = r.store.RaiseAlarm(ctx, key)
	}
	return errors.Join(enabled, err)
}

// ours reports whether a subscription's webhooks come to this installation, as far as public_url tells.
func (r *reconciler) ours(address string) bool {
	u, err := url.Parse(address)
	if err != nil || !strings.HasSuffix(u.Path, webhookPath) {
		return false
	}
	public, err := url.Parse(r.publicURL)
	return err != nil || public.Host == "" || strings.EqualFold(public.Host, u.Host)
}
