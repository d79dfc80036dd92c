package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/drydock/drydock/incident"
	"github.com/drydock/drydock/migrations"
	"github.com/drydock/drydock/playbook"
	"github.com/drydock/drydock/playbook/kube"
	"github.com/drydock/drydock/playbook/playbooktest"
	"github.com/drydock/drydock/store"
	"github.com/drydock/drydock/store/privatepg/pgtest"
)

const ours = "ours"

// yard is a simulated carrier that a janitor may use from several goroutines.
type yard struct {
	*playbooktest.Carrier

	mu    sync.Mutex
	nodes []string
	// hung, while it is open, holds up every read of the Lease.
	hung chan struct{}
	// noSets says why DaemonSets can not be read; empty: they can.
	noSets string
}

func newYard(name string, nodes ...string) *yard {
	y := &yard{Carrier: playbooktest.NewCarrier(playbooktest.NewClock(), name), nodes: nodes}
	for _, n := range nodes {
		y.AddNode(playbooktest.Node{Name: n, Allocatable: 10})
	}
	return y
}

func (y *yard) Marked(context.Context) ([]kube.MarkedNode, error) {
	y.mu.Lock()
	defer y.mu.Unlock()
	if y.Unreachable != "" {
		return nil, errors.New(y.Unreachable)
	}
	var marked []kube.MarkedNode
	for _, name := range y.nodes {
		if n := y.Node(name); n.Mark != nil {
			marked = append(marked, kube.MarkedNode{Name: name, UID: y.uid(name), Mark: *n.Mark, Unschedulable: n.Unschedulable})
		}
	}
	return marked, nil
}

func (y *yard) Observe(ctx context.Context, look playbook.Look, o *playbook.Observation) {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.Carrier.Observe(ctx, look, o)
}

func (y *yard) Do(ctx context.Context, call playbook.Call) (playbook.Settlement, error) {
	y.mu.Lock()
	defer y.mu.Unlock()
	return y.Carrier.Do(ctx, call)
}

func (y *yard) Touch(ctx context.Context, ref playbook.Ref, run string, generation int64) (bool, error) {
	y.mu.Lock()
	defer y.mu.Unlock()
	return y.Carrier.Touch(ctx, ref, run, generation)
}

func (y *yard) Lease(ctx context.Context) playbook.Reading[playbook.CarrierLease] {
	if y.hung != nil {
		<-y.hung
	}
	y.mu.Lock()
	defer y.mu.Unlock()
	return y.Carrier.Lease(ctx)
}

func (y *yard) Hold(ctx context.Context, installation string, c playbook.Count) (playbook.CarrierLease, error) {
	y.mu.Lock()
	defer y.mu.Unlock()
	return y.Carrier.Hold(ctx, installation, c)
}

func (y *yard) State(ctx context.Context, ref playbook.Ref) (playbook.ObjectState, error) {
	y.mu.Lock()
	defer y.mu.Unlock()
	if y.noSets != "" && ref.Kind == "DaemonSet" {
		return playbook.ObjectState{}, errors.New(y.noSets)
	}
	return y.Carrier.State(ctx, ref)
}

func (y *yard) uid(node string) string {
	st, _ := y.Carrier.State(context.Background(), playbook.Ref{Kind: "Node", Name: node})
	return st.UID
}

// cordoned are the nodes that nothing is scheduled on.
func (y *yard) cordoned() []string {
	y.mu.Lock()
	defer y.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(y.nodes), func(n string) bool { return !y.Node(n).Unschedulable })
}

// mark cordons a node as a run does.
func (y *yard) mark(node string, m playbook.Mark) {
	y.mu.Lock()
	defer y.mu.Unlock()
	n := y.Node(node)
	n.Unschedulable, n.Mark = true, &m
}

// tidying is a janitor on a real database, with simulated carriers and an Events API.
type tidying struct {
	*testing.T
	*janitor
	dsn   string
	st    *store.Store
	yards map[string]*yard
	page  *pages
	pager *selfAlert
	clock time.Time // of the janitor; the database has its own
	n     int
}

