package main

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"

	"github.com/drydock/drydock/playbook"
	"github.com/drydock/drydock/playbook/kube"
)

func TestConfigErrorsNameKeyLineAndMend(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		yaml string
		want []string // each must appear
	}{
		"unknown key": {
			"listen: 127.0.0.1:1\npagerduty:\n  tokn: {env: X}\n",
			[]string{`drydock.yaml:3: pagerduty.tokn: unknown key "tokn": did you mean "token"?`, "3 |   tokn: {env: X}"},
		},
		"unknown key far from any": {
			"colour: red\n",
			[]string{`drydock.yaml:1: colour: unknown key "colour": the keys here are listen, public_url`},
		},
		"unknown key in a list": {
			"carriers:\n  - name: c1\n    kubeconfig: k\n    podlimit: 3\n",
			[]string{`:4: carriers[0].podlimit: unknown key "podlimit": did you mean "pod_limit"?`},
		},
		"all at once": {
			"listn: x\nmode: off\ntiming: {tick: 5 seconds, soak: 1m}\nlimits: {evictions_per_node: many}\n",
			[]string{
				`:1: listn: unknown key`, `:2: mode: "off" is not one of observe, approve, act`, `:3: timing.tick: "5 seconds" is not a duration`,
				`:4: limits.evictions_per_node: "many" is not a whole number`,
			},
		},
		"duplicate key": {"mode: act\nmode: observe\n", []string{"already defined"}},
		"not yaml":      {"a: [1\n", []string{"drydock.yaml: "}},
		"a list":        {"- a\n", []string{"the configuration: must be a mapping"}},
		"two documents": {"mode: act\n---\nmode: act\n", []string{"2 YAML documents"}},
		"secret written out": {
			"pagerduty:\n  from: a@b.c\n  token: hunter2\n",
			[]string{":3: pagerduty.token: a secret is not written into the configuration: write {env: NAME} or {file: PATH}"},
		},
		"secret with both":     {"database_url: {env: A, file: b}\n", []string{"database_url: needs exactly one of env and file"}},
		"secret with nothing":  {"database_url:\n", []string{":1: database_url: is empty: write {env: NAME} or {file: PATH}, or leave the key out"}},
		"secret with no name":  {"database_url: {env: ''}\n", []string{"database_url.env: is empty"}},
		"secret in a list":     {"pagerduty: {webhook_secrets: [abc]}\n", []string{"pagerduty.webhook_secrets[0]: a secret"}},
		"list for a word":      {"mode: [1]\n", []string{":1: mode: must be one of observe, approve, act"}},
		"list behind an alias": {"approvers: &a [x]\nmode: *a\n", []string{"mode: must be one of observe, approve, act"}},
		"merged":               {"timing: &a {tick: [1]}\npagerduty: {<<: *a}\n", []string{"timing.tick: is not a duration", `pagerduty.tick: unknown key "tick"`}},
		"secret merged":        {"public_url: &a hunter2\npagerduty: {from: a@b.c, token: *a}\n", []string{"pagerduty.token: a secret is not written"}},
		"merged into itself":   {"timing: &a\n  tick: 1s\n  <<: *a\n", []string{":3: the configuration: the alias *a stands in its own anchor: write out what it is to be"}},
		"one name, two values": {"timing: &a {tick: 1s}\nlimits: &a {<<: *a}\n", []string{":2: the configuration: the anchor &a is defined twice"}},
		"no such alias":        {"mode: *a\n", []string{"drydock.yaml"}},
		"not text":             {"listen: \"\\x1b[31m\"\nx\x1b[31m: 1\n", []string{`\x1b[31m`}},
		"unknown role":         {"role: foo\n", []string{`role: "foo" is not one of all, ingest, worker`}},
		"bad title rule":       {"title_rules: ['(?P<carrier>[']\n", []string{":1: title_rules[0]: ", "error parsing regexp"}},
		"rule without a group": {"title_rules:\n- '(?P<carrier>.*)'\n", []string{`:2: title_rules[0]: `, `"daemonset" is missing`}},
		"bad disk title":       {"disk_titles: ['(']\n", []string{"disk_titles[0]: "}},
		"open to all":          {"listen: 0.0.0.0:80\n", []string{"listen: 0.0.0.0:80 is reachable", "api_tokens must not be empty"}},
		"no host":              {"listen: ':80'\n", []string{"api_tokens must not be empty"}},
		"no port":              {"listen: localhost\n", []string{`listen: "localhost" is not host:port`}},
		"worker without db":    {"role: worker\n", []string{"role: worker needs database_url"}},
		"act without key":      {"database_url: {env: A}\nmode: act\n", []string{"backup_key: is needed with database_url"}},
		"token entries": {
			"api_tokens:\n- {role: viewer, sha256: {env: A}}\n- {name: a, sha256: {env: A}}\n- {name: a, role: root}\n",
			[]string{"api_tokens[0].name: is missing", "api_tokens[1].role: is missing", `api_tokens[2].name: "a" is listed twice`,
				`api_tokens[2].role: "root" is not one of viewer, operator, approver, admin`, "api_tokens[2].sha256: is missing"},
		},
		"carrier entries": {
			"carriers:\n- {kubeconfig: k}\n- {name: a b, kubeconfig: k, drain_namespaces: [A_B]}\n- {name: C1, pod_limit: -1}\n- {name: c1, kubeconfig: k}\n",
			[]string{"carriers[0].name: is missing", `carriers[1].name: "a b" can not be`, `carriers[1].drain_namespaces[0]: "A_B"`,
				"carriers[2].pod_limit: -1 is negative", "carriers[2].kubeconfig: is missing", `carriers[3].name: "c1" is listed twice`},
		},
		"controller-manager by ssh": {
			"carriers:\n- {name: a, kubeconfig: k, controller_manager: {restart: ssh}}\n" +
				"- {name: b, kubeconfig: k, controller_manager: {restart: ssh, namespace: x, ssh: {}}}\n" +
				"- {name: c, kubeconfig: k, controller_manager: {restart: ssh, ssh: {user: '-x', key: {env: A}, known_hosts: h, runtime: podman, port: 70000, hosts: {'a b': c, d: 'e:22', f: '10.0.0.1'}}}}\n" +
				"- {name: d, kubeconfig: k, controller_manager: {ssh: {user: root}}}\n- {name: e, kubeconfig: k, controller_manager: {restart: ssh, ssh: {usr: root}}}\n",
			[]string{"carriers[0].controller_manager.ssh: is missing", "carriers[1].controller_manager: namespace and name are of a Deployment",
				"carriers[1].controller_manager.ssh.user: \"\"", "carriers[1].controller_manager.ssh.key: is missing",
				"carriers[1].controller_manager.ssh.known_hosts: is missing", "carriers[1].controller_manager.ssh.runtime: is missing",
				"carriers[2].controller_manager.ssh.user: \"-x\"", "carriers[2].controller_manager.ssh.key: is read from a file",
				"carriers[2].controller_manager.ssh.runtime: \"podman\" is not one of docker, crictl", "carriers[2].controller_manager.ssh.port: 70000",
				"carriers[2].controller_manager.ssh.hosts: \"a b\"", "carriers[2].controller_manager.ssh.hosts.d: \"e:22\"",
				"carriers[3].controller_manager.ssh: is used only with restart: ssh", `unknown key "usr": did you mean "user"?`},
		},
		"controller-manager as a Deployment": {
			"carriers:\n- {name: a, kubeconfig: k, controller_manager: {restart: deployment, namespace: A_B, name: 'x y'}}\n- {name: b, kubeconfig: k, controller_manager: {name: x}}\n",
			[]string{"carriers[0].controller_manager.namespace: \"A_B\"", "carriers[0].controller_manager.name: \"x y\"",
				"carriers[1].controller_manager: namespace and name are of a Deployment"},
		},
		"daemonset entries": {
			"daemonsets:\n- {name: a, namespace: b, promotion: x, escalation_policy: 'no id'}\n- {name: a, namespace: b, reapply: maybe}\n- {name: A, namespace: ''}\n",
			[]string{`daemonsets[0].promotion: "x" is not a key of promotions`, `daemonsets[0].escalation_policy: "no id" does not look like`,
				"daemonsets[1]: b/a is listed twice", `daemonsets[1].reapply: "maybe"`, `daemonsets[2].name: "A"`, `daemonsets[2].namespace: ""`},
		},
		"promotion entries": {
			"promotions:\n  x:\n    version: {source: http}\n    jenkins: {url: ftp://h, job: j}\n  y: {}\n",
			[]string{"promotions.x.version.url: is missing", "promotions.x.version.json_path: is missing", `promotions.x.jenkins.url: "ftp://h"`,
				"promotions.x.jenkins.user: is missing", "promotions.x.jenkins.token: is missing", "promotions.y.version.source: is missing",
				"promotions.y.jenkins: is missing"},
		},
		"version sources": {
			"promotions:\n  a: {version: {source: launchdarkly, url: nowhere, json_path: a..b, name: n, attributes: {key: x}}}\n" +
				"  b: {version: {source: featureflagset, namespace: A_B, name: 'x y', token: {env: T}, project: p}}\n  c: {version: {source: http, flag: f}}\n" +
				"  d: {version: {source: razee}}\n",
			[]string{`promotions.a.version.url: "nowhere" is not`, "promotions.a.version.json_path: ", "promotions.a.version.name: means nothing to source launchdarkly: remove it",
				"promotions.a.version.project: is missing: name the project's key", "promotions.a.version.environment: is missing", "promotions.a.version.flag: is missing",
				"promotions.a.version.token: is missing: write {env", "promotions.a.version.attributes.key: is no attribute",
				`promotions.b.version.namespace: "A_B" is not a namespace`, `promotions.b.version.name: "x y" is not`, "promotions.b.version.flag: is missing",
				"promotions.b.version.token: means nothing", "promotions.b.version.project: means nothing", "promotions.c.version.flag: means nothing to source http",
				`promotions.d.version.source: "razee" is not one of http, launchdarkly, featureflagset`},
		},
		"password in an address": {"pagerduty: {api_url: 'https://u:hunter2@x'}\n", []string{"pagerduty.api_url: holds a user or password"}},
		"timing": {
			"timing: {tick: 40s, lease: 10ms, deadline: 2h, full_confirm: -1s}\nretention: {runs: 0s}\n",
			[]string{"timing.tick: 40s is too long", "timing.lease: 10ms is too short", "timing.deadline: 2h0m0s is beyond",
				"timing.full_confirm: -1s is negative", "retention.runs: 0s is not positive"},
		},
		"limits": {
			"limits: {missing_nodes_share: 20, evictions_per_run: -1, ineffective_runs: 0}\n",
			[]string{"limits.missing_nodes_share: 20 is not a share", "limits.evictions_per_run: -1 is negative", "limits.ineffective_runs: 0"},
		},
		"pagerduty": {
			"pagerduty: {token: {env: A}, api_url: x, service_ids: ['p 1'], reconcile_every: 0s}\nself_alert: {}\n",
			[]string{"pagerduty.from: is missing", `pagerduty.api_url: "x"`, `pagerduty.service_ids: "p 1"`, "reconcile_every: 0s is not positive",
				"self_alert.routing_key: is missing"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := parseConfig("drydock.yaml", []byte(tt.yaml))
			var exit *exitError
			if !errors.As(err, &exit) || exit.code != exitUsage {
				t.Fatalf("got %v, want a usage error", err)
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error lacks %q:\n%v", want, err)
				}
			}
			for _, never := range []string{"hunter2", "Go struct", "interface {}", "\x1b", "foo needs database_url"} {
				if strings.Contains(err.Error(), never) {
					t.Errorf("error shows %q:\n%v", never, err)
				}
			}
		})
	}
}

