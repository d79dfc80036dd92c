package playbook

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"
)

const (
	// callTimeout bounds one remote call; the hold's context may end it earlier.
	callTimeout = 10 * time.Second
	// incidentAge is how long a read of an incident is used when nothing is about to be written (design.md, On the incident).
	incidentAge = time.Minute
	// tickLimit ends a tick in any case, well before the job's own time (2 minutes) does. actLimit is when it begins no new call:
	// what is promised is sent by the next tick.
	tickLimit = 95 * time.Second
	actLimit  = tickLimit - callTimeout - 3*time.Second
	// A tick's reads, each with a budget of its own, so that a slow carrier does not make the incidents unreadable: together
	// they end before actLimit, so that the slowest tick still gets something done.
	recoverLimit  = 10 * time.Second
	undoLimit     = 12 * time.Second // the reads before an undo that goes first: while something is to be recovered there are none
	lookLimit     = 25 * time.Second // the ledger's facts and the carrier
	wantLimit     = 20 * time.Second // all that the decision wants beyond that, in all rounds
	incidentLimit = 12 * time.Second // the incidents; once more before something is promised
	// rounds is how often a tick reads what the decision wants and decides again.
	rounds = 5
	// promotionGrace is how long after its call a promotion's attempt may take to appear: Jenkins queues it first.
	promotionGrace = 30 * time.Second
)

// Engine moves runs, one tick at a time. It holds no truth: everything that matters is in the Ledger, so any replica may
// make the next tick. Its fields are set once, before the first call.
type Engine struct {
	Ledger   Ledger
	Carrier  func(name string) (Carrier, error)
	Pager    Pager
	Promoter Promoter
	Policy   func(Target) Policy
	// Clock measures how much time a tick has used; the time itself comes from the ledger.
	Clock func() time.Time
	Log   *slog.Logger
	// Reads is how many incidents of a run are read at one time; 0: one after the other, as tests need it.
	Reads int
	// Ticked is told of each committed tick, for metrics; nil: nobody.
	Ticked func(before, after Run, d Decision)
	// Watch is told of each step of a tick, for metrics and traces; nil: nobody.
	Watch Watch
	// Quarantined is told of a run whose ticks panicked MaxPanics times; nil: nobody.
	Quarantined func(runID, panicked string)

	mu    sync.Mutex
	cache map[string]cachedIncident
	disks map[string]cachedDisks
	quiet map[string]time.Time // lane -> not before, after an error of its remote
}

type cachedIncident struct {
	reading Reading[Incident]
	at      time.Time // of the tick that read it
	by      time.Time // when that read began
	version int64
}

type cachedDisks struct {
	reading Reading[[]IncidentRef]
	at      time.Time
}

// tick is one Advance under way.
type tick struct {
	e       *Engine
	h       Hold
	run     Run
	policy  Policy
	now     time.Time // the ledger's clock when the run was loaded
	began   time.Time // the local clock at the same moment
	carrier Carrier
	log     *slog.Logger
	// again are intents towards PagerDuty whose earlier call is proven not to have happened: act sends them once more.
	again map[int]bool
	// withdrawn are open intents that the decision no longer wants: act settles them instead of sending them.
	withdrawn []int
	// lease is the carrier's Lease, once this tick has read it.
	lease Reading[CarrierLease]
	// known is how many intents the run had when this tick loaded it.
	known int
}

// Advance makes one tick of a run: recover, put back what needs no look, observe, decide, promise, act. ErrBusy when another replica holds the
// target; ErrConflict or ErrLeaseLost when the run changed or was taken over meanwhile: nothing was lost, tick again. A tick
// that panics is a *PanicError; MaxPanics of them quarantine the run.
func (e *Engine) Advance(ctx context.Context, runID string) (err error) {
	ctx, done := e.Watch.begin(ctx, Step{Name: StepTick, Run: runID})
	defer func() { done("", err) }()
	defer func() {
		if p := recover(); p != nil {
			err = e.panicked(ctx, runID, p)
		}
	}()
	limited, cancel := context.WithTimeout(ctx, tickLimit)
	defer cancel()
	h, err := e.Ledger.Acquire(limited, runID)
	if err != nil {
		return fmt.Errorf("acquire run %s: %w", runID, err)
	}
	defer h.Release()
	t, err := e.begin(h)
	switch {
	case err != nil:
		return err
	case t.run.State.Ended():
		return t.tidy()
	case t.run.Panics >= MaxPanics:
		return t.quarantine()
	}
	if err := t.recover(); err != nil {
		return err
	}
	if err := t.undoFirst(); err != nil {
		return err
	}
	if err := t.decideAndPromise(); err != nil {
		return err
	}
	return t.act()
}

