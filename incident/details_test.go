package incident

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// firing is what Alertmanager's default template puts under the key "firing".
const firing = `Labels:
 - alertname = KubeDaemonSetRolloutStuck
 - cluster = prod-dal10-carrier3
 - daemonset = node-exporter
 - job = kube-state-metrics
 - namespace = monitoring
 - node = 10.0.0.7
Annotations:
 - description = DaemonSet monitoring/node-exporter has not finished or progressed for at least 15m.
Source: http://prometheus.test/graph
`

func TestSubjectFromAlert(t *testing.T) {
	t.Parallel()
	const title = "[FIRING:1] KubeDaemonSetRolloutStuck monitoring (prod-dal10-carrier3 node-exporter kube-state-metrics warning)"
	stuck := Subject{Rule: "kube-prometheus", Alert: AlertRolloutStuck, Carrier: "prod-dal10-carrier3", DaemonSet: "node-exporter", Namespace: "monitoring"}
	labels := map[string]any{"daemonset": "node-exporter", "namespace": "monitoring", "cluster": "prod-dal10-carrier3"}
	with := func(pairs ...string) map[string]any {
		out := map[string]any{}
		for k, v := range labels {
			out[k] = v
		}
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i+1] == "" {
				delete(out, pairs[i])
			} else {
				out[pairs[i]] = pairs[i+1]
			}
		}
		return out
	}
	as := func(change func(*Subject)) Subject { s := stuck; change(&s); return s }

	tests := []struct {
		name    string
		title   string
		details any
		want    Subject
		reason  string
	}{
		{name: "labels as a map", title: title, details: labels, want: stuck},
		{name: "labels one level down", title: title, details: map[string]any{"commonLabels": labels, "num": 1.0}, want: stuck},
		{name: "Alertmanager's text", title: title, details: map[string]any{"firing": firing, "num_firing": "1", "resolved": ""}, want: stuck},
		{
			name: "what is resolved does not count", title: title, want: stuck,
			details: map[string]any{"firing": firing, "resolved": strings.ReplaceAll(firing, "node-exporter", "other")},
		},
		{name: "text alone", title: title, details: firing, want: stuck},
		{name: "text with Windows lines", title: title, details: strings.ReplaceAll(firing, "\n", "\r\n"), want: stuck},
		{name: "key: value lines", title: title, details: "daemonset: node-exporter\nnamespace: \"monitoring\"\ncarrier: prod-dal10-carrier3", want: stuck},
		{name: "JSON in a string", title: title, details: `{"daemonset":"node-exporter","namespace":"monitoring","carrier":"prod-dal10-carrier3"}`, want: stuck},
		{name: "raw JSON", title: title, details: json.RawMessage(`{"daemonset":"node-exporter","namespace":"monitoring","carrier":"prod-dal10-carrier3"}`), want: stuck},
		{name: "upper case", title: strings.ToUpper(title), details: with("daemonset", "Node-Exporter"), want: stuck},
		{name: "carrier wins over cluster", title: title, details: with("carrier", "edge7"), want: as(func(s *Subject) { s.Carrier = "edge7" })},
		{name: "exported namespace wins", title: title, details: with("exported_namespace", "logs"), want: as(func(s *Subject) { s.Namespace = "logs" })},
		{name: "region", title: title, details: with("region", "us-south"), want: as(func(s *Subject) { s.Region = "us-south" })},
		{name: "namespace of a known DaemonSet", title: title, details: with("namespace", ""), want: stuck},
		{name: "namespace of an unknown one", title: title, details: with("namespace", "", "daemonset", "x"), want: as(func(s *Subject) { s.Namespace, s.DaemonSet = "", "x" })},
		{name: "not scheduled", title: "KubeDaemonSetNotScheduled", details: labels, want: as(func(s *Subject) { s.Alert = AlertNotScheduled })},
		{name: "mis-scheduled", title: "KubeDaemonSetMisScheduled", details: labels, want: as(func(s *Subject) { s.Alert = AlertMisScheduled })},
		{name: "other rule set", title: "KubernetesDaemonsetRolloutStuck (instance x)", details: labels, want: stuck},
		{name: "alert named in the details only", title: "DaemonSet rollout is stuck.", details: with("alertname", "KubeDaemonSetRolloutStuck"), want: stuck},
		{
			name: "title says all", title: titleNode, details: with("daemonset", "other", "cluster", "other"),
			want: Subject{"not_running_all", AlertNotRunningAll, "prod-dal10-carrier3", "node-exporter", "monitoring", "us-south"},
		},
		{
			name: "title lacks the namespace", title: strings.Replace(titleNode, "node-exporter", "x", 1), details: with("namespace", "logs"),
			want: Subject{"not_running_all", AlertNotRunningAll, "prod-dal10-carrier3", "x", "logs", "us-south"},
		},

		{name: "no details", title: title, details: nil, reason: "alert details have no label daemonset"},
		{name: "no carrier", title: title, details: with("cluster", ""), reason: "alert details have no label carrier or cluster"},
		{
			name: "two DaemonSets", title: title, details: map[string]any{"firing": firing + strings.ReplaceAll(firing, "node-exporter", "other")},
			reason: `alert details: label daemonset has more than one value: "node-exporter" and "other"`,
		},
		{name: "bad name", title: title, details: with("daemonset", "../x"), reason: `alert details: daemonset "../x" is not a DNS name`},
		{name: "another alert", title: title, details: with("alertname", "NodeDown"), reason: "KubeDaemonSetRolloutStuck names its DaemonSet in the alert's details, not in the title"},
		{name: "neither title nor details", title: "CPU is hot", details: labels, reason: "no rule matches the title"},
		{name: "numbers for labels", title: title, details: map[string]any{"daemonset": 5.0, "cluster": nil}, reason: "alert details have no label daemonset"},
	}
	rules := mustRules(t, RuleConfig{})
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := rules.SubjectFromAlert(tt.title, tt.details)
			got.NeedsDetails = false
			want := Match{Matched: tt.reason == "", Reason: tt.reason, Subject: tt.want}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("SubjectFromAlert() (-want +got):\n%s", diff)
			}
		})
	}
}

