package scenariofile

import (
	"time"

	"github.com/drydock/drydock/playbook"
)

// NodeExporter is the DaemonSet of a scenario that lists none.
const NodeExporter = "node-exporter"

// The names that every scenario shares.
const (
	CustomersNamespace = "kubx-masters"
	OpsPolicy          = "PARMOPS" // armada-ops' escalation policy
	APIPolicy          = "PARMAPI" // armada-api's, for fluentd
	Fluentd            = "ibm-kube-fluentd"
)

// Scenario is one file.
type Scenario struct {
	// File is the file's name without its ending.
	File string `yaml:"-"`
	// Name and Says are for people: a title, and one sentence about what the scenario shows.
	Name string `yaml:"name"`
	Says string `yaml:"says"`

	Carrier    Carrier     `yaml:"carrier"`
	DaemonSets []DaemonSet `yaml:"daemonsets"`
	Settings   Settings    `yaml:"settings"`

	// Fault are acts that were over when the alert came.
	Fault []Act `yaml:"fault"`
	// Alerts are the DaemonSets about which alerts come, at the same time. Default: the first one.
	Alerts []string `yaml:"alerts"`
	// Then is what happens after the alert.
	Then []Step `yaml:"then"`

	// Expect is about the run of the first alert, ExpectOthers about those of the others, by DaemonSet.
	Expect       Expect            `yaml:"expect"`
	ExpectOthers map[string]Expect `yaml:"expect_others"`
	// Did is what the carrier and the CI were made to do, by all runs together and in order.
	Did []playbook.Kind `yaml:"did"`
	// Leaves is how the carrier is at the end.
	Leaves Leaves `yaml:"leaves"`
}

// Carrier is how the carrier looks before anything breaks.
type Carrier struct {
	// Workers are named worker-1, worker-2 and so on. Default 4.
	Workers int `yaml:"workers"`
	// Masters are nodes with Kubernetes' own taint, master-1 and so on. Default 0.
	Masters int `yaml:"masters"`
	// PodLimit is every node's allocatable.pods. Default 6.
	PodLimit int `yaml:"pod_limit"`
	// Labels are labels of workers, by worker.
	Labels map[string]map[string]string `yaml:"labels"`
	// Full names workers that customers' masters had filled to the limit before the DaemonSets were deployed. Each pod there
	// belongs to a workload of its own, named master-<worker>-<n>.
	Full []string `yaml:"full"`
	// Customers is what those workloads are.
	Customers Customers `yaml:"customers"`
	// Deployed is the version of armada-ops that the flag service names, "none" for an answer without one. Default 2.41.0.
	Deployed string `yaml:"deployed"`
	// CI is what becomes of promotions.
	CI CI `yaml:"ci"`
}

// Customers are the workloads that fill workers.
type Customers struct {
	// Kind is Deployment, the default, or StatefulSet.
	Kind string `yaml:"kind"`
	// Replicas of each workload; one is on the full worker and the others are elsewhere. Default 2.
	Replicas int `yaml:"replicas"`
	// MinAvailable is each workload's disruption budget. Absent: there is none.
	MinAvailable *int `yaml:"min_available"`
}

// CI is what becomes of promotions.
type CI struct {
	Fails bool     `yaml:"fails"` // each ends as FAILURE
	Queue Duration `yaml:"queue"` // how long each waits before it can be seen
}

// DaemonSet is one that is deployed on the carrier.
type DaemonSet struct {
	Name string `yaml:"name"`
	// NodeSelector picks workers by the labels of Carrier.Labels.
	NodeSelector map[string]string `yaml:"node_selector"`
	Annotations  map[string]string `yaml:"annotations"`
	OnDelete     bool              `yaml:"on_delete"` // the update strategy; RollingUpdate otherwise
	// Deployed is false for one that Drydock looks after and nobody has deployed. Default true.
	Deployed *bool `yaml:"deployed"`
}

// IsDeployed reports whether the DaemonSet is on the carrier before the fault.
func (d DaemonSet) IsDeployed() bool { return d.Deployed == nil || *d.Deployed }

// Selects reports whether the DaemonSet's selector picks a worker.
func (s *Scenario) Selects(d DaemonSet, worker string) bool {
	for k, v := range d.NodeSelector {
		if s.Carrier.Labels[worker][k] != v {
			return false
		}
	}
	return true
}

