package main

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/drydock/drydock/playbook"
	"github.com/drydock/drydock/playbook/kube"
)

// Config is drydock.yaml. A field's tags are the one description of its key: `yaml` names it, `doc` explains it (it goes
// into the JSON Schema), `enum` lists its values and `schema:"required"` says that an entry makes no sense without it.
type Config struct {
	Listen        string               `yaml:"listen" doc:"address to listen on; anything but loopback needs api_tokens"`
	PublicURL     string               `yaml:"public_url" doc:"where people reach this server: for links in notes"`
	DatabaseURL   *Secret              `yaml:"database_url" doc:"Postgres; key absent: a private Postgres in data_dir"`
	DataDir       string               `yaml:"data_dir" doc:"private Postgres, made keys and tokens, kill-switch files"`
	BackupKey     *Secret              `yaml:"backup_key" doc:"32 bytes in base64: encrypts manifests at rest; absent: made in data_dir, only with the private Postgres"`
	Role          string               `yaml:"role" enum:"all,ingest,worker" doc:"what this replica does"`
	Mode          playbook.Mode        `yaml:"mode" enum:"observe,approve,act" doc:"how far runs may go; a carrier's own wins"`
	OnAcknowledge string               `yaml:"on_acknowledge" enum:"stop,continue" doc:"what a person's acknowledge during a run means"`
	Approvers     []string             `yaml:"approvers" doc:"PagerDuty user ids whose note \"drydock approve <hash>\" counts"`
	PagerDuty     PagerDuty            `yaml:"pagerduty" doc:"how incidents are read and written"`
	SelfAlert     *SelfAlert           `yaml:"self_alert" doc:"a PagerDuty service that Drydock does not watch; needed for mode act"`
	DeadManURL    *Secret              `yaml:"deadman_url" doc:"address that is called once a minute while Drydock works; whoever listens there raises an alarm when the calls stay out"`
	APITokens     []APIToken           `yaml:"api_tokens" doc:"bearer tokens; only the SHA-256 is kept"`
	OIDC          *OIDC                `yaml:"oidc" doc:"a login server whose ID tokens are taken as bearer tokens; absent: none"`
	Carriers      []Carrier            `yaml:"carriers" doc:"the Kubernetes clusters"`
	CarrierDir    string               `yaml:"carrier_dir" doc:"every kubeconfig in it is a carrier named after its file"`
	DaemonSets    []DaemonSet          `yaml:"daemonsets" doc:"absent: the three DaemonSets of the runbook"`
	Promotions    map[string]Promotion `yaml:"promotions" doc:"how a component is deployed again, by its name"`
	TitleRules    []string             `yaml:"title_rules" doc:"regular expressions with the groups carrier, daemonset, region, namespace; tried before the built-in rules"`
	DiskTitles    []string             `yaml:"disk_titles" doc:"regular expressions for titles of disk-space incidents"`
	Timing        Timing               `yaml:"timing" doc:"how long is looked and waited"`
	Limits        Limits               `yaml:"limits" doc:"budgets; every replica counts on the same ones"`
	Retention     Retention            `yaml:"retention" doc:"how long the history is kept"`

	file   string // where it was read; empty for the built-in configuration
	source []byte // what was read
	lines  map[string]int
}

// PagerDuty is how Drydock reads and writes incidents.
type PagerDuty struct {
	APIURL         string   `yaml:"api_url" doc:"https://api.pagerduty.com, or https://api.eu.pagerduty.com"`
	Token          *Secret  `yaml:"token" doc:"REST API key"`
	From           string   `yaml:"from" doc:"e-mail of Drydock's own PagerDuty user"`
	WebhookSecrets []Secret `yaml:"webhook_secrets" doc:"several while rotating; none: every webhook is refused with 401"`
	ServiceIDs     []string `yaml:"service_ids" doc:"services that are reconciled; empty: all"`
	ReconcileEvery Duration `yaml:"reconcile_every" doc:"how often the open incidents are listed, in case a webhook was lost"`
	Acknowledge    bool     `yaml:"acknowledge" doc:"acknowledge incidents when a run starts; off, the escalation stays the dead-man's switch"`
}