func (e *Engine) begin(h Hold) (*tick, error) {
	runID := h.RunID()
	began := e.Clock()
	run, now, err := e.Ledger.Load(h.Context(), h)
	if err != nil {
		return nil, fmt.Errorf("load run %s: %w", runID, err)
	}
	if !slices.Contains(States(), run.State) || run.TableVersion != TableVersion {
		return nil, fmt.Errorf("advance run %s: %w", runID, ErrForeignTable)
	}
	t := &tick{e: e, h: h, run: run, known: len(run.Intents), now: now, began: began, again: map[int]bool{},
		log: e.Log.With("run", runID, "target", run.Target.String())}
	if run.State.Ended() || run.Panics >= MaxPanics {
		t.policy = e.policyOf(run.Target)
	} else {
		t.policy = e.Policy(run.Target)
	}
	if t.carrier, err = e.Carrier(run.Target.Carrier); err != nil {
		t.carrier = unreachable{why: err.Error()}
	}
	return t, nil
}

// clock is the ledger's time now, as far as this tick can tell without asking again.
func (t *tick) clock() time.Time { return t.now.Add(t.e.Clock().Sub(t.began)) }

// recover settles what an earlier tick promised and did not settle, the carrier's first. What it has no time for stays open.
func (t *tick) recover() error {
	ctx, cancel := context.WithTimeout(t.h.Context(), recoverLimit)
	defer cancel()
	open := t.run.OpenIntents()
	if len(open) > 0 {
		var done func(string, error)
		ctx, done = t.watch(ctx, Step{Name: StepRecover})
		defer func() { done("", nil) }()
	}
	slices.SortStableFunc(open, func(a, b Intent) int { return laneRank(a.Lane) - laneRank(b.Lane) })
	for _, i := range open {
		s, ok, err := t.recoverOne(ctx, i)
		if err != nil {
			if ctxErr := t.h.Context().Err(); ctxErr != nil {
				return fmt.Errorf("recover intent %d: %w", i.Seq, ErrLeaseLost)
			}
			t.log.Warn("intent not recovered yet", "seq", i.Seq, "kind", i.Action.Kind(), "error", err)
			continue
		}
		if !ok {
			continue
		}
		if err := t.settle(i, s); err != nil {
			return err
		}
	}
	return nil
}

// recoverOne finds out what became of an intent; ok is false while that can not be known yet.
func (t *tick) recoverOne(ctx context.Context, i Intent) (s Settlement, ok bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	remote := i.Lane.Remote()
	switch {
	case i.SentAt.IsZero() && remote == "pagerduty":
		return Settlement{}, false, nil // act sends it
	case remote == "carrier" && t.stale(ctx):
		return Settlement{}, false, nil // not even what was never sent is known: the true ledger may have sent it
	case i.SentAt.IsZero():
		// Begin is written before each call, under the lease: without it there was no call.
		return Settlement{Result: NotHappened, Detail: "it was never sent"}, true, nil
	case remote == "pagerduty":
		// Until its own deadline the lost call may still be on its way, and a second one would say everything twice.
		if !t.laneOpen(i.Lane) || t.clock().Before(i.CallDeadline) {
			return Settlement{}, false, nil
		}
		s, err := t.e.Pager.Recover(ctx, i, t.run.ID)
		// What did not happen is sent again by act, under the same intent and marker.
		t.again[i.Seq] = err == nil && s.Result == NotHappened
		return s, err == nil && s.Result != NotHappened, err
	case remote == "jenkins":
		s, err := t.e.Promoter.Recover(ctx, i)
		if err == nil && s.Result == NotHappened && t.clock().Before(i.CallDeadline.Add(promotionGrace)) {
			return s, false, nil
		}
		return s, err == nil, err
	}
	return t.recoverOnCarrier(ctx, i)
}

