package playbooktest

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/drydock/drydock/playbook"
)

// carrierFixture is a carrier with five workers, a master, and the node-exporter, five minutes old.
type carrierFixture struct {
	*testing.T
	w *World
	c *Carrier
}

func newCarrierFixture(t *testing.T, setup func(*World) *Carrier) *carrierFixture {
	w := NewWorld(nil)
	f := &carrierFixture{T: t, w: w, c: setup(w)}
	w.Clock.Advance(5 * time.Minute)
	return f
}

func (f *carrierFixture) set() *DaemonSet {
	f.Helper()
	s := f.c.Set(defaultNS, defaultDaemon)
	if s == nil {
		f.Fatal("the DaemonSet is gone")
	}
	return s
}

func (f *carrierFixture) do(a playbook.Action, m playbook.Manifest) playbook.Settlement {
	f.Helper()
	s, err := f.c.Do(f.Context(), playbook.Call{Run: "r", Seq: 1, Action: a, Manifest: m})
	if err != nil {
		f.Fatal(err)
	}
	return s
}

func (f *carrierFixture) orphanDelete() (playbook.OrphanDelete, playbook.Manifest) {
	s := f.set()
	m := s.manifest()
	return playbook.OrphanDelete{Namespace: defaultNS, Name: defaultDaemon, UID: s.uid, ResourceVersion: strconv.Itoa(s.version),
		BackupSHA256: Checksum(m), PodUIDs: f.c.podsOf(s)}, m
}

func (f *carrierFixture) want(got, want playbook.Settlement) {
	f.Helper()
	if got.Result != want.Result || !strings.Contains(got.Detail, want.Detail) {
		f.Errorf("settled as %s (%s), want %s (%s)", got.Result, got.Detail, want.Result, want.Detail)
	}
}

func settled(r playbook.Result, detail string) playbook.Settlement {
	return playbook.Settlement{Result: r, Detail: detail}
}

// A pod that waits on a full node counts as current; the scheduler says why it waits (kubernetes.md fact 1, 1.3).
func TestCarrierFullNode(t *testing.T) {
	t.Parallel()
	f := newCarrierFixture(t, func(w *World) *Carrier { return full(w, "worker-1") })
	if d := cmp.Diff(daemonStatus{desired: 5, current: 5, ready: 4, updated: 5, available: 4}, f.set().status, cmp.AllowUnexported(daemonStatus{})); d != "" {
		t.Errorf("status (-want +got):\n%s", d)
	}
	p := podOn(f.c, defaultDaemon, "worker-1")
	if p.Node != "" || !strings.HasPrefix(p.Message, "0/6 nodes are available: 1 Too many pods, 5 node(s) didn't satisfy plugin(s) [NodeAffinity].") {
		t.Errorf("the daemon pod is on %q and says %q", p.Node, p.Message)
	}
	// One slot is enough, cordoned or not (fact 6); an evicted pod goes elsewhere.
	f.c.HumanCordon("worker-1")
	victim := f.c.Pods()[0]
	f.want(f.do(playbook.Evict{Node: "worker-1", Namespace: victim.Namespace, Pod: victim.Name, UID: victim.uid}, nil), settled(playbook.Happened, ""))
	f.w.Clock.Advance(5 * time.Second)
	if !f.c.Covered(defaultNS, defaultDaemon) {
		t.Error("a freed slot did not heal the DaemonSet")
	}
	for _, p := range f.c.Pods() {
		if p.Node == "" {
			t.Errorf("pod %s/%s waits: %s", p.Namespace, p.Name, p.Message)
		}
		if p.Namespace == victimNamespace && p.Node == "worker-1" && p.createdAt.After(victim.createdAt) {
			t.Errorf("pod %s was placed on a cordoned node", p.Name)
		}
	}
}

// A NotReady node lowers desired instead of showing as unavailable (kubernetes.md fact 1).
func TestCarrierNodeDownLowersDesired(t *testing.T) {
	t.Parallel()
	f := newCarrierFixture(t, healthy)
	f.c.SetNotReady("worker-5", "kubelet stopped")
	f.w.Clock.Advance(time.Minute)
	if got := f.set().status; got.desired != 4 || got.misscheduled != 1 || got.ready != 4 {
		t.Errorf("status %+v, want desired 4, ready 4, misscheduled 1", got)
	}
}

