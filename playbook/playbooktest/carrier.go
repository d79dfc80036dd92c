package playbooktest

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/drydock/drydock/playbook"
)

// Delays are how long the carrier's own parts take to react. The defaults are near what was measured on an idle control
// plane; a scenario makes one of them long to open a window.
type Delays struct {
	React    time.Duration // controllers and scheduler, to a change
	Start    time.Duration // a bound pod, until it is ready
	Grace    time.Duration // a deleted pod, until it is gone
	Orphan   time.Duration // the garbage collector, until it has orphaned the pods of a deleted DaemonSet
	PodCache time.Duration // the DaemonSet controller, until it knows that a pod was orphaned (kubernetes.md, trap 2)
}

// DefaultDelays are those of a healthy, small carrier.
func DefaultDelays() Delays {
	return Delays{React: 300 * time.Millisecond, Start: 400 * time.Millisecond, Grace: time.Second,
		Orphan: 30 * time.Millisecond, PodCache: time.Second}
}

// Carrier is a simulated Kubernetes cluster. It implements playbook.Carrier.
//
// Its objects change through three doors: Drydock's (Do, Touch), the cluster's own controllers, and people's (methods
// named Human...). What came through Drydock's door is kept in Effects, so that the invariants can be checked.
type Carrier struct {
	Name   string
	Delays Delays
	// Unreachable says why every call fails; empty: the API server answers.
	Unreachable string
	// Unreadable says why one reading fails, by its name in the observation's JSON ("nodes", "controller", ...).
	Unreadable map[string]string
	// RevisionsForbidden is the runbook's RBAC fault: a new or changed DaemonSet is not synced, and its status freezes.
	RevisionsForbidden bool
	// Quota refuses new pods of a namespace; the value is the API server's message.
	Quota map[string]string
	// OrphanRace is how young a pod must be for an orphan delete to kill it (kubernetes.md fact 5).
	OrphanRace time.Duration
	// NoCreate makes the API server refuse Drydock's create, as a broken admission webhook does.
	NoCreate string
	// Effects is what Drydock's calls changed, in order; Touches counts the writes of Touch.
	Effects []Effect
	Touches int

	clock      *Clock
	version    int // of the newest write: every object's resourceVersion comes from it
	ids        int
	nodes      []*Node
	pods       []*Pod
	sets       []*DaemonSet
	owners     []*Owner
	budgets    []*Budget
	namespaces map[string]*Namespace
	events     []daemonEvent
	controller controllerManager
	lease      playbook.CarrierLease
	// mayNotLease is the API server's word about a missing right on the Lease; empty: all are there.
	mayNotLease string
	waking      bool
	// bearing is the revision hashes that the controller has stored, by DaemonSet: a new one needs the right to create.
	bearing    map[string]bool
	managerLog map[string][]playbook.LogLine // by "namespace/name"
	// What people did to DaemonSets ("namespace/name"), and the uids of pods that a rollout or a person replaced.
	edits    map[string]map[string]string
	removed  map[string]bool
	outdated []string
	// recreated: somebody else has made a DaemonSet, perhaps too soon after another one; its pods are not Drydock's doing.
	recreated bool
}

// Effect is a change that one of Drydock's calls made.
type Effect struct {
	At     time.Time
	Run    string
	Seq    int
	Action playbook.Action
	// Needed is, for an eviction, how many pods had still to leave the node when it was asked for.
	Needed int
	// Foreign says that the changed node bore somebody else's cordon.
	Foreign bool
	// Pods are, for an orphan delete, the uids of the pods that it leaves behind.
	Pods []string
}

// Namespace is alive unless it is terminating or not there at all.
type Namespace struct{ Terminating bool }

type controllerManager struct {
	holder string
	diedAt time.Time // zero: it renews its lease
	// It is a Deployment: restartedBy is the run that its annotation names, touched the generation that touched it last.
	restartedBy string
	touched     int64
}

type daemonEvent struct {
	namespace, name string
	playbook.Event
}

// NewCarrier makes an empty carrier with a working control plane.
func NewCarrier(clock *Clock, name string) *Carrier {
	return &Carrier{Name: name, Delays: DefaultDelays(), clock: clock, OrphanRace: 25 * time.Millisecond,
		Unreadable: map[string]string{}, Quota: map[string]string{}, namespaces: map[string]*Namespace{},
		bearing: map[string]bool{}, managerLog: map[string][]playbook.LogLine{}, edits: map[string]map[string]string{}, removed: map[string]bool{}, controller: controllerManager{holder: name + "-master-01"}}
}

