package incident

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func mustRules(t testing.TB, cfg RuleConfig) *Rules {
	t.Helper()
	r, err := NewRules(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

const (
	titleFluentd = "#3475713: blumemix.containers-kubernetes.prod-dal10-carrier3.not_running_all_ibm-kube-fluentd_demonsets.us-south"
	titleNode    = "#3786454: blumemix.containers-kubernetes.prod-dal10-carrier3.not_running_all_node-exporter_demonsets.us-south"
	titleMetrics = "#3786453: blumemix.containers-kubernetes.prod-dal10-carrier3.not_running_all_docker-metrics-endpoint_demonsets.us-south"
	titleAbsent  = "#3789453: blumemix.containers-kubernetes.prod-dal12-carrier2.node-exporter_daemonset_absent.us-south"
)

func TestParseTitle(t *testing.T) {
	t.Parallel()
	missing := func(ds, ns string) Subject {
		return Subject{Rule: "not_running_all", Alert: AlertNotRunningAll, Carrier: "prod-dal10-carrier3", DaemonSet: ds, Namespace: ns, Region: "us-south"}
	}
	node := missing("node-exporter", "monitoring")
	absent := Subject{Rule: "absent", Alert: AlertAbsent, Carrier: "prod-dal12-carrier2", DaemonSet: "node-exporter", Namespace: "monitoring", Region: "us-south"}
	with := func(s Subject, change func(*Subject)) Subject { change(&s); return s }
	tests := []struct {
		title string
		want  Subject
	}{
		// The runbook's four.
		{titleFluentd, missing("ibm-kube-fluentd", "ibm-system")},
		{titleNode, node},
		{titleMetrics, missing("docker-metrics-endpoint", "monitoring")},
		{titleAbsent, absent},
		// Their kin.
		{strings.TrimPrefix(titleNode, "#3786454: "), node},
		{strings.Replace(titleNode, "#3786454: ", "#3786454:", 1), node},
		{strings.Replace(titleNode, "#3786454: ", "[#3786454] ", 1), node},
		{"\t " + titleNode + " \n", node},
		{strings.ToUpper(titleNode), node},
		{strings.Replace(titleNode, "node-exporter", "Node-Exporter", 1), node},
		{strings.Replace(titleNode, "demonsets", "daemonsets", 1), node},
		{strings.Replace(titleNode, "demonsets", "daemonset", 1), node},
		{strings.Replace(titleNode, "demonsets", "demonset", 1), node},
		{strings.Replace(titleNode, "demonsets", "DeamonSets", 1), node},
		{strings.Replace(titleNode, "blumemix", "bluemix", 1), node},
		{strings.Replace(titleNode, ".us-south", "", 1), with(node, func(s *Subject) { s.Region = "" })},
		{strings.Replace(titleNode, "us-south", "eu-de", 1), with(node, func(s *Subject) { s.Region = "eu-de" })},
		{strings.Replace(titleNode, "prod-dal10-carrier3", "stage1", 1), with(node, func(s *Subject) { s.Carrier = "stage1" })},
		{strings.Replace(titleNode, "node-exporter", "log.agent-v1.2", 1), missing("log.agent-v1.2", "")},
		{strings.Replace(titleNode, "node-exporter", "7", 1), missing("7", "")},
		{strings.Replace(titleAbsent, "daemonset_absent", "demonset_absent", 1), absent},
		{strings.Replace(titleAbsent, "daemonset_absent", "daemonsets_absent", 1), absent},
		{strings.Replace(titleAbsent, "node-exporter", "log.agent", 1), with(absent, func(s *Subject) { s.DaemonSet, s.Namespace = "log.agent", "" })},
		{strings.Replace(titleAbsent, ".us-south", "", 1), with(absent, func(s *Subject) { s.Region = "" })},
	}
	rules := mustRules(t, RuleConfig{})
	for _, tt := range tests {
		t.Run(tt.title, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(Match{Matched: true, Subject: tt.want}, rules.Parse(tt.title)); diff != "" {
				t.Errorf("Parse() (-want +got):\n%s", diff)
			}
		})
	}
}

func TestParseTitleUnmatched(t *testing.T) {
	t.Parallel()
	const none = "no rule matches the title"
	tests := []struct{ name, title, reason string }{
		{"empty", "", "title is empty"},
		{"spaces", " \t\n ", "title is empty"},
		{"other alert", "Disk is full on prod-dal10-carrier3", none},
		{"10 kB", titleNode + strings.Repeat("x", 10_000), "title is longer than 2048 bytes"},
		{"10 kB of one character", strings.Repeat("a.", 1000), none},
		{"something in front", "FW: " + titleNode, none},
		{"something behind", titleNode + ".more words", none},
		{"two titles", titleNode + " " + titleAbsent, none},
		{"second line", titleNode + "\n" + titleAbsent, none},
		{"no product", "prod-dal10-carrier3.not_running_all_node-exporter_demonsets.us-south", none},
		{"carrier as product", "prod-dal1-carrier1.x.prod-dal10-carrier3.not_running_all_node-exporter_demonsets.us-south", "title names more than one carrier"},
		{"second carrier in front", "a.prod-dal1-carrier1.prod-dal10-carrier3.not_running_all_node-exporter_demonsets.us-south", "title names more than one carrier"},
		{"two carriers and a product", "a.b.prod-dal1-carrier1.prod-dal10-carrier3.not_running_all_node-exporter_demonsets.us-south", none},
		{"second carrier as DaemonSet", "a.b.prod-dal10-carrier3.prod-dal12-carrier2.node-exporter_daemonset_absent.us-south", "title names more than one carrier"},
		{"second carrier as region", "a.b.prod-dal10-carrier3.not_running_all_node-exporter_demonsets.prod-dal12-carrier2", "title names more than one carrier"},
		{"two alerts in one", "a.b.prod-dal10-carrier3.not_running_all_node-exporter_demonsets.not_running_all_x_demonsets.us-south", none},
		{"no DaemonSet", "a.b.prod-dal10-carrier3.not_running_all__demonsets.us-south", none},
		{"no carrier", "a.b..not_running_all_node-exporter_demonsets.us-south", none},
		{"DaemonSet begins with a dash", "a.b.c.not_running_all_-x_demonsets.us-south", none},
		{"DaemonSet with two dots", "a.b.c.not_running_all_x..y_demonsets.us-south", none},
		{"DaemonSet that climbs", "a.b.c.not_running_all_../../x_demonsets.us-south", none},
		{"DaemonSet of 254 characters", "a.b.c.not_running_all_" + strings.Repeat("x", 254) + "_demonsets.us-south", "rule not_running_all: daemonset \"" + strings.Repeat("x", 64) + "\"... is not a DNS name"},
		{"Kelvin sign", strings.Replace(titleFluentd, "kube", "\u212aube", 1), none},
		{"long s", strings.Replace(titleNode, "demonsets", "demonſets", 1), none},
		{"Cyrillic letter", strings.Replace(titleNode, "carrier3", "c\u0430rrier3", 1), none},
		{"zero-width space", strings.Replace(titleNode, "node-", "node\u200b-", 1), none},
		{"broken UTF-8", "\xff" + titleNode, none},
	}
	rules := mustRules(t, RuleConfig{})
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := rules.Parse(tt.title)
			if got.Matched || got.Reason != tt.reason || got.Subject != (Subject{}) {
				t.Errorf("Parse() = %+v, want unmatched: %s", got, tt.reason)
			}
		})
	}
}