func TestConfigDefaults(t *testing.T) {
	t.Parallel()
	for name, yaml := range map[string]string{
		"empty": "", "only comments": "# nothing\n", "null": "null\n", "empty keys": "timing:\nlimits:\npagerduty:\nretention:\nlisten:\ndisk_titles:\n",
		"one key each": "timing: {tick: 5s}\nlimits: {evictions_per_node: 5}\nretention: {runs: 400d}\npagerduty: {acknowledge: false}\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := parseConfig("drydock.yaml", []byte(yaml))
			if err != nil {
				t.Fatal(err)
			}
			if got, want := c.Timing.policy(), playbook.DefaultTiming(); got != want {
				t.Errorf("timing: %s", cmp.Diff(want, got))
			}
			if got, want := playbook.Limits(c.Limits), playbook.DefaultLimits(); got != want {
				t.Errorf("limits: %s", cmp.Diff(want, got))
			}
			if c.Listen != "127.0.0.1:8080" || c.Mode != playbook.ModeObserve || c.Role != roleAll || c.DataDir != "./data" ||
				c.PagerDuty.APIURL != "https://api.pagerduty.com" || c.PagerDuty.ReconcileEvery.std() != time.Minute ||
				c.Retention.Runs.std() != 400*24*time.Hour || c.Retention.Events.std() != 90*24*time.Hour ||
				len(c.DiskTitles) != 1 || c.DatabaseURL != nil {
				t.Errorf("not the defaults: %+v", c)
			}
			var names []string
			for _, d := range c.DaemonSets {
				names = append(names, d.Namespace+"/"+d.Name+" "+string(d.Reapply)+" "+d.Promotion)
			}
			want := []string{"monitoring/node-exporter if_needed ", "monitoring/docker-metrics-endpoint if_needed ", "ibm-system/ibm-kube-fluentd if_needed "}
			if diff := cmp.Diff(want, names); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// The file in the repository is complete: it names every key, and what it shows as a default is the default.
func TestRepositoryConfig(t *testing.T) {
	t.Parallel()
	const file = "../../drydock.yaml"
	c, err := loadConfig(file)
	if err != nil {
		t.Fatal(err)
	}
	src, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range keysOf(reflect.TypeFor[Config]()) {
		if !strings.Contains(string(src), key+":") {
			t.Errorf("%s does not show the key %s", file, key)
		}
	}
	d := defaultConfig()
	if diff := cmp.Diff(d.Timing, c.Timing); diff != "" {
		t.Errorf("timing: %s", diff)
	}
	if diff := cmp.Diff(d.Limits, c.Limits); diff != "" {
		t.Errorf("limits: %s", diff)
	}
	if diff := cmp.Diff(d.Retention, c.Retention); diff != "" {
		t.Errorf("retention: %s", diff)
	}
	if c.Listen != d.Listen || c.Mode != d.Mode || c.Role != d.Role || c.OnAcknowledge != d.OnAcknowledge ||
		c.PagerDuty.APIURL != d.PagerDuty.APIURL || c.PagerDuty.ReconcileEvery != d.PagerDuty.ReconcileEvery ||
		!cmp.Equal(c.DiskTitles, d.DiskTitles) || c.DataDir != d.DataDir {
		t.Errorf("%s shows other values than the defaults", file)
	}
}

func keysOf(t reflect.Type) []string {
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map:
		return keysOf(t.Elem())
	case reflect.Struct:
	default:
		return nil
	}
	var keys []string
	for f := range t.Fields() {
		if name := f.Tag.Get("yaml"); name != "" {
			keys = append(append(keys, name), keysOf(f.Type)...)
		}
	}
	return keys
}

func TestPolicies(t *testing.T) {
	t.Parallel()
	c, err := parseConfig("/etc/drydock/drydock.yaml", []byte(`
public_url: https://drydock.example.com/
mode: approve
on_acknowledge: continue
backup_key: {env: K}
carriers:
  - {name: Prod-Dal10-Carrier3, kubeconfig: a.yaml, mode: act, pod_limit: 31, drain_namespaces: [], controller_manager: {restart: deployment}}
  - {name: prod-dal10-carrier4, kubeconfig: /abs.yaml}
  - name: prod-dal10-carrier5
    kubeconfig: /abs.yaml
    controller_manager: {restart: ssh, ssh: {user: root, key: {file: id}, known_hosts: /known, runtime: crictl, hosts: {master-01: 10.1.2.3}}}
daemonsets:
  - {name: node-exporter, namespace: monitoring, escalation_policy: PARMOPS, team: armada-ops, reapply: always}
timing: {tick: 1s}
`))
	if err != nil {
		t.Fatal(err)
	}
	entries := []kube.Entry{
		{Name: "prod-dal10-carrier3", Kubeconfig: "/etc/drydock/a.yaml", ControllerManager: kube.ControllerManager{Restart: "deployment"}},
		{Name: "prod-dal10-carrier4", Kubeconfig: "/abs.yaml", ControllerManager: kube.ControllerManager{Restart: "none"}},
		{Name: "prod-dal10-carrier5", Kubeconfig: "/abs.yaml", ControllerManager: kube.ControllerManager{Restart: "ssh", SSH: &kube.SSH{
			User: "root", KeyFile: "/etc/drydock/id", KnownHosts: "/known", Port: 22, Runtime: "crictl", Hosts: map[string]string{"master-01": "10.1.2.3"}}}},
	}
	if diff := cmp.Diff(entries, c.entries()); diff != "" {
		t.Error(diff)
	}
	policy := c.policies("inst")
	timing := playbook.DefaultTiming()
	timing.Tick = time.Second
	want := playbook.Policy{
		Mode: playbook.ModeAct, PodLimit: 31, DrainFrom: []string{}, RestartDriver: "deployment",
		DaemonSet: playbook.DaemonSetPolicy{Known: true, EscalationPolicy: "PARMOPS", Team: "armada-ops", Reapply: playbook.ReapplyAlways},
		Timing:    timing, Limits: playbook.DefaultLimits(), PublicURL: "https://drydock.example.com", Installation: "inst",
	}
	got := policy(playbook.Target{Carrier: "prod-dal10-carrier3", Namespace: "monitoring", DaemonSet: "node-exporter"})
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	want.Mode, want.PodLimit, want.DrainFrom, want.RestartDriver = playbook.ModeApprove, 0, []string{"kubx-masters"}, ""
	want.DaemonSet = playbook.DaemonSetPolicy{Reapply: playbook.ReapplyIfNeeded}
	got = policy(playbook.Target{Carrier: "prod-dal10-carrier4", Namespace: "monitoring", DaemonSet: "other"})
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestSecretsNameAllThatIsMissing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "s")
	if err := os.WriteFile(file, []byte(" from file \n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := &secrets{
		getenv: func(name string) string { return map[string]string{"SET": "value", "BLANK": " \n"}[name] },
		path:   func(p string) string { return p },
	}
	if got := s.get("a", &Secret{Env: "SET"}); got != "value" {
		t.Errorf("env: %q", got)
	}
	if got := s.get("b", &Secret{File: file}); got != "from file" {
		t.Errorf("file: %q", got)
	}
	if got := s.get("c", nil); got != "" || s.err() != nil {
		t.Errorf("absent: %q, %v", got, s.err())
	}
	s.get("database_url", &Secret{Env: "BLANK"})
	s.get("pagerduty.token", &Secret{Env: "UNSET"})
	s.get("backup_key", &Secret{File: filepath.Join(dir, "none")})
	err := s.err()
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"database_url: environment variable BLANK is empty", "pagerduty.token: environment variable UNSET", "backup_key: file"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error lacks %q: %v", want, err)
		}
	}
}

