package main

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/drydock/drydock/api"
	"github.com/drydock/drydock/playbook"
	"github.com/drydock/drydock/playbook/kube"
)

// lookRounds is how often one look reads what its diagnosis wants; the engine's ticks do the same.
const lookRounds = 5

// diagnose looks at a target once, and changes nothing.
func diagnose(ctx context.Context, carrier playbook.Carrier, t playbook.Target, p playbook.Policy, now time.Time) api.Diagnosis {
	o := playbook.Observation{At: now.UTC(), Target: t}
	carrier.Observe(ctx, playbook.Look{Target: t, Policy: p}, &o)
	d := playbook.Diagnose(p, o, nil)
	for range lookRounds {
		if len(d.Wants) == 0 {
			break
		}
		carrier.Observe(ctx, playbook.Look{Target: t, Policy: p, Wants: d.Wants}, &o)
		d = playbook.Diagnose(p, o, nil)
	}
	run := playbook.Run{Target: t, Mode: p.Mode, State: playbook.Triage, StartedAt: o.At, TableVersion: playbook.TableVersion}
	return api.NewDiagnosis(t, o.Compact(), d, playbook.Plan(p, run, o))
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
}

// Names implements api.Carriers. A carrier_dir that can not be read now hides its carriers, not the listed ones.
func (c *carriers) Names() []string {
	names, _ := c.registry.Names()
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
	return diagnose(ctx, c.open(t.Carrier), t, c.policy(t), c.now()), nil
}

func (c *carriers) open(name string) playbook.Carrier {
	carrier, err := c.registry.Carrier(name)
	if err != nil {
		return unread{why: err.Error()}
	}
	return carrier
}