func TestNeedsDetails(t *testing.T) {
	t.Parallel()
	rules := mustRules(t, RuleConfig{})
	for title, want := range map[string]bool{
		"[FIRING:1] KubeDaemonSetRolloutStuck monitoring": true,
		"DaemonSet pods are not scheduled.":               true,
		"CPU is hot":                                      false,
		titleNode:                                         false,
	} {
		if got := rules.Parse(title).NeedsDetails; got != want {
			t.Errorf("Parse(%q).NeedsDetails = %v, want %v", title, got, want)
		}
	}
}

func TestSubjectFromAlerts(t *testing.T) {
	t.Parallel()
	rules := mustRules(t, RuleConfig{})
	const title = "[FIRING:2] KubeDaemonSetRolloutStuck"
	one, other := Alert{Details: firing}, Alert{Details: strings.ReplaceAll(firing, "node-exporter", "other")}
	if m := rules.SubjectFromAlerts(title, []Alert{one, one}); !m.Matched || m.DaemonSet != "node-exporter" {
		t.Errorf("agreeing alerts: %+v", m)
	}
	want := "the incident's alerts are about prod-dal10-carrier3/monitoring/node-exporter and prod-dal10-carrier3/monitoring/other"
	if m := rules.SubjectFromAlerts(title, []Alert{one, other}); m.Matched || m.Reason != want {
		t.Errorf("disagreeing alerts: %+v, want %s", m, want)
	}
	if m := rules.SubjectFromAlerts(title, []Alert{one, {}}); m.Matched {
		t.Errorf("an alert that says nothing: %+v", m)
	}
	if m := rules.SubjectFromAlerts(title, nil); m.Matched || m.Reason == "" {
		t.Errorf("no alerts: %+v", m)
	}
	if m := rules.SubjectFromAlerts(titleNode, nil); !m.Matched {
		t.Errorf("a title that says all: %+v", m)
	}
}

func TestNodesInDetails(t *testing.T) {
	t.Parallel()
	details := map[string]any{"firing": firing + strings.ReplaceAll(firing, "10.0.0.7", "10.0.0.6")}
	if diff := cmp.Diff([]string{"10.0.0.6", "10.0.0.7"}, NodesInDetails(details)); diff != "" {
		t.Errorf("NodesInDetails() (-want +got):\n%s", diff)
	}
}

func FuzzSubjectFromAlert(f *testing.F) {
	f.Add("KubeDaemonSetRolloutStuck", firing)
	f.Add("x", `{"alertname":"KubeDaemonSetRolloutStuck","daemonset":"a","cluster":"b"}`)
	rules := mustRules(f, RuleConfig{})
	f.Fuzz(func(t *testing.T, title, details string) {
		if m := rules.SubjectFromAlert(title, details); m.Matched && m.check() != nil {
			t.Errorf("SubjectFromAlert(%q, %q) = %+v: %v", title, details, m, m.check())
		} else if !m.Matched && m.Reason == "" {
			t.Errorf("SubjectFromAlert(%q, %q): unmatched without a reason", title, details)
		}
		rules.SubjectFromAlert(title, json.RawMessage(details))
	})
}