func TestConfigSchemaCoversEveryKey(t *testing.T) {
	t.Parallel()
	b, err := json.Marshal(configSchema())
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range keysOf(reflect.TypeFor[Config]()) {
		if !strings.Contains(string(b), `"`+key+`":`) {
			t.Errorf("schema lacks %s", key)
		}
	}
	for _, want := range []string{`"default":"400d"`, `"default":"2m"`, `"additionalProperties":false`, `"enum":["observe","approve","act"]`} {
		if !strings.Contains(string(b), want) {
			t.Errorf("schema lacks %s", want)
		}
	}
}

// The schema takes what the program takes, and refuses what it refuses: editors go by it.
func TestConfigSchemaOnExamples(t *testing.T) {
	t.Parallel()
	b, err := json.Marshal(configSchema())
	if err != nil {
		t.Fatal(err)
	}
	var schema openapi3.Schema
	if err := json.Unmarshal(b, &schema); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		text  string
		valid bool
	}{
		"the example":         {readFile(t, filepath.Join("..", "..", "drydock.yaml")), true},
		"nothing":             {"{}", true},
		"an unknown key":      {"modus: act", false},
		"a value of no list":  {"mode: loud", false},
		"a secret in clear":   {"database_url: postgres://u:p@h/d", false},
		"two kinds of secret": {"database_url: {env: A, file: b}", false},
		"no duration":         {"timing: {tick: soon}", false},
		"days":                {"retention: {runs: 30d}", true},
		"a nameless carrier":  {"carriers: [{kubeconfig: k}]", false},
		"a text for a number": {"limits: {evictions_per_run: many}", false},
	} {
		var value map[string]any
		if err := yaml.Unmarshal([]byte(tt.text), &value); err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		var plain any
		if err := json.Unmarshal(text, &plain); err != nil {
			t.Fatal(err)
		}
		if err := schema.VisitJSON(plain, openapi3.EnableJSONSchema2020()); (err == nil) != tt.valid {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := parseConfig("drydock.yaml", []byte(tt.text)); (err == nil) != tt.valid {
			t.Errorf("%s: the program says %v", name, err)
		}
	}
}