// SelfAlert is where Drydock pages about itself.
type SelfAlert struct {
	RoutingKey *Secret `yaml:"routing_key" schema:"required" doc:"Events API v2 integration key"`
	EventsURL  string  `yaml:"events_url" doc:"absent: https://events.pagerduty.com"`
}

// APIToken is a bearer token by its hash.
type APIToken struct {
	Name     string   `yaml:"name" schema:"required"`
	Role     string   `yaml:"role" enum:"viewer,operator,approver,admin" schema:"required"`
	SHA256   *Secret  `yaml:"sha256" schema:"required" doc:"hex SHA-256 of the token; \"drydock token new\" makes both"`
	Carriers []string `yaml:"carriers" doc:"the carriers that it is for; empty: all"`
}

// OIDC is a login server, and what the groups in its ID tokens may do.
type OIDC struct {
	Issuer       string      `yaml:"issuer" schema:"required" doc:"its address, under which /.well-known/openid-configuration is found"`
	Audience     string      `yaml:"audience" schema:"required" doc:"the client id that the tokens are made for"`
	ClientSecret *Secret     `yaml:"client_secret" doc:"for logging in to the dashboard, where the login server takes Drydock for a confidential client; absent: a public client"`
	GroupsClaim  string      `yaml:"groups_claim" doc:"the claim that lists the groups; absent: groups"`
	Groups       []OIDCGroup `yaml:"groups" schema:"required" doc:"the highest role of a person's groups counts"`
}

// OIDCGroup is what the members of a group may do.
type OIDCGroup struct {
	Name     string   `yaml:"name" schema:"required"`
	Role     string   `yaml:"role" enum:"viewer,operator,approver,admin" schema:"required"`
	Carriers []string `yaml:"carriers" doc:"the carriers that it is for; empty: all"`
}

// Carrier is one Kubernetes cluster.
type Carrier struct {
	Name              string            `yaml:"name" schema:"required" doc:"as it appears in incident titles"`
	Kubeconfig        string            `yaml:"kubeconfig" schema:"required" doc:"its file"`
	Context           string            `yaml:"context" doc:"empty: the kubeconfig's current context"`
	ActorKubeconfig   string            `yaml:"actor_kubeconfig" doc:"optional second identity, used only while an intent is open"`
	Mode              playbook.Mode     `yaml:"mode" enum:"observe,approve,act" doc:"absent: the mode above"`
	PodLimit          int               `yaml:"pod_limit" doc:"pods per node; 0: each node's allocatable.pods"`
	DrainNamespaces   *[]string         `yaml:"drain_namespaces" doc:"namespaces whose pods may be evicted; empty: evict nothing"`
	ControllerManager ControllerManager `yaml:"controller_manager" doc:"how a stuck controller-manager may be restarted"`
}

// ControllerManager says how a carrier's controller-manager is restarted.
type ControllerManager struct {
	Restart   string `yaml:"restart" enum:"none,deployment,ssh" doc:"absent: none"`
	Namespace string `yaml:"namespace" doc:"of the Deployment, with restart: deployment; absent: kube-system"`
	Name      string `yaml:"name" doc:"of the Deployment, with restart: deployment; absent: kube-controller-manager"`
	SSH       *SSH   `yaml:"ssh" doc:"how its host is reached, with restart: ssh"`
}

// SSH says how the host of a controller-manager is reached.
type SSH struct {
	User       string            `yaml:"user" schema:"required" doc:"who may run the runtime's program there"`
	Key        *Secret           `yaml:"key" schema:"required" doc:"{file: PATH} of the private key, without a passphrase"`
	KnownHosts string            `yaml:"known_hosts" schema:"required" doc:"file with the hosts' keys; a host that is not in it is never logged on to"`
	Port       int               `yaml:"port" doc:"absent: 22"`
	Runtime    string            `yaml:"runtime" enum:"docker,crictl" schema:"required" doc:"the program that knows the container"`
	Hosts      map[string]string `yaml:"hosts" doc:"host names in the lease, and the names or addresses by which they are reached; others are used as they are"`
}