func newTidying(t *testing.T, yards ...*yard) *tidying {
	t.Helper()
	d := &tidying{T: t, dsn: pgtest.New(t, migrations.Up), yards: map[string]*yard{}, page: newPages(t), clock: time.Now()}
	for _, y := range yards {
		d.yards[y.Name] = y
	}
	alerter, err := incident.NewSelfAlerter(incident.SelfAlerterConfig{EventsURL: d.page.server.URL, RoutingKey: "key"})
	if err != nil {
		t.Fatal(err)
	}
	d.pager = &selfAlert{alerter: alerter, log: d.logger()}
	d.st = d.open("one/1")
	d.janitor = d.replica(d.st)
	return d
}

func (d *tidying) open(node string) *store.Store {
	d.Helper()
	st, err := store.Open(d.Context(), store.Options{DatabaseURL: d.dsn, Node: node, BackupKey: make([]byte, 32), Log: d.logger()})
	if err != nil {
		d.Fatal(err)
	}
	d.Cleanup(st.Close)
	return st
}

func (d *tidying) logger() *slog.Logger { return slog.New(slog.NewTextHandler(d.Output(), nil)) }

// replica is a janitor with an engine of its own.
func (d *tidying) replica(st *store.Store) *janitor {
	engine := &playbook.Engine{Ledger: st, Pager: noPager{}, Clock: time.Now, Log: d.logger(),
		Policy: func(playbook.Target) playbook.Policy {
			return playbook.Policy{Mode: playbook.ModeAct, Installation: ours}
		},
		Carrier: func(name string) (playbook.Carrier, error) { return d.yards[name], nil }}
	return newJanitor(&janitor{ledger: st, engine: engine, carriers: d, installation: ours, alert: d.pager,
		now: func() time.Time { return d.clock }, log: d.logger()})
}

