package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/drydock/drydock/playbook"
	"github.com/drydock/drydock/playbook/kube"
	"github.com/drydock/drydock/store"
)

const (
	tidyEvery = 10 * time.Second
	// overdue is how late a run's next tick must be before the janitor makes it (design.md).
	overdue = 30 * time.Second
	// tickTime bounds the janitor's tick of one run, and its look at one carrier.
	tickTime = 2 * time.Minute

	// marksEvery is how often each carrier is searched for marks that nobody answers for. One that is refused is looked at
	// more often: an admin waits for the page to end.
	marksEvery        = 5 * time.Minute
	marksEveryRefused = 30 * time.Second
	// marksAfter is how long after a run's end its carrier is searched: a call that hung has given up by then.
	marksAfter = 20 * time.Second
	// searchesPerRound and atOnce keep hundreds of carriers from being connected to at one moment.
	searchesPerRound = 20
	atOnce           = 8
)

// When an undo that is owed is blocked, so that people are told: a DaemonSet must exist again within 60 s (I1), a cordon
// lives 45 minutes at most and is gone 60 s after its run's end (I2).
const (
	longestAbsence = time.Minute
	longestMark    = time.Minute
)

// janitor puts right what nobody else does, on every replica: ticks that were lost, undos that ended runs owe, and marks on
// carriers that no live run answers for. It needs neither River nor the kill switch's consent.
type janitor struct {
	ledger   janitorLedger
	engine   *playbook.Engine
	carriers janitorCarriers
	// installation is ours: another's marks are a stranger's.
	installation string
	alert        teller
	now          func() time.Time
	log          *slog.Logger

	// One place for each tick, and for each search, under way: runs whose ticks hang do not keep carriers from being searched.
	ticks, searches chan struct{}
	flying          sync.WaitGroup

	mu      sync.Mutex
	busy    map[string]bool      // runs, carriers and alerts with something under way
	ticked  map[string]time.Time // runs that want a tick, when they were last given one
	looked  map[string]time.Time // carriers, when they were last searched
	refused map[string]string    // searched carriers, and why they may not be touched; empty: they may
	told    map[string]string    // what people were last told, by the alert's key
}

// janitorLedger is what the janitor asks the database.
type janitorLedger interface {
	OverdueRuns(ctx context.Context, late time.Duration) ([]string, error)
	OwingRuns(ctx context.Context) ([]string, error)
	OwedUndos(ctx context.Context) ([]store.OwedUndo, error)
	EndedLately(ctx context.Context, within time.Duration) (map[string]time.Duration, error)
	Going(ctx context.Context, runs []string) ([]string, error)
	Count(ctx context.Context, carrier string) (playbook.Count, error)
}

// janitorCarriers are the carriers on which something may have been changed: those that are not merely observed.
type janitorCarriers interface {
	Names() []string
	Carrier(name string) (markedCarrier, error)
}

// markedCarrier is a carrier as the janitor needs it.
type markedCarrier interface {
	Marked(ctx context.Context) ([]kube.MarkedNode, error)
	Lease(ctx context.Context) playbook.Reading[playbook.CarrierLease]
	Do(ctx context.Context, call playbook.Call) (playbook.Settlement, error)
}

// teller tells people about Drydock's own trouble. An error means that it was perhaps not heard.
type teller interface {
	tell(ctx context.Context, key, summary string) error
	takeBack(ctx context.Context, key string) error
}

func newJanitor(j *janitor) *janitor {
	j.ticks, j.searches = make(chan struct{}, atOnce), make(chan struct{}, atOnce)
	j.busy, j.ticked, j.looked = map[string]bool{}, map[string]time.Time{}, map[string]time.Time{}
	j.refused, j.told = map[string]string{}, map[string]string{}
	return j
}

// run works until ctx ends.
func (j *janitor) run(ctx context.Context) {
	j.round(ctx)
	every(ctx, tidyEvery, func() { j.round(ctx) })
	j.flying.Wait()
}

// round begins what is to be done now. What is slow goes on beside the next rounds: one carrier that hangs holds up no other.
func (j *janitor) round(ctx context.Context) {
	j.tidyRuns(ctx)
	j.searchCarriers(ctx)
	j.pageForBlockedUndos(ctx)
	j.pageForRefusedCarriers(ctx)
}

// start does something about a run or a carrier, unless that is under way or no place is left.
func (j *janitor) start(ctx context.Context, places chan struct{}, what string, do func(ctx context.Context) error) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.busy[what] {
		return true
	}
	select {
	case places <- struct{}{}:
	default:
		return false // the next round
	}
	j.busy[what] = true
	j.flying.Go(func() {
		defer func() {
			j.mu.Lock()
			defer j.mu.Unlock()
			delete(j.busy, what)
			<-places
		}()
		bounded, cancel := context.WithTimeout(ctx, tickTime)
		defer cancel()
		err := safely(func() error { return do(bounded) })
		if err != nil && !errors.Is(err, playbook.ErrBusy) && ctx.Err() == nil {
			j.log.WarnContext(ctx, "janitor could not put something right yet", "what", what, "error", err)
		}
	})
	return true
}