// DaemonSet is one that Drydock looks after.
type DaemonSet struct {
	Name             string           `yaml:"name" schema:"required"`
	Namespace        string           `yaml:"namespace" schema:"required"`
	EscalationPolicy string           `yaml:"escalation_policy" doc:"PagerDuty id; empty: the next level of the incident's own policy"`
	Team             string           `yaml:"team" doc:"named in the hand-over"`
	Promotion        string           `yaml:"promotion" doc:"key of promotions; empty: an absent DaemonSet is handed over"`
	Reapply          playbook.Reapply `yaml:"reapply" enum:"if_needed,always,never" doc:"whether it is deleted (keeping its pods) and created again after a drain"`
}

// Promotion says which version of a component is deployed, and how it is promoted again.
type Promotion struct {
	Version VersionSource `yaml:"version" schema:"required"`
	Jenkins *Jenkins      `yaml:"jenkins" schema:"required"`
}

// VersionSource names the version that is deployed on a carrier.
type VersionSource struct {
	Source   string  `yaml:"source" enum:"http,launchdarkly,featureflagset" schema:"required"`
	URL      string  `yaml:"url" doc:"http: {carrier} stands for the carrier's name; launchdarkly: absent, https://app.launchdarkly.com"`
	JSONPath string  `yaml:"json_path" doc:"where in the answer, or in the flag's value, the version stands, for example $.items[0].value"`
	Token    *Secret `yaml:"token" doc:"http: sent as a bearer token; launchdarkly: of its REST API"`

	Project     string            `yaml:"project" doc:"launchdarkly: the project's key"`
	Environment string            `yaml:"environment" doc:"launchdarkly: the environment's key"`
	ContextKey  string            `yaml:"context_key" doc:"launchdarkly: as whom the flag is evaluated; absent: {carrier}"`
	Attributes  map[string]string `yaml:"attributes" doc:"launchdarkly: further attributes of that context"`
	Namespace   string            `yaml:"namespace" doc:"featureflagset: of the FeatureFlagSetLD on the carrier"`
	Name        string            `yaml:"name" doc:"featureflagset: of the FeatureFlagSetLD on the carrier"`
	Flag        string            `yaml:"flag" doc:"launchdarkly, featureflagset: the flag's key; {carrier} and {component} stand for their names"`
}

// Jenkins promotes a build by the Promoted Builds plugin.
type Jenkins struct {
	URL       string  `yaml:"url" schema:"required"`
	Job       string  `yaml:"job" schema:"required" doc:"with its folders: Folder/job"`
	Promotion string  `yaml:"promotion" doc:"name of the promotion process; {carrier} stands for the carrier's name, and alone is the default"`
	User      string  `yaml:"user" schema:"required"`
	Token     *Secret `yaml:"token" schema:"required"`
}

// Timing is playbook.Timing as it is written in the file.
type Timing struct {
	Tick             Duration `yaml:"tick" doc:"between two looks of a run; for 10 s after a change of its own they come each 500 ms"`
	Soak             Duration `yaml:"soak" doc:"how long a carrier must stay healthy before its incident is resolved"`
	AbsentConfirm    Duration `yaml:"absent_confirm" doc:"between the two 404 that make a DaemonSet absent"`
	FullConfirm      Duration `yaml:"full_confirm" doc:"how long a node must be seen full"`
	UncoveredConfirm Duration `yaml:"uncovered_confirm" doc:"how long a node must be seen without a daemon pod"`
	StuckConfirm     Duration `yaml:"stuck_confirm" doc:"how long the controller must be seen behind"`
	QuietAfterNewPod Duration `yaml:"quiet_after_new_pod" doc:"no change for so long after a new daemon pod has appeared"`
	EvictWait        Duration `yaml:"evict_wait" doc:"for a drained node to get its daemon pod"`
	DiskWait         Duration `yaml:"disk_wait" doc:"for a disk-space incident to be cleared"`
	RedeployWait     Duration `yaml:"redeploy_wait" doc:"for a promotion to bring the DaemonSet back"`
	Approval         Duration `yaml:"approval" doc:"for a person's approval"`
	Deadline         Duration `yaml:"deadline" doc:"of a run; it does not count disk, approval and claim waits"`
	Lease            Duration `yaml:"lease" doc:"how long a silent replica keeps a target"`
}

