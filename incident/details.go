package incident

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// ruleKubePrometheus names the rule that reads alert details.
const ruleKubePrometheus = "kube-prometheus"

// The DaemonSet alerts of kubernetes-mixin and of awesome-prometheus-alerts, in lower case.
var kubeAlerts = map[string]struct{ name, alert string }{
	"kubedaemonsetrolloutstuck":       {"KubeDaemonSetRolloutStuck", AlertRolloutStuck},
	"kubedaemonsetnotscheduled":       {"KubeDaemonSetNotScheduled", AlertNotScheduled},
	"kubedaemonsetmisscheduled":       {"KubeDaemonSetMisScheduled", AlertMisScheduled},
	"kubernetesdaemonsetrolloutstuck": {"KubernetesDaemonsetRolloutStuck", AlertRolloutStuck},
	"kubernetesdaemonsetmisscheduled": {"KubernetesDaemonsetMisscheduled", AlertMisScheduled},
}

var word = regexp.MustCompile(`[A-Za-z0-9]+`)

// alertInTitle looks for a known alert name as a word. Alertmanager's default title is "[FIRING:1] " and the values of
// labels without their keys, so nothing but the alert's name can be told from it.
func alertInTitle(title string) (alert, name string, ok bool) {
	for _, w := range word.FindAllString(title, -1) {
		if a, known := kubeAlerts[lowerASCII(w)]; known {
			return a.alert, a.name, true
		}
	}
	return "", "", false
}

// SubjectFromAlert reads a title and, where the title does not say it all, the alert's custom details: a decoded JSON object
// or a text with lines `key: value` or `key = value`, as Alertmanager writes them. The labels read are alertname, daemonset,
// namespace (exported_namespace wins), carrier (else cluster) and region. Two different values for one label are an
// ambiguity, not a choice.
func (r *Rules) SubjectFromAlert(title string, details any) Match {
	m := r.Parse(title)
	if m.Matched && m.Namespace != "" {
		return m
	}
	labels := labelsOf(details)
	if m.Matched {
		if ns, err := labels.one("exported_namespace", "namespace"); err == nil && ValidLabel(ns) {
			m.Namespace = ns
		}
		return m
	}
	alert, ok := labels.alert(title)
	if !ok {
		return m
	}
	s := Subject{Rule: ruleKubePrometheus, Alert: alert}
	for _, f := range []struct {
		into *string
		need bool
		keys []string
	}{
		{&s.DaemonSet, true, []string{"daemonset"}},
		{&s.Carrier, true, []string{"carrier", "cluster"}},
		{&s.Namespace, false, []string{"exported_namespace", "namespace"}},
		{&s.Region, false, []string{"region"}},
	} {
		value, err := labels.one(f.keys...)
		if err != nil {
			return unmatched("alert details: %v", err)
		}
		if value == "" && f.need {
			return unmatched("alert details have no label %s", strings.Join(f.keys, " or "))
		}
		*f.into = lowerASCII(value)
	}
	if err := s.check(); err != nil {
		return unmatched("alert details: %v", err)
	}
	if s.Namespace == "" {
		s.Namespace = r.namespaces[s.DaemonSet]
	}
	return Match{Matched: true, Subject: s}
}

// SubjectFromAlerts reads an incident with all its alerts. They must agree: an incident into which PagerDuty grouped
// alerts about different DaemonSets has no one subject.
func (r *Rules) SubjectFromAlerts(title string, alerts []Alert) Match {
	m := r.Parse(title)
	if m.Matched && m.Namespace != "" || len(alerts) == 0 {
		return m
	}
	var first Match
	for _, a := range alerts {
		got := r.SubjectFromAlert(title, a.Details)
		switch {
		case !got.Matched:
			return got
		case !first.Matched:
			first = got
		case !first.SameTarget(got.Subject):
			return unmatched("the incident's alerts are about %s and %s", first.Subject, got.Subject)
		}
	}
	return first
}

// SameTarget reports whether two subjects are about the same DaemonSet. An unknown namespace differs from a known one.
func (s Subject) SameTarget(o Subject) bool {
	return s.Carrier == o.Carrier && s.Namespace == o.Namespace && s.DaemonSet == o.DaemonSet
}

// String is carrier/namespace/daemonset, for messages.
func (s Subject) String() string { return s.Carrier + "/" + s.Namespace + "/" + s.DaemonSet }

// NodesInDetails returns the values of the label node in an alert's details, sorted. (The label instance is the
// exporter's own address and says nothing.)
func NodesInDetails(details any) []string { return labelsOf(details)["node"] }

// labelSet holds the sorted distinct values found per label.
type labelSet map[string][]string

var (
	wantedLabels = []string{"alertname", "carrier", "cluster", "daemonset", "exported_namespace", "namespace", "node", "region"}
	labelLine    = regexp.MustCompile(`(?im)^[\t -]*(` + strings.Join(wantedLabels, "|") + `)[\t ]*[:=][\t ]*"?([^\s",]+)"?,?[\t ]*\r?$`)
)

// maxDetailsDepth bounds the walk; Alertmanager's details are two levels deep.
const maxDetailsDepth = 16

func labelsOf(details any) labelSet {
	set := labelSet{}
	if raw, ok := details.(json.RawMessage); ok {
		details = nil
		if err := json.Unmarshal(raw, &details); err != nil {
			return set
		}
	}
	set.collect("", details, 0)
	return set
}

func (l labelSet) collect(key string, value any, depth int) {
	if depth > maxDetailsDepth {
		return
	}
	switch v := value.(type) {
	case map[string]any:
		for k, inner := range v {
			// What is over, and prose written by people, is not what fires now.
			if k = lowerASCII(k); k != "resolved" && k != "annotations" {
				l.collect(k, inner, depth+1)
			}
		}
	case []any:
		for _, inner := range v {
			l.collect(key, inner, depth+1)
		}
	case string:
		if slices.Contains(wantedLabels, key) {
			l.add(key, strings.TrimSpace(v))
			return
		}
		var inner map[string]any
		if strings.HasPrefix(strings.TrimSpace(v), "{") && json.Unmarshal([]byte(v), &inner) == nil {
			l.collect(key, inner, depth+1)
			return
		}
		for _, m := range labelLine.FindAllStringSubmatch(v, -1) {
			l.add(lowerASCII(m[1]), m[2])
		}
	}
}

func (l labelSet) add(key, value string) {
	if at, found := slices.BinarySearch(l[key], value); value != "" && !found {
		l[key] = slices.Insert(l[key], at, value)
	}
}

// one returns the value of the first of keys that has any, "" when none has, and an error when it has several.
func (l labelSet) one(keys ...string) (string, error) {
	for _, k := range keys {
		switch values := l[k]; len(values) {
		case 0:
		case 1:
			return values[0], nil
		default:
			return "", fmt.Errorf("label %s has more than one value: %s and %s", k, quoteShort(values[0]), quoteShort(values[1]))
		}
	}
	return "", nil
}

// alert returns what the details' alertname claims; the title's word counts only where the details name no alert.
func (l labelSet) alert(title string) (string, bool) {
	if len(l["alertname"]) == 0 {
		alert, _, ok := alertInTitle(title)
		return alert, ok
	}
	if len(l["alertname"]) > 1 {
		return "", false
	}
	a, ok := kubeAlerts[lowerASCII(l["alertname"][0])]
	return a.alert, ok
}