func FuzzParseConfig(f *testing.F) {
	f.Add([]byte("listen: 127.0.0.1:1\ncarriers: [{name: a, kubeconfig: b}]\n"))
	f.Add([]byte("x: &a {b: c}\ny: *a\n<<: *a\n"))
	f.Add([]byte("timing: {tick: !!str 5s}\n? [a]\n: b\n"))
	f.Fuzz(func(t *testing.T, src []byte) {
		c, err := parseConfig("drydock.yaml", src)
		if (c == nil) == (err == nil) {
			t.Fatalf("config %v and error %v", c, err)
		}
		if err != nil && err.Error() == "" {
			t.Fatal("an error without words")
		}
	})
}

// A key that is named and is not there stops serve, as any missing secret does; checking the configuration needs none.
func TestResolveNamesAMissingSSHKey(t *testing.T) {
	t.Parallel()
	c, err := parseConfig(filepath.Join(t.TempDir(), "drydock.yaml"), []byte(`
carriers: [{name: a, kubeconfig: k, controller_manager: {restart: ssh, ssh: {user: root, key: {file: id}, known_hosts: h, runtime: docker}}}]
`))
	if err != nil {
		t.Fatal(err)
	}
	_, err = resolve(c, func(string) string { return "" })
	if err == nil || !strings.Contains(err.Error(), "carriers[0].controller_manager.ssh.key: file id does not exist") {
		t.Errorf("error = %v", err)
	}
}
