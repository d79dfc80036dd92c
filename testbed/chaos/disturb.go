package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/drydock/drydock/testbed/await"
)

// act is what is done to the replicas or to Postgres.
type act string

// The acts.
const (
	killReplica     act = "kill -9 of a replica"
	freezeReplica   act = "freeze of a replica"
	restartPostgres act = "restart of Postgres"
	killPostmaster  act = "kill -9 of the postmaster"
)

// plan says what a night brings, and how often.
type plan struct {
	kills, freezes, restarts, postmasterKills int
	shortest, longest                         time.Duration // of a freeze
	gap                                       time.Duration // between two acts, on average
}

// disturbance is one act of the night, with all that chance decides about it.
type disturbance struct {
	act    act
	gap    time.Duration // before it
	whom   int           // which of the replicas that are awake
	aimed  bool          // wait until that one holds a lease
	length time.Duration // of a freeze, or until a killed replica is started again
}

// schedule draws the night from its seed.
func (p plan) schedule(seed uint64) []disturbance {
	random := rand.New(rand.NewPCG(seed, 0))
	var acts []act
	for _, a := range []struct {
		act   act
		times int
	}{{killReplica, p.kills}, {freezeReplica, p.freezes}, {restartPostgres, p.restarts}, {killPostmaster, p.postmasterKills}} {
		acts = append(acts, slices.Repeat([]act{a.act}, a.times)...)
	}
	random.Shuffle(len(acts), func(i, j int) { acts[i], acts[j] = acts[j], acts[i] })
	var all []disturbance
	for _, a := range acts {
		d := disturbance{act: a, gap: time.Duration(random.Int64N(int64(2 * p.gap))), whom: random.IntN(1 << 16), aimed: random.IntN(2) == 0}
		switch {
		case a == freezeReplica:
			d.length = p.shortest + time.Duration(random.Int64N(int64(p.longest-p.shortest)))
		case random.IntN(2) == 0: // the other half is started again at once
			d.length = time.Duration(random.Int64N(int64(5 * time.Second)))
		}
		all = append(all, d)
	}
	return all
}

// disturber does it, and measures how soon the work of the killed and frozen is taken over.
type disturber struct {
	*stage
	watch        *watch
	postgresAway *spans

	later sync.WaitGroup // restarts, thaws and measurements

	mu        sync.Mutex
	hits      []time.Time // when something was done to anybody
	done      map[act]int
	takeovers []takeover
	failed    []error
}

// takeover is how long a run whose holder was lost waited for its next tick.
type takeover struct {
	after act
	took  time.Duration
	// quiet: nobody else was killed or frozen meanwhile, another replica was awake, and Postgres was there.
	quiet bool
}

func (n *night) newDisturber() *disturber {
	return &disturber{stage: n.stage, watch: n.watch, postgresAway: &n.postgres.away, done: map[act]int{}}
}

func (d *disturber) fail(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.failed = append(d.failed, err)
}

// run does all of it, and returns when everybody is awake again.
func (d *disturber) run(ctx context.Context, all []disturbance) error {
	for i, x := range all {
		if !pause(ctx, x.gap) {
			break
		}
		d.log.Info("disturbance", "number", i+1, "of", len(all), "what", x.act, "length", x.length)
		if err := d.do(ctx, x); err != nil {
			return fmt.Errorf("disturbance %d (%s): %w", i+1, x.act, err)
		}
		d.mu.Lock()
		d.done[x.act]++
		d.mu.Unlock()
	}
	d.later.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.failed) > 0 {
		return d.failed[0]
	}
	return ctx.Err()
}

func (d *disturber) do(ctx context.Context, x disturbance) error {
	switch x.act {
	case killReplica:
		return d.hit(ctx, x, 1, func(r *replica) {
			r.kill()
			d.after(ctx, x.length, r.start)
		})
	case freezeReplica:
		return d.hit(ctx, x, 2, func(r *replica) { d.after(ctx, x.length, r.thaw) })
	case restartPostgres:
		d.hitNow()
		return d.postgres.restart(ctx)
	case killPostmaster:
		d.hitNow()
		return d.postgres.kill(ctx)
	}
	return fmt.Errorf("%q is no act", x.act)
}