// recoverOnCarrier touches first, so that a paused worker's preconditions are stale, then looks (kubernetes.md fact 10).
// Where nothing can be touched it waits until the dead call's deadline has passed.
func (t *tick) recoverOnCarrier(ctx context.Context, i Intent) (Settlement, bool, error) {
	ref := i.Action.Target()
	if touchable(i.Action) {
		if _, err := t.carrier.Touch(ctx, ref, t.run.ID, t.h.Generation()); err != nil {
			return Settlement{}, false, fmt.Errorf("touch %s: %w", ref, err)
		}
	} else if t.clock().Before(i.CallDeadline) {
		return Settlement{}, false, nil
	}
	st, err := t.carrier.State(ctx, ref)
	if err != nil {
		return Settlement{}, false, fmt.Errorf("read %s: %w", ref, err)
	}
	return Classify(i, t.run.ID, st), true, nil
}

func (t *tick) settle(i Intent, s Settlement) error {
	run, err := t.e.Ledger.Settle(t.h.Context(), t.h, i.Seq, s)
	if err != nil {
		return fmt.Errorf("settle intent %d (%s): %w", i.Seq, i.Action.Kind(), err)
	}
	t.run = run
	t.log.Info("intent settled", "seq", i.Seq, "kind", i.Action.Kind(), "object", i.Action.Target().String(),
		"result", s.Result, "detail", s.Detail)
	return nil
}

// decideAndPromise observes, decides and commits. A refused reservation becomes a fact and is decided on again.
func (t *tick) decideAndPromise() error {
	o := t.observe()
	ctx, cancel := context.WithTimeout(t.h.Context(), wantLimit)
	defer cancel()
	var d Decision
	for try := 0; ; try++ {
		d = t.decide(ctx, &o)
		if len(d.Promises) > 0 && t.refreshIncidents(&o) {
			d = t.decide(ctx, &o)
		}
		t.withdrawn = d.Withdraw
		err := t.commit(o, d)
		var refused *RefusedError
		switch {
		case err == nil:
			return nil
		case errors.As(err, &refused) && try < 3:
			o.Ledger = Known(refused.asFact(o.Ledger))
		default:
			return err
		}
	}
}

// asFact writes what the ledger refused into the facts, so that the core decides with it.
func (e *RefusedError) asFact(r Reading[LedgerFacts]) LedgerFacts {
	f, _ := r.Get()
	used := make(map[string]int, len(f.Used)+1)
	for k, v := range f.Used {
		used[k] = v
	}
	f.Used = used
	switch {
	case e.Why != "":
		f.KillSwitch = e.Why
	case e.Reservation.Scope == ScopeClaim, e.Reservation.Scope == ScopeCordonedNodes:
		f.ClaimHolder = orElse(e.Holder, "(one that has a node of this carrier cordoned)")
	default:
		used[e.Reservation.Budget()] = e.Reservation.Limit - e.Left
	}
	return f
}

// decide reads what the decision wants, and decides again, a few rounds at most.
func (t *tick) decide(ctx context.Context, o *Observation) Decision {
	d := Decide(t.policy, t.run, *o)
	for range rounds {
		var fresh []Want
		for _, w := range d.Wants {
			if !o.asked(w) {
				fresh = append(fresh, w)
			}
		}
		if len(fresh) == 0 {
			return d
		}
		t.read(ctx, o, fresh)
		d = Decide(t.policy, t.run, *o)
	}
	return d
}