// Limits is playbook.Limits as it is written in the file.
type Limits struct {
	CordonedNodes       int     `yaml:"cordoned_nodes" doc:"per carrier at one time; 0: 1 under 200 nodes, else 2"`
	EvictionsPerNode    int     `yaml:"evictions_per_node" doc:"per run"`
	EvictionsPerRun     int     `yaml:"evictions_per_run" doc:"over all its nodes"`
	EvictionsPerHour    int     `yaml:"evictions_per_hour" doc:"per carrier"`
	EvictionsPerHourAll int     `yaml:"evictions_per_hour_all" doc:"over all carriers"`
	ReappliesPer6h      int     `yaml:"reapplies_per_6h" doc:"per DaemonSet"`
	PromotionsPer6h     int     `yaml:"promotions_per_6h" doc:"per carrier and component"`
	RestartsPerDay      int     `yaml:"restarts_per_day" doc:"of the controller-manager, per carrier"`
	MissingNodesShare   float64 `yaml:"missing_nodes_share" doc:"drain and reapply are refused above max(missing_nodes_min, this share of the expected nodes)"`
	MissingNodesMin     int     `yaml:"missing_nodes_min" doc:"see missing_nodes_share"`
	IneffectiveRuns     int     `yaml:"ineffective_runs" doc:"runs without effect that open a target's breaker for an hour"`
}

// Retention is how long the history is kept.
type Retention struct {
	Runs   Duration `yaml:"runs" doc:"runs, with all that they saw and did"`
	Events Duration `yaml:"events" doc:"webhooks as they came in"`
}

// Roles of a replica.
const (
	roleAll    = "all"
	roleIngest = "ingest"
	roleWorker = "worker"
)

// Duration is a time.Duration that may also be written in days ("400d").
type Duration time.Duration

func parseDuration(s string) (Duration, error) {
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.Atoi(days)
		if err != nil || n < 0 || n > 100*365 {
			return 0, fmt.Errorf("%q is not a number of days", s)
		}
		return Duration(n) * Duration(24*time.Hour), nil
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		return 0, fmt.Errorf("%q is not a duration: write it like 90s, 15m or 400d", s)
	}
	return Duration(d), nil
}

// UnmarshalYAML reads a duration from its text.
func (d *Duration) UnmarshalYAML(unmarshal func(any) error) error {
	var s string
	if err := unmarshal(&s); err != nil {
		return err
	}
	v, err := parseDuration(s)
	*d = v
	return err
}

func (d Duration) std() time.Duration { return time.Duration(d) }

