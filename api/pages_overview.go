package api

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/drydock/drydock/playbook"
)

const (
	day = 24 * time.Hour
	// reachFor is how long an answer about the carriers is shown before they are asked again.
	reachFor = 20 * time.Second
	// reachWait is how long a page waits for them: one carrier that hangs must not hold up the picture of all others.
	reachWait = 250 * time.Millisecond
)

type figures struct {
	Runs, Active, Resolved, Escalated, StoodDown int
	Share                                        int // of the runs that needed an end, in percent, that needed no person
	HasShare                                     bool
	P50, P95                                     string
	HoursSaved                                   float64
}

func newFigures(s playbook.RunStats) figures {
	t := s.Total
	f := figures{Runs: t.Runs, Active: t.Active, Resolved: t.Resolved, Escalated: t.Escalated, StoodDown: t.StoodDown,
		HoursSaved: float64(t.Resolved) * defaultMinutesByHand / 60}
	if n := t.Resolved + t.Escalated; n > 0 {
		f.HasShare, f.Share = true, (100*t.Resolved+n/2)/n
	}
	if t.Repairs > 0 {
		f.P50, f.P95 = span(t.P50), span(t.P95)
	}
	return f
}

type partView struct {
	Name string
	OK   bool
}

type carrierView struct {
	Name, Mode, Version, Why string
	State                    stateView
	KillSwitch               string
	Active                   []runView
	Last                     *runView
}

type overviewPage struct {
	page
	Active, Waiting, Ended []runView
	More                   bool // more ended than are shown
	Day, Month             figures
	Carriers               []carrierView
	Parts                  []partView
	Heard                  *playbook.EventRecord // what came in last
	Now                    time.Time
}

// overview shows what goes on, what waits for a person, what ended in the last day, and how Drydock itself is.
func (p *pages) overview(c *gin.Context, base page) error {
	if err := newQuery(c).err(); err != nil {
		return err
	}
	ctx, now := c.Request.Context(), p.server.Now()
	scope := tokenOf(c).Carriers
	recent, err := p.server.History.Runs(ctx, playbook.RunFilter{Since: now.Add(-day), Carriers: scope, Limit: maxLimit, Memory: true})
	if err != nil {
		return err
	}
	// What is still owed may have begun long ago.
	unwinding, err := p.server.History.Runs(ctx, playbook.RunFilter{State: playbook.Unwinding, Carriers: scope, Limit: maxLimit, Memory: true})
	if err != nil {
		return err
	}
	runs := recent.Runs
	for _, r := range unwinding.Runs {
		if !slices.ContainsFunc(runs, func(o playbook.Run) bool { return o.ID == r.ID }) {
			runs = append(runs, r)
		}
	}
	base.Here, base.Poll = "overview", listPoll
	data := overviewPage{page: base, Now: now}
	for _, r := range runs {
		switch v := newRunView(r, now); {
		case r.State == playbook.AwaitingApproval:
			data.Waiting = append(data.Waiting, v)
		case !r.State.Ended():
			data.Active = append(data.Active, v)
		default:
			data.Ended = append(data.Ended, v)
		}
	}
	const shown = 12
	if data.More = len(data.Ended) > shown || recent.Next != ""; len(data.Ended) > shown {
		data.Ended = data.Ended[:shown]
	}
	for span, into := range map[time.Duration]*figures{day: &data.Day, statsSpan: &data.Month} {
		stats, err := p.server.History.RunStats(ctx, playbook.StatsFilter{Since: now.Add(-span), Until: now, Carriers: scope})
		if err != nil {
			return err
		}
		*into = newFigures(stats)
	}
	data.Carriers = p.carrierViews(c, runs)
	data.Parts = p.parts(ctx)
	if heard, err := p.server.History.Events(ctx, scope, 1, ""); err == nil && len(heard.Events) > 0 {
		data.Heard = &heard.Events[0]
	}
	p.render(c, http.StatusOK, "overview", data)
	return nil
}

// parts asks the server's parts, as /readyz does.
func (p *pages) parts(ctx context.Context) []partView {
	ctx, cancel := context.WithTimeout(ctx, reachWait)
	defer cancel()
	views := make([]partView, len(p.server.Parts))
	var all sync.WaitGroup
	for i, part := range p.server.Parts {
		all.Go(func() { views[i] = partView{part.Name, check(ctx, part) == nil} })
	}
	all.Wait()
	return views
}

// reached keeps what the carriers answered.
type reached struct {
	mu     sync.Mutex
	at     time.Time
	list   map[string]CarrierStatus
	asking chan struct{} // closed when the answer is there; nil while nobody asks
}

// ask returns what the carriers answered last, after waiting a moment for an answer that is under way; none is nil.
func (r *reached) ask(ctx context.Context, s *Server) map[string]CarrierStatus {
	r.mu.Lock()
	if r.asking == nil && s.Now().Sub(r.at) >= reachFor {
		done := make(chan struct{})
		r.asking = done
		// The page that asked may be gone before the slowest carrier has answered.
		go r.read(context.WithoutCancel(ctx), s, done)
	}
	asking := r.asking
	r.mu.Unlock()
	if asking != nil {
		wait := time.NewTimer(reachWait)
		defer wait.Stop()
		select {
		case <-asking:
		case <-wait.C:
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.list
}

func (r *reached) read(ctx context.Context, s *Server, done chan struct{}) {
	list := map[string]CarrierStatus{}
	for _, status := range s.Carriers.Reach(ctx) { // it bounds its own time
		list[status.Name] = status
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list, r.at, r.asking = list, s.Now(), nil
	close(done)
}

// carrierNames are the carriers that the reader's token is for.
func (p *pages) carrierNames(c *gin.Context) []string {
	var names []string
	for _, name := range p.server.Carriers.Names() {
		if tokenOf(c).isFor(name) {
			names = append(names, name)
		}
	}
	return names
}

// carrierViews puts together what is known of each carrier: whether it answers, and what the given runs do there.
func (p *pages) carrierViews(c *gin.Context, runs []playbook.Run) []carrierView {
	ctx, now := c.Request.Context(), p.server.Now()
	known := p.reached.ask(ctx, p.server)
	var views []carrierView
	for _, name := range p.carrierNames(c) {
		v := carrierView{Name: name, Mode: string(p.server.Policy(playbook.Target{Carrier: name}).Mode), State: stateView{"idle", "…", "being asked"}}
		if status, ok := known[name]; ok {
			v.Version, v.Why, v.State = status.Version, status.Why, stateView{"bad", "✕", "does not answer"}
			if status.Reachable {
				v.State = stateView{"good", "✓", "answers"}
			}
		}
		if k, err := p.server.Orders.KillSwitch(ctx, name); err == nil && k.Engaged {
			v.KillSwitch = k.Reason
		}
		for _, r := range runs {
			if r.Target.Carrier != name {
				continue
			}
			view := newRunView(r, now)
			if !r.State.Ended() {
				v.Active = append(v.Active, view)
			} else if v.Last == nil {
				v.Last = &view
			}
		}
		views = append(views, v)
	}
	return views
}
