package jenkins

import (
	"context"
	"slices"
	"time"
)

// schedule puts an attempt into the queue. The build counts as qualified for the
// process from now on, also while no attempt has started. The lock is held.
func (s *Server) schedule(j *job, b *build, p *process, cause, by string) {
	if s.behaviour.QuietDown {
		return
	}
	if b.of(p) == nil {
		b.promotions = append(b.promotions, &promotion{process: p})
	}
	a := &Attempt{Job: j.path, Build: b.Number, Process: p.Name, Cause: cause, By: by, QueuedAt: s.opts.Clock.Now()}
	s.attempts = append(s.attempts, a)
	s.changes.Tell()
	if s.behaviour.Stuck {
		return
	}
	s.opts.Clock.AfterFunc(s.opts.QueueDelay, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		p.queue = append(p.queue, a)
		s.next(j, p)
	})
}

// next starts the process's first queued attempt, if none runs: a process does
// not run beside itself.
func (s *Server) next(j *job, p *process) {
	if p.busy || len(p.queue) == 0 {
		return
	}
	a := p.queue[0]
	p.queue = p.queue[1:]
	p.busy = true
	p.last++
	a.Number, a.StartedAt = p.last, s.opts.Clock.Now()
	b := j.build(a.Build)
	pr := b.of(p)
	pr.attempts = append(pr.attempts, a)
	skip := s.behaviour.SkipApply || s.opts.Apply == nil
	s.changes.Tell()
	s.background.Go(func(ctx context.Context) {
		var err error
		if !skip {
			err = s.opts.Apply(ctx, p.Name, j.path, b.Build)
		}
		rest := s.opts.RunDuration - s.opts.Clock.Now().Sub(a.StartedAt)
		s.opts.Clock.AfterFunc(max(rest, 0), func() { s.finish(j, p, a, err) })
		s.changes.Tell()
	})
}

func (s *Server) finish(j *job, p *process, a *Attempt, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a.FinishedAt, a.Result = s.opts.Clock.Now(), Success
	if err != nil {
		a.Result, a.Err = Failure, err.Error()
	}
	if s.behaviour.Result != "" {
		a.Result = s.behaviour.Result
	}
	p.busy = false
	s.next(j, p)
	s.changes.Tell()
}

// mayPromote: listed approvers exclude everybody else, also those with the right.
func (p *process) mayPromote(u User) bool {
	if len(p.Approvers) > 0 {
		return slices.Contains(p.Approvers, u.Name)
	}
	return u.MayPromote
}

func (a *Attempt) duration() time.Duration {
	if a.FinishedAt.IsZero() {
		return 0
	}
	return a.FinishedAt.Sub(a.StartedAt)
}