// Settings are what drydock.yaml says where it is not the default of scenarios.
type Settings struct {
	Mode            playbook.Mode    `yaml:"mode"`    // default act
	Reapply         playbook.Reapply `yaml:"reapply"` // default if_needed
	DrainNamespaces *[]string        `yaml:"drain_namespaces"`
	NoPromotion     bool             `yaml:"no_promotion"` // no promotion is configured
	OnAcknowledge   string           `yaml:"on_acknowledge"`
	Timing          Timing           `yaml:"timing"`
	Limits          Limits           `yaml:"limits"`
}

// Timing overrides some of the durations of Settings.PolicyTiming.
type Timing struct {
	Soak     Duration `yaml:"soak"`
	DiskWait Duration `yaml:"disk_wait"`
	Approval Duration `yaml:"approval"`
	Deadline Duration `yaml:"deadline"`
}

// Limits overrides some of the default limits.
type Limits struct {
	EvictionsPerNode int `yaml:"evictions_per_node"`
	EvictionsPerRun  int `yaml:"evictions_per_run"`
	EvictionsPerHour int `yaml:"evictions_per_hour"`
}

// Step is an act at its time.
type Step struct {
	// When is what has to be seen first. Absent: the alert.
	When *Sight `yaml:"when"`
	// After is how long after that.
	After Duration `yaml:"after"`
	Do    Act      `yaml:"do"`
}

// Expect is how a run and its incidents have to end.
type Expect struct {
	// Findings are those that were confirmed, in order, each once as long as it lasted.
	Findings []playbook.Finding `yaml:"findings"`
	Outcome  playbook.Outcome   `yaml:"outcome"`
	// Through are states that the run went through in this order; others may lie between.
	Through []playbook.State `yaml:"through"`
	// Status is the incidents'. Default: resolved for the outcome resolved, else triggered.
	Status playbook.IncidentStatus `yaml:"status"`
	// EscalatedTo is the policy to which the incidents were escalated; absent: they were not.
	EscalatedTo string `yaml:"escalated_to"`
	// Notes are words that the notes on each incident have in them.
	Notes []string `yaml:"notes"`
}

// Leaves is how the carrier is at the end, where that is not as it was before the fault.
type Leaves struct {
	// Cordoned are the nodes that are cordoned, all of them by people.
	Cordoned []string `yaml:"cordoned"`
	// Replaced are workers whose daemon pod at the alert need not have lived.
	Replaced []string `yaml:"replaced"`
	// DaemonSet is "unchanged", the default, "changed" by people, or "absent".
	DaemonSet string `yaml:"daemonset"`
}

// How Leaves.DaemonSet may be.
const (
	Unchanged = "unchanged"
	Changed   = "changed"
	Absent    = "absent"
)

// PolicyTiming is the timing of a scenario: short, because the real control plane plays it in real time.
func (s Settings) PolicyTiming() playbook.Timing {
	t := playbook.DefaultTiming()
	t.Tick, t.Soak = time.Second, 4*time.Second
	t.AbsentConfirm, t.FullConfirm, t.UncoveredConfirm, t.StuckConfirm = 2*time.Second, 4*time.Second, 4*time.Second, 6*time.Second
	t.QuietAfterNewPod, t.EvictWait, t.DiskWait, t.RedeployWait = 3*time.Second, 15*time.Second, 12*time.Second, 30*time.Second
	t.Approval, t.Deadline = 8*time.Second, 4*time.Minute
	for _, o := range []struct {
		to   *time.Duration
		from Duration
	}{{&t.Soak, s.Timing.Soak}, {&t.DiskWait, s.Timing.DiskWait}, {&t.Approval, s.Timing.Approval}, {&t.Deadline, s.Timing.Deadline}} {
		if o.from != 0 {
			*o.to = time.Duration(o.from)
		}
	}
	return t
}

// PolicyLimits are the limits of a scenario.
func (s Settings) PolicyLimits() playbook.Limits {
	l := playbook.DefaultLimits()
	for _, o := range []struct {
		to   *int
		from int
	}{
		{&l.EvictionsPerNode, s.Limits.EvictionsPerNode}, {&l.EvictionsPerRun, s.Limits.EvictionsPerRun},
		{&l.EvictionsPerHour, s.Limits.EvictionsPerHour},
	} {
		if o.from != 0 {
			*o.to = o.from
		}
	}
	return l
}

// EscalationPolicy is the policy of a DaemonSet's team.
func EscalationPolicy(daemonSet string) (policy, team string) {
	if daemonSet == Fluentd {
		return APIPolicy, "armada-api"
	}
	return OpsPolicy, "armada-ops"
}
