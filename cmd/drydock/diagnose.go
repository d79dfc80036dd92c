package main

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/drydock/drydock/api"
	"github.com/drydock/drydock/playbook"
	"github.com/drydock/drydock/playbook/kube"
)

// lookRounds is how often one look reads what its diagnosis wants; the engine's ticks do the same.
const lookRounds = 5

// newcomer is a run that begins now: what a plan is made for where there is no run.
func newcomer(t playbook.Target, p playbook.Policy, now time.Time) playbook.Run {
	return playbook.Run{Target: t, Mode: p.Mode, State: playbook.Triage, StartedAt: now.UTC(), TableVersion: playbook.TableVersion}
}

// look reads a target and decides, then reads what the decision wants and decides again, a few rounds at most. promotions
// reads what the carrier can not say; nil: nobody does.
func look[D any](ctx context.Context, s *sight, o *playbook.Observation, decide func() (D, []playbook.Want),
	promotions func(context.Context, *sight) playbook.Reading[playbook.Promotion],
) D {
	s.carrier.Observe(ctx, playbook.Look{Target: s.target, Policy: s.policy}, o)
	d, wants := decide()
	for range lookRounds {
		if len(wants) == 0 {
			break
		}
		s.carrier.Observe(ctx, playbook.Look{Target: s.target, Policy: s.policy, Wants: wants}, o)
		for _, w := range wants {
			if w.Kind == playbook.WantPromotion && promotions != nil && !o.Promotion.Asked() {
				o.Promotion = promotions(ctx, s)
			}
		}
		d, wants = decide()
	}
	return d
}

// diagnose looks at a target once, and changes nothing. The observation is what it saw.
func diagnose(ctx context.Context, carrier playbook.Carrier, t playbook.Target, p playbook.Policy, now time.Time) (api.Diagnosis, playbook.Observation) {
	o := playbook.Observation{At: now.UTC(), Target: t}
	d := look(ctx, &sight{target: t, policy: p, carrier: carrier}, &o, func() (playbook.Diagnosis, []playbook.Want) {
		d := playbook.Diagnose(p, o, nil)
		return d, d.Wants
	}, nil)
	return api.NewDiagnosis(t, o.Compact(), d, playbook.Plan(p, newcomer(t, p, now), o)), o
}

// unread is a carrier that the registry could not open: nothing about it is known.
type unread struct {
	playbook.Carrier
	why string
}

func (u unread) Observe(_ context.Context, _ playbook.Look, o *playbook.Observation) {
	o.DaemonSet = playbook.Unknown[playbook.DaemonSet](u.why)
	o.Namespace = playbook.Unknown[playbook.Namespace](u.why)
	o.Nodes = playbook.Unknown[[]playbook.Node](u.why)
	o.Controller = playbook.Unknown[playbook.Controller](u.why)
}

// carriers is the registry as the API needs it. Its registry is read-only: the engine has its own.
type carriers struct {
	registry *kube.Registry
	policy   func(playbook.Target) playbook.Policy
	now      func() time.Time
	log      *slog.Logger

	mu   sync.Mutex
	told string // what was wrong with carrier_dir when it was last said
}

// Names implements api.Carriers. What can not be told of carrier_dir hides itself alone, and is logged when it changes.
func (c *carriers) Names() []string {
	names, err := c.registry.Names()
	wrong := ""
	if err != nil {
		wrong = err.Error()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if wrong != c.told {
		c.told = wrong
		if wrong != "" {
			c.log.Warn("carriers are left out", "error", err)
		} else {
			c.log.Info("no carrier is left out any more")
		}
	}
	return names
}

// reachTime is how long a carrier may take to answer the question whether it answers.
const reachTime = 5 * time.Second

// Reach implements api.Carriers.
func (c *carriers) Reach(ctx context.Context) []api.CarrierStatus {
	ctx, cancel := context.WithTimeout(ctx, reachTime)
	defer cancel()
	names := c.Names()
	list := make([]api.CarrierStatus, len(names))
	var wg sync.WaitGroup
	for i, name := range names {
		wg.Go(func() {
			status := api.CarrierStatus{Name: name, Mode: string(c.policy(playbook.Target{Carrier: name}).Mode)}
			version, err := c.registry.Reachable(ctx, name)
			if err != nil {
				status.Why = err.Error()
			} else {
				status.Reachable, status.Version = true, version
			}
			list[i] = status
		})
	}
	wg.Wait()
	return list
}

// Diagnose implements api.Carriers.
func (c *carriers) Diagnose(ctx context.Context, t playbook.Target) (api.Diagnosis, error) {
	if !slices.Contains(c.Names(), t.Carrier) {
		return api.Diagnosis{}, api.ErrNoCarrier
	}
	d, _ := diagnose(ctx, c.open(t.Carrier), t, c.policy(t), c.now())
	return d, nil
}

func (c *carriers) open(name string) playbook.Carrier {
	carrier, err := c.registry.Carrier(name)
	if err != nil {
		return unread{why: err.Error()}
	}
	return carrier
}
