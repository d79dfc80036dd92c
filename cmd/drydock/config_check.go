package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/mail"
	"net/netip"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/drydock/drydock/incident"
	"github.com/drydock/drydock/playbook"
	"github.com/drydock/drydock/playbook/kube"
	"github.com/drydock/drydock/playbook/promotion"
)

// check collects the problems of one configuration.
type check struct{ problems []problem }

func (c *check) add(path, format string, args ...any) {
	c.problems = append(c.problems, problem{path: path, text: fmt.Sprintf(format, args...)})
}

// validate holds the values against each other. It reads no secret and touches no file, so that a configuration can be
// checked where it is written.
func (c *Config) validate() []problem {
	v := &check{}
	c.validateServer(v)
	c.validatePagerDuty(v)
	c.validateCarriers(v)
	c.validateDaemonSets(v)
	c.validateTiming(v)
	c.validateLimits(v)
	return v.problems
}

func (c *Config) validateServer(v *check) {
	host, port, err := net.SplitHostPort(c.Listen)
	switch {
	case err != nil || port == "":
		v.add("listen", "%q is not host:port: write it like 127.0.0.1:8080", c.Listen)
	case !isLoopback(host) && len(c.APITokens) == 0 && c.OIDC == nil:
		v.add("listen", "%s is reachable from other machines, so api_tokens must not be empty: make one with \"drydock token new\"", c.Listen)
	}
	v.url("public_url", c.PublicURL, true)
	if c.DataDir == "" {
		v.add("data_dir", "is empty: name a directory, for example ./data")
	}
	if c.DatabaseURL == nil && (c.Role == roleIngest || c.Role == roleWorker) {
		v.add("role", "%s needs database_url: the private Postgres serves one replica with role all", c.Role)
	}
	if c.DatabaseURL != nil && c.BackupKey == nil && c.acts() {
		v.add("backup_key", "is needed with database_url once a carrier's mode is approve or act: all replicas must share it; "+
			"make one with: openssl rand -base64 32")
	}
	c.validateTokens(v)
	c.validateOIDC(v)
}

func (c *Config) validateTokens(v *check) {
	names := map[string]bool{}
	for i, t := range c.APITokens {
		path := fmt.Sprintf("api_tokens[%d]", i)
		switch {
		case t.Name == "":
			v.add(path+".name", "is missing: name who holds the token")
		case names[t.Name]:
			v.add(path+".name", "%q is listed twice", t.Name)
		}
		names[t.Name] = true
		if t.Role == "" {
			v.add(path+".role", "is missing: choose viewer, operator, approver or admin")
		}
		if t.SHA256 == nil {
			v.add(path+".sha256", "is missing: write {env: NAME} or {file: PATH}")
		}
	}
}

func (c *Config) validateOIDC(v *check) {
	if c.OIDC == nil {
		return
	}
	v.url("oidc.issuer", c.OIDC.Issuer, false)
	if c.OIDC.Audience == "" {
		v.add("oidc.audience", "is missing: it is the client id that the tokens are made for")
	}
	if len(c.OIDC.Groups) == 0 {
		v.add("oidc.groups", "is empty: without a group with a role nobody can log in")
	}
	for i, g := range c.OIDC.Groups {
		path := fmt.Sprintf("oidc.groups[%d]", i)
		if g.Name == "" {
			v.add(path+".name", "is missing: name the group as the claim does")
		}
		if g.Role == "" {
			v.add(path+".role", "is missing: choose viewer, operator, approver or admin")
		}
	}
}

// checkServing finds what only a server needs: diagnose and plan do without, and must work with the same file. Its error is a
// usage error.
func (c *Config) checkServing() error {
	if key := c.modeKey(playbook.ModeAct); c.Role != roleIngest && c.SelfAlert == nil && key != "" {
		return c.refuse(problem{path: key, text: "self_alert is missing: mode act needs it, for nobody else hears when an undo stays blocked. " +
			"Name the routing key of a PagerDuty service that Drydock does not watch, or use mode observe or approve"})
	}
	return nil
}

