package playbook

import "time"

// Observation is everything that one tick read. Adapters fill it with facts and decide nothing.
// It is stored (see Compact) and can be decided on again, so nothing in it may be secret.
type Observation struct {
	// At is the tick's clock: the database's time, read once per tick. All ages are measured from it.
	At time.Time `json:"at"`
	// ReadBy is when the last reading had been made, where that was more than a second after At: what was first seen in a
	// slow look is no older than this. Zero: At.
	ReadBy time.Time `json:"read_by,omitzero"`
	// Target is what was looked at.
	Target Target `json:"target"`

	// The carrier, read consistently (resourceVersion unset).
	DaemonSet  Reading[DaemonSet]  `json:"daemonset"`
	Namespace  Reading[Namespace]  `json:"namespace"`
	Nodes      Reading[[]Node]     `json:"nodes"`
	Controller Reading[Controller] `json:"controller"` // the controller-manager's Lease
	// Lease is the carrier's Lease of ours, read in the modes that change something.
	Lease Reading[CarrierLease] `json:"lease"`
	// Covered names nodes that were expected, ready and had a ready daemon pod when the observation was compacted.
	Covered []string `json:"covered,omitempty"`

	// What is read only when Decision.Wants asks for it.
	NodePods map[string]Reading[NodePods] `json:"node_pods,omitempty"` // by node name
	Events   Reading[[]Event]             `json:"events"`              // of the DaemonSet, newest first
	Reapply  Reading[ReapplyCheck]        `json:"reapply"`
	Adoption Reading[Adoption]            `json:"adoption"`
	Evidence Reading[[]Evidence]          `json:"evidence"`
	// ManagerLog is the controller-manager's log about this DaemonSet; MissingRights are the verbs on
	// controllerrevisions that the API server denies the DaemonSet controller ("get controllerrevisions.apps").
	ManagerLog    Reading[ManagerLog] `json:"manager_log"`
	MissingRights Reading[[]string]   `json:"missing_rights"`

	// PagerDuty.
	Incidents     map[string]Reading[Incident] `json:"incidents,omitempty"` // by incident id: the run's own
	DiskIncidents Reading[[]IncidentRef]       `json:"disk_incidents"`      // open disk-space incidents of this carrier

	// The version source and the CI.
	Promotion Reading[Promotion] `json:"promotion"`

	// Drydock's own ledger: claims, budgets, switches.
	Ledger Reading[LedgerFacts] `json:"ledger"`
}

// seenAt is the earliest moment from which on something that this look saw first is known to have been so.
func (o Observation) seenAt() time.Time {
	if o.ReadBy.After(o.At) {
		return o.ReadBy
	}
	return o.At
}

// DaemonSet is the object as the API server shows it. Exists is false after a 404, which is a fact; any other
// failure is an unknown reading.
type DaemonSet struct {
	Exists             bool       `json:"exists"`
	UID                string     `json:"uid,omitempty"`
	ResourceVersion    string     `json:"resource_version,omitempty"`
	Generation         int64      `json:"generation,omitempty"`
	ObservedGeneration int64      `json:"observed_generation,omitempty"`
	DeletedAt          *time.Time `json:"deleted_at,omitempty"` // deletionTimestamp: deleting is not absent
	Finalizers         []string   `json:"finalizers,omitempty"`
	Owners             []string   `json:"owners,omitempty"` // ownerReferences, "Kind/name"
	// GitOps names the tool whose marks the object bears ("Helm release monitoring/node-exporter", "Argo CD ..."), or is empty.
	GitOps          string    `json:"gitops,omitempty"`
	CreatedAt       time.Time `json:"created_at,omitzero"`
	RollingUpdate   bool      `json:"rolling_update,omitempty"` // updateStrategy; OnDelete otherwise
	Desired         int       `json:"desired"`                  // status fields as they are; they are evidence, see kubernetes.md 1.1
	Current         int       `json:"current"`
	Ready           int       `json:"ready"`
	Updated         int       `json:"updated"`
	Available       int       `json:"available"`
	Misscheduled    int       `json:"misscheduled"`
	EmptySelector   bool      `json:"empty_selector,omitempty"` // a selector that matches everything: an error, never acted upon
	PriorityClass   string    `json:"priority_class,omitempty"`
	SpecHash        string    `json:"spec_hash,omitempty"` // of spec, labels and annotations: what a re-creation must restore
	NewestPodAt     time.Time `json:"newest_pod_at,omitzero"`
	NudgedByRun     string    `json:"nudged_by_run,omitempty"`
	SelectorSummary string    `json:"selector_summary,omitempty"` // the rule that picks nodes, in words: for not_selected
}