func TestMatchJSON(t *testing.T) {
	t.Parallel()
	rules := mustRules(t, RuleConfig{})
	for title, want := range map[string]string{
		titleNode: `{"matched":true,"rule":"not_running_all","alert":"not_running_all","carrier":"prod-dal10-carrier3",` +
			`"daemonset":"node-exporter","namespace":"monitoring","region":"us-south"}`,
		"hello": `{"matched":false,"reason":"no rule matches the title"}`,
	} {
		got, err := json.Marshal(rules.Parse(title))
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != want {
			t.Errorf("json of %q = %s, want %s", title, got, want)
		}
	}
}

func FuzzParseTitle(f *testing.F) {
	for _, s := range []string{titleFluentd, titleNode, titleMetrics, titleAbsent, "", "[FIRING:1] KubeDaemonSetRolloutStuck x", "a.b.c.d_daemonset_absent"} {
		f.Add(s)
	}
	rules := mustRules(f, RuleConfig{TitleRules: []string{`(?i)ds=(?P<daemonset>.*) on (?P<carrier>.*)`}})
	f.Fuzz(func(t *testing.T, title string) {
		m := rules.Parse(title)
		if m != rules.Parse("  "+title+" ") && len(title) < maxTitle-3 {
			t.Errorf("spaces around %q change the answer", title)
		}
		if !m.Matched {
			if m.Reason == "" || m.Subject != (Subject{}) {
				t.Errorf("Parse(%q) = %+v: unmatched without a reason, or with a subject", title, m)
			}
			return
		}
		if err := m.check(); err != nil {
			t.Errorf("Parse(%q): %v", title, err)
		}
		if m.Carrier != strings.ToLower(m.Carrier) || m.DaemonSet != strings.ToLower(m.DaemonSet) {
			t.Errorf("Parse(%q) = %+v: not lower case", title, m.Subject)
		}
		if _, err := json.Marshal(m); err != nil {
			t.Errorf("json of Parse(%q): %v", title, err)
		}
	})
}