// safely makes a panic an error: it must not end the process, and with it every run.
func safely(do func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &playbook.PanicError{Value: p}
		}
	}()
	return do()
}

// tidyRuns ticks the runs whose tick was lost, and those that ended with something owed or unsaid.
func (j *janitor) tidyRuns(ctx context.Context) {
	owing, err := j.ledger.OwingRuns(ctx)
	if err != nil {
		j.log.WarnContext(ctx, "janitor could not look for what is owed", "error", err)
	}
	late, err := j.ledger.OverdueRuns(ctx, overdue)
	if err != nil {
		j.log.WarnContext(ctx, "janitor could not look for overdue runs", "error", err)
	}
	for _, run := range j.inTurn(append(owing, late...)) {
		tick := func(ctx context.Context) error {
			j.mu.Lock()
			j.ticked[run] = j.now()
			j.mu.Unlock()
			return j.engine.Advance(ctx, run)
		}
		if !j.start(ctx, j.ticks, "run "+run, tick) {
			return
		}
	}
}

// inTurn orders runs by when they were last given a tick: those of a carrier that does not answer want one in every round, and
// must not take all places each time.
func (j *janitor) inTurn(runs []string) []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	maps.DeleteFunc(j.ticked, func(run string, _ time.Time) bool { return !slices.Contains(runs, run) })
	last := maps.Clone(j.ticked)
	slices.SortStableFunc(runs, func(a, b string) int { return last[a].Compare(last[b]) })
	return runs
}

// searchCarriers searches the carriers whose turn it is: each one at start and each few minutes, and soon after a run there
// has ended.
func (j *janitor) searchCarriers(ctx context.Context) {
	ended, err := j.ledger.EndedLately(ctx, 2*marksAfter)
	if err != nil {
		j.log.WarnContext(ctx, "janitor could not look for runs that ended", "error", err)
	}
	now := j.now()
	type look struct {
		carrier string
		last    time.Time
	}
	var due []look
	for _, name := range j.carriers.Names() {
		j.mu.Lock()
		last, period := j.looked[name], marksEvery
		if j.refused[name] != "" {
			period = marksEveryRefused
		}
		j.mu.Unlock()
		ago, lately := ended[name]
		if now.Sub(last) >= period || (lately && ago >= marksAfter && last.Before(now.Add(marksAfter-ago))) {
			due = append(due, look{name, last})
		}
	}
	slices.SortFunc(due, func(a, b look) int { return a.last.Compare(b.last) })
	for _, l := range due[:min(len(due), searchesPerRound)] {
		if !j.start(ctx, j.searches, "carrier "+l.carrier, func(ctx context.Context) error { return j.search(ctx, l.carrier) }) {
			return
		}
	}
}

// search puts right what bears our mark on one carrier. The marks are read before the Lease: the Lease was written before any
// of them, so a database that is behind shows itself.
func (j *janitor) search(ctx context.Context, name string) error {
	defer func() {
		j.mu.Lock()
		defer j.mu.Unlock()
		j.looked[name] = j.now()
	}()
	carrier, err := j.carriers.Carrier(name)
	if err != nil {
		return err
	}
	marked, err := carrier.Marked(ctx)
	if err != nil {
		return fmt.Errorf("list marked nodes: %w", err)
	}
	if mayTidy, err := j.mayTidy(ctx, name, carrier); err != nil || !mayTidy {
		return err
	}
	// A mark that names no carrier is an older version's: its run's own undo takes it off.
	ours := slices.DeleteFunc(marked, func(n kube.MarkedNode) bool {
		return n.Mark.Installation != j.installation || n.Mark.Carrier != name
	})
	runs := make([]string, 0, len(ours))
	for _, n := range ours {
		runs = append(runs, n.Mark.Run)
	}
	going, err := j.ledger.Going(ctx, runs)
	if err != nil {
		return err
	}
	var failed []error
	for _, n := range ours {
		if !slices.Contains(going, n.Mark.Run) {
			failed = append(failed, j.putBack(ctx, name, carrier, n))
		}
	}
	return errors.Join(failed...)
}

// mayTidy reads the carrier's Lease. A Lease that can not be read stops the search for once; undos that runs owe go on.
func (j *janitor) mayTidy(ctx context.Context, name string, carrier markedCarrier) (bool, error) {
	reading := carrier.Lease(ctx)
	lease, ok := reading.Get()
	if !ok {
		return false, errors.New("read the carrier's Lease: " + reading.Why())
	}
	kept, err := j.ledger.Count(ctx, name)
	if err != nil {
		return false, err
	}
	no := lease.Refusal(name, j.installation, kept)
	j.mu.Lock()
	j.refused[name] = no.Why
	j.mu.Unlock()
	return !no.Refuses(), nil
}