// defaultConfig is the contract's. Keys that a file does not name keep these values.
func defaultConfig() Config {
	t, l := playbook.DefaultTiming(), playbook.DefaultLimits()
	return Config{
		Listen:        "127.0.0.1:8080",
		DataDir:       "./data",
		Role:          roleAll,
		Mode:          playbook.ModeObserve,
		OnAcknowledge: "stop",
		PagerDuty: PagerDuty{
			APIURL:         "https://api.pagerduty.com",
			ReconcileEvery: Duration(time.Minute),
		},
		DiskTitles: []string{"(?i)disk|filesystem|filespace"},
		Timing: Timing{
			Tick: Duration(t.Tick), Soak: Duration(t.Soak), AbsentConfirm: Duration(t.AbsentConfirm),
			FullConfirm: Duration(t.FullConfirm), UncoveredConfirm: Duration(t.UncoveredConfirm),
			StuckConfirm: Duration(t.StuckConfirm), QuietAfterNewPod: Duration(t.QuietAfterNewPod),
			EvictWait: Duration(t.EvictWait), DiskWait: Duration(t.DiskWait), RedeployWait: Duration(t.RedeployWait),
			Approval: Duration(t.Approval), Deadline: Duration(t.Deadline), Lease: Duration(t.Lease),
		},
		Limits: Limits{
			CordonedNodes: l.CordonedNodes, EvictionsPerNode: l.EvictionsPerNode, EvictionsPerRun: l.EvictionsPerRun,
			EvictionsPerHour: l.EvictionsPerHour, EvictionsPerHourAll: l.EvictionsPerHourAll,
			ReappliesPer6h: l.ReappliesPer6h, PromotionsPer6h: l.PromotionsPer6h, RestartsPerDay: l.RestartsPerDay,
			MissingNodesShare: l.MissingNodesShare, MissingNodesMin: l.MissingNodesMin, IneffectiveRuns: l.IneffectiveRuns,
		},
		Retention: Retention{Runs: Duration(400 * 24 * time.Hour), Events: Duration(90 * 24 * time.Hour)},
	}
}

// runbookDaemonSets are looked after when the file lists none. They name no escalation policy, because an id that is
// not in the account would make PagerDuty refuse the hand-over: the incident goes to the next level of its own policy.
func runbookDaemonSets() []DaemonSet {
	return []DaemonSet{
		{Name: "node-exporter", Namespace: "monitoring", Team: "armada-ops", Promotion: "armada-ops"},
		{Name: "docker-metrics-endpoint", Namespace: "monitoring", Team: "armada-ops", Promotion: "armada-ops"},
		{Name: "ibm-kube-fluentd", Namespace: "ibm-system", Team: "armada-api"},
	}
}

// complete fills in what depends on other keys, after the file was read.
func (c *Config) complete() {
	if c.DaemonSets == nil {
		c.DaemonSets = runbookDaemonSets()
		for i, d := range c.DaemonSets {
			if _, ok := c.Promotions[d.Promotion]; !ok {
				c.DaemonSets[i].Promotion = ""
			}
		}
	}
	for i := range c.DaemonSets {
		if c.DaemonSets[i].Reapply == "" {
			c.DaemonSets[i].Reapply = playbook.ReapplyIfNeeded
		}
	}
	for i := range c.Carriers {
		c.Carriers[i].complete()
	}
	if c.SelfAlert != nil && c.SelfAlert.EventsURL == "" {
		c.SelfAlert.EventsURL = "https://events.pagerduty.com"
	}
}

func (c *Carrier) complete() {
	// Titles are lower-cased before they are looked up, so a carrier's name is too.
	c.Name = strings.ToLower(c.Name)
	if c.DrainNamespaces == nil {
		c.DrainNamespaces = &[]string{"kubx-masters"} // the runbook's
	}
	if c.ControllerManager.Restart == "" {
		c.ControllerManager.Restart = "none"
	}
	if over := c.ControllerManager.SSH; over != nil && over.Port == 0 {
		over.Port = 22
	}
}

// path resolves a file named in the configuration: relative to the configuration's own directory, so that a command
// means the same from wherever it is typed.
func (c *Config) path(p string) string {
	if p == "" || filepath.IsAbs(p) || c.file == "" {
		return p
	}
	return filepath.Join(filepath.Dir(c.file), p)
}

// entries are the listed carriers as playbook/kube knows them.
func (c *Config) entries() []kube.Entry {
	entries := make([]kube.Entry, 0, len(c.Carriers))
	for _, carrier := range c.Carriers {
		entries = append(entries, kube.Entry{
			Name: carrier.Name, Kubeconfig: c.path(carrier.Kubeconfig), Context: carrier.Context, ActorKubeconfig: c.path(carrier.ActorKubeconfig),
			ControllerManager: c.controllerManager(carrier.ControllerManager),
		})
	}
	return entries
}