// asked reports whether a wanted reading has been tried.
func (o *Observation) asked(w Want) bool {
	switch w.Kind {
	case WantNodePods:
		return o.NodePods[w.Node].Asked()
	case WantEvents:
		return o.Events.Asked()
	case WantReapply:
		return o.Reapply.Asked()
	case WantAdoption:
		return o.Adoption.Asked()
	case WantEvidence:
		return o.Evidence.Asked()
	case WantPromotion:
		return o.Promotion.Asked()
	case WantDiskIncidents:
		return o.DiskIncidents.Asked()
	case WantManagerLog:
		return o.ManagerLog.Asked()
	}
	return true
}

func (t *tick) observe() Observation {
	ctx, cancel := context.WithTimeout(t.h.Context(), lookLimit)
	defer cancel()
	ctx, done := t.watch(ctx, Step{Name: StepObserve})
	defer func() { done("", nil) }()
	o := Observation{At: t.now, Target: t.run.Target, Incidents: map[string]Reading[Incident]{}}
	// The Lease before the ledger: another run of this carrier may be changing it, and its count rises in the ledger first. Read
	// the other way round, the ledger would seem to be behind the carrier.
	o.Lease = t.carrierLease(ctx)
	if f, err := t.e.Ledger.Facts(ctx, t.h, t.run); err != nil {
		o.Ledger = Unknown[LedgerFacts](err.Error())
	} else {
		o.Ledger = Known(f)
	}
	t.carrier.Observe(ctx, Look{Target: t.run.Target, Policy: t.policy}, &o)
	var open []RunIncident
	for _, in := range t.run.Incidents {
		if in.End == "" {
			open = append(open, in)
		}
	}
	t.readIncidents(&o, open, false)
	t.readUntilNow(&o)
	return o
}

// readIncidents reads incidents, a few at one time: a storm's run has dozens, and one after the other they would take longer
// than a tick has.
func (t *tick) readIncidents(o *Observation, incidents []RunIncident, fresh bool) {
	ctx, cancel := context.WithTimeout(t.h.Context(), incidentLimit)
	defer cancel()
	ctx, done := t.watch(ctx, Step{Name: StepIncidents})
	defer func() { done("", nil) }()
	read := make([]Reading[Incident], len(incidents))
	each(len(incidents), t.e.Reads, func(i int) { read[i] = t.incident(ctx, incidents[i], fresh) })
	for i, in := range incidents {
		o.Incidents[in.ID] = read[i]
	}
}

// each calls do for 0 to n-1, at most limit at one time, and returns when all have returned. What one of them panics with is
// panicked with here, where the worker of the tick expects it.
func each(n, limit int, do func(int)) {
	if limit <= 1 {
		for i := range n {
			do(i)
		}
		return
	}
	var all sync.WaitGroup
	var mu sync.Mutex
	var panicked any
	room := make(chan struct{}, limit)
	for i := range n {
		room <- struct{}{}
		all.Go(func() {
			defer func() {
				if p := recover(); p != nil {
					mu.Lock()
					defer mu.Unlock()
					panicked = p
				}
				<-room
			}()
			do(i)
		})
	}
	all.Wait()
	if panicked != nil {
		panic(panicked)
	}
}

// readUntilNow notes that the readings took long, when they did: a remote that answers late must not make what was just
// seen look older than it is.
func (t *tick) readUntilNow(o *Observation) {
	if now := t.clock(); now.Sub(t.now) > time.Second {
		o.ReadBy = now
	}
}

// incident reads an incident, or takes a recent read. A webhook about the incident wakes the run, and a join raises its
// version, so that a read from before either is not used.
func (t *tick) incident(ctx context.Context, in RunIncident, fresh bool) Reading[Incident] {
	t.e.mu.Lock()
	c, ok := t.e.cache[in.ID]
	t.e.mu.Unlock()
	if ok && !fresh && c.version == t.run.Version && c.at.After(t.run.WokenAt) && t.now.Sub(c.at) < incidentAge {
		return c.reading
	}
	var since time.Time
	if t.run.ordered(in.ID) {
		since = t.run.StartedAt
	}
	by := t.clock()
	r := t.e.Pager.Incident(ctx, in.ID, t.run.Target, since)
	t.remember(in.ID, cachedIncident{reading: r, at: t.now, by: by, version: t.run.Version})
	return r
}