// missingFiles names the files of carriers that are not there. That is no mistake of the configuration: they may be mounted
// later, and one carrier's file must not keep the others from being repaired.
func (c *Config) missingFiles() []string {
	var missing []string
	look := func(key, file string) {
		if _, err := os.Stat(c.path(file)); file != "" && errors.Is(err, fs.ErrNotExist) {
			missing = append(missing, fmt.Sprintf("%s: %s does not exist", key, c.path(file)))
		}
	}
	for i, carrier := range c.Carriers {
		look(fmt.Sprintf("carriers[%d].kubeconfig", i), carrier.Kubeconfig)
		look(fmt.Sprintf("carriers[%d].actor_kubeconfig", i), carrier.ActorKubeconfig)
	}
	look("carrier_dir", c.CarrierDir)
	return missing
}

// acts reports whether any carrier may be changed.
func (c *Config) acts() bool {
	return c.modeKey(playbook.ModeAct) != "" || c.modeKey(playbook.ModeApprove) != ""
}

// modeKey is the key that gives a carrier this mode; empty when no carrier has it.
func (c *Config) modeKey(mode playbook.Mode) string {
	inherits := c.CarrierDir != "" || len(c.Carriers) == 0
	for i, carrier := range c.Carriers {
		if carrier.Mode == mode {
			return fmt.Sprintf("carriers[%d].mode", i)
		}
		inherits = inherits || carrier.Mode == ""
	}
	if inherits && c.Mode == mode {
		return "mode"
	}
	return ""
}

func (c *Config) validatePagerDuty(v *check) {
	p := c.PagerDuty
	v.url("pagerduty.api_url", p.APIURL, false)
	if p.From != "" {
		if a, err := mail.ParseAddress(p.From); err != nil || a.Address != p.From {
			v.add("pagerduty.from", "%q is not an e-mail address: PagerDuty needs that of a real user of the account", p.From)
		}
	}
	if p.Token != nil && p.From == "" {
		v.add("pagerduty.from", "is missing: PagerDuty refuses writes that do not name the e-mail of a real user of the account")
	}
	v.ids("pagerduty.service_ids", p.ServiceIDs)
	v.ids("approvers", c.Approvers)
	v.positive("pagerduty.reconcile_every", p.ReconcileEvery)
	if c.SelfAlert != nil {
		if c.SelfAlert.RoutingKey == nil {
			v.add("self_alert.routing_key", "is missing: write {env: NAME} or {file: PATH}")
		}
		v.url("self_alert.events_url", c.SelfAlert.EventsURL, false)
	}
}

func (c *Config) validateCarriers(v *check) {
	names := map[string]bool{}
	for i, carrier := range c.Carriers {
		path := fmt.Sprintf("carriers[%d]", i)
		switch {
		case carrier.Name == "":
			v.add(path+".name", "is missing: write the carrier's name as incident titles have it")
		case !isDNSName(carrier.Name):
			v.add(path+".name", "%q can not be a carrier's name: use letters, digits, dots and dashes", carrier.Name)
		case names[carrier.Name]:
			v.add(path+".name", "%q is listed twice", carrier.Name)
		}
		names[carrier.Name] = true
		if carrier.Kubeconfig == "" {
			v.add(path+".kubeconfig", "is missing: name the carrier's kubeconfig file")
		}
		if carrier.PodLimit < 0 {
			v.add(path+".pod_limit", "%d is negative: 0 means each node's allocatable.pods", carrier.PodLimit)
		}
		for j, ns := range *carrier.DrainNamespaces {
			if !isDNSLabel(ns) {
				v.add(fmt.Sprintf("%s.drain_namespaces[%d]", path, j), "%q is not a namespace", ns)
			}
		}
		carrier.ControllerManager.validate(v, path+".controller_manager")
	}
}

