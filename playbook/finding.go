package playbook

import "time"

// Finding is why the DaemonSet is not running everywhere, for the carrier as a whole.
type Finding string

// The findings of the design, in the order in which their questions are asked.
const (
	FindingUnknown         Finding = "unknown"
	FindingDeleting        Finding = "deleting"
	FindingAbsent          Finding = "absent"
	FindingControllerStuck Finding = "controller_stuck"
	FindingRefused         Finding = "refused"
	FindingRollingOut      Finding = "rolling_out"
	FindingDisk            Finding = "disk"
	FindingNodeFull        Finding = "node_full"
	FindingUncovered       Finding = "uncovered"
	FindingNoRoom          Finding = "no_room"
	FindingNodeDown        Finding = "node_down"
	FindingMalfunctioning  Finding = "malfunctioning"
	FindingNotSelected     Finding = "not_selected"
	FindingHealthy         Finding = "healthy"
)

// Findings lists every finding in the order of its question.
func Findings() []Finding {
	return []Finding{FindingUnknown, FindingDeleting, FindingAbsent, FindingControllerStuck, FindingRefused,
		FindingRollingOut, FindingDisk, FindingNodeFull, FindingUncovered, FindingNoRoom, FindingNodeDown,
		FindingMalfunctioning, FindingNotSelected, FindingHealthy}
}

// NodeVerdict is what is the matter with one node.
type NodeVerdict string

// The verdicts of the contract.
const (
	VerdictCovered        NodeVerdict = "covered"
	VerdictDisk           NodeVerdict = "disk"
	VerdictNodeFull       NodeVerdict = "node_full"
	VerdictUncovered      NodeVerdict = "uncovered"
	VerdictNoRoom         NodeVerdict = "no_room"
	VerdictNodeDown       NodeVerdict = "node_down"
	VerdictMalfunctioning NodeVerdict = "malfunctioning"
	VerdictRollingOut     NodeVerdict = "rolling_out"
	VerdictExcluded       NodeVerdict = "excluded"
	VerdictUnknown        NodeVerdict = "unknown"
)

// Verdict is one node's, with its evidence.
type Verdict struct {
	Node    string      `json:"name"`
	Verdict NodeVerdict `json:"verdict"`
	Why     string      `json:"why"`
}

// Diagnosis is the answer to "why is it not running everywhere".
type Diagnosis struct {
	Finding   Finding
	Confirmed bool
	Why       string
	// Node is the node that a node_full or uncovered finding is about.
	Node string
	// Verdicts holds one per node, in the order of the nodes.
	Verdicts  []Verdict
	Questions []Question
	// Expected and Missing count the expected nodes and those of them without a ready daemon pod.
	Expected int
	Missing  int
	// Wants are readings without which the diagnosis could not be made.
	Wants []Want
	// Sightings are the run's claims with this look folded in.
	Sightings Sightings
}

// Answer is yes, no or unknown.
type Answer string

// The three answers.
const (
	Yes           Answer = "yes"
	No            Answer = "no"
	AnswerUnknown Answer = "unknown"
)

// Question is one of the ordered questions with its answer and what it saw. Flip, which Explain computes, is the smallest change
// found that would turn the answer around, and the finding that it leads to.
type Question struct {
	Finding Finding `json:"finding"`
	Answer  Answer  `json:"answer"`
	Saw     string  `json:"saw"`
	Flip    string  `json:"flip"`
}

// Want asks for a costly reading. The tick reads it and decides again.
type Want struct {
	Kind WantKind `json:"kind"`
	// Node is for WantNodePods; UIDs for WantAdoption.
	Node string   `json:"node,omitempty"`
	UIDs []string `json:"uids,omitempty"`
}

// WantKind names a costly reading.
type WantKind string

// The costly readings.
const (
	WantNodePods      WantKind = "node_pods"
	WantEvents        WantKind = "events"
	WantReapply       WantKind = "reapply"
	WantAdoption      WantKind = "adoption"
	WantEvidence      WantKind = "evidence"
	WantPromotion     WantKind = "promotion"
	WantDiskIncidents WantKind = "disk_incidents"
	WantManagerLog    WantKind = "manager_log" // with the DaemonSet controller's rights
)

// Decision is what one tick decides.
type Decision struct {
	To        State
	Edge      string // the name of the guard that led there, empty when the run stays
	Diagnosis Diagnosis
	Why       string
	Promises  []Promise
	Wants     []Want
	Wait      time.Duration // until the next tick
	Memory    Memory
	Ends      map[string]Outcome // incident id -> its end, for incidents that end with this tick
	Outcome   Outcome            // set when To is an end
	Deadline  time.Time          // the deadline as it now stands
	Plan      []Action           // what remains to be done
	PlanHash  string
	Release   bool // give the carrier's claim back
	// Refused lists what this tick's protections refused: a whole change, or one node.
	Refused []Refusal
	// Withdraw lists intents (by Seq) that were promised, are not known to have happened, and are no longer wanted: a resolve
	// of a carrier that broke meanwhile, an escalation or acknowledge of an incident that a person took over. They are not sent again.
	Withdraw []int
}

// Promise is an action to promise, with its reservations.
type Promise struct {
	Action       Action
	Undoes       int
	Reservations []Reservation
	// Backup is committed with an OrphanDelete's promise, encrypted at rest.
	Backup *Backup
}

// Backup is the manifest of a DaemonSet, kept before it is deleted.
type Backup struct {
	SHA256   string
	UID      string
	Manifest Manifest
}