// Namespace is the DaemonSet's namespace.
type Namespace struct {
	Exists      bool `json:"exists"`
	Terminating bool `json:"terminating,omitempty"`
}

// Node is one node as this DaemonSet sees it.
type Node struct {
	Name            string `json:"name"`
	UID             string `json:"uid,omitempty"`
	ResourceVersion string `json:"resource_version,omitempty"`
	// Expected: selector and affinity match, and every taint is tolerated except Kubernetes' own condition taints.
	Expected      bool   `json:"expected"`
	ExcludedBy    string `json:"excluded_by,omitempty"` // the rule or taint that excludes it
	Ready         bool   `json:"ready"`
	NotReadyWhy   string `json:"not_ready_why,omitempty"`
	DiskPressure  bool   `json:"disk_pressure,omitempty"` // condition or taint
	Unschedulable bool   `json:"unschedulable,omitempty"` // cordoned, by whomever
	CordonedBy    *Mark  `json:"cordoned_by,omitempty"`   // our annotation, whichever run or installation wrote it
	KeepCordoned  bool   `json:"keep_cordoned,omitempty"` // a person's annotation: honoured at uncordon
	Leaving       bool   `json:"leaving,omitempty"`       // deletionTimestamp or the autoscaler's ToBeDeleted taint: ignored
	Allocatable   int    `json:"allocatable,omitempty"`   // allocatable.pods, or the carrier's pod_limit
	Pods          []Pod  `json:"pods,omitempty"`          // this DaemonSet's pods that are on, or are pinned to, this node
}

// Mark is the ownership annotation that our cordon puts on a node, in the same patch as the cordon.
type Mark struct {
	Installation string `json:"installation"`
	// Carrier is the name under which the cluster was changed: one cluster may be configured as several carriers, and the
	// database of one of them knows nothing of the others' runs.
	Carrier    string    `json:"carrier,omitempty"`
	Run        string    `json:"run"`
	Generation int64     `json:"generation"` // the lease's generation: bumped by a touch
	Since      time.Time `json:"since"`
	Reason     string    `json:"reason"`
}

// Pod is a pod of the DaemonSet. A pod that waits for the scheduler has no node of its own yet; it belongs to the
// node that its affinity pins it to (kubernetes.md, part two A).
type Pod struct {
	Name          string    `json:"name"`
	UID           string    `json:"uid"`
	Phase         string    `json:"phase"`
	Scheduled     bool      `json:"scheduled"` // spec.nodeName is set
	Ready         bool      `json:"ready"`
	Terminating   bool      `json:"terminating,omitempty"`
	CreatedAt     time.Time `json:"created_at"`
	ScheduledAt   time.Time `json:"scheduled_at,omitzero"`   // when it got its node: a pod may have waited long for that
	Unschedulable string    `json:"unschedulable,omitempty"` // the scheduler's message, when PodScheduled is False/Unschedulable
	Nominated     bool      `json:"nominated,omitempty"`     // status.nominatedNodeName: a preemption is in flight
	Reason        string    `json:"reason,omitempty"`        // status.reason, e.g. OutOfpods
	Waiting       string    `json:"waiting,omitempty"`       // a container's waiting reason, e.g. CrashLoopBackOff
	Message       string    `json:"message,omitempty"`
	Restarts      int       `json:"restarts,omitempty"`
	LastExit      string    `json:"last_exit,omitempty"` // last termination: reason and exit code
	Owned         bool      `json:"owned"`               // its controllerRef is this DaemonSet's uid
}

// Controller is the Lease of the controller-manager. Missing is unknown, not dead.
type Controller struct {
	Holder    string        `json:"holder"`
	RenewedAt time.Time     `json:"renewed_at"`
	Duration  time.Duration `json:"duration"`
}

// NodePods is the own recount of one node (by the spec.nodeName field selector): how many pods take a slot there,
// and what each of them is. Terminating and mirror pods take a slot; Succeeded and Failed ones do not.
type NodePods struct {
	Count         int         `json:"count"`
	PendingDaemon int         `json:"pending_daemon"` // daemon pods of any DaemonSet that are pinned to this node and wait for a slot
	Candidates    []Candidate `json:"candidates,omitempty"`
}

