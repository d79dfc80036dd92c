package playbooktest

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/drydock/drydock/playbook"
)

// LeaseTTL is how long a dead worker's lease still holds others off.
const LeaseTTL = 3 * time.Second

// Ledger is an in-memory playbook.Ledger on a virtual clock. It passes LedgerTest, as the one on Postgres does.
//
// A hold is renewed for as long as its worker lives: the lease of a live hold never runs out. Kill stands for the death
// (or the pause) of every worker.
type Ledger struct {
	// IneffectiveRuns opens a target's breaker: so many runs in a row that changed something and resolved nothing. 0: the default.
	IneffectiveRuns int

	clock   *Clock
	runs    map[string]*ledgerRun
	order   []string
	leases  map[string]*lease // by target
	claims  map[string]string // carrier -> run
	spent   []spending
	kill    map[string]string
	breaker map[string]time.Time
	counts  map[string]playbook.Count // by carrier
	draws   int
	// Copy tells the tokens of one ledger from those of its copies.
	Copy string
}

type ledgerRun struct {
	run      playbook.Run
	next     time.Time
	ticks    []playbook.Tick
	backups  map[string]playbook.Manifest
	cancel   string
	approved string
	approver string
}

type lease struct {
	generation int64
	runID      string
	held       bool // a live worker renews it
	expires    time.Time
	end        context.CancelCauseFunc
}

// spending is a reservation that was granted.
type spending struct {
	playbook.Reservation
	run string
	seq int
	at  time.Time
}

// NewLedger makes an empty ledger.
func NewLedger(clock *Clock) *Ledger {
	return &Ledger{clock: clock, runs: map[string]*ledgerRun{}, leases: map[string]*lease{}, claims: map[string]string{},
		kill: map[string]string{}, breaker: map[string]time.Time{}, counts: map[string]playbook.Count{}}
}

// StartRun makes a run, due at once.
func (l *Ledger) StartRun(_ context.Context, s playbook.Start) error {
	if l.runs[s.RunID] != nil {
		return fmt.Errorf("start run %s: it exists already", s.RunID)
	}
	now := l.clock.Now()
	s.Incident.JoinedAt = now
	l.runs[s.RunID] = &ledgerRun{next: now, backups: map[string]playbook.Manifest{}, run: playbook.Run{
		ID: s.RunID, Target: s.Target, Incidents: []playbook.RunIncident{s.Incident}, Trigger: s.Trigger, Mode: s.Mode,
		RequestedBy: s.RequestedBy, Reason: s.Reason, RetriggeredFrom: s.RetriggeredFrom, TableVersion: playbook.TableVersion,
		State: playbook.Queued, StartedAt: now, Deadline: now.Add(s.Deadline), Version: 1,
	}}
	l.order = append(l.order, s.RunID)
	return nil
}

// JoinRun adds an incident to a run that is under way. One that unwinds or has ended is joined no more: the incident would
// get a run of its own.
func (l *Ledger) JoinRun(runID string, incident playbook.RunIncident) {
	r := l.runs[runID]
	if r.run.State == playbook.Unwinding || r.run.State.Ended() {
		return
	}
	incident.JoinedAt = l.clock.Now()
	r.run.Incidents = append(slices.Clone(r.run.Incidents), incident)
	r.run.Version++
	r.next = l.clock.Now()
}

// SetKillSwitch engages the kill switch of a carrier (of all carriers when it is empty), or lets go with an empty reason.
func (l *Ledger) SetKillSwitch(_ context.Context, carrier, reason string) error {
	if reason == "" {
		delete(l.kill, carrier)
	} else {
		l.kill[carrier] = reason
	}
	return nil
}

// Cancel asks for a run to stop, in a person's name.
func (l *Ledger) Cancel(runID, who string) {
	l.runs[runID].cancel = who
	l.runs[runID].next = l.clock.Now()
}

// Approve approves a run's plan.
func (l *Ledger) Approve(runID, hash, who string) {
	l.runs[runID].approved, l.runs[runID].approver = hash, who
	l.runs[runID].next = l.clock.Now()
}

// OpenBreaker opens a target's breaker.
func (l *Ledger) OpenBreaker(t playbook.Target, until time.Time) { l.breaker[t.String()] = until }

// Run returns a run as it is stored, without a hold; false when there is none.
func (l *Ledger) Run(runID string) (playbook.Run, bool) {
	r := l.runs[runID]
	if r == nil {
		return playbook.Run{}, false
	}
	return share(r.run), true
}

// Runs lists the runs' ids, oldest first.
func (l *Ledger) Runs() []string { return l.order }

// Ticks returns the stored ticks of a run.
func (l *Ledger) Ticks(runID string) []playbook.Tick { return l.runs[runID].ticks }

