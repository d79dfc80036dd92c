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
	Finalizer          = "storage.example.com/volumes" // that of a stick-set
)

// Scenario is one file.
type Scenario struct {
	// File is the file's name without its ending.
	File string `yaml:"-"`
	// Name and Says are for people: a title, and one sentence about what the scenario shows.
	Name string `yaml:"name"`
	Says string `yaml:"says"`
	// Only says that one runner alone can play the scenario, and why. Absent: both do, and must agree.
	Only *Only `yaml:"only"`
	// PlanDiffers says why what was done is not what the plan said when the finding was confirmed. Absent: it is.
	PlanDiffers string `yaml:"plan_differs"`

	Carrier    Carrier     `yaml:"carrier"`
	DaemonSets []DaemonSet `yaml:"daemonsets"`
	Settings   Settings    `yaml:"settings"`

	// Fault are acts that were over when the alert came.
	Fault []Act `yaml:"fault"`
	// Alerts are the DaemonSets about which alerts come, at the same time. Default: the first one. "node-exporter@2" is about the
	// node-exporter of a second carrier, which has another name and is the same in all else.
	Alerts []string `yaml:"alerts"`
	// By is how the alerts come: ByTitle, the default, ByOwnTitle or ByOrchestration.
	By By `yaml:"by"`
	// Then is what happens after the alert.
	Then []Step `yaml:"then"`

	// Again are further runs of the first alert's target, each begun when all runs before it have ended.
	Again []Round `yaml:"again"`

	// Expect is about the run of the first alert, ExpectOthers about those of the others, by DaemonSet.
	Expect       Expect            `yaml:"expect"`
	ExpectOthers map[string]Expect `yaml:"expect_others"`
	// Did is what the carrier and the CI were made to do, by all runs together and in order.
	Did []playbook.Kind `yaml:"did"`
	// Leaves is how the carrier is at the end.
	Leaves Leaves `yaml:"leaves"`
}

// Only names the one runner of a scenario.
type Only struct {
	On      Side   `yaml:"on"`
	Because string `yaml:"because"`
}

// Side is a runner: this package's, or testbed/scenario's.
type Side string

// The runners.
const (
	Simulator    Side = "simulator"
	ControlPlane Side = "control-plane"
)

// PlayedOn reports whether a runner plays the scenario.
func (s *Scenario) PlayedOn(side Side) bool { return s.Only == nil || s.Only.On == side }

// By is a way for an alert to reach Drydock.
type By string

// The ways of an alert.
const (
	ByTitle         By = "title"         // a webhook about an incident with a title of the built-in rules
	ByOwnTitle      By = "own-title"     // with a title that a rule of drydock.yaml knows
	ByOrchestration By = "orchestration" // the body of an Event Orchestration, which names the incident alone
)

// Round is a further run of the first alert's target.
type Round struct {
	Do []Act `yaml:"do"` // before it begins
	// Retrigger begins it by a person's order on the newest incident. Absent: a new incident of the same alert does.
	Retrigger bool   `yaml:"retrigger"`
	Then      []Step `yaml:"then"` // during it
	Expect    Expect `yaml:"expect"`
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
	// Short names workers on which something else has taken all of a resource that a daemon pod needs: cpu, memory or port.
	Short map[string]string `yaml:"short"`
	// Cramped names workers on which no cpu is left for one more customers' master; a daemon pod still fits.
	Cramped []string `yaml:"cramped"`
	// SlowCollector is how long the garbage collector needs to orphan the pods of a deleted DaemonSet.
	SlowCollector Duration `yaml:"slow_collector"`
	// Customers is what those workloads are.
	Customers Customers `yaml:"customers"`
	// Deployed is the version of armada-ops that the flag service names, "none" for an answer without one. Default 2.41.0.
	Deployed string `yaml:"deployed"`
	// CI is what becomes of promotions.
	CI CI `yaml:"ci"`
}

