package playbook

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// One fault of a carrier sets off the alerts of several DaemonSets at once. Each target keeps its run, because each has its
// own proof and its own end; what they share is the carrier's claim and this diagnosis. Nothing here decides what is done.
//
// The readings are not shared between the runs of a carrier: each look is about one DaemonSet, its ages are measured from
// its own tick, and a decision on what somebody else read a moment ago would be one more way to act on a stale fact. A
// storm has as many runs as DaemonSets are watched, three by default, so that there is little to save.

// Bounds of what the ledger tells about the other runs of a carrier.
const (
	// CarrierRuns is how many it names, the newest first.
	CarrierRuns = 10
	// CarrierRunIncidents is how many incidents of each it names, the oldest first.
	CarrierRunIncidents = 3
	// CarrierRunsWithin is how long before a run began another one may have ended to be named still.
	CarrierRunsWithin = 30 * time.Minute
)

// CarrierRun is another run of the same carrier: one that goes on while this one does, or that ended shortly before.
type CarrierRun struct {
	Run       string    `json:"run"`
	Target    Target    `json:"target"`
	State     State     `json:"state"`
	Finding   Finding   `json:"finding,omitempty"`
	Why       string    `json:"why,omitempty"`
	Causes    []Cause   `json:"causes,omitempty"` // see Memory.Causes
	Outcome   Outcome   `json:"outcome,omitempty"`
	StartedAt time.Time `json:"started_at"`
	EndedAt   time.Time `json:"ended_at,omitzero"` // zero while it goes on
	Claim     bool      `json:"claim,omitempty"`   // it holds the carrier's claim
	// Incidents are its first few, without their titles; More counts the others.
	Incidents []IncidentRef `json:"incidents,omitempty"`
	More      int           `json:"more,omitempty"`
}

// Cause is what lies behind a finding, for the carrier as a whole.
type Cause string

// The causes, the most basic first: where one explains several alerts, it is the one that ranks first
// (durability.md 2.4, storms).
const (
	CauseAPI     Cause = "api_down"
	CauseManager Cause = "controller_manager_down"
	CauseRights  Cause = "rights_missing"
	CauseNodes   Cause = "nodes_down"
	CauseDisk    Cause = "disk"
	CauseFull    Cause = "nodes_full"
	CauseSingle  Cause = "single_daemonset"
)

// Causes lists every cause in the order of their rank.
func Causes() []Cause {
	return []Cause{CauseAPI, CauseManager, CauseRights, CauseNodes, CauseDisk, CauseFull, CauseSingle}
}

// words completes "the root cause is:".
func (c Cause) words() string {
	switch c {
	case CauseAPI:
		return "the carrier's API server does not answer"
	case CauseManager:
		return "the controller-manager is not at work, so that no daemon pods are made"
	case CauseRights:
		return "the DaemonSet controller lacks rights, so that no daemon pods are made"
	case CauseNodes:
		return "nodes are NotReady or cordoned by somebody"
	case CauseDisk:
		return "disks are short of space"
	case CauseFull:
		return "nodes are at their pod limit, and room made on one serves every daemon pod that waits there"
	case CauseSingle:
	}
	return "none in common; each DaemonSet has its own"
}

// SharedDiagnosis says in one sentence what is the matter with a carrier of which several DaemonSets have a run. It depends
// on nothing but the group, in any order, so that it is the same in every run of it. It is empty where there is nothing to
// share.
func SharedDiagnosis(group []CarrierRun) string {
	var targets []string
	seen := map[Cause]bool{}
	carrier := ""
	for _, r := range group {
		carrier = r.Target.Carrier
		targets = append(targets, r.Target.Namespace+"/"+r.Target.DaemonSet)
		for _, c := range r.Causes {
			seen[c] = true
		}
	}
	slices.Sort(targets)
	targets = slices.Compact(targets)
	if len(targets) < 2 {
		return ""
	}
	var words []string
	for _, c := range Causes() {
		// That one of them has a cause of its own says nothing about the group once there is a common one.
		if seen[c] && (c != CauseSingle || len(words) == 0) {
			words = append(words, c.words())
		}
	}
	text := fmt.Sprintf("%d DaemonSets of %s alert together (%s)", len(targets), carrier, strings.Join(targets, ", "))
	if len(words) == 0 {
		return text + "; the root cause is not confirmed yet"
	}
	text += "; root cause: " + words[0]
	if len(words) > 1 {
		text += "; also: " + strings.Join(words[1:], "; ")
	}
	return text
}

