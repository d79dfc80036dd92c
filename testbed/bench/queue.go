package main

import (
	"container/heap"
	"context"
	"fmt"
	"math/rand/v2"
	"time"
)

// crowd is a number of incidents an hour and what works them. The costs of a webhook and a tick are measured ones: see
// docs/scale.md, which is written from this simulation.
type crowd struct {
	Incidents int           `json:"incidents_per_hour"`
	Life      time.Duration `json:"life_ns"` // of a run
	Every     time.Duration `json:"tick_ns"` // between two ticks of a run
	Read      time.Duration `json:"read_ns"` // of a carrier, in each tick; a worker waits for it
	Webhook   time.Duration `json:"webhook_cpu_ns"`
	Tick      time.Duration `json:"tick_cpu_ns"`
	Workers   int           `json:"workers"` // ticks at one time, over all replicas
	Cores     int           `json:"cores"`   // of Postgres
	// Burst is so many incidents at once, in the middle: a region fails.
	Burst int `json:"burst"`
}

// waits is what a simulated hour was like.
type waits struct {
	crowd
	Late timing  `json:"late"` // from when a tick is due until it is done, less what it takes alone
	Busy float64 `json:"busy"` // share of Postgres' cores
	Open int     `json:"open"` // runs at one time, at most
}

// happening is something that is due in a simulation.
type happening struct {
	at    time.Duration
	kind  happeningKind
	due   time.Duration // when its tick was
	last  time.Duration // when its run ends
	order int           // of what is due at the same time
}

type happeningKind int

const (
	incidentComes happeningKind = iota
	tickIsDue
	carrierIsRead
	tickIsStored
)

type agenda []happening

func (a agenda) Len() int { return len(a) }
func (a agenda) Less(i, j int) bool {
	return a[i].at < a[j].at || a[i].at == a[j].at && a[i].order < a[j].order
}
func (a agenda) Swap(i, j int) { a[i], a[j] = a[j], a[i] }
func (a *agenda) Push(x any)   { *a = append(*a, x.(happening)) }
func (a *agenda) Pop() any {
	last := (*a)[len(*a)-1]
	*a = (*a)[:len(*a)-1]
	return last
}

// simulate plays an hour: incidents come at random, each starts a run that ticks until its life is over. A tick takes a worker,
// which reads the carrier and then has Postgres do the tick's work. Both queues are first come, first served.
func (c crowd) simulate(seed uint64) waits {
	const hour = time.Hour
	random := rand.New(rand.NewPCG(seed, 8))
	var todo agenda
	order := 0
	add := func(h happening) {
		order++
		h.order = order
		heap.Push(&todo, h)
	}
	for range c.Incidents {
		add(happening{at: time.Duration(random.Float64() * float64(hour)), kind: incidentComes})
	}
	for range c.Burst {
		add(happening{at: hour / 2, kind: incidentComes})
	}
	cores := make([]time.Duration, c.Cores) // when each is free
	var busy time.Duration
	// work takes the core that is free first, and tells when it is done.
	work := func(at, cost time.Duration) time.Duration {
		first := 0
		for i := range cores {
			if cores[i] < cores[first] {
				first = i
			}
		}
		busy += cost
		cores[first] = max(at, cores[first]) + cost
		return cores[first]
	}
	var waiting []happening // ticks without a worker
	workers := c.Workers
	var late []time.Duration
	w := waits{crowd: c}
	open := 0
	for len(todo) > 0 {
		h := heap.Pop(&todo).(happening) //nolint:forcetypeassert // nothing else is in it
		switch h.kind {
		case incidentComes:
			open++
			w.Open = max(w.Open, open)
			done := work(h.at, c.Webhook)
			add(happening{at: done, due: done, last: h.at + c.Life, kind: tickIsDue})
		case tickIsDue:
			if workers == 0 {
				waiting = append(waiting, h)
				continue
			}
			workers--
			h.at, h.kind = h.at+c.Read, carrierIsRead
			add(h)
		case carrierIsRead:
			h.at, h.kind = work(h.at, c.Tick), tickIsStored
			add(h)
		case tickIsStored:
			late = append(late, h.at-h.due-c.Read-c.Tick)
			workers++
			if len(waiting) > 0 {
				next := waiting[0]
				waiting = waiting[1:]
				next.at = h.at
				add(next)
			}
			if h.at >= h.last {
				open--
				continue
			}
			add(happening{at: h.at + c.Every, due: h.at + c.Every, last: h.last, kind: tickIsDue})
		}
	}
	w.Late = timingOf(late)
	w.Busy = float64(busy) / float64(hour) / float64(c.Cores)
	return w
}

// measuredCrowd is 100,000 incidents an hour with the costs that docs/performance.md tells.
func measuredCrowd() crowd {
	return crowd{Incidents: 100_000, Life: 5 * time.Minute, Every: 5 * time.Second, Read: 250 * time.Millisecond,
		Webhook: 200 * time.Microsecond, Tick: 4 * time.Millisecond, Workers: 1000, Cores: 16}
}

func measureQueue(ctx context.Context, b *bench) ([]row, any, error) {
	var all []waits
	var rows []row
	add := func(what string, c crowd) {
		b.log.InfoContext(ctx, "simulating an hour", "what", what)
		w := c.simulate(1)
		all = append(all, w)
		rows = append(rows, row{
			what:    "Simulated: " + what,
			drydock: fmt.Sprintf("a tick is late by %s; Postgres busy %.0f %%, %d runs open", w.Late, 100*w.Busy, w.Open),
		})
	}
	for _, cores := range []int{4, 8, 16} {
		c := measuredCrowd()
		c.Cores = cores
		add(fmt.Sprintf("%d incidents an hour, %d cores of Postgres", c.Incidents, cores), c)
		if err := context.Cause(ctx); err != nil {
			return nil, nil, err
		}
	}
	few := measuredCrowd()
	few.Workers = 450
	add("the same on 16 cores with 450 workers", few)
	storm := measuredCrowd()
	storm.Burst = 10_000
	add("the same on 16 cores with 1,000 workers, 10,000 incidents at once", storm)
	region := measuredCrowd()
	region.Incidents, region.Cores, region.Workers = 25_000, 4, 250
	add("one of four regions, 4 cores, 250 workers", region)
	return rows, all, nil
}