func (d *disturber) hitNow() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.hits = append(d.hits, time.Now())
}

// hit stops a replica where it is, looks which leases it holds, and does the rest. It waits until so many are awake that
// somebody is left, where that matters.
func (d *disturber) hit(ctx context.Context, x disturbance, awake int, rest func(*replica)) error {
	var victim *replica
	err := await.Until(ctx, "a replica to be awake", func(context.Context) error {
		var able []*replica
		for _, r := range d.replicas {
			if r.awake() {
				able = append(able, r)
			}
		}
		if len(able) < awake {
			return fmt.Errorf("%d are", len(able))
		}
		victim = able[x.whom%len(able)]
		return nil
	})
	if err != nil {
		return err
	}
	node := victim.node()
	if x.aimed && node != "" {
		d.awaitLease(ctx, node)
	}
	// A frozen process holds what it holds: the look is exact.
	if err := victim.freeze(); err != nil {
		return err
	}
	at := time.Now()
	var held []leaseRow
	if node != "" {
		// With the database away nobody can tell, and this one is not measured.
		held, _ = d.postgres.heldBy(within(ctx, time.Second), node)
	}
	d.hitNow()
	rest(victim)
	somebody := slices.ContainsFunc(d.replicas, func(r *replica) bool { return r != victim && r.awake() && r.node() != "" })
	for _, lease := range held {
		_, key, _ := strings.Cut(lease.Target, "/") // after the carrier's name
		d.watch.holderCrashed(key, at)
		d.later.Go(func() { d.measure(ctx, x.act, lease, at, somebody) })
	}
	return nil
}

// awaitLease waits until a process holds a lease, for a while.
func (d *disturber) awaitLease(ctx context.Context, node string) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	for ctx.Err() == nil {
		if held, err := d.postgres.heldBy(ctx, node); err == nil && len(held) > 0 {
			return
		}
		pause(ctx, 5*time.Millisecond)
	}
}

func (d *disturber) after(ctx context.Context, length time.Duration, do func() error) {
	d.later.Go(func() {
		pause(ctx, length)
		if err := do(); err != nil && ctx.Err() == nil {
			d.fail(err)
		}
	})
}

// slowTakeover is the target for 99 of 100 take-overs.
const slowTakeover = 5 * time.Second

// takeoverPatience is when the wait for a take-over is given up; its run is then judged by its end.
const takeoverPatience = 90 * time.Second

func (d *disturber) measure(ctx context.Context, after act, lost leaseRow, since time.Time, somebody bool) {
	ctx, cancel := context.WithTimeout(ctx, takeoverPatience)
	defer cancel()
	var at time.Time
	err := await.Until(ctx, "a take-over", func(ctx context.Context) (err error) {
		at, err = d.postgres.takenOver(ctx, lost, since)
		return err
	})
	if err != nil {
		d.log.Warn("no take-over was seen", "run", lost.Run, "error", err)
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	quiet := somebody && d.postgresAway.within(since, at) == 0
	for _, hit := range d.hits {
		// The hit that is measured is noted a few milliseconds after since.
		quiet = quiet && (hit.Before(since.Add(100*time.Millisecond)) || hit.After(at))
	}
	d.takeovers = append(d.takeovers, takeover{after, at.Sub(since), quiet})
	if took := at.Sub(since); took > slowTakeover {
		d.log.Warn("a take-over was slow", "run", lost.Run, "took", took, "quiet", quiet)
	}
}

// quantiles are those of the take-overs after an act: of all of them, or of the quiet ones, which say how quick Drydock is and not
// how often it was hit again.
func (d *disturber) quantiles(after act, onlyQuiet bool) (n int, p50, p99, longest time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var all []time.Duration
	for _, t := range d.takeovers {
		if t.after == after && (t.quiet || !onlyQuiet) {
			all = append(all, t.took)
		}
	}
	if len(all) == 0 {
		return 0, 0, 0, 0
	}
	slices.Sort(all)
	at := func(q float64) time.Duration { return all[int(q*float64(len(all)-1)+0.5)] }
	return len(all), at(0.5), at(0.99), all[len(all)-1]
}
