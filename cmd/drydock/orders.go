package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/drydock/drydock/api"
	"github.com/drydock/drydock/playbook"
	"github.com/drydock/drydock/playbook/kube"
	"github.com/drydock/drydock/store"
)

// history is the store as the API reads it, with the store's errors in the API's words.
type history struct{ *store.Store }

func (h history) Events(ctx context.Context, carriers []string, limit int, cursor string) (api.EventPage, error) {
	page, err := h.Store.Events(ctx, carriers, limit, cursor)
	return api.EventPage(page), storeError(err)
}

func (h history) Changes(ctx context.Context, run string, after int64) (playbook.RunChanges, error) {
	changes, err := h.Store.Changes(ctx, run, after)
	return changes, storeError(err)
}

func (h history) LastChange(ctx context.Context, run string) (last int64, ended bool, err error) {
	last, ended, err = h.Store.LastChange(ctx, run)
	return last, ended, storeError(err)
}

func (h history) RunStats(ctx context.Context, f playbook.StatsFilter) (playbook.RunStats, error) {
	stats, err := h.Store.RunStats(ctx, f)
	return stats, storeError(err)
}

func (h history) Audit(ctx context.Context, f api.AuditFilter) (api.AuditPage, error) {
	page, err := h.Store.Audit(ctx, store.AuditFilter(f))
	entries := make([]api.AuditRecord, 0, len(page.Entries))
	for _, e := range page.Entries {
		entries = append(entries, api.AuditRecord(e))
	}
	return api.AuditPage{Entries: entries, Next: page.Next}, storeError(err)
}

func (h history) Spent(ctx context.Context, carrier string) (api.Spent, error) {
	spent, err := h.Store.Spent(ctx, carrier)
	return api.Spent(spent), storeError(err)
}

func (h history) Breaker(ctx context.Context, t playbook.Target) (time.Time, []string, error) {
	until, tries, err := h.Store.Breaker(ctx, t)
	return until, tries, storeError(err)
}

func (h history) Runs(ctx context.Context, f playbook.RunFilter) (playbook.RunPage, error) {
	page, err := h.Store.Runs(ctx, f)
	return page, storeError(err)
}

func (h history) Run(ctx context.Context, id string) (playbook.StoredRun, error) {
	run, err := h.Store.Run(ctx, id)
	return run, storeError(err)
}

// intake is the store's inbox as the API writes to it.
type intake struct{ *store.Store }

func (i intake) Accept(ctx context.Context, a playbook.Arrival) (playbook.EventRecord, error) {
	return i.Intake(ctx, a)
}

// orders are people's orders, as the store takes them.
type orders struct {
	*store.Store
	fileSwitch   func(carrier string) string
	registry     *kube.Registry
	policy       func(playbook.Target) playbook.Policy
	installation string
	log          *slog.Logger
}

// Retrigger starts a run, unless the target's breaker is open.
func (o orders) Retrigger(ctx context.Context, s playbook.Start) (playbook.Run, error) {
	until, tries, err := o.Breaker(ctx, s.Target)
	if err != nil {
		return playbook.Run{}, storeError(err)
	}
	if !until.IsZero() {
		return playbook.Run{}, &playbook.RefusedError{Why: fmt.Sprintf("%d runs of %s in a row changed something and repaired nothing: "+
			"its breaker is open until %s", len(tries), s.Target, until.UTC().Format(time.RFC3339))}
	}
	run, err := o.StartRun(ctx, s)
	return run, storeError(err)
}

func (o orders) Cancel(ctx context.Context, runID, by, reason string) error {
	return storeError(o.Store.Cancel(ctx, runID, by, reason))
}

// Approve approves a run's plan. A run that has ended awaits no approval either.
func (o orders) Approve(ctx context.Context, runID, planHash, by string) error {
	err := storeError(o.Store.Approve(ctx, runID, planHash, by))
	if errors.Is(err, api.ErrRunEnded) {
		return api.ErrNotAwaitingApproval
	}
	return err
}

// witness is the store's audit log as the API writes to it.
type witness struct{ *store.Store }

func (w witness) Record(ctx context.Context, d api.Deed) error {
	return w.Store.Record(ctx, store.Deed{Who: d.Who, What: d.What, Why: d.Why, After: d.After})
}

// keys are the store's Idempotency-Keys as the API uses them.
type keys struct{ *store.Store }