// Names implements janitorCarriers.
func (d *tidying) Names() []string {
	names := make([]string, 0, len(d.yards))
	for name := range d.yards {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Carrier implements janitorCarriers.
func (d *tidying) Carrier(name string) (markedCarrier, error) { return d.yards[name], nil }

// rounds makes rounds of the janitor, each when the one before has ended; the carriers are searched in every one.
func (d *tidying) rounds(j *janitor, n int) {
	d.Helper()
	for range n {
		j.round(d.Context())
		j.flying.Wait()
		d.clock = d.clock.Add(marksEvery)
	}
}

func (d *tidying) exec(sql string, args ...any) {
	d.Helper()
	conn, err := pgx.Connect(d.Context(), d.dsn)
	if err != nil {
		d.Fatal(err)
	}
	defer conn.Close(d.Context())
	if _, err := conn.Exec(d.Context(), sql, args...); err != nil {
		d.Fatalf("%s: %v", sql, err)
	}
}

// age makes all that happened happen earlier.
func (d *tidying) age(by time.Duration) {
	d.Helper()
	d.exec(`UPDATE runs SET started_at = started_at - $1::interval, finished_at = finished_at - $1::interval, deadline = deadline - $1::interval`, by)
	d.exec(`UPDATE intents SET promised_at = promised_at - $1::interval, sent_at = sent_at - $1::interval, settled_at = settled_at - $1::interval`, by)
	d.exec(`UPDATE obligations SET since = since - $1::interval`, by)
}

// begin starts a run of a DaemonSet of its own.
func (d *tidying) begin(carrier string) string {
	d.Helper()
	d.n++
	run, err := d.st.StartRun(d.Context(), playbook.Start{Target: playbook.Target{Carrier: carrier, Namespace: "monitoring", DaemonSet: fmt.Sprintf("agent-%d", d.n)},
		Incident: playbook.RunIncident{ID: fmt.Sprintf("QTEST%07d", d.n), Number: d.n}, Trigger: playbook.TriggerRetrigger, Mode: playbook.ModeAct, Deadline: 45 * time.Minute})
	if err != nil {
		d.Fatal(err)
	}
	return run.ID
}

// commit writes a tick of a run.
func (d *tidying) commit(run string, promise func(h playbook.Hold, c *playbook.Commit)) {
	d.Helper()
	h, err := d.st.Acquire(d.Context(), run)
	if err != nil {
		d.Fatal(err)
	}
	defer h.Release()
	r, now, err := d.st.Load(d.Context(), h)
	if err != nil {
		d.Fatal(err)
	}
	c := playbook.Commit{Run: r, NextTick: now.Add(time.Hour), Tick: playbook.Tick{At: now}}
	promise(h, &c)
	r, err = d.st.Commit(d.Context(), h, c)
	if err != nil {
		d.Fatal(err)
	}
	for _, i := range r.OpenIntents() {
		if err := d.st.Begin(d.Context(), h, i.Seq, now.Add(time.Second)); err != nil {
			d.Fatal(err)
		}
		if _, err := d.st.Settle(d.Context(), h, i.Seq, playbook.Settlement{Result: playbook.Happened}); err != nil {
			d.Fatal(err)
		}
	}
}

// cordon lets a run cordon a node.
func (d *tidying) cordon(run, carrier, node string) {
	d.Helper()
	m := playbook.Mark{Installation: ours, Carrier: carrier, Run: run}
	d.commit(run, func(_ playbook.Hold, c *playbook.Commit) {
		c.Promises = []playbook.Promise{{Action: playbook.Cordon{Node: node, UID: d.yards[carrier].uid(node), Mark: m}}}
	})
	d.yards[carrier].mark(node, m)
}

// orphan lets a run delete its DaemonSet.
func (d *tidying) orphan(run string) {
	d.Helper()
	d.commit(run, func(_ playbook.Hold, c *playbook.Commit) {
		manifest := playbook.Manifest(fmt.Sprintf(`{"namespace":%q,"name":%q}`, c.Run.Target.Namespace, c.Run.Target.DaemonSet))
		sum := playbooktest.Checksum(manifest)
		c.Promises = []playbook.Promise{{Action: playbook.OrphanDelete{Namespace: c.Run.Target.Namespace, Name: c.Run.Target.DaemonSet, UID: "old", BackupSHA256: sum},
			Backup: &playbook.Backup{SHA256: sum, UID: "old", Manifest: manifest}}}
	})
}

// end ends a run as no machine does, with all that it owes.
func (d *tidying) end(run string) {
	d.Helper()
	d.commit(run, func(_ playbook.Hold, c *playbook.Commit) {
		c.Run.State, c.Run.Outcome, c.NextTick = playbook.StateEscalated, playbook.OutcomeEscalated, time.Time{}
	})
}

// tick lets the janitor tick a run, without a search of its carrier.
func (d *tidying) tick(run string, times int) {
	d.Helper()
	for range times {
		d.tidyRuns(d.Context())
		d.flying.Wait()
	}
	if d.ticked[run].IsZero() {
		d.Errorf("run %s was not ticked", run)
	}
}

func (d *tidying) run(id string) playbook.Run {
	d.Helper()
	r, err := d.st.Run(d.Context(), id)
	if err != nil {
		d.Fatal(err)
	}
	return r.Run
}

func (d *tidying) wantCordoned(what, carrier string, want ...string) {
	d.Helper()
	if got := d.yards[carrier].cordoned(); !slices.Equal(got, want) {
		d.Errorf("%s: cordoned are %v, want %v", what, got, want)
	}
}

func (d *tidying) wantPages(what, key string, want ...string) {
	d.Helper()
	if diff := cmp.Diff(want, d.page.about(key)); diff != "" {
		d.Errorf("%s: pages of %s (-want +got):\n%s", what, key, diff)
	}
}