func (t *tick) remember(id string, c cachedIncident) {
	t.e.mu.Lock()
	defer t.e.mu.Unlock()
	if t.e.cache == nil || len(t.e.cache) > 10_000 {
		t.e.cache = map[string]cachedIncident{}
	}
	if c.reading.IsKnown() {
		t.e.cache[id] = c
	} else {
		delete(t.e.cache, id)
	}
}

// keepCached moves the cached reads of this run on to the version that the tick itself has just written.
func (t *tick) keepCached() {
	t.e.mu.Lock()
	defer t.e.mu.Unlock()
	for _, in := range t.run.Incidents {
		if c, ok := t.e.cache[in.ID]; ok {
			c.version = t.run.Version
			t.e.cache[in.ID] = c
		}
	}
}

// justNow is how old a read of an incident may be when something is promised.
const justNow = time.Second

// refreshIncidents reads the incidents again before something is promised, but for those that this tick read just now: a run of
// a storm has dozens. Any of them may hold the act of a person that stops the run. It reports whether anything was read.
func (t *tick) refreshIncidents(o *Observation) bool {
	var stale []RunIncident
	for _, in := range t.run.Incidents {
		if in.End != "" {
			continue
		}
		t.e.mu.Lock()
		c, ok := t.e.cache[in.ID]
		t.e.mu.Unlock()
		if ok && c.at.Equal(t.now) && t.clock().Sub(c.by) <= justNow && c.version == t.run.Version {
			continue
		}
		stale = append(stale, in)
	}
	t.readIncidents(o, stale, true)
	return len(stale) > 0
}

// read fills in what the decision wants.
func (t *tick) read(ctx context.Context, o *Observation, wants []Want) {
	ctx, done := t.watch(ctx, Step{Name: StepRead})
	defer func() { done("", nil) }()
	var ofCarrier []Want
	for _, w := range wants {
		switch w.Kind {
		case WantPromotion:
			o.Promotion = t.e.Promoter.Promotion(ctx, t.run.Target.Carrier, t.policy.DaemonSet.Promotion)
		case WantDiskIncidents:
			o.DiskIncidents = t.diskIncidents(ctx)
		case WantNodePods, WantEvents, WantReapply, WantAdoption, WantEvidence, WantManagerLog:
			ofCarrier = append(ofCarrier, w)
		}
	}
	if len(ofCarrier) > 0 {
		t.carrier.Observe(ctx, Look{Target: t.run.Target, Policy: t.policy, Wants: ofCarrier}, o)
	}
	for _, w := range wants {
		o.missed(w)
	}
	t.readUntilNow(o)
}

// missed makes a wanted reading that its adapter did not fill in unknown, so that nobody waits for it in this tick.
func (o *Observation) missed(w Want) {
	if o.asked(w) {
		return
	}
	const why = "it was asked for and not read"
	switch w.Kind {
	case WantNodePods:
		if o.NodePods == nil {
			o.NodePods = map[string]Reading[NodePods]{}
		}
		o.NodePods[w.Node] = Unknown[NodePods](why)
	case WantEvents:
		o.Events = Unknown[[]Event](why)
	case WantReapply:
		o.Reapply = Unknown[ReapplyCheck](why)
	case WantAdoption:
		o.Adoption = Unknown[Adoption](why)
	case WantEvidence:
		o.Evidence = Unknown[[]Evidence](why)
	case WantPromotion:
		o.Promotion = Unknown[Promotion](why)
	case WantDiskIncidents:
		o.DiskIncidents = Unknown[[]IncidentRef](why)
	case WantManagerLog:
		o.ManagerLog = Unknown[ManagerLog](why)
	}
}

func (t *tick) diskIncidents(ctx context.Context) Reading[[]IncidentRef] {
	carrier := t.run.Target.Carrier
	t.e.mu.Lock()
	c, ok := t.e.disks[carrier]
	t.e.mu.Unlock()
	// The disk check waits for these incidents to close, so it looks a few times a minute.
	if ok && t.now.Sub(c.at) < incidentAge/4 {
		return c.reading
	}
	r := t.e.Pager.DiskIncidents(ctx, carrier)
	t.e.mu.Lock()
	defer t.e.mu.Unlock()
	if t.e.disks == nil || len(t.e.disks) > 10_000 {
		t.e.disks = map[string]cachedDisks{}
	}
	if r.IsKnown() {
		t.e.disks[carrier] = cachedDisks{reading: r, at: t.now}
	}
	return r
}