// shared is the group's diagnosis, as this run and the others of its time see it.
func (s *situation) shared() string {
	group := []CarrierRun{{Run: s.r.ID, Target: s.r.Target, Causes: s.m.Causes}}
	for _, r := range s.ledger.SameCarrier {
		if r.EndedAt.IsZero() || r.EndedAt.After(s.r.StartedAt) {
			group = append(group, r)
		}
	}
	return SharedDiagnosis(group)
}

// noteCauses remembers the causes of what was confirmed, by rank. That the API server does not answer is a cause for as long
// as it lasts: a single failed read is none.
func (s *situation) noteCauses() {
	known := s.o.DaemonSet.IsKnown() && (s.o.Nodes.IsKnown() || !s.ds().Exists)
	switch {
	case known:
		s.m.UnreadSince = time.Time{}
	case s.m.UnreadSince.IsZero():
		s.m.UnreadSince = s.now
	}
	seen := map[Cause]bool{CauseAPI: !known && s.now.Sub(s.m.UnreadSince) > MaxGap}
	for _, c := range s.m.Causes {
		seen[c] = seen[c] || c != CauseAPI
	}
	if s.lasting() {
		seen[s.cause()] = true
	}
	s.m.Causes = nil
	for _, c := range Causes() {
		if seen[c] {
			s.m.Causes = append(s.m.Causes, c)
		}
	}
}

// cause is what lies behind the present finding.
func (s *situation) cause() Cause {
	switch s.d.Finding {
	case FindingControllerStuck:
		switch {
		case s.leaseRanOut():
			return CauseManager
		case s.sawForbidden():
			return CauseRights
		}
	case FindingNodeDown:
		return CauseNodes
	case FindingDisk:
		return CauseDisk
	case FindingNodeFull:
		return CauseFull
	case FindingUnknown, FindingDeleting, FindingAbsent, FindingRefused, FindingRollingOut, FindingUncovered, FindingNoRoom,
		FindingMalfunctioning, FindingNotSelected, FindingHealthy:
	}
	return CauseSingle
}

// holder names the run that holds the carrier's claim.
func (s *situation) holder() string {
	for _, r := range s.ledger.SameCarrier {
		if r.Run == s.ledger.ClaimHolder {
			return "run " + r.Run + " (" + r.Target.Namespace + "/" + r.Target.DaemonSet + ")"
		}
	}
	return "run " + s.ledger.ClaimHolder
}

// doing says in a word or two what another run does.
func (r CarrierRun) doing() string {
	switch {
	case r.Outcome != "":
		return kindWords(Kind(r.Outcome))
	case r.Claim:
		return "changing the carrier"
	}
	return kindWords(Kind(r.State))
}

// line names another run's incidents.
func (r CarrierRun) line(publicURL string) string {
	var names []string
	for i, in := range r.Incidents {
		name := RunIncident{ID: in.ID, Number: in.Number}.label()
		if i == 0 {
			name = strings.TrimSpace(name + " " + in.URL)
		}
		names = append(names, name)
	}
	text := fmt.Sprintf("%s/%s (%s): %s", r.Target.Namespace, r.Target.DaemonSet, r.doing(), strings.Join(names, ", "))
	if r.More > 0 {
		text += fmt.Sprintf(" and %d more", r.More)
	}
	return text + "; run " + runLink(publicURL, r.Run)
}