// putBack takes our mark off a node: by the ledger of its run, or, where the database knows nothing of it, by the mark alone.
func (j *janitor) putBack(ctx context.Context, name string, carrier markedCarrier, n kube.MarkedNode) error {
	undo := playbook.Uncordon{Node: n.Name, UID: n.UID, Run: n.Mark.Run}
	err := j.engine.PutBack(ctx, n.Mark.Run, undo)
	if !errors.Is(err, playbook.ErrNoRun) && !errors.Is(err, playbook.ErrNoCordon) {
		return err
	}
	s, err := carrier.Do(ctx, playbook.Call{Run: n.Mark.Run, Target: playbook.Target{Carrier: name}, Action: undo})
	if err != nil {
		return fmt.Errorf("uncordon node %s: %w", n.Name, err)
	}
	j.log.WarnContext(ctx, "mark of a run that the database does not know was taken off", "carrier", name, "node", n.Name,
		"run", n.Mark.Run, "since", n.Mark.Since, "result", s.Result, "detail", s.Detail)
	return nil
}

const (
	undoBlockedKey     = "drydock-undo-blocked"
	carrierRefusedKey  = "drydock-carrier-refused"
	shownInOneSentence = 3
)

// pageForBlockedUndos tells people about undos that stay blocked, and when they are done after all.
func (j *janitor) pageForBlockedUndos(ctx context.Context) {
	owed, err := j.ledger.OwedUndos(ctx)
	if err != nil {
		return // the database's trouble is told by /readyz
	}
	var blocked []string
	for _, o := range owed {
		if isBlocked(o) {
			blocked = append(blocked, blockedWords(o))
		}
	}
	j.tell(ctx, undoBlockedKey, "Drydock can not put back what it changed: ", blocked)
}

// isBlocked reports whether an undo is owed for longer than it may be.
func isBlocked(o store.OwedUndo) bool {
	if o.Action.Kind() == playbook.KindCreate {
		return o.Age > longestAbsence
	}
	return o.Age > playbook.CordonLimit || (o.Ended && o.EndedFor > longestMark)
}

func blockedWords(o store.OwedUndo) string {
	ref := o.Action.Target()
	if o.Action.Kind() == playbook.KindCreate {
		return fmt.Sprintf("DaemonSet %s/%s of %s is deleted (run %s)", ref.Namespace, ref.Name, o.Carrier, o.Run)
	}
	return fmt.Sprintf("node %s of %s is cordoned (run %s)", ref.Name, o.Carrier, o.Run)
}

// pageForRefusedCarriers tells people about carriers that wait for an admin. Before every carrier was searched, that none is
// known to wait says nothing.
func (j *janitor) pageForRefusedCarriers(ctx context.Context) {
	j.mu.Lock()
	list := make([]string, 0, len(j.refused))
	for name, why := range j.refused {
		if why != "" {
			list = append(list, name+": "+why)
		}
	}
	unsearched := slices.ContainsFunc(j.carriers.Names(), func(name string) bool {
		_, searched := j.refused[name]
		return !searched
	})
	raised := j.told[carrierRefusedKey] != ""
	j.mu.Unlock()
	if len(list) == 0 && unsearched && !raised {
		return
	}
	slices.Sort(list)
	j.tell(ctx, carrierRefusedKey, "Drydock does nothing on a carrier: ", list)
}

// tell raises an alert when there is something new to say, and takes it back when nothing is left. It does not wait; what was
// not heard is said again when it is called again. A replica that begins does not know what was raised before: with nothing to say
// it takes the alert back once, or that of a replica that died would stay for good.
func (j *janitor) tell(ctx context.Context, key, intro string, list []string) {
	text := strings.Join(list, "; ")
	j.mu.Lock()
	defer j.mu.Unlock()
	if told, known := j.told[key]; (known && told == text) || j.busy[key] {
		return
	}
	j.busy[key] = true
	j.flying.Go(func() {
		bounded, cancel := context.WithTimeout(ctx, pageTime)
		defer cancel()
		err := safely(func() error {
			if len(list) == 0 {
				return j.alert.takeBack(bounded, key)
			}
			return j.alert.tell(bounded, key, pageText(intro, list))
		})
		j.mu.Lock()
		defer j.mu.Unlock()
		delete(j.busy, key)
		if err != nil {
			j.log.WarnContext(ctx, "self-alert was not taken; it is sent again", "key", key, "error", err)
			return
		}
		j.told[key] = text
	})
}

func pageText(intro string, list []string) string {
	shown := list[:min(len(list), shownInOneSentence)]
	text := intro + strings.Join(shown, "; ")
	if more := len(list) - len(shown); more > 0 {
		text += fmt.Sprintf("; and %d more", more)
	}
	return text
}

// changed are the registry's carriers whose mode lets something be changed.
type changed struct {
	registry *kube.Registry
	names    func() []string
	policy   func(playbook.Target) playbook.Policy
}

// Names implements janitorCarriers.
func (c changed) Names() []string {
	return slices.DeleteFunc(c.names(), func(name string) bool {
		return c.policy(playbook.Target{Carrier: name}).Mode == playbook.ModeObserve
	})
}

// Carrier implements janitorCarriers.
func (c changed) Carrier(name string) (markedCarrier, error) { return c.registry.Carrier(name) }