// Customers are the workloads that fill workers.
type Customers struct {
	// Kind is Deployment, the default, or StatefulSet; or Bare for pods that nothing would make again, or Mirror for those of
	// static pods.
	Kind string `yaml:"kind"`
	// Critical gives the pods a system-critical priority class.
	Critical bool `yaml:"critical"`
	// LocalStorage lets them keep something on their node that would be lost.
	LocalStorage bool `yaml:"local_storage"`
	// Bound says what ties the pods to their worker: a selector, or a volume. Such workloads have one replica.
	Bound string `yaml:"bound"`
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
	Labels       map[string]string `yaml:"labels"`
	// Operator makes an object of somebody's operator the DaemonSet's owner.
	Operator bool `yaml:"operator"`
	// OnMasters lets it run on the masters too.
	OnMasters bool `yaml:"on_masters"`
	// HostPort is a port of the node that it needs.
	HostPort int32 `yaml:"host_port"`
	OnDelete bool  `yaml:"on_delete"` // the update strategy; RollingUpdate otherwise
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
	FlagSet         bool             `yaml:"flag_set"`     // the carrier's own FeatureFlagSetLD names the version
	OnAcknowledge   string           `yaml:"on_acknowledge"`
	// Restart is the controller-manager's restart driver: none, the default, or deployment.
	Restart string `yaml:"restart"`
	Timing  Timing `yaml:"timing"`
	Limits  Limits `yaml:"limits"`
}

// Timing overrides some of the durations of Settings.PolicyTiming.
type Timing struct {
	Soak     Duration `yaml:"soak"`
	DiskWait Duration `yaml:"disk_wait"`
	Approval Duration `yaml:"approval"`
	Deadline Duration `yaml:"deadline"`
	Quiet    Duration `yaml:"quiet_after_new_pod"`
	// Uncovered is long where a controller that is back needs time to look at a pod that it missed.
	Uncovered Duration `yaml:"uncovered_confirm"`
}

// Limits overrides some of the default limits.
type Limits struct {
	EvictionsPerNode int `yaml:"evictions_per_node"`
	EvictionsPerRun  int `yaml:"evictions_per_run"`
	EvictionsPerHour int `yaml:"evictions_per_hour"`
	IneffectiveRuns  int `yaml:"ineffective_runs"`
}

// Step is an act at its time.
type Step struct {
	// When is what has to be seen first. Absent: the alert.
	When *Sight `yaml:"when"`
	// After is how long after that.
	After Duration `yaml:"after"`
	Do    Act      `yaml:"do"`
}

// Expect is how a run and its incidents have to end. What no file needs to say: each incident has a last note that says how
// it ended, at most three notes in all, and nothing that was promised is left unsettled.
type Expect struct {
	// Findings are those that were confirmed, in order, each once as long as it lasted.
	Findings []playbook.Finding `yaml:"findings"`
	Outcome  playbook.Outcome   `yaml:"outcome"`
	// End is how the history says that the first incident ended, where that is not the run's outcome.
	End playbook.Outcome `yaml:"end"`
	// Through are states that the run went through in this order; others may lie between.
	Through []playbook.State `yaml:"through"`
	// Status is the incidents'. Default: resolved for the outcome resolved, else triggered.
	Status playbook.IncidentStatus `yaml:"status"`
	// EscalatedTo is the policy to which the incidents were escalated; absent: they were not.
	EscalatedTo string `yaml:"escalated_to"`
	// Notes are words that the notes on each incident have in them.
	Notes []string `yaml:"notes"`
	// Joined is about the incidents that joined the run, where they end otherwise than the first.
	Joined *Expect `yaml:"joined"`
}

// Leaves is how the carrier is at the end, where that is not as it was before the fault.
type Leaves struct {
	// Cordoned are the nodes that are cordoned, all of them by people.
	Cordoned []string `yaml:"cordoned"`
	// Replaced are workers whose daemon pod at the alert need not have lived.
	Replaced []string `yaml:"replaced"`
	// Recreated says that the DaemonSet is another object (uid) than at the alert, though no act of Drydock's was it.
	Recreated bool `yaml:"recreated"`
	// Moved is how many customers' pods people moved, beside those that Drydock evicted.
	Moved int `yaml:"moved"`
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
	}{{&t.Soak, s.Timing.Soak}, {&t.DiskWait, s.Timing.DiskWait}, {&t.Approval, s.Timing.Approval}, {&t.Deadline, s.Timing.Deadline},
		{&t.QuietAfterNewPod, s.Timing.Quiet}, {&t.UncoveredConfirm, s.Timing.Uncovered}} {
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
		{&l.EvictionsPerHour, s.Limits.EvictionsPerHour}, {&l.IneffectiveRuns, s.Limits.IneffectiveRuns},
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
