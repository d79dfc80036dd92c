package incident

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Subject is what an alert is about. Names are lower case and valid Kubernetes names.
type Subject struct {
	Rule      string `json:"rule"`    // which rule read it: "not_running_all", "absent", "kube-prometheus" or "title_rules[N]"
	Alert     string `json:"alert"`   // one of the Alert constants
	Carrier   string `json:"carrier"` // as the title spells it, not checked against the configured carriers
	DaemonSet string `json:"daemonset"`
	Namespace string `json:"namespace"` // empty: not known from here
	Region    string `json:"region"`    // empty when the title has none
}

// What an alert claims. It is never trusted: the carrier is read before anything follows.
const (
	AlertNotRunningAll = "not_running_all"
	AlertAbsent        = "absent"
	AlertRolloutStuck  = "rollout_stuck"
	AlertNotScheduled  = "not_scheduled"
	AlertMisScheduled  = "mis_scheduled"
	AlertCustom        = "custom" // a rule of the configuration matched, which does not say what is claimed
)

// Match is the answer of Rules: a Subject, or the reason why there is none.
type Match struct {
	Matched bool
	Reason  string // set when Matched is false
	Subject        // set when Matched is true

	// NeedsDetails: no rule fits, but the title speaks of DaemonSets and the alerts' details may say more. Read the incident's
	// alerts and ask SubjectFromAlerts.
	NeedsDetails bool
}

// MarshalJSON writes the subject's fields for a match, and only the reason otherwise.
func (m Match) MarshalJSON() ([]byte, error) {
	if !m.Matched {
		return json.Marshal(struct {
			Matched bool   `json:"matched"`
			Reason  string `json:"reason"`
		}{false, m.Reason})
	}
	return json.Marshal(struct {
		Matched bool `json:"matched"`
		Subject
	}{true, m.Subject})
}

func unmatched(format string, args ...any) Match {
	return Match{Reason: fmt.Sprintf(format, args...)}
}

// maxTitle is twice what the Events API takes as a summary (1,024 characters).
const maxTitle = 2048

// The runbook's titles, after the number in front is gone and with ASCII in lower case. Two labels of product come first, then
// the carrier; it is one label, so that in the second form, where only a dot parts carrier and DaemonSet, the dots of
// a DaemonSet's name are not ambiguous. The alerts say "demonsets", the runbook "daemonset"; both are read, singular and
// plural, with the other usual misspelling.
const (
	numberPattern = `^(?:#[0-9]+:|\[#[0-9]+\])\s*`
	label         = `[a-z0-9](?:[a-z0-9_-]*[a-z0-9])?`
	dnsLabel      = `[a-z0-9](?:[a-z0-9-]*[a-z0-9])?`
	dnsName       = dnsLabel + `(?:\.` + dnsLabel + `)*`
	beforeCarrier = `^(?P<product>` + label + `\.` + label + `)\.(?P<carrier>` + dnsLabel + `)\.`
	afterAlert    = `(?:\.(?P<region>` + dnsLabel + `))?$`
	daemonSetWord = `d(?:e|ae|ea)monsets?`
)

var (
	titleNumber  = regexp.MustCompile(numberPattern)
	builtinRules = []titleRule{
		{
			name: "not_running_all", alert: AlertNotRunningAll,
			re: regexp.MustCompile(beforeCarrier + `not_running_all_(?P<daemonset>` + dnsName + `)_` + daemonSetWord + afterAlert),
		},
		{
			name: "absent", alert: AlertAbsent,
			re: regexp.MustCompile(beforeCarrier + `(?P<daemonset>` + dnsName + `)_` + daemonSetWord + `_absent` + afterAlert),
		},
	}

	// carrierLike finds labels such as prod-dal10-carrier3 where a carrier has no business.
	carrierLike = regexp.MustCompile(`(?:^|\.)[a-z0-9-]*carrier[0-9]+(?:$|\.)`)
)

type titleRule struct {
	name  string
	alert string
	re    *regexp.Regexp
}

// match returns a Subject, or a Match with the reason; ok is false when the pattern does not fit at all.
func (r titleRule) match(title string) (m Match, ok bool) {
	found := r.re.FindStringSubmatch(title)
	if found == nil {
		return Match{}, false
	}
	group := func(name string) string {
		if i := r.re.SubexpIndex(name); i >= 0 {
			return lowerASCII(found[i])
		}
		return ""
	}
	s := Subject{
		Rule: r.name, Alert: r.alert, Carrier: group("carrier"), DaemonSet: group("daemonset"),
		Namespace: group("namespace"), Region: group("region"),
	}
	// A second carrier in front, behind, or swallowed by a dotted DaemonSet name makes the first one a guess, and a guess would
	// act on the wrong carrier. A rule of the configuration says itself where its carrier stands.
	if r.alert != AlertCustom && slices.ContainsFunc([]string{group("product"), s.DaemonSet, s.Region}, carrierLike.MatchString) {
		return unmatched("title names more than one carrier"), true
	}
	if err := s.check(); err != nil {
		return unmatched("rule %s: %v", r.name, err), true
	}
	return Match{Matched: true, Subject: s}, true
}

// check holds the names against what Kubernetes accepts, so that they are safe in paths, selectors and logs.
func (s Subject) check() error {
	switch {
	case !ValidName(s.Carrier):
		return fmt.Errorf("carrier %s is not a DNS name", quoteShort(s.Carrier))
	case !ValidName(s.DaemonSet):
		return fmt.Errorf("daemonset %s is not a DNS name", quoteShort(s.DaemonSet))
	case s.Namespace != "" && !ValidLabel(s.Namespace):
		return fmt.Errorf("namespace %s is not a DNS label", quoteShort(s.Namespace))
	case s.Region != "" && !ValidName(s.Region):
		return fmt.Errorf("region %s is not a DNS name", quoteShort(s.Region))
	}
	return nil
}

var (
	namePattern  = regexp.MustCompile(`^` + dnsName + `$`)
	labelPattern = regexp.MustCompile(`^` + dnsLabel + `$`)
)

// ValidName reports whether s is RFC 1123's subdomain as Kubernetes checks it for object names: at most 253 characters.
func ValidName(s string) bool { return len(s) <= 253 && namePattern.MatchString(s) }

// ValidLabel reports whether s is RFC 1123's label as Kubernetes checks it for namespaces: at most 63 characters.
func ValidLabel(s string) bool { return len(s) <= 63 && labelPattern.MatchString(s) }

// lowerASCII leaves all else as it is. Unicode folding would turn look-alikes (the Kelvin sign, the long s) into letters
// that then pass for a name.
func lowerASCII(s string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}

func quoteShort(s string) string {
	const most = 64
	if len(s) > most {
		return fmt.Sprintf("%.*q...", most, s)
	}
	return fmt.Sprintf("%q", s)
}