func TestCarrierPreconditions(t *testing.T) {
	t.Parallel()
	f := newCarrierFixture(t, healthy)
	del, _ := f.orphanDelete()
	f.c.HumanEdit(defaultNS, defaultDaemon, "team", "x")
	f.want(f.do(del, nil), settled(playbook.Superseded, "409"))
	other, _ := f.orphanDelete()
	other.UID = "another"
	f.want(f.do(other, nil), settled(playbook.Superseded, "409"))

	n := f.c.Node("worker-1")
	stale := playbook.Cordon{Node: n.Name, UID: n.uid, ResourceVersion: strconv.Itoa(n.version), Mark: playbook.Mark{Run: "r"}}
	if ok, err := f.c.Touch(t.Context(), stale.Target(), "r", 2); !ok || err != nil {
		t.Fatalf("touch: %t, %v", ok, err)
	}
	f.want(f.do(stale, nil), settled(playbook.Superseded, "409"))
	if n.Unschedulable {
		t.Error("a stale cordon landed")
	}
	stale.ResourceVersion = strconv.Itoa(n.version)
	f.want(f.do(stale, nil), settled(playbook.Happened, ""))
	f.want(f.do(playbook.Uncordon{Node: n.Name, UID: n.uid, Run: "another"}, nil), settled(playbook.Superseded, "mark"))
	f.want(f.do(playbook.Uncordon{Node: n.Name, UID: n.uid, Run: "r"}, nil), settled(playbook.Happened, ""))
	if n.Unschedulable || n.Mark != nil {
		t.Error("the uncordon left something behind")
	}
}

func TestCarrierReapplyKeepsPods(t *testing.T) {
	t.Parallel()
	f := newCarrierFixture(t, healthy)
	before, old := f.c.podsOf(f.set()), f.set().uid
	del, m := f.orphanDelete()
	create := playbook.Create{Namespace: defaultNS, Name: defaultDaemon, OldUID: old, BackupSHA256: del.BackupSHA256}
	f.want(f.do(del, nil), settled(playbook.Happened, ""))
	f.want(f.do(create, m), settled(playbook.NotHappened, "being deleted"))
	f.w.Clock.Advance(2 * time.Second)
	if f.c.Set(defaultNS, defaultDaemon) != nil {
		t.Fatal("the old object is still there")
	}
	f.want(f.do(create, m), settled(playbook.Happened, ""))
	f.want(f.do(create, m), settled(playbook.Superseded, "exists"))
	f.w.Clock.Advance(5 * time.Second)
	if d := cmp.Diff(before, f.c.podsOf(f.set())); d != "" || f.set().uid == old {
		t.Errorf("uid %s (was %s); pods (-before +after):\n%s", f.set().uid, old, d)
	}
	st, err := f.c.State(t.Context(), create.Target())
	if err != nil || st.BackupSHA256 != del.BackupSHA256 {
		t.Errorf("the new object shows %s (%v), want the backup's %s", st.BackupSHA256, err, del.BackupSHA256)
	}
}

// The garbage collector belongs to the controller-manager: without it an orphan delete hangs (kubernetes.md fact 4).
func TestCarrierDeadControllerHangsTheDelete(t *testing.T) {
	t.Parallel()
	f := newCarrierFixture(t, healthy)
	f.c.StopController()
	del, _ := f.orphanDelete()
	f.want(f.do(del, nil), settled(playbook.Happened, ""))
	f.w.Clock.Advance(10 * time.Minute)
	if s := f.c.Set(defaultNS, defaultDaemon); s == nil || s.deletedAt == nil {
		t.Error("the DaemonSet is not hanging in its deletion")
	}
	f.c.StartController()
	f.w.Clock.Advance(time.Second)
	if f.c.Set(defaultNS, defaultDaemon) != nil {
		t.Error("the DaemonSet still hangs with the controller-manager back")
	}
}

// Pods born at the moment of the orphan delete are not orphaned, they die (kubernetes.md fact 5); and a DaemonSet that is
// created again before the controller's cache knows of the orphans makes second pods beside them (part two, trap 2).
func TestCarrierReapplyTooSoon(t *testing.T) {
	t.Parallel()
	f := newCarrierFixture(t, healthy)
	f.c.HumanEvict(podOn(f.c, defaultDaemon, "worker-2"))
	f.w.Clock.Advance(3 * time.Second)
	f.c.OrphanRace, f.c.Delays.PodCache = 20*time.Second, 10*time.Second
	young := podOn(f.c, defaultDaemon, "worker-2")
	del, m := f.orphanDelete()
	f.want(f.do(del, nil), settled(playbook.Happened, ""))
	f.w.Clock.Advance(2 * time.Second)
	if f.c.podByUID(young.uid) != nil && !young.Terminating {
		t.Error("a pod that was born just before the orphan delete lived on")
	}
	f.do(playbook.Create{Namespace: defaultNS, Name: defaultDaemon, OldUID: del.UID, BackupSHA256: del.BackupSHA256}, m)
	f.w.Clock.Advance(2 * time.Second)
	f.w.inspect()
	if !strings.Contains(strings.Join(f.w.Violations(), "\n"), "two daemon pods") {
		t.Errorf("creating too soon made no second pods: %v", f.w.Violations())
	}
}

