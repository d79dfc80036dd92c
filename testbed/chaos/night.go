package chaos

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/drydock/drydock/playbook"
	"github.com/drydock/drydock/testbed/await"
	"github.com/drydock/drydock/testbed/pagerduty"
)

// night lets every target break again and again, and judges what became of it.
type night struct {
	*stage
	watch *watch

	mu       sync.Mutex
	episodes []episode
	wrong    []string
}

// episode is one trouble, its alert and its end.
type episode struct {
	target  *target
	trouble trouble
	// before are the numbers of what came earlier, to know what is new.
	promotions int
	incident   string
	run        runRow
	took       time.Duration
}

func (n *night) complain(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	n.log.Error("violation", "what", text)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.wrong = append(n.wrong, text)
}

// breakAll breaks all targets, each in its own time, until enough ends; it returns when all their runs have ended and were
// judged. ctx bounds the whole.
func (n *night) breakAll(ctx, enough context.Context) error {
	var all sync.WaitGroup
	failed := make(chan error, len(n.targets()))
	for i, t := range n.targets() {
		random := rand.New(rand.NewPCG(n.seed, uint64(i)))
		all.Go(func() { failed <- n.breakOne(ctx, enough, t, random) })
	}
	all.Wait()
	for range n.targets() {
		if err := <-failed; err != nil {
			return err
		}
	}
	return nil
}

func (n *night) breakOne(ctx, enough context.Context, t *target, random *rand.Rand) error {
	for enough.Err() == nil {
		t.episode++
		e := episode{target: t, trouble: pick(random), promotions: len(n.jenkins.AttemptsOn(t.DaemonSet, t.Carrier))}
		if err := n.play(ctx, &e); err != nil {
			return fmt.Errorf("%s, episode %d (%s), incident %s, run %s: %w", t.key(), t.episode, e.trouble.name, e.incident, e.run.ID, err)
		}
		n.mu.Lock()
		n.episodes = append(n.episodes, e)
		n.mu.Unlock()
	}
	return nil
}

// pick takes a trouble, the frequent ones more often.
func pick(random *rand.Rand) trouble {
	sum := 0
	for _, t := range troubles {
		sum += t.often
	}
	left := random.IntN(sum)
	for _, t := range troubles {
		if left -= t.often; left < 0 {
			return t
		}
	}
	return troubles[0]
}

// scenePatience bounds what is done to a target before its alert and after its run.
const scenePatience = 5 * time.Minute

func (n *night) play(ctx context.Context, e *episode) error {
	t := e.target
	scene, cancel := context.WithTimeout(ctx, scenePatience)
	defer cancel()
	n.watch.expectAbsent(t.key(), e.trouble.alert == "absent")
	over, err := e.trouble.begin(t, scene)
	if err != nil {
		return fmt.Errorf("break it: %w", err)
	}
	key := fmt.Sprintf("%s/%s/%d", t.Carrier, t.DaemonSet, t.episode)
	in, err := n.pager.Trigger(serviceID, pagerduty.Alert{Key: key, Summary: t.title(e.trouble.alert), Details: map[string]any{"carrier": t.Carrier}})
	if err != nil {
		return fmt.Errorf("raise the alert: %w", err)
	}
	began := time.Now()
	e.incident = in.ID
	if err := n.follow(ctx, e); err != nil {
		return err
	}
	e.took = time.Since(began)
	n.log.Info("run ended", "target", t.key(), "trouble", e.trouble.name, "run", e.run.ID, "outcome", e.run.Outcome, "took", e.took)
	if err := n.judge(ctx, e); err != nil {
		return err
	}
	after, cancel := context.WithTimeout(ctx, scenePatience)
	defer cancel()
	if e.run.Outcome != playbook.OutcomeResolved {
		// People take it from here.
		if err := n.pager.Resolve(e.incident, n.person, ""); err != nil {
			n.complain("incident %s of run %s, which ended %s, could not be resolved by a person: %v", e.incident, e.run.ID, e.run.Outcome, err)
		}
	}
	if err := t.mended(after, over); err != nil { // it may be people who create what was absent
		return err
	}
	n.watch.expectAbsent(t.key(), false)
	return await.Until(after, "a day to pass", func(ctx context.Context) error { return n.postgres.dayPasses(ctx, t) })
}

// follow waits until the incident's run has ended. A run that does not end by its deadline breaks its promise (I8).
func (n *night) follow(ctx context.Context, e *episode) error {
	ctx, cancel := context.WithTimeout(ctx, n.deadline+n.outage+2*time.Minute)
	defer cancel()
	ticker := time.NewTicker(200 * time.Millisecond)
	defer ticker.Stop()
	return await.Until(ctx, "its run to end", func(ctx context.Context) error {
		select {
		case <-ticker.C:
		case <-ctx.Done():
		}
		runs, err := n.postgres.runsOf(ctx, e.incident)
		switch {
		case err != nil:
			return err
		case len(runs) == 0:
			return fmt.Errorf("incident %s has no run", e.incident)
		}
		e.run = runs[len(runs)-1]
		if e.run.Outcome == "" {
			return fmt.Errorf("it is %s: %s", e.run.State, e.run.Why)
		}
		return nil
	})
}

// summary counts the episodes by trouble and outcome.
func (n *night) summary(log *slog.Logger) map[string]int {
	n.mu.Lock()
	defer n.mu.Unlock()
	counts := map[string]int{}
	for _, e := range n.episodes {
		counts[e.trouble.name+": "+string(e.run.Outcome)]++
		if e.run.Outcome != e.trouble.ends {
			log.Warn("a run ended otherwise than on a quiet night", "trouble", e.trouble.name, "run", e.run.ID,
				"outcome", e.run.Outcome, "why", e.run.Why)
		}
	}
	return counts
}