// Node is a node of the carrier.
type Node struct {
	Name          string
	Allocatable   int  // allocatable.pods
	Master        bool // bears a NoSchedule taint that only a DaemonSet which asks for it tolerates
	Labels        map[string]string
	NotReady      string // why the node is not ready; empty: ready
	DiskPressure  bool
	Unschedulable bool
	Mark          *playbook.Mark
	KeepCordoned  bool
	Short         string // a resource other than pod slots that no pod gets here: cpu, memory or port
	Cramped       bool   // no cpu is left for a pod that wants as much as a customer's; a daemon pod fits
	Broken        bool   // daemon pods crash here

	uid     string
	version int
	touched string
	// foreign: a person cordoned it. Kubernetes does not keep that; the invariants do.
	foreign bool
}

// Pod is any pod of the carrier.
type Pod struct {
	Namespace, Name string
	Node            string // empty while it waits for the scheduler
	Pinned          string // the node that a daemon pod's affinity names
	App             string // the label that selectors match
	Owner           string // "Kind/name" of the controllerRef, empty for an orphan
	Ready           bool
	Terminating     bool
	Stuck           bool // hangs in Terminating
	Mirror          bool
	LocalStorage    bool
	OnlyOn          string // the only node that its selector allows
	Claim           string // a volume claim, which may tie it to its node
	Priority        int32
	Message         string // the scheduler's, while the pod does not fit
	Waiting         string
	Restarts        int
	Image           string

	uid, ownerUID      string
	hash               string
	templateGeneration string
	createdAt          time.Time
	scheduledAt        time.Time
	orphanedAt         time.Time
	seq                int
}

// UID is the pod's identity: a StatefulSet's pod comes back under the same name with another one.
func (p *Pod) UID() string { return p.uid }

// Owner is a ReplicaSet or StatefulSet: what recreates an evicted pod.
type Owner struct {
	Namespace, Kind, Name string
	Replicas              int
	uid                   string
}

// Budget is a PodDisruptionBudget over the pods of some owners.
type Budget struct {
	Namespace, Name string
	Owners          []string // names
	MinAvailable    int
}

func (c *Carrier) id(kind string) (uid string, seq int) {
	c.ids++
	return fmt.Sprintf("%s-%s-%04d", c.Name, kind, c.ids), c.ids
}

func (c *Carrier) bump() int {
	c.version++
	return c.version
}

// AddNode adds a ready node.
func (c *Carrier) AddNode(n Node) *Node {
	n.uid, _ = c.id("node")
	n.version = c.bump()
	c.nodes = append(c.nodes, &n)
	slices.SortFunc(c.nodes, func(a, b *Node) int { return cmp.Compare(a.Name, b.Name) })
	c.wake()
	return &n
}

// AddOwner adds a ReplicaSet or StatefulSet whose pods the cluster then makes.
func (c *Carrier) AddOwner(o Owner) {
	o.Kind = cmp.Or(o.Kind, "ReplicaSet")
	o.uid, _ = c.id("owner")
	c.owners = append(c.owners, &o)
	c.namespace(o.Namespace)
	c.wake()
}

// AddBudget adds a PodDisruptionBudget.
func (c *Carrier) AddBudget(b Budget) *Budget {
	c.budgets = append(c.budgets, &b)
	return &b
}

// AddPod adds a running pod on a node; with an owner ("Kind/name") it counts as one of its replicas.
func (c *Carrier) AddPod(p Pod) *Pod {
	p.uid, p.seq = c.id("pod")
	p.createdAt, p.scheduledAt, p.Ready = c.clock.Now(), c.clock.Now(), true
	p.Name = cmp.Or(p.Name, "pod-"+strconv.Itoa(p.seq))
	for _, o := range c.owners {
		if p.Owner == o.Kind+"/"+o.Name && p.Namespace == o.Namespace {
			p.ownerUID = o.uid
		}
	}
	c.namespace(p.Namespace)
	c.pods = append(c.pods, &p)
	c.wake()
	return &p
}

func (c *Carrier) namespace(name string) {
	if c.namespaces[name] == nil {
		c.namespaces[name] = &Namespace{}
	}
}

// Node finds a node by its name; nil when there is none.
func (c *Carrier) Node(name string) *Node {
	for _, n := range c.nodes {
		if n.Name == name {
			return n
		}
	}
	return nil
}