// NextTick is when a run is due; zero when it has ended.
func (l *Ledger) NextTick(runID string) time.Time { return l.runs[runID].next }

// Wake makes a run due at once, as an event about its incident does.
func (l *Ledger) Wake(runID string) {
	if r := l.runs[runID]; !r.run.State.Ended() {
		r.next, r.run.WokenAt = l.clock.Now(), l.clock.Now()
	}
}

// ClaimHolder is the run that holds a carrier's claim, empty for none.
func (l *Ledger) ClaimHolder(carrier string) string { return l.claims[carrier] }

// Kill lets every worker die: nothing is renewed any more, and each lease runs out a TTL from now.
func (l *Ledger) Kill() {
	for _, s := range l.leases {
		if s.held {
			s.held, s.expires = false, l.clock.Now().Add(LeaseTTL)
		}
	}
}

// ExpireLease makes the lease of a run's target run out at once, with its worker still believing in it.
func (l *Ledger) ExpireLease(_ context.Context, runID string) error {
	r := l.runs[runID]
	if r == nil {
		return playbook.ErrNoRun
	}
	if s := l.leases[r.run.Target.String()]; s != nil {
		s.held, s.expires = false, l.clock.Now()
	}
	return nil
}

// Age lets d pass.
func (l *Ledger) Age(_ context.Context, d time.Duration) error {
	l.clock.Advance(d)
	return nil
}

func (s *lease) alive(now time.Time) bool { return s.held || s.expires.After(now) }

type hold struct {
	ctx        context.Context
	ledger     *Ledger
	lease      *lease
	runID      string
	generation int64
}

func (h *hold) Context() context.Context { return h.ctx }
func (h *hold) RunID() string            { return h.runID }
func (h *hold) Generation() int64        { return h.generation }

func (h *hold) Release() {
	if h.lease.generation == h.generation && h.lease.alive(h.ledger.clock.Now()) {
		h.lease.held, h.lease.expires = false, h.ledger.clock.Now()
	}
	h.lease.end(context.Canceled)
}

// lapse lets a hold be renewed no more: its worker is frozen, or cut off from the ledger.
func (h *hold) lapse() {
	if s := h.lease; s.generation == h.generation && s.held {
		s.held, s.expires = false, h.ledger.clock.Now().Add(LeaseTTL)
	}
}

// renew is a worker's try to go on: it holds again, or its hold is over.
func (h *hold) renew() {
	s := h.lease
	switch {
	case s.generation != h.generation || h.ctx.Err() != nil:
	case s.alive(h.ledger.clock.Now()):
		s.held = true
	default:
		s.end(playbook.ErrLeaseLost)
	}
}

// Acquire takes the lease of the run's target.
func (l *Ledger) Acquire(ctx context.Context, runID string) (playbook.Hold, error) {
	r := l.runs[runID]
	if r == nil {
		return nil, playbook.ErrNoRun
	}
	key := r.run.Target.String()
	s := l.leases[key]
	if s == nil {
		s = &lease{end: func(error) {}}
		l.leases[key] = s
	}
	if s.alive(l.clock.Now()) {
		return nil, playbook.ErrBusy
	}
	s.end(playbook.ErrLeaseLost)
	held, end := context.WithCancelCause(ctx)
	s.generation++
	s.runID, s.held, s.end = runID, true, end
	return &hold{ctx: held, ledger: l, lease: s, runID: runID, generation: s.generation}, nil
}

// valid finds the run that a hold is for, if the hold still is one.
func (l *Ledger) valid(h playbook.Hold) (*ledgerRun, error) {
	r := l.runs[h.RunID()]
	if r == nil {
		return nil, playbook.ErrNoRun
	}
	s := l.leases[r.run.Target.String()]
	if s == nil || s.generation != h.Generation() || s.runID != h.RunID() || !s.alive(l.clock.Now()) {
		return nil, playbook.ErrLeaseLost
	}
	return r, nil
}

// Load reads the run and the clock.
func (l *Ledger) Load(_ context.Context, h playbook.Hold) (playbook.Run, time.Time, error) {
	r, err := l.valid(h)
	if err != nil {
		return playbook.Run{}, time.Time{}, err
	}
	if r.run.TableVersion != playbook.TableVersion || !slices.Contains(playbook.States(), r.run.State) {
		return playbook.Run{}, time.Time{}, playbook.ErrForeignTable
	}
	return share(r.run), l.clock.Now(), nil
}