func (c *Config) controllerManager(m ControllerManager) kube.ControllerManager {
	to := kube.ControllerManager{Restart: m.Restart, Namespace: m.Namespace, Name: m.Name}
	if m.SSH != nil {
		to.SSH = &kube.SSH{User: m.SSH.User, KeyFile: c.path(m.SSH.Key.File), KnownHosts: c.path(m.SSH.KnownHosts),
			Port: m.SSH.Port, Runtime: m.SSH.Runtime, Hosts: m.SSH.Hosts}
	}
	return to
}

// registry opens the carriers; nothing is connected yet.
func (c *Config) registry(o kube.Options) (*kube.Registry, error) {
	return kube.NewRegistry(c.entries(), c.path(c.CarrierDir), o)
}

// watched are the DaemonSets that are looked after on every carrier.
func (c *Config) watched() []playbook.Target {
	list := make([]playbook.Target, 0, len(c.DaemonSets))
	for _, d := range c.DaemonSets {
		list = append(list, playbook.Target{Namespace: d.Namespace, DaemonSet: d.Name})
	}
	return list
}

// policies returns the policy of any target. A carrier that is not listed (it came from carrier_dir) and a DaemonSet that is
// not listed get the defaults.
func (c *Config) policies(installation string) func(playbook.Target) playbook.Policy {
	byName := make(map[string]Carrier, len(c.Carriers))
	for _, carrier := range c.Carriers {
		byName[carrier.Name] = carrier
	}
	return func(t playbook.Target) playbook.Policy {
		p := playbook.Policy{
			Mode:         c.Mode,
			StopOnAck:    c.OnAcknowledge == "stop",
			Acknowledge:  c.PagerDuty.Acknowledge,
			Approvers:    c.Approvers,
			Timing:       c.Timing.policy(),
			Limits:       playbook.Limits(c.Limits),
			PublicURL:    strings.TrimRight(c.PublicURL, "/"),
			Installation: installation,
			DaemonSet:    playbook.DaemonSetPolicy{Reapply: playbook.ReapplyIfNeeded},
		}
		carrier := byName[t.Carrier]
		carrier.complete()
		if carrier.Mode != "" {
			p.Mode = carrier.Mode
		}
		p.PodLimit, p.DrainFrom = carrier.PodLimit, *carrier.DrainNamespaces
		if carrier.ControllerManager.Restart != "none" {
			p.RestartDriver = carrier.ControllerManager.Restart
		}
		for _, d := range c.DaemonSets {
			if d.Name == t.DaemonSet && d.Namespace == t.Namespace {
				p.DaemonSet = playbook.DaemonSetPolicy{
					Known: true, EscalationPolicy: d.EscalationPolicy, Team: d.Team, Promotion: d.Promotion, Reapply: d.Reapply,
				}
			}
		}
		return p
	}
}

func (t Timing) policy() playbook.Timing {
	return playbook.Timing{
		Tick: t.Tick.std(), Soak: t.Soak.std(), AbsentConfirm: t.AbsentConfirm.std(), FullConfirm: t.FullConfirm.std(),
		UncoveredConfirm: t.UncoveredConfirm.std(), StuckConfirm: t.StuckConfirm.std(), QuietAfterNewPod: t.QuietAfterNewPod.std(),
		EvictWait: t.EvictWait.std(), DiskWait: t.DiskWait.std(), RedeployWait: t.RedeployWait.std(),
		Approval: t.Approval.std(), Deadline: t.Deadline.std(), Lease: t.Lease.std(),
	}
}

// namespaceOf is the namespace in which a DaemonSet is looked after, or empty when the configuration lists it in none or
// in several.
func (c *Config) namespaceOf(daemonset string) string {
	found := ""
	for _, d := range c.DaemonSets {
		if d.Name != daemonset {
			continue
		}
		if found != "" && found != d.Namespace {
			return ""
		}
		found = d.Namespace
	}
	return found
}
