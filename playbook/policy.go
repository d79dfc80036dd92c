package playbook

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"time"
)

// Policy is the carrier's part of the configuration, as the core needs it. A tick stores its hash.
type Policy struct {
	Mode          Mode            `json:"mode"`
	StopOnAck     bool            `json:"stop_on_ack"` // on_acknowledge: stop
	Acknowledge   bool            `json:"acknowledge"`
	Approvers     []string        `json:"approvers,omitempty"`
	PodLimit      int             `json:"pod_limit,omitempty"`
	DrainFrom     []string        `json:"drain_from,omitempty"` // namespaces whose pods may be moved; empty: evict nothing
	RestartDriver string          `json:"restart_driver,omitempty"`
	DaemonSet     DaemonSetPolicy `json:"daemonset"`
	Timing        Timing          `json:"timing"`
	Limits        Limits          `json:"limits"`
	PublicURL     string          `json:"public_url,omitempty"`
	Installation  string          `json:"installation"`
}

// DaemonSetPolicy is what the configuration says about one DaemonSet.
type DaemonSetPolicy struct {
	Known            bool    `json:"known"` // listed in the configuration
	EscalationPolicy string  `json:"escalation_policy,omitempty"`
	Team             string  `json:"team,omitempty"`
	Promotion        string  `json:"promotion,omitempty"` // component to promote when the DaemonSet is absent; empty: none is known
	Reapply          Reapply `json:"reapply"`
}

// Mode says how far a run may go.
type Mode string

// The three modes.
const (
	ModeObserve Mode = "observe"
	ModeApprove Mode = "approve"
	ModeAct     Mode = "act"
)

// Reapply says when the DaemonSet is deleted (orphaning its pods) and created again after a drain.
type Reapply string

// The three values of the configuration.
const (
	ReapplyIfNeeded Reapply = "if_needed"
	ReapplyAlways   Reapply = "always"
	ReapplyNever    Reapply = "never"
)

// Timing holds the configuration's durations.
type Timing struct {
	Tick             time.Duration `json:"tick"`
	Soak             time.Duration `json:"soak"`
	AbsentConfirm    time.Duration `json:"absent_confirm"`
	FullConfirm      time.Duration `json:"full_confirm"`
	UncoveredConfirm time.Duration `json:"uncovered_confirm"`
	StuckConfirm     time.Duration `json:"stuck_confirm"`
	QuietAfterNewPod time.Duration `json:"quiet_after_new_pod"`
	EvictWait        time.Duration `json:"evict_wait"`
	DiskWait         time.Duration `json:"disk_wait"`
	RedeployWait     time.Duration `json:"redeploy_wait"`
	Approval         time.Duration `json:"approval"`
	Deadline         time.Duration `json:"deadline"`
	Lease            time.Duration `json:"lease"`
}

// DefaultTiming is the contract's.
func DefaultTiming() Timing {
	return Timing{
		Tick: 5 * time.Second, Soak: 2 * time.Minute, AbsentConfirm: 10 * time.Second, FullConfirm: time.Minute,
		UncoveredConfirm: time.Minute, StuckConfirm: time.Minute, QuietAfterNewPod: 30 * time.Second,
		EvictWait: 3 * time.Minute, DiskWait: 15 * time.Minute, RedeployWait: 15 * time.Minute,
		Approval: 15 * time.Minute, Deadline: 45 * time.Minute, Lease: 3 * time.Second,
	}
}

// Limits holds the configuration's limits.
type Limits struct {
	CordonedNodes       int     `json:"cordoned_nodes"` // 0: by size, 1 under 200 nodes, else 2
	EvictionsPerNode    int     `json:"evictions_per_node"`
	EvictionsPerRun     int     `json:"evictions_per_run"`
	EvictionsPerHour    int     `json:"evictions_per_hour"`
	EvictionsPerHourAll int     `json:"evictions_per_hour_all"`
	ReappliesPer6h      int     `json:"reapplies_per_6h"`
	PromotionsPer6h     int     `json:"promotions_per_6h"`
	RestartsPerDay      int     `json:"restarts_per_day"`
	MissingNodesShare   float64 `json:"missing_nodes_share"`
	MissingNodesMin     int     `json:"missing_nodes_min"`
	IneffectiveRuns     int     `json:"ineffective_runs"`
}

// DefaultLimits is the contract's.
func DefaultLimits() Limits {
	return Limits{
		EvictionsPerNode: 5, EvictionsPerRun: 15, EvictionsPerHour: 30, EvictionsPerHourAll: 100, ReappliesPer6h: 1,
		PromotionsPer6h: 1, RestartsPerDay: 2, MissingNodesShare: 0.2, MissingNodesMin: 5, IneffectiveRuns: 3,
	}
}

// Hash identifies a policy in the history: a tick stores it, and replay compares by it.
func (p Policy) Hash() string {
	b, err := json.Marshal(p)
	if err != nil {
		return "" // numbers, strings and lists of strings always marshal
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:8])
}