// Facts reads what Decide must respect beyond the run.
func (l *Ledger) Facts(_ context.Context, h playbook.Hold, run playbook.Run) (playbook.LedgerFacts, error) {
	r, err := l.valid(h)
	if err != nil {
		return playbook.LedgerFacts{}, err
	}
	t := r.run.Target
	f := playbook.LedgerFacts{KillSwitch: l.killed(t.Carrier), Used: map[string]int{}, Cancelled: r.cancel,
		ApprovedHash: r.approved, ApprovedBy: r.approver, Count: l.counts[t.Carrier]}
	if holder := l.claims[t.Carrier]; holder != run.ID {
		f.ClaimHolder = holder
	}
	for _, s := range l.spent {
		if used := l.used(s.Budget()); used > 0 {
			f.Used[s.Budget()] = used
		}
	}
	f.BreakerUntil, f.Tries = l.openBreaker(t, cmp.Or(l.IneffectiveRuns, playbook.DefaultLimits().IneffectiveRuns))
	var seenAt time.Time
	for _, id := range l.order {
		o := l.runs[id]
		if o.run.Target == t && id != run.ID && o.run.State == playbook.Unwinding {
			f.TargetHolder = id
		}
		same := o.run.Target.Namespace == t.Namespace && o.run.Target.DaemonSet == t.DaemonSet
		if same && l.clock.Now().Sub(o.run.StartedAt) <= 15*time.Minute && !slices.Contains(f.SameDaemonSet, o.run.Target.Carrier) {
			f.SameDaemonSet = append(f.SameDaemonSet, o.run.Target.Carrier)
		}
		if o.run.Target.Carrier == t.Carrier && id != run.ID && !o.endedBefore(run.StartedAt.Add(-playbook.CarrierRunsWithin)) {
			f.SameCarrier = append(f.SameCarrier, l.carrierRun(o.run))
		}
		if o.run.Target != t {
			continue
		}
		if id != run.ID && o.repaired() && l.clock.Now().Sub(o.run.FinishedAt) < 24*time.Hour {
			f.RepairedToday++
			if !o.run.FinishedAt.Before(f.RepairedAt) {
				f.RepairedBy, f.RepairedAt = id, o.run.FinishedAt
			}
		}
		for _, tick := range o.ticks {
			if d, ok := tick.Observation.DaemonSet.Get(); ok && d.Exists && !tick.At.Before(seenAt) {
				f.LastSeen, seenAt = &d, tick.At
			}
		}
	}
	slices.Sort(f.SameDaemonSet)
	slices.SortFunc(f.SameCarrier, func(a, b playbook.CarrierRun) int {
		return cmp.Or(b.StartedAt.Compare(a.StartedAt), cmp.Compare(b.Run, a.Run))
	})
	f.SameCarrier = f.SameCarrier[:min(len(f.SameCarrier), playbook.CarrierRuns)]
	return f, nil
}

// breakerOpen is how long a breaker stays open after the last run without effect.
const breakerOpen = time.Hour

// openBreaker tells until when the target's breaker is open: its last runs that changed anything or resolved it all changed
// something, and none resolved it.
func (l *Ledger) openBreaker(t playbook.Target, limit int) (until time.Time, tries []string) {
	if until := l.breaker[t.String()]; until.After(l.clock.Now()) {
		return until, nil
	}
	for _, id := range slices.Backward(l.order) {
		o := l.runs[id].run
		changed := slices.ContainsFunc(o.Intents, func(i playbook.Intent) bool {
			return i.IsChange() && (i.Open() || i.Result == playbook.Happened)
		})
		if o.Target != t || !o.State.Ended() || (o.Outcome != playbook.OutcomeResolved && !changed) || len(tries) == limit {
			continue
		}
		if o.Outcome == playbook.OutcomeResolved {
			break
		}
		if until.IsZero() {
			until = o.FinishedAt.Add(breakerOpen)
		}
		tries = append(tries, fmt.Sprintf("run %s at %s: %s (%s): %s", o.ID, o.FinishedAt.Format(time.RFC3339), o.Outcome, o.Finding, o.Why))
	}
	if len(tries) < limit || !until.After(l.clock.Now()) {
		return time.Time{}, nil
	}
	return until, tries
}

func (r *ledgerRun) endedBefore(t time.Time) bool {
	return r.run.State.Ended() && !r.run.FinishedAt.After(t)
}

// repaired: it changed something and resolved.
func (r *ledgerRun) repaired() bool {
	return r.run.Outcome == playbook.OutcomeResolved && slices.ContainsFunc(r.run.Intents, func(i playbook.Intent) bool {
		return i.IsChange() && i.Result == playbook.Happened
	})
}