// Stripping the template generation freezes the next rollout on the old image (kubernetes.md fact 2); stripping the
// template itself kills every pod (fact 3); background deletion keeps none (1.5).
func TestCarrierNaiveReapplies(t *testing.T) {
	t.Parallel()
	recreate := func(f *carrierFixture, change func(*DaemonSet)) {
		del, m := f.orphanDelete()
		f.do(del, nil)
		f.w.Clock.Advance(5 * time.Second)
		var s DaemonSet
		if err := json.Unmarshal(m, &s); err != nil {
			f.Fatal(err)
		}
		change(&s)
		f.c.AddSet(s)
		f.w.Clock.Advance(2 * time.Minute)
	}
	t.Run("stripped annotations freeze the rollout", func(t *testing.T) {
		f := newCarrierFixture(t, healthy)
		recreate(f, func(s *DaemonSet) { s.Annotations = nil; s.Spec.Image = "node-exporter:2" })
		if got := f.set().status; got.updated != 5 || podOn(f.c, defaultDaemon, "worker-1").Image != "node-exporter:1" {
			t.Errorf("updated %d, image %s: the freeze is not simulated", got.updated, podOn(f.c, defaultDaemon, "worker-1").Image)
		}
	})
	t.Run("a changed template restarts pods", func(t *testing.T) {
		f := newCarrierFixture(t, healthy)
		old := podOn(f.c, defaultDaemon, "worker-1").uid
		recreate(f, func(s *DaemonSet) { s.Spec.Priority = 1; s.Annotations[templateGenerationKey] = "7" })
		if f.c.podByUID(old) != nil {
			t.Error("a changed template restarted nothing")
		}
	})
	t.Run("a background delete takes the pods along", func(t *testing.T) {
		f := newCarrierFixture(t, healthy)
		f.c.HumanDelete(defaultNS, defaultDaemon)
		f.w.Clock.Advance(5 * time.Second)
		if n := len(f.c.Pods()); n != 0 {
			t.Errorf("%d pods are left", n)
		}
	})
}

func TestCarrierEvictionRules(t *testing.T) {
	t.Parallel()
	f := newCarrierFixture(t, func(w *World) *Carrier { return full(w, "worker-1") })
	evict := func(p *Pod, uid string) playbook.Settlement {
		return f.do(playbook.Evict{Node: p.Node, Namespace: p.Namespace, Pod: p.Name, UID: uid}, nil)
	}
	p, q := f.c.Pods()[0], f.c.Pods()[1]
	owner := func(p *Pod) string { return strings.TrimPrefix(p.Owner, "ReplicaSet/") }
	b := f.c.AddBudget(Budget{Namespace: victimNamespace, Name: "b", Owners: []string{owner(p)}, MinAvailable: 2})
	f.want(evict(p, p.uid), settled(playbook.Refused, "429"))
	b.MinAvailable = 1
	f.c.AddBudget(Budget{Namespace: victimNamespace, Name: "b2", Owners: []string{owner(p)}, MinAvailable: 0})
	f.want(evict(p, p.uid), settled(playbook.Refused, "500"))
	f.want(evict(q, "another"), settled(playbook.Superseded, "409"))
	f.want(evict(q, q.uid), settled(playbook.Happened, ""))
	f.w.Clock.Advance(5 * time.Second)
	f.want(evict(q, q.uid), settled(playbook.Superseded, "404"))
}

// A changed DaemonSet is frozen while revisions are forbidden, an unchanged one works on; a nudge after the right is back
// heals it (kubernetes.md fact 7 and B).
func TestCarrierForbiddenRevisions(t *testing.T) {
	t.Parallel()
	f := newCarrierFixture(t, healthy)
	f.c.RevisionsForbidden = true
	f.c.HumanEvict(podOn(f.c, defaultDaemon, "worker-1"))
	f.w.Clock.Advance(10 * time.Second)
	if !f.c.Covered(defaultNS, defaultDaemon) {
		t.Error("an unchanged DaemonSet did not replace its pod")
	}
	f.c.HumanUpdate(defaultNS, defaultDaemon, "node-exporter:2")
	f.w.Clock.Advance(time.Minute)
	if s := f.set(); s.generation != 2 || s.observedGeneration != 1 || s.status.updated != 5 {
		t.Errorf("generation %d, observed %d, %+v: not frozen", s.generation, s.observedGeneration, s.status)
	}
	f.c.RevisionsForbidden = false
	s := f.set()
	f.do(playbook.Nudge{Namespace: defaultNS, Name: defaultDaemon, UID: s.uid, ResourceVersion: strconv.Itoa(s.version), Run: "r"}, nil)
	f.w.Clock.Advance(time.Minute)
	if s := f.set(); s.observedGeneration != 2 || podOn(f.c, defaultDaemon, "worker-1").Image != "node-exporter:2" {
		t.Errorf("observed generation %d after the nudge", s.observedGeneration)
	}
}
