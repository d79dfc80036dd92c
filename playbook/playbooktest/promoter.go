package playbooktest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/drydock/drydock/playbook"
)

// Promoter is a simulated version source and CI. It implements playbook.Promoter. Each call starts an attempt, also the
// second one: the CI is not idempotent.
type Promoter struct {
	// Unreachable says why every call fails; empty: both answer.
	Unreachable string
	// QueueTime is how long an attempt waits before anybody can see it.
	QueueTime time.Duration
	// BuildTime is how long an attempt then runs before it deploys.
	BuildTime time.Duration
	// Fails makes attempts end as FAILURE.
	Fails bool
	// Asked is what Drydock's calls asked for, in order.
	Asked []RemoteWrite

	clock      *Clock
	components map[string]*deployable
}

type deployable struct {
	playbook.Promotion
	deploy func()
}

// NewPromoter makes one that knows no component.
func NewPromoter(clock *Clock) *Promoter {
	return &Promoter{clock: clock, BuildTime: 20 * time.Second, components: map[string]*deployable{}}
}

// Add makes a component known on a carrier. An empty version is a source that names none any more. deploy is what a
// promotion does to the carrier.
func (p *Promoter) Add(carrier, name, version string, build int, deploy func()) {
	p.components[carrier+"/"+name] = &deployable{deploy: deploy,
		Promotion: playbook.Promotion{Component: name, Version: version, Source: "the flag service", Build: build}}
}

// Promotion reads the version and the attempts.
func (p *Promoter) Promotion(_ context.Context, carrier, name string) playbook.Reading[playbook.Promotion] {
	c := p.components[carrier+"/"+name]
	if p.Unreachable != "" {
		return playbook.Unknown[playbook.Promotion](p.Unreachable)
	}
	if c == nil {
		return playbook.Unknown[playbook.Promotion]("component " + name + " is not known")
	}
	seen := c.Promotion
	seen.Attempts = slices.Clone(c.Attempts)
	return playbook.Known(seen)
}

// Do starts an attempt.
func (p *Promoter) Do(_ context.Context, call playbook.Call) (playbook.Settlement, error) {
	a, ok := call.Action.(playbook.Promote)
	if !ok {
		return playbook.Settlement{}, fmt.Errorf("%s is not a promotion", call.Action.Kind())
	}
	if p.Unreachable != "" {
		return playbook.Settlement{}, errors.New(p.Unreachable)
	}
	c := p.components[a.Carrier+"/"+a.Component]
	if c == nil || c.Build != a.Build {
		return playbook.Settlement{Result: playbook.Refused, Detail: "there is no such build"}, nil
	}
	p.Asked = append(p.Asked, RemoteWrite{At: p.clock.Now(), Run: call.Run, Seq: call.Seq, Action: call.Action})
	if p.QueueTime == 0 {
		p.begin(c)
	} else {
		p.clock.After(p.QueueTime, func() { p.begin(c) })
	}
	return playbook.Settlement{Result: playbook.Happened}, nil
}

// begin takes an attempt out of the queue.
func (p *Promoter) begin(c *deployable) {
	number := len(c.Attempts) + 1
	c.Attempts = append(c.Attempts, playbook.Attempt{Number: number, Building: true, At: p.clock.Now(),
		URL: fmt.Sprintf("https://ci.example/%s/%d", c.Component, number)})
	p.clock.After(p.BuildTime, func() {
		done := &c.Attempts[number-1]
		done.Building, done.Result = false, "SUCCESS"
		if p.Fails {
			done.Result = "FAILURE"
			return
		}
		c.deploy()
	})
}

// Recover looks for an attempt newer than the one known before the call.
func (p *Promoter) Recover(_ context.Context, i playbook.Intent) (playbook.Settlement, error) {
	a, ok := i.Action.(playbook.Promote)
	if !ok || p.Unreachable != "" {
		return playbook.Settlement{}, fmt.Errorf("look for %s: %s", i.Action.Kind(), p.Unreachable)
	}
	if c := p.components[a.Carrier+"/"+a.Component]; c != nil && len(c.Attempts) > a.Before {
		return playbook.Settlement{Result: playbook.Happened, Receipt: c.Attempts[a.Before].URL}, nil
	}
	return playbook.Settlement{Result: playbook.NotHappened, Detail: "no newer attempt is seen"}, nil
}