// carrierRun is a run as the other runs of its carrier are told about it.
func (l *Ledger) carrierRun(r playbook.Run) playbook.CarrierRun {
	c := playbook.CarrierRun{Run: r.ID, Target: r.Target, State: r.State, Finding: r.Finding, Why: r.Why, Causes: r.Memory.Causes,
		Outcome: r.Outcome, StartedAt: r.StartedAt, EndedAt: r.FinishedAt, Claim: l.claims[r.Target.Carrier] == r.ID}
	incidents := slices.Clone(r.Incidents)
	slices.SortStableFunc(incidents, func(a, b playbook.RunIncident) int {
		return cmp.Or(a.JoinedAt.Compare(b.JoinedAt), cmp.Compare(a.ID, b.ID))
	})
	for _, in := range incidents[:min(len(incidents), playbook.CarrierRunIncidents)] {
		c.Incidents = append(c.Incidents, playbook.IncidentRef{ID: in.ID, Number: in.Number, URL: in.URL})
	}
	c.More = len(incidents) - len(c.Incidents)
	return c
}

func (l *Ledger) killed(carrier string) string {
	if why := l.kill[""]; why != "" {
		return why
	}
	return l.kill[carrier]
}

// used is what is spent or held of a budget now.
func (l *Ledger) used(budget string) int {
	sum := 0
	for _, s := range l.spent {
		if s.Budget() == budget && (s.Window == 0 || l.clock.Now().Sub(s.at) < s.Window) {
			sum += s.Amount
		}
	}
	return sum
}

// Count is what was promised on a carrier.
func (l *Ledger) Count(_ context.Context, carrier string) (playbook.Count, error) {
	return l.counts[carrier], nil
}

// draw is a count that no other ledger has drawn.
func (l *Ledger) draw(number int64) playbook.Count {
	l.draws++
	return playbook.Count{Number: number, Token: fmt.Sprintf("%s#%d", l.Copy, l.draws)}
}

// ConfirmCarrier puts the ledger ahead of the carrier's Lease, at an admin's word. What an earlier copy had promised is looked
// at again, whether or not this one knows that it was sent.
func (l *Ledger) ConfirmCarrier(_ context.Context, carrier string, seen int64) (playbook.Count, error) {
	l.counts[carrier] = l.draw(max(l.counts[carrier].Number, seen) + 1)
	for _, r := range l.runs {
		for n := range r.run.Intents {
			if i := &r.run.Intents[n]; i.Open() && i.SentAt.IsZero() && i.Lane == playbook.CarrierLane(carrier) {
				i.SentAt, i.CallDeadline = l.clock.Now(), l.clock.Now()
				r.run.Version++
			}
		}
	}
	return l.counts[carrier], nil
}

// Panicked counts a tick that panicked.
func (l *Ledger) Panicked(_ context.Context, runID string) (int, error) {
	r := l.runs[runID]
	if r == nil {
		return 0, playbook.ErrNoRun
	}
	r.run.Panics++
	return r.run.Panics, nil
}

// Backup returns a manifest that was committed with an orphan delete.
func (l *Ledger) Backup(_ context.Context, runID, sha256 string) (playbook.Manifest, error) {
	r := l.runs[runID]
	if r == nil {
		return nil, playbook.ErrNoRun
	}
	m, ok := r.backups[sha256]
	if !ok {
		return nil, fmt.Errorf("backup %s of run %s: %w", sha256, runID, errNoBackup)
	}
	return slices.Clone(m), nil
}

var errNoBackup = errors.New("there is no such backup")

// stored sends a run's memory through its stored form, so that what can not be stored shows here and not first on Postgres.
func stored(r playbook.Run) playbook.Run {
	b := encode(r.Memory)
	r.Memory = playbook.Memory{}
	if err := json.Unmarshal(b, &r.Memory); err != nil {
		panic(fmt.Sprintf("memory of run %s does not survive being stored: %v", r.ID, err))
	}
	return share(r)
}

// share makes a copy whose lists can be written. Its memory is the ledger's own: only Decide writes a memory, and it
// starts from a copy.
func share(r playbook.Run) playbook.Run {
	r.Incidents = slices.Clone(r.Incidents)
	r.Intents = slices.Clone(r.Intents)
	return r
}

// Dump describes what a run did, for the message of a test that failed.
func (l *Ledger) Dump(runID string) string {
	var b strings.Builder
	r := l.runs[runID]
	fmt.Fprintf(&b, "run %s: %s %s %q\n", runID, r.run.State, r.run.Finding, r.run.Why)
	for _, t := range r.ticks {
		fmt.Fprintf(&b, "  %s %s -> %s: %s confirmed=%t: %s\n", t.At.Format(time.TimeOnly), t.From, t.To, t.Finding, t.Confirmed, t.Why)
	}
	for _, i := range r.run.Intents {
		fmt.Fprintf(&b, "  #%d %s %s %s promised %s settled %s: %s %s\n", i.Seq, i.Lane, i.Action.Kind(), i.Action.Target(),
			i.PromisedAt.Format(time.TimeOnly), i.SettledAt.Format(time.TimeOnly), i.Result, i.Detail)
	}
	return b.String()
}
