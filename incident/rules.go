package incident

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// DaemonSet is one that the configuration knows, so that a title that has only the name leads to the namespace.
type DaemonSet struct {
	Name      string
	Namespace string
}

// RuleConfig is the part of the configuration that reads titles.
type RuleConfig struct {
	// TitleRules are regular expressions with the named groups carrier and daemonset, and perhaps region and namespace. They
	// are tried in order, before the built-in ones, against the title without its number ("#123: ") and then with it.
	// Letter case counts, unless the expression says (?i).
	TitleRules []string

	// DaemonSets that are known; nil means the runbook's three.
	DaemonSets []DaemonSet

	// DiskTitles are regular expressions for titles of disk-space incidents; nil means the default.
	DiskTitles []string
}

// The defaults of RuleConfig.
var (
	runbookDaemonSets = []DaemonSet{
		{Name: "node-exporter", Namespace: "monitoring"},
		{Name: "docker-metrics-endpoint", Namespace: "monitoring"},
		{Name: "ibm-kube-fluentd", Namespace: "ibm-system"},
	}
	defaultDiskTitles = []string{"(?i)disk|filesystem|filespace"}
)

// Rules reads titles and alert details. It is immutable and safe for concurrent use.
type Rules struct {
	rules      []titleRule
	namespaces map[string]string // by DaemonSet; "" where two namespaces have one of that name
	disk       []*regexp.Regexp
}

// NewRules compiles the configuration. The error names every entry that is wrong, and what is wrong with it.
func NewRules(cfg RuleConfig) (*Rules, error) {
	r := &Rules{namespaces: map[string]string{}}
	var errs []error
	for i, text := range cfg.TitleRules {
		rule, err := compileTitleRule(fmt.Sprintf("title_rules[%d]", i), text)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		r.rules = append(r.rules, rule)
	}
	r.rules = append(r.rules, builtinRules...)

	known := cfg.DaemonSets
	if known == nil {
		known = runbookDaemonSets
	}
	for i, ds := range known {
		switch was, seen := r.namespaces[ds.Name]; {
		case !ValidName(ds.Name):
			errs = append(errs, fmt.Errorf("daemonsets[%d]: name %s is not a DNS name in lower case", i, quoteShort(ds.Name)))
		case !ValidLabel(ds.Namespace):
			errs = append(errs, fmt.Errorf("daemonsets[%d]: namespace %s is not a DNS label in lower case", i, quoteShort(ds.Namespace)))
		case seen && was != ds.Namespace:
			r.namespaces[ds.Name] = ""
		default:
			r.namespaces[ds.Name] = ds.Namespace
		}
	}

	disk := cfg.DiskTitles
	if disk == nil {
		disk = defaultDiskTitles
	}
	for i, text := range disk {
		re, err := regexp.Compile(text)
		if err != nil {
			errs = append(errs, fmt.Errorf("disk_titles[%d]: %w", i, err))
			continue
		}
		r.disk = append(r.disk, re)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return r, nil
}

func compileTitleRule(name, text string) (titleRule, error) {
	re, err := regexp.Compile(text)
	if err != nil {
		return titleRule{}, fmt.Errorf("%s: %w", name, err)
	}
	groups := re.SubexpNames()
	for _, need := range []string{"carrier", "daemonset"} {
		if !slices.Contains(groups, need) {
			return titleRule{}, fmt.Errorf("%s: the named group %q is missing: write (?P<%s>...)", name, need, need)
		}
	}
	for i, g := range groups {
		switch {
		case g == "":
		case !slices.Contains([]string{"carrier", "daemonset", "region", "namespace"}, g):
			return titleRule{}, fmt.Errorf("%s: unknown named group %q: use carrier, daemonset, region, namespace", name, g)
		case slices.Contains(groups[:i], g): // regexp takes it, and only the first would be read
			return titleRule{}, fmt.Errorf("%s: the named group %q stands twice", name, g)
		}
	}
	return titleRule{name: name, alert: AlertCustom, re: re}, nil
}

// Parse reads a title. The first rule that fits and yields valid names wins; when none does, Reason is of the first that fitted.
func (r *Rules) Parse(title string) Match {
	title = strings.TrimSpace(title)
	switch {
	case title == "":
		return unmatched("title is empty")
	case len(title) > maxTitle:
		return unmatched("title is longer than %d bytes", maxTitle)
	}
	bare := titleNumber.ReplaceAllString(title, "")
	var miss Match
	for _, rule := range r.rules {
		m, ok := rule.match(bare)
		if rule.alert == AlertCustom {
			if !ok {
				m, ok = rule.match(title)
			}
		} else {
			m, ok = rule.match(lowerASCII(bare))
		}
		switch {
		case m.Matched:
			if m.Namespace == "" {
				m.Namespace = r.namespaces[m.DaemonSet]
			}
			return m
		case ok && miss.Reason == "":
			miss = m
		}
	}
	if miss.Reason != "" {
		return miss
	}
	m := unmatched("no rule matches the title")
	m.NeedsDetails = strings.Contains(lowerASCII(title), "daemonset")
	if _, name, ok := alertInTitle(title); ok {
		m.Reason = name + " names its DaemonSet in the alert's details, not in the title"
	}
	return m
}