func (k keys) ClaimKey(ctx context.Context, client, key string, request []byte) (bool, error) {
	done, err := k.Store.ClaimKey(ctx, client, key, request)
	return done, storeError(err)
}

// KillSwitch reads the switch from the database and from this replica's files.
func (o orders) KillSwitch(ctx context.Context, carrier string) (api.KillSwitch, error) {
	if why := o.fileSwitch(carrier); why != "" {
		return api.KillSwitch{Engaged: true, Carrier: carrier, Reason: why}, nil
	}
	list, err := o.KillSwitches(ctx)
	if err != nil {
		return api.KillSwitch{}, storeError(err)
	}
	for _, k := range list {
		if k.Carrier == "" || k.Carrier == carrier {
			return api.KillSwitch{Engaged: true, Carrier: carrier, Reason: cmp.Or(k.Reason, "no reason was given")}, nil
		}
	}
	return api.KillSwitch{Carrier: carrier}, nil
}

// SetKillSwitch turns it on or off in the database.
func (o orders) SetKillSwitch(ctx context.Context, k api.KillSwitch, by string) error {
	order := store.KillSwitch{Carrier: k.Carrier, Reason: k.Reason, By: by}
	if k.Engaged {
		return storeError(o.EngageKillSwitch(ctx, order))
	}
	return storeError(o.ReleaseKillSwitch(ctx, order))
}

// ConfirmCarrier raises the database's count over the Lease's first: if the Lease can not be written then, confirming again
// is all that is needed.
func (o orders) ConfirmCarrier(ctx context.Context, name, by, reason string) error {
	if o.policy(playbook.Target{Carrier: name}).Mode == playbook.ModeObserve {
		return &playbook.RefusedError{Why: "the mode of carrier " + name + " is observe: nothing is written there"}
	}
	carrier, err := o.registry.Carrier(name)
	if err != nil {
		return fmt.Errorf("%w: %w", api.ErrCarrier, err)
	}
	reading := carrier.Lease(ctx)
	lease, ok := reading.Get()
	switch {
	case !ok:
		return fmt.Errorf("%w: %s", api.ErrCarrier, reading.Why())
	case lease.Denied != "":
		return &playbook.RefusedError{Why: lease.Denied}
	}
	count, err := o.Store.ConfirmCarrier(ctx, name, lease.Count.Number)
	if err != nil {
		return storeError(err)
	}
	type counted struct {
		Holder string `json:"holder"`
		Number int64  `json:"number"`
	}
	if err := o.Record(ctx, store.Deed{Who: by, What: "carrier.confirm", Why: reason, Carrier: name,
		Before: counted{lease.Holder, lease.Count.Number}, After: counted{o.installation, count.Number}}); err != nil {
		return storeError(err)
	}
	if err := carrier.TakeOver(ctx, o.installation, count); err != nil {
		return fmt.Errorf("%w: %w", api.ErrCarrier, err)
	}
	o.log.WarnContext(ctx, "carrier taken over", "carrier", name, "by", by, "reason", reason, "from", lease.Holder,
		"lease_count", lease.Count.Number, "count", count.Number)
	return nil
}

// storeError puts the store's errors into the API's words. What it does not name is the database's own trouble.
func storeError(err error) error {
	var (
		active  *store.RunActiveError
		ended   *store.RunEndedError
		cursor  *store.BadCursorError
		refused *playbook.RefusedError
	)
	switch {
	case err == nil, errors.Is(err, playbook.ErrNoRun), errors.As(err, &refused):
		return err
	case errors.As(err, &active):
		return api.RunActive(active.Run)
	case errors.As(err, &ended):
		return api.ErrRunEnded
	case errors.Is(err, store.ErrNotAwaitingApproval):
		return api.ErrNotAwaitingApproval
	case errors.Is(err, store.ErrKeyReused):
		return api.ErrKeyReused
	case errors.Is(err, store.ErrOwnRun):
		return api.ErrOwnRun
	case errors.Is(err, store.ErrPlanChanged):
		return api.ErrPlanChanged
	case errors.As(err, &cursor):
		return fmt.Errorf("%w: %w", api.ErrBadCursor, err)
	case errors.Is(err, store.ErrTooSlow):
		return fmt.Errorf("%w: %w", api.ErrHistorySlow, err)
	}
	return fmt.Errorf("%w: %w", api.ErrDatabase, err)
}