// Nodes lists the nodes by name.
func (c *Carrier) Nodes() []*Node { return c.nodes }

// Pods lists the pods, oldest first.
func (c *Carrier) Pods() []*Pod { return c.pods }

// Set finds a DaemonSet; nil when there is none.
func (c *Carrier) Set(namespace, name string) *DaemonSet {
	for _, s := range c.sets {
		if s.Namespace == namespace && s.Name == name {
			return s
		}
	}
	return nil
}

func (c *Carrier) podByUID(uid string) *Pod {
	for _, p := range c.pods {
		if p.uid == uid {
			return p
		}
	}
	return nil
}

// Occupancy counts the pods that take a slot of a node: terminating and mirror pods do, failed ones do not exist here.
func (c *Carrier) Occupancy(node string) int {
	count := 0
	for _, p := range c.pods {
		if p.Node == node {
			count++
		}
	}
	return count
}

// Waiting counts the daemon pods of any DaemonSet that are pinned to a node and not scheduled.
func (c *Carrier) Waiting(node string) int {
	count := 0
	for _, p := range c.pods {
		if p.Pinned == node && p.Node == "" && !p.Terminating {
			count++
		}
	}
	return count
}

// Covered reports whether every node on which the DaemonSet should run has a ready pod of it.
func (c *Carrier) Covered(namespace, name string) bool {
	s := c.Set(namespace, name)
	if s == nil || s.deletedAt != nil {
		return false
	}
	for _, n := range c.nodes {
		if excluded := s.excludes(n); excluded != "" {
			continue
		}
		if n.NotReady != "" || !slices.ContainsFunc(c.pods, func(p *Pod) bool {
			return p.ownerUID == s.uid && p.Node == n.Name && p.Ready && !p.Terminating
		}) {
			return false
		}
	}
	return true
}

// SetNotReady makes a node NotReady for a reason, or ready again with an empty one.
func (c *Carrier) SetNotReady(node, why string) {
	n := c.Node(node)
	n.NotReady, n.version = why, c.bump()
	for _, p := range c.pods {
		if p.Node == node {
			p.Ready = why == ""
		}
	}
	c.wake()
}

// SetDiskPressure sets or clears a node's DiskPressure. Under pressure the kubelet does not start pods.
func (c *Carrier) SetDiskPressure(node string, pressure bool) {
	n := c.Node(node)
	n.DiskPressure, n.version = pressure, c.bump()
	for _, p := range c.pods {
		if p.Node == node && p.Pinned != "" && pressure {
			p.Ready, p.Waiting = false, "ContainerCreating"
		} else if p.Node == node && !pressure && p.Waiting == "ContainerCreating" {
			c.start(p)
		}
	}
	c.wake()
}

// StopController lets the controller-manager die; its Lease is renewed no more.
func (c *Carrier) StopController() { c.controller.diedAt = c.clock.Now() }

// StartController brings the controller-manager back at once.
func (c *Carrier) StartController() {
	c.controller.diedAt = time.Time{}
	c.wake()
}

func (c *Carrier) renewedAt() time.Time {
	if !c.controller.diedAt.IsZero() {
		return c.controller.diedAt
	}
	return c.clock.Now().Truncate(2 * time.Second)
}

// HumanCordon cordons a node as kubectl does: on a node that is cordoned already it changes nothing.
func (c *Carrier) HumanCordon(node string) {
	if n := c.Node(node); !n.Unschedulable {
		n.Unschedulable, n.foreign, n.version = true, true, c.bump()
		c.wake()
	}
}

// HumanKeepCordoned is a person's wish that a node which Drydock cordoned stays cordoned.
func (c *Carrier) HumanKeepCordoned(node string) {
	n := c.Node(node)
	n.KeepCordoned, n.foreign, n.version = true, true, c.bump()
}

// HumanUncordon uncordons a node as kubectl does; annotations stay.
func (c *Carrier) HumanUncordon(node string) {
	n := c.Node(node)
	n.Unschedulable, n.foreign, n.version = false, false, c.bump()
	c.wake()
}

// HumanEvict deletes a pod; nil, a pod that is not there, is deleted already.
func (c *Carrier) HumanEvict(p *Pod) {
	if p == nil {
		return
	}
	c.outdated = append(c.outdated, p.uid)
	c.terminate(p)
}