// Candidate is a pod on a full node and what is known about evicting it. NotMovable says why it must stay; only
// candidates without one may be planned.
type Candidate struct {
	Namespace   string    `json:"namespace"`
	Name        string    `json:"name"`
	UID         string    `json:"uid"`
	Owner       string    `json:"owner,omitempty"` // "Kind/name" of the controller
	OwnerReady  int       `json:"owner_ready"`     // ready replicas of the owner, this one included
	OwnerWants  int       `json:"owner_wants"`     // desired replicas of the owner
	Priority    int32     `json:"priority"`
	Budgets     int       `json:"budgets"` // PodDisruptionBudgets that select it
	Allowed     int       `json:"allowed"` // disruptions that they still allow; meaningless when Budgets is 0
	Terminating bool      `json:"terminating,omitempty"`
	CreatedAt   time.Time `json:"created_at"`
	NotMovable  string    `json:"not_movable,omitempty"` // mirror, daemon, critical, unmanaged, local storage, no other node has room
}

// Event is a Kubernetes event about the DaemonSet.
type Event struct {
	Reason  string    `json:"reason"`
	Message string    `json:"message"`
	Count   int       `json:"count"`
	At      time.Time `json:"at"`
}

// ReapplyCheck is what must be known before an orphan delete: that we may create again, that the sanitized manifest
// would be accepted, and the manifest itself. All of it is read; nothing is changed.
type ReapplyCheck struct {
	UID             string   `json:"uid"`
	ResourceVersion string   `json:"resource_version"`
	MayCreate       bool     `json:"may_create"`
	MayDelete       bool     `json:"may_delete"`
	DryRun          string   `json:"dry_run,omitempty"` // empty: create and delete pass a server-side dry run
	SHA256          string   `json:"sha256"`
	PodUIDs         []string `json:"pod_uids"`
	Manifest        Manifest `json:"-"` // may hold secrets in environment values: never stored with the observation
}

// Manifest is the sanitized JSON of a DaemonSet, ready for a plain create.
type Manifest []byte

// Adoption compares the pods that a DaemonSet had before its reapply with those that it controls now.
type Adoption struct {
	Kept    int      `json:"kept"`
	Lost    []string `json:"lost,omitempty"`    // uids that are gone
	Orphans []string `json:"orphans,omitempty"` // uids that exist and are controlled by nobody
}

// Evidence is one piece of a hand-over: bounded and redacted by the adapter that read it.
type Evidence struct {
	Source string `json:"source"` // "events", "pod monitoring/node-exporter-x", "log ..."
	Text   string `json:"text"`
}

// ManagerLog is what could be read of the controller-manager's log: lines that name the DaemonSet, oldest first, bounded.
type ManagerLog struct {
	Source string    `json:"source"` // "pod kube-system/kube-controller-manager-x", "ssh host, docker"
	Lines  []LogLine `json:"lines,omitempty"`
}

// LogLine is one line of a log with its own time.
type LogLine struct {
	At   time.Time `json:"at"`
	Text string    `json:"text"`
}

// IncidentStatus is PagerDuty's.
type IncidentStatus string

// PagerDuty's three statuses.
const (
	Triggered    IncidentStatus = "triggered"
	Acknowledged IncidentStatus = "acknowledged"
	Resolved     IncidentStatus = "resolved"
)

// Incident is one of the run's incidents as PagerDuty shows it now.
type Incident struct {
	ID     string         `json:"id"`
	Number int            `json:"number"`
	Title  string         `json:"title"`
	URL    string         `json:"url"`
	Status IncidentStatus `json:"status"`
	// TriggeredAt is when it was triggered, or reopened last; zero: not known.
	TriggeredAt time.Time `json:"triggered_at,omitzero"`
	MergedInto  string    `json:"merged_into,omitempty"`
	Gone        bool      `json:"gone,omitempty"`        // PagerDuty answered that it knows no such incident
	ResolvedBy  string    `json:"resolved_by,omitempty"` // a person, "monitoring", or "drydock"
	Owner       string    `json:"owner,omitempty"`       // the person who acknowledged it or to whom it was assigned by hand
	Acts        []Act     `json:"acts,omitempty"`        // what people did, oldest first
	// Unexplained lists open alerts of the incident that are about something else than the run's target.
	Unexplained []string `json:"unexplained,omitempty"`
	Alerts      int      `json:"alerts"`
	// NodesInDetails are node names that the alert's details mention (never its title).
	NodesInDetails []string `json:"nodes_in_details,omitempty"`
	LowUrgency     bool     `json:"low_urgency,omitempty"`
	Policy         string   `json:"policy,omitempty"` // escalation policy id
	Level          int      `json:"level,omitempty"`  // current level, 0 when not known
	Levels         int      `json:"levels,omitempty"`
}

