package incident

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTitleRules(t *testing.T) {
	t.Parallel()
	custom := func(n, carrier, ds, ns, region string) Subject {
		return Subject{Rule: "title_rules[" + n + "]", Alert: AlertCustom, Carrier: carrier, DaemonSet: ds, Namespace: ns, Region: region}
	}
	rules := mustRules(t, RuleConfig{
		TitleRules: []string{
			`^#\d+: DS (?P<daemonset>\S+) MISSING ON (?P<carrier>\S+)$`,
			`(?i)^(?P<region>[a-z-]+)/(?P<carrier>[^/]+)/(?P<namespace>[^/]+)/(?P<daemonset>[^/]+) is gone$`,
			`^blumemix\..*\.(?P<carrier>prod-tok[^.]*)\.not_running_all_(?P<daemonset>[^_]*)_`,
		},
		DaemonSets: []DaemonSet{
			{"node-exporter", "monitoring"},
			{"agent", "one"},
			{"agent", "two"},
			{"agent", "one"},
		},
	})
	tests := []struct {
		title  string
		want   Subject
		reason string
	}{
		{title: "#12: DS Node-Exporter MISSING ON Edge7", want: custom("0", "edge7", "node-exporter", "monitoring", "")},
		{title: "#12: US-South/edge7/Logs/Shipper is gone", want: custom("1", "edge7", "shipper", "logs", "us-south")},
		{title: "us/edge7/other/node-exporter is gone", want: custom("1", "edge7", "node-exporter", "other", "us")},
		{title: "blumemix.k.prod-tok02-carrier1.not_running_all_node-exporter_demonsets.jp", want: custom("2", "prod-tok02-carrier1", "node-exporter", "monitoring", "")},
		{title: titleNode, want: Subject{"not_running_all", AlertNotRunningAll, "prod-dal10-carrier3", "node-exporter", "monitoring", "us-south"}},
		{title: "a.b.c.not_running_all_agent_demonsets", want: Subject{"not_running_all", AlertNotRunningAll, "c", "agent", "", ""}},
		{title: "#12: DS a/b MISSING ON edge7", reason: `rule title_rules[0]: daemonset "a/b" is not a DNS name`},
		{title: "us/edge7/monitoring/\u212aube is gone", reason: "rule title_rules[1]: daemonset \"\u212aube\" is not a DNS name"},
		{title: "us/edge7/a.b/x is gone", reason: `rule title_rules[1]: namespace "a.b" is not a DNS label`},
		{title: "blumemix.k.prod-tok02-carrier1.not_running_all__demonsets.jp", reason: `rule title_rules[2]: daemonset "" is not a DNS name`},
	}
	for _, tt := range tests {
		t.Run(tt.title, func(t *testing.T) {
			t.Parallel()
			want := Match{Matched: tt.reason == "", Reason: tt.reason, Subject: tt.want}
			if diff := cmp.Diff(want, rules.Parse(tt.title)); diff != "" {
				t.Errorf("Parse() (-want +got):\n%s", diff)
			}
		})
	}
}

func TestNewRulesErrors(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		cfg  RuleConfig
		want []string
	}{
		{"broken expression", RuleConfig{TitleRules: []string{`(?P<carrier>a)(?P<daemonset>b)`, `(`}}, []string{"title_rules[1]", "missing closing )"}},
		{"no carrier", RuleConfig{TitleRules: []string{`(?P<daemonset>b)`}}, []string{"title_rules[0]", `"carrier" is missing`}},
		{"no daemonset", RuleConfig{TitleRules: []string{`(?P<carrier>b)`}}, []string{"title_rules[0]", `"daemonset" is missing`}},
		{"unknown group", RuleConfig{TitleRules: []string{`(?P<carrier>a)(?P<daemonset>b)(?P<zone>c)`}}, []string{"title_rules[0]", `"zone"`}},
		{"group twice", RuleConfig{TitleRules: []string{`(?P<carrier>a)(?P<daemonset>b)|(?P<carrier>c)`}}, []string{"title_rules[0]", "carrier"}},
		{
			"all at once",
			RuleConfig{TitleRules: []string{`(`}, DiskTitles: []string{`[`}, DaemonSets: []DaemonSet{{"UPPER", "x"}, {"x", ""}}},
			[]string{"title_rules[0]", "disk_titles[0]", "daemonsets[0]: name", "daemonsets[1]: namespace"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := NewRules(tt.cfg)
			if err == nil {
				t.Fatal("NewRules() accepted it")
			}
			for _, w := range tt.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("NewRules() error = %q, want it to contain %q", err, w)
				}
			}
		})
	}
}

func TestDiskIncidents(t *testing.T) {
	t.Parallel()
	const carrier = "prod-dal10-carrier3"
	tests := []struct {
		title string
		want  bool
	}{
		{"#1: blumemix.containers-kubernetes.prod-dal10-carrier3.10.1.2.3_disk_usage_high.us-south", true},
		{"Filesystem nearly full on PROD-DAL10-CARRIER3", true},
		{"prod-dal10-carrier3: filespace", true},
		{"(prod-dal10-carrier3) disk", true},
		{"prod-dal10-carrier3_disk_full", true},
		{"disk full on prod-dal10-carrier3-worker-07", true},
		{"disk full on prod-dal10-carrier3-master-01", true},
		{"prod-dal10-carrier33 and prod-dal10-carrier3 disk", true},
		{"disk full on prod-dal10-carrier33", false},
		{"disk full on prod-dal10-carrier3-b", false},
		{"disk full on stage-prod-dal10-carrier3", false},
		{"disk full on xprod-dal10-carrier3", false},
		{"disk full on prod-dal10-carrier3é", false},
		{"disk full on prod-dal12-carrier2", false},
		{"prod-dal10-carrier3 memory is short", false},
		{"a.b.prod-dal10-carrier3.not_running_all_disk-exporter_demonsets.us-south", false},
		{"disk", false},
		{"", false},
	}
	rules := mustRules(t, RuleConfig{})
	var open []Incident
	var want []string
	for _, tt := range tests {
		open = append(open, Incident{Title: tt.title})
		if tt.want {
			want = append(want, tt.title)
		}
	}
	var got []string
	for _, in := range rules.DiskIncidents(open, carrier) {
		got = append(got, in.Title)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("DiskIncidents() (-want +got):\n%s", diff)
	}
	if rules.IsDiskTitle("disk", "") {
		t.Error("an empty carrier has disk incidents")
	}
	none := mustRules(t, RuleConfig{DiskTitles: []string{}})
	if none.IsDiskTitle("disk full on prod-dal10-carrier3", carrier) {
		t.Error("an empty list of disk_titles still finds disk incidents")
	}
}