func (t *tick) commit(o Observation, d Decision) error {
	before := t.run
	after := t.run
	after.State, after.Finding, after.Confirmed, after.Why = d.To, d.Diagnosis.Finding, d.Diagnosis.Confirmed, d.Why
	after.Memory, after.Deadline, after.PlanHash = d.Memory, d.Deadline, d.PlanHash
	after.Incidents = slices.Clone(before.Incidents)
	for i, in := range after.Incidents {
		if end, ok := d.Ends[in.ID]; ok {
			after.Incidents[i].End = end
		}
	}
	lease, _ := o.Lease.Get()
	c := Commit{Run: after, Promises: d.Promises, Release: d.Release, LeaseCount: lease.Count.Number}
	if d.Outcome != "" {
		c.Run.Outcome, c.Run.FinishedAt = d.Outcome, t.now
	} else {
		c.NextTick = t.now.Add(d.Wait)
	}
	c.Store = before.Ticks == 0 || before.State != after.State || before.Finding != after.Finding ||
		before.Confirmed != after.Confirmed || len(d.Promises) > 0 || d.Outcome != "" ||
		len(before.Memory.Skipped) != len(after.Memory.Skipped)
	c.Tick = Tick{At: t.now, From: before.State, To: d.To, Finding: after.Finding, Confirmed: after.Confirmed, Why: d.Why,
		Policy: t.policy, PolicyHash: t.policy.Hash(), Before: before.before(t.h.Generation()), Observation: o, Diagnosis: d.Diagnosis, Plan: d.Plan}
	ctx, done := t.watch(t.h.Context(), Step{Name: StepPromise})
	run, err := t.e.Ledger.Commit(ctx, t.h, c)
	done(string(d.To), err)
	if err != nil {
		return fmt.Errorf("commit tick of run %s: %w", t.run.ID, err)
	}
	t.run = run
	if before.State != run.State || before.Finding != run.Finding {
		t.log.Info("run moved", "from", before.State, "to", run.State, "finding", run.Finding, "confirmed", run.Confirmed, "why", run.Why)
	}
	if t.e.Ticked != nil {
		t.e.Ticked(before, run, d)
	}
	t.keepCached()
	return nil
}

// act sends what is promised and was not sent, the carrier's lane first. An error blocks its own lane only.
func (t *tick) act() error {
	defer t.keepCached()
	open := t.run.OpenIntents()
	slices.SortStableFunc(open, func(a, b Intent) int { return laneRank(a.Lane) - laneRank(b.Lane) })
	blocked := map[Lane]bool{}
	for _, i := range open {
		if blocked[i.Lane] || !t.laneOpen(i.Lane) {
			continue
		}
		if i.Lane.Remote() == "carrier" && t.stale(t.h.Context()) {
			blocked[i.Lane] = true
			continue
		}
		if t.e.Clock().Sub(t.began) > actLimit {
			return nil // a call that the tick's end cuts off would have to be looked for
		}
		if !i.SentAt.IsZero() && !t.again[i.Seq] {
			blocked[i.Lane] = true // recover has to find out first
			continue
		}
		if i.Lane.Remote() != "pagerduty" && i.Seq <= t.known {
			blocked[i.Lane] = true // an earlier tick promised it, for what that one saw: recover settles it as never sent
			continue
		}
		if slices.Contains(t.withdrawn, i.Seq) {
			if err := t.settle(i, Settlement{Result: NotHappened, Detail: "withdrawn before it was sent"}); err != nil {
				return err
			}
			continue
		}
		settled, err := t.trySend(i)
		if err != nil {
			return err
		}
		blocked[i.Lane] = !settled
	}
	return nil
}

func laneRank(l Lane) int {
	switch l.Remote() {
	case "carrier":
		return 0
	case "jenkins":
		return 1
	}
	return 2
}

