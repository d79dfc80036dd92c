package playbook

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestEachKeepsItsLimit(t *testing.T) {
	t.Parallel()
	for _, limit := range []int{0, 1, 8} {
		synctest.Test(t, func(t *testing.T) {
			var mu sync.Mutex
			now, most := 0, 0
			done := make([]bool, 40)
			each(len(done), limit, func(i int) {
				mu.Lock()
				now++
				most = max(most, now)
				mu.Unlock()
				<-time.After(time.Second) // the bubble's clock
				mu.Lock()
				now--
				done[i] = true
				mu.Unlock()
			})
			if most != max(1, limit) || slices.Contains(done, false) {
				t.Errorf("limit %d: %d at one time, done %v", limit, most, done)
			}
		})
	}
}

func TestEachPanicsWhereItWasCalled(t *testing.T) {
	t.Parallel()
	defer func() {
		if got := recover(); got != "bad incident" {
			t.Errorf("recovered %v", got)
		}
	}()
	each(20, 4, func(i int) {
		if i == 7 {
			panic("bad incident")
		}
	})
}

// TestASlowTickEnds: a carrier that never answers takes neither the incidents' time nor the job's two minutes, and 49
// incidents that take a second each are all read.
func TestASlowTickEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := testRun(Triage)
		r.Incidents = nil
		for i := range 49 {
			r.Incidents = append(r.Incidents, RunIncident{ID: string(rune('a' + i)), Number: i + 1, JoinedAt: r.StartedAt})
		}
		began := time.Now() // the bubble's clock
		l := &oneRun{ctx: t.Context(), run: r}
		e := &Engine{Ledger: l, Pager: slowPager{}, Promoter: nil, Reads: 8, Log: slog.New(slog.DiscardHandler),
			Carrier: func(string) (Carrier, error) { return deafCarrier{}, nil },
			Policy:  func(Target) Policy { return testPolicy() },
			Clock:   func() time.Time { return t0.Add(time.Since(began)) }}
		if err := e.Advance(t.Context(), r.ID); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > tickLimit {
			t.Errorf("the tick took %s", took)
		}
		for _, in := range r.Incidents {
			if got := l.seen.Incidents[in.ID]; !got.IsKnown() {
				t.Errorf("incident %s was not read: %s", in.ID, got.Why())
			}
		}
		if l.seen.DaemonSet.IsKnown() {
			t.Error("the carrier did not answer, and its DaemonSet is known")
		}
	})
}

// TestIncidentsAreReadOnceBeforeAPromise: what a tick read within the last second is not read again, however slow the carrier
// was before; what is older is, for a person may have acted since.
func TestIncidentsAreReadOnceBeforeAPromise(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		before, after time.Duration // pauses around the first read
		want          bool
	}{
		"at once":              {want: false},
		"the look was slow":    {before: 20 * time.Second, want: false},
		"it was long ago":      {after: 2 * time.Second, want: true},
		"both":                 {before: 20 * time.Second, after: 2 * time.Second, want: true},
		"just within a second": {after: time.Second, want: false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			now := t0
			l := &oneRun{ctx: t.Context(), run: testRun(Triage)}
			tick := &tick{e: &Engine{Pager: quickPager{}, Clock: func() time.Time { return now }}, h: l, run: l.run, now: t0, began: t0}
			o := Observation{At: t0, Incidents: map[string]Reading[Incident]{}}
			now = now.Add(tt.before)
			tick.readIncidents(&o, l.run.Incidents, false)
			tick.readUntilNow(&o)
			now = now.Add(tt.after)
			if got := tick.refreshIncidents(&o); got != tt.want {
				t.Errorf("read again: %t, want %t", got, tt.want)
			}
		})
	}
}

// quickPager answers at once.
type quickPager struct{ Pager }

func (quickPager) Incident(_ context.Context, id string, _ Target, _ time.Time) Reading[Incident] {
	return Known(Incident{ID: id, Status: Triggered})
}

// TestTheTicksBudgetsFit: the slowest reads leave time for a call, and the whole of it ends well before the job does.
func TestTheTicksBudgetsFit(t *testing.T) {
	t.Parallel()
	if reads := max(recoverLimit, undoLimit) + lookLimit + incidentLimit + wantLimit + incidentLimit; reads >= actLimit {
		t.Errorf("the reads may take %s, and no call begins after %s", reads, actLimit)
	}
	if actLimit+callTimeout >= tickLimit || tickLimit > 100*time.Second {
		t.Errorf("a call that begins at %s ends after the tick's %s", actLimit, tickLimit)
	}
}

// oneRun is a ledger of one run that takes one commit.
type oneRun struct {
	Ledger

	ctx  context.Context //nolint:containedctx // a Hold has one
	run  Run
	seen Observation
}

func (l *oneRun) Acquire(ctx context.Context, _ string) (Hold, error) {
	l.ctx = ctx
	return l, nil
}
func (l *oneRun) Context() context.Context                              { return l.ctx }
func (l *oneRun) RunID() string                                         { return l.run.ID }
func (l *oneRun) Generation() int64                                     { return 1 }
func (l *oneRun) Release()                                              {}
func (l *oneRun) Load(context.Context, Hold) (Run, time.Time, error)    { return l.run, t0, nil }
func (l *oneRun) Facts(context.Context, Hold, Run) (LedgerFacts, error) { return LedgerFacts{}, nil }
func (l *oneRun) Commit(_ context.Context, _ Hold, c Commit) (Run, error) {
	l.seen = c.Tick.Observation
	return c.Run, nil
}

// deafCarrier answers nothing until its caller has no more time.
type deafCarrier struct{ unreachable }

func (deafCarrier) Observe(ctx context.Context, look Look, o *Observation) {
	<-ctx.Done()
	unreachable{why: "i/o timeout"}.Observe(ctx, look, o)
}

// slowPager takes a second for each incident.
type slowPager struct{ Pager }

func (slowPager) Incident(ctx context.Context, id string, _ Target, _ time.Time) Reading[Incident] {
	select {
	case <-time.After(time.Second):
		return Known(Incident{ID: id, Status: Triggered})
	case <-ctx.Done():
		return Unknown[Incident](ctx.Err().Error())
	}
}