func (m ControllerManager) validate(v *check, path string) {
	if m.Restart != kube.DriverDeployment && m.Namespace+m.Name != "" {
		v.add(path, "namespace and name are of a Deployment: write restart: deployment, or remove them")
	}
	if m.Namespace != "" && !isDNSLabel(m.Namespace) {
		v.add(path+".namespace", "%q is not a namespace", m.Namespace)
	}
	if m.Name != "" && !isDNSName(m.Name) {
		v.add(path+".name", "%q is not the name of a Deployment", m.Name)
	}
	switch {
	case m.Restart == kube.DriverSSH && m.SSH == nil:
		v.add(path+".ssh", "is missing: restart: ssh needs user, key, known_hosts and runtime")
	case m.Restart != kube.DriverSSH && m.SSH != nil:
		v.add(path+".ssh", "is used only with restart: ssh: write that, or remove this")
	case m.SSH != nil:
		m.SSH.validate(v, path+".ssh")
	}
}

func (s *SSH) validate(v *check, path string) {
	if !sshUser.MatchString(s.User) {
		v.add(path+".user", "%q is not a user's name: name who may run %s there", s.User, cmp.Or(s.Runtime, "the runtime's program"))
	}
	switch {
	case s.Key == nil:
		v.add(path+".key", "is missing: write {file: PATH} of a private key without a passphrase")
	case s.Key.File == "":
		v.add(path+".key", "is read from a file: write {file: PATH}")
	}
	if s.KnownHosts == "" {
		v.add(path+".known_hosts", "is missing: name a file with the hosts' keys, as ssh-keyscan writes it (compare them first)")
	}
	if s.Runtime == "" {
		v.add(path+".runtime", "is missing: choose docker or crictl")
	}
	if s.Port < 1 || s.Port > 65535 {
		v.add(path+".port", "%d is not a port: write 1 to 65535", s.Port)
	}
	for from, to := range s.Hosts {
		if !isDNSName(strings.ToLower(from)) {
			v.add(path+".hosts", "%q is not a host name", from)
		}
		if _, err := netip.ParseAddr(to); err != nil && !isDNSName(strings.ToLower(to)) {
			v.add(path+".hosts."+from, "%q is neither a host name nor an address: a port goes into ssh.port", to)
		}
	}
}