// laneOpen reports whether a lane may be tried: after an error of PagerDuty its lane rests for a moment.
func (t *tick) laneOpen(l Lane) bool {
	t.e.mu.Lock()
	defer t.e.mu.Unlock()
	return !t.now.Before(t.e.quiet[string(l)])
}

func (t *tick) closeLane(l Lane) {
	if l.Remote() != "pagerduty" {
		return
	}
	t.e.mu.Lock()
	defer t.e.mu.Unlock()
	if t.e.quiet == nil || len(t.e.quiet) > 10_000 {
		t.e.quiet = map[string]time.Time{}
	}
	t.e.quiet[string(l)] = t.now.Add(callTimeout)
}

// send makes the one call of an intent: begin in the ledger, call, settle.
func (t *tick) send(i Intent) error {
	call := Call{Run: t.run.ID, Seq: i.Seq, Generation: t.h.Generation(), Target: t.run.Target, Action: i.Action}
	if create, ok := i.Action.(Create); ok {
		m, err := t.e.Ledger.Backup(t.h.Context(), t.run.ID, create.BackupSHA256)
		if err != nil {
			return fmt.Errorf("read backup %s: %w", create.BackupSHA256, err)
		}
		call.Manifest = m
	}
	if i.IsChange() {
		if why := t.hold(); why != "" {
			return t.settle(i, Settlement{Result: NotHappened, Detail: why})
		}
	}
	// The deadline that is noted covers the note itself: nobody may wait for less than the call can take.
	begun := t.e.Clock()
	err := t.e.Ledger.Begin(t.h.Context(), t.h, i.Seq, t.clock().Add(callTimeout))
	var refused *RefusedError
	if errors.As(err, &refused) {
		return t.settle(i, Settlement{Result: NotHappened, Detail: refused.Error()})
	}
	if err != nil {
		return fmt.Errorf("begin intent %d (%s): %w", i.Seq, i.Action.Kind(), err)
	}
	ctx, cancel := context.WithTimeout(t.h.Context(), callTimeout-t.e.Clock().Sub(begun))
	defer cancel()
	ctx, done := t.watch(ctx, Step{Name: StepCall, Kind: i.Action.Kind(), Seq: i.Seq, Object: i.Action.Target().String()})
	s, err := t.do(ctx, i.Lane, call)
	done(string(s.Result), err)
	if err != nil {
		return fmt.Errorf("%s %s: %w", i.Action.Kind(), i.Action.Target(), err)
	}
	return t.settle(i, s)
}

func (t *tick) do(ctx context.Context, l Lane, call Call) (Settlement, error) {
	switch l.Remote() {
	case "pagerduty":
		return t.e.Pager.Do(ctx, call)
	case "jenkins":
		return t.e.Promoter.Do(ctx, call)
	}
	return t.carrier.Do(ctx, call)
}

// unreachable is a carrier that the registry could not give: every reading is unknown, every call unproven.
type unreachable struct{ why string }

func (u unreachable) Observe(_ context.Context, _ Look, o *Observation) {
	o.DaemonSet = Unknown[DaemonSet](u.why)
	o.Nodes = Unknown[[]Node](u.why)
	o.Namespace = Unknown[Namespace](u.why)
	o.Controller = Unknown[Controller](u.why)
}

func (u unreachable) Do(context.Context, Call) (Settlement, error) {
	return Settlement{}, errors.New("carrier is not reachable: " + u.why)
}

func (u unreachable) Touch(context.Context, Ref, string, int64) (bool, error) {
	return false, errors.New("carrier is not reachable: " + u.why)
}

func (u unreachable) Lease(context.Context) Reading[CarrierLease] {
	return Unknown[CarrierLease](u.why)
}

func (u unreachable) Hold(context.Context, string, Count) (CarrierLease, error) {
	return CarrierLease{}, errors.New("carrier is not reachable: " + u.why)
}

func (u unreachable) State(context.Context, Ref) (ObjectState, error) {
	return ObjectState{}, errors.New("carrier is not reachable: " + u.why)
}