// Act is something that a person did on an incident.
type Act struct {
	Kind ActKind   `json:"kind"`
	Who  string    `json:"who"`
	At   time.Time `json:"at"`
	// PlanHash is what an approver's note approved, for ActApproved.
	PlanHash string `json:"plan_hash,omitempty"`
}

// ActKind names a human act.
type ActKind string

// The human acts of invariant I9. Assignment by policy and timed escalation are nobody's act.
const (
	ActAcknowledged ActKind = "acknowledged"
	ActResolved     ActKind = "resolved"
	ActReassigned   ActKind = "reassigned"
	ActSnoozed      ActKind = "snoozed"
	ActMerged       ActKind = "merged"
	ActHandsOff     ActKind = "hands_off"
	ActApproved     ActKind = "approved"
	ActOnPurpose    ActKind = "on_purpose" // a note that says that the DaemonSet was deleted on purpose
)

// IncidentRef names an incident.
type IncidentRef struct {
	ID     string `json:"id"`
	Number int    `json:"number"`
	Title  string `json:"title"`
	URL    string `json:"url"`
}

// Promotion is what the version source and the CI say about the DaemonSet's component on this carrier.
type Promotion struct {
	Component string `json:"component"`
	// Version that the source names as deployed; empty: the source answered and names none any more.
	Version string `json:"version"`
	Source  string `json:"source"`
	Build   int    `json:"build"` // the CI's build number of that version; 0: the CI has none
	// Attempts of this promotion on that build, oldest first.
	Attempts []Attempt `json:"attempts,omitempty"`
}

// Attempt is one run of a promotion in the CI.
type Attempt struct {
	Number   int       `json:"number"`
	Building bool      `json:"building"`
	Result   string    `json:"result,omitempty"`
	At       time.Time `json:"at"`
	URL      string    `json:"url"`
}

// LedgerFacts is what Drydock itself knows and Decide must respect.
type LedgerFacts struct {
	KillSwitch string `json:"kill_switch,omitempty"` // the reason, when engaged (globally or for this carrier)
	// ClaimHolder is the run that holds the carrier's claim, when it is not this one.
	ClaimHolder string `json:"claim_holder,omitempty"`
	// TargetHolder is another run of the same target that is still unwinding.
	TargetHolder string `json:"target_holder,omitempty"`
	// Used is how much of each budget is reserved or spent now, by Reservation.Budget(): all rows that were not given back
	// and whose window has not passed. A budget that is not listed is unused. The limits are the policy's.
	Used map[string]int `json:"used,omitempty"`
	// SameDaemonSet lists carriers on which the same DaemonSet had a run started within the last 15 minutes, this one included.
	SameDaemonSet []string `json:"same_daemonset,omitempty"`
	// BreakerUntil is set while the target's breaker is open; Tries describes the runs that opened it.
	BreakerUntil time.Time `json:"breaker_until,omitzero"`
	Tries        []string  `json:"tries,omitempty"`
	// SameCarrier lists other runs of the carrier, the newest first: those that went on since CarrierRunsWithin before this one
	// began, at most CarrierRuns.
	SameCarrier []CarrierRun `json:"same_carrier,omitempty"`
	// RepairedToday is how many runs of this target changed something and ended as resolved within the last 24 hours;
	// RepairedBy is the newest of them, RepairedAt its end.
	RepairedToday int       `json:"repaired_today,omitempty"`
	RepairedBy    string    `json:"repaired_by,omitempty"`
	RepairedAt    time.Time `json:"repaired_at,omitzero"`
	// Cancelled is who asked for the run to stop.
	Cancelled string `json:"cancelled,omitempty"`
	// ApprovedHash is the plan hash that a person approved, by whom.
	ApprovedHash string `json:"approved_hash,omitempty"`
	ApprovedBy   string `json:"approved_by,omitempty"`
	// Count is what the ledger has promised on this carrier; CarrierLease tells by it whether the ledger is behind.
	Count Count `json:"count,omitzero"`
	// LastSeen is the DaemonSet as an earlier tick of any run of this target saw it last.
	LastSeen *DaemonSet `json:"last_seen,omitempty"`
}