var sshUser = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]*$`)

func (c *Config) validateDaemonSets(v *check) {
	seen := map[string]bool{}
	for i, d := range c.DaemonSets {
		path := fmt.Sprintf("daemonsets[%d]", i)
		if !isDNSName(d.Name) {
			v.add(path+".name", "%q is not a DaemonSet's name", d.Name)
		}
		if !isDNSLabel(d.Namespace) {
			v.add(path+".namespace", "%q is not a namespace", d.Namespace)
		}
		if key := d.Namespace + "/" + d.Name; seen[key] {
			v.add(path, "%s is listed twice", key)
		} else {
			seen[key] = true
		}
		if d.EscalationPolicy != "" {
			v.ids(path+".escalation_policy", []string{d.EscalationPolicy})
		}
		if _, ok := c.Promotions[d.Promotion]; d.Promotion != "" && !ok {
			v.add(path+".promotion", "%q is not a key of promotions: add it there, or remove this", d.Promotion)
		}
	}
	for name, p := range c.Promotions {
		c.validatePromotion(v, "promotions."+name, p)
	}
	_, err := incident.NewRules(c.ruleConfig())
	for _, err := range flatten(err) {
		path, text, ok := strings.Cut(err.Error(), ": ")
		if !ok {
			path, text = "title_rules", err.Error()
		}
		// A DaemonSet's names were checked above.
		if !strings.HasPrefix(path, "daemonsets[") {
			v.add(path, "%s", text)
		}
	}
}

func (c *Config) validatePromotion(v *check, path string, p Promotion) {
	c.validateVersion(v, path+".version", p.Version)
	j := p.Jenkins
	if j == nil {
		v.add(path+".jenkins", "is missing: without it nothing can be promoted again")
		return
	}
	v.url(path+".jenkins.url", j.URL, false)
	for key, value := range map[string]string{"job": j.Job, "user": j.User} {
		if value == "" {
			v.add(path+".jenkins."+key, "is missing")
		}
	}
	if j.Token == nil {
		v.add(path+".jenkins.token", "is missing: write {env: NAME} or {file: PATH}")
	}
}

// versionKeys are the keys that each version source takes.
var versionKeys = map[string][]string{
	"http":           {"url", "json_path", "token"},
	"launchdarkly":   {"url", "json_path", "token", "project", "environment", "context_key", "attributes", "flag"},
	"featureflagset": {"json_path", "namespace", "name", "flag"},
}

func (c *Config) validateVersion(v *check, path string, s VersionSource) {
	allowed, known := versionKeys[s.Source]
	if !known {
		if s.Source == "" {
			v.add(path+".source", "is missing: choose http, launchdarkly or featureflagset")
		}
		return
	}
	for key, given := range map[string]bool{
		"url": s.URL != "", "token": s.Token != nil, "project": s.Project != "", "environment": s.Environment != "", "context_key": s.ContextKey != "",
		"attributes": len(s.Attributes) > 0, "namespace": s.Namespace != "", "name": s.Name != "", "flag": s.Flag != "",
	} {
		if given && !slices.Contains(allowed, key) {
			v.add(path+"."+key, "means nothing to source %s: remove it", s.Source)
		}
	}
	need := func(key, value, what string) {
		if value == "" {
			v.add(path+"."+key, "is missing: name %s", what)
		}
	}
	if s.JSONPath != "" {
		if _, err := promotion.NewHTTPSource("https://host", s.JSONPath, "", nil); err != nil {
			v.add(path+".json_path", "%v", err)
		}
	}
	switch s.Source {
	case "http":
		// The placeholder is no valid part of a host name.
		v.url(path+".url", strings.ReplaceAll(s.URL, "{carrier}", "carrier"), false)
		if s.JSONPath == "" {
			v.add(path+".json_path", "is missing: say where in the answer the version stands, for example $.version")
		}
	case "launchdarkly":
		v.url(path+".url", s.URL, true)
		need("project", s.Project, "the project's key")
		need("environment", s.Environment, "the environment's key")
		need("flag", s.Flag, "the flag's key")
		if s.Token == nil {
			v.add(path+".token", "is missing: write {env: NAME} or {file: PATH}")
		}
		for name := range s.Attributes {
			if name == "kind" || name == "key" {
				v.add(path+".attributes."+name, "is no attribute: the kind is user, and the key is context_key")
			}
		}
	case "featureflagset":
		if !isDNSLabel(s.Namespace) {
			v.add(path+".namespace", "%q is not a namespace: name that of the FeatureFlagSetLD on the carrier", s.Namespace)
		}
		if !isDNSName(strings.NewReplacer("{carrier}", "carrier", "{component}", "component").Replace(s.Name)) {
			v.add(path+".name", "%q is not an object's name: name the FeatureFlagSetLD on the carrier", s.Name)
		}
		need("flag", s.Flag, "the flag's key")
	}
}

func (c *Config) validateTiming(v *check) {
	t := c.Timing
	for key, d := range map[string]Duration{
		"tick": t.Tick, "soak": t.Soak, "evict_wait": t.EvictWait, "disk_wait": t.DiskWait, "redeploy_wait": t.RedeployWait,
		"approval": t.Approval, "deadline": t.Deadline, "lease": t.Lease,
	} {
		v.positive("timing."+key, d)
	}
	for key, d := range map[string]Duration{
		"absent_confirm": t.AbsentConfirm, "full_confirm": t.FullConfirm, "uncovered_confirm": t.UncoveredConfirm,
		"stuck_confirm": t.StuckConfirm, "quiet_after_new_pod": t.QuietAfterNewPod,
	} {
		if d < 0 {
			v.add("timing."+key, "%s is negative", d.std())
		}
	}
	if t.Tick.std() > playbook.MaxGap/2 {
		v.add("timing.tick", "%s is too long: looks more than %s apart start a soak again, so write at most %s",
			t.Tick.std(), playbook.MaxGap, playbook.MaxGap/2)
	}
	if t.Lease > 0 && t.Lease.std() < time.Second {
		v.add("timing.lease", "%s is too short to be renewed in time: write at least 1s", t.Lease.std())
	}
	const end = 90 * time.Minute
	if t.Deadline.std() > end {
		v.add("timing.deadline", "%s is beyond %s, which is the end of a run in any case", t.Deadline.std(), end)
	}
	v.positive("retention.runs", c.Retention.Runs)
	v.positive("retention.events", c.Retention.Events)
}

func (c *Config) validateLimits(v *check) {
	l := c.Limits
	for key, n := range map[string]int{
		"cordoned_nodes": l.CordonedNodes, "evictions_per_node": l.EvictionsPerNode, "evictions_per_run": l.EvictionsPerRun,
		"evictions_per_hour": l.EvictionsPerHour, "evictions_per_hour_all": l.EvictionsPerHourAll,
		"reapplies_per_6h": l.ReappliesPer6h, "promotions_per_6h": l.PromotionsPer6h, "restarts_per_day": l.RestartsPerDay,
		"missing_nodes_min": l.MissingNodesMin,
	} {
		if n < 0 {
			v.add("limits."+key, "%d is negative", n)
		}
	}
	if l.MissingNodesShare < 0 || l.MissingNodesShare > 1 {
		v.add("limits.missing_nodes_share", "%v is not a share between 0 and 1", l.MissingNodesShare)
	}
	if l.IneffectiveRuns < 1 {
		v.add("limits.ineffective_runs", "%d would keep every breaker open: write at least 1", l.IneffectiveRuns)
	}
}

// ruleConfig is the part of the configuration that reads titles.
func (c *Config) ruleConfig() incident.RuleConfig {
	rc := incident.RuleConfig{TitleRules: c.TitleRules, DiskTitles: c.DiskTitles, DaemonSets: []incident.DaemonSet{}}
	for _, d := range c.DaemonSets {
		rc.DaemonSets = append(rc.DaemonSets, incident.DaemonSet{Name: d.Name, Namespace: d.Namespace})
	}
	return rc
}

func (c *check) url(path, value string, optional bool) {
	if value == "" && optional {
		return
	}
	u, err := url.Parse(value)
	switch {
	case value == "":
		c.add(path, "is missing")
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		c.add(path, "%q is not an http or https address", value)
	case u.User != nil:
		c.problems = append(c.problems, problem{path: path, text: "holds a user or password: secrets are written as {env: NAME} or {file: PATH}", secret: true})
	}
}

func (c *check) ids(path string, ids []string) {
	for _, id := range ids {
		if !incident.ValidID(id) {
			c.add(path, "%q does not look like a PagerDuty id: letters, digits, - and _, as at the end of its page's address", id)
		}
	}
}

func (c *check) positive(path string, d Duration) {
	if d <= 0 {
		c.add(path, "%s is not positive", d.std())
	}
}

// onLoopback reports whether the server listens to this machine only.
func (c *Config) onLoopback() bool {
	host, _, err := net.SplitHostPort(c.Listen)
	return err == nil && isLoopback(host)
}

func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.IsLoopback()
}

var dnsLabel = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`)

func isDNSLabel(s string) bool { return len(s) <= 63 && dnsLabel.MatchString(s) }

func isDNSName(s string) bool {
	if len(s) > 253 {
		return false
	}
	for part := range strings.SplitSeq(s, ".") {
		if !isDNSLabel(part) {
			return false
		}
	}
	return true
}

// flatten takes an errors.Join apart.
func flatten(err error) []error {
	if err == nil {
		return nil
	}
	var joined interface{ Unwrap() []error }
	if errors.As(err, &joined) {
		return joined.Unwrap()
	}
	return []error{err}
}
