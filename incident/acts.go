package incident

import (
	"cmp"
	"regexp"
	"slices"
	"strings"
	"time"
)

// ActKind is what a person did to an incident.
type ActKind string

// The kinds of acts. All but ActApproved and ActOnPurpose say: leave this incident to me.
const (
	ActAcknowledged ActKind = "acknowledged"
	ActResolved     ActKind = "resolved"
	ActReassigned   ActKind = "reassigned" // to a person or another policy
	ActSnoozed      ActKind = "snoozed"
	ActMerged       ActKind = "merged"
	ActEscalated    ActKind = "escalated"
	ActHandsOff     ActKind = "hands_off" // a note that says "drydock hands off"
	ActApproved     ActKind = "approved"  // a note of an approver that says "drydock approve <hash>"
	// ActOnPurpose is a note that says that what is missing was removed on purpose: asked about, not undone.
	ActOnPurpose ActKind = "on_purpose"
)

// Act is one thing a person did.
type Act struct {
	Kind     ActKind
	Who      Ref // may be zero: a person whom PagerDuty does not name
	At       time.Time
	NoteID   string // of ActHandsOff and ActApproved
	PlanHash string // of ActApproved, in lower case
}

// People says whose acts count. BotUserID is our own user; where it is empty, only notes can be told to be ours.
type People struct {
	BotUserID string
	Approvers []string // ids of users whose approval counts
}

// logActs are the log entries that are an act when a user is their agent. Assignment by policy and timed escalation have
// a service, a policy or nobody as agent.
var logActs = map[string]ActKind{
	"acknowledge_log_entry": ActAcknowledged,
	"resolve_log_entry":     ActResolved,
	"assign_log_entry":      ActReassigned,
	"delegate_log_entry":    ActReassigned,
	"snooze_log_entry":      ActSnoozed,
	"merge_log_entry":       ActMerged,
	"escalate_log_entry":    ActEscalated,
}

// HumanActs returns what people did to the incident since the given time, oldest first. It reads the log entries and, because
// those may lag behind, the incident itself. Monitoring, PagerDuty's own timers and Drydock are nobody.
//
// PagerDuty's times have whole seconds, so the second that since is in counts; a time that is missing counts too: an act too
// many only makes us stop. since should be PagerDuty's time where one is known, for clocks differ.
func HumanActs(in Incident, entries []LogEntry, notes []Note, people People, since time.Time) []Act {
	since = since.Truncate(time.Second)
	counts := func(at time.Time) bool { return at.IsZero() || !at.Before(since) }

	var acts []Act
	has := func(k ActKind) bool { return slices.ContainsFunc(acts, func(a Act) bool { return a.Kind == k }) }
	merged := in.ResolveReason == mergeResolveReason
	for _, e := range entries {
		kind, known := logActs[e.Type]
		if !known || !people.isPerson(e.Agent) || !counts(e.CreatedAt) {
			continue
		}
		if kind == ActResolved && merged {
			kind = ActMerged
		}
		acts = append(acts, Act{Kind: kind, Who: e.Agent, At: e.CreatedAt})
	}
	for _, a := range in.Acknowledgements {
		known := slices.ContainsFunc(acts, func(o Act) bool { return o.Kind == ActAcknowledged && o.Who.ID == a.Acknowledger.ID })
		if !known && people.isPerson(a.Acknowledger) && counts(a.At) {
			acts = append(acts, Act{Kind: ActAcknowledged, Who: a.Acknowledger, At: a.At})
		}
	}
	if in.AssignedVia == assignedDirectly && !has(ActReassigned) {
		for _, a := range in.Assignments {
			if people.isPerson(a.Assignee) && counts(a.At) {
				// Who did it is in the log only, which has not caught up.
				acts = append(acts, Act{Kind: ActReassigned, At: a.At})
				break
			}
		}
	}
	if !in.Open() && people.isPerson(in.LastStatusChangeBy) && counts(in.LastStatusChangeAt) && !has(ActResolved) && !has(ActMerged) {
		kind := ActResolved
		if merged {
			kind = ActMerged
		}
		acts = append(acts, Act{Kind: kind, Who: in.LastStatusChangeBy, At: in.LastStatusChangeAt})
	}
	for _, n := range notes {
		if act, ok := people.orderIn(n); ok && counts(n.CreatedAt) {
			acts = append(acts, act)
		}
	}
	slices.SortStableFunc(acts, func(a, b Act) int { return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.Kind, b.Kind)) })
	// A merge shows as two entries, a merge and a resolve.
	return slices.CompactFunc(acts, func(a, b Act) bool {
		return a.Kind == b.Kind && a.Who.ID == b.Who.ID && a.At.Equal(b.At) && a.NoteID == b.NoteID
	})
}

// reopenEntry is the log entry of a reopening. REST answers do not always carry the incident's own reopened_at.
const reopenEntry = "reopen_log_entry"

// TriggeredAt is when an incident was triggered, or reopened last: what people did before is about an earlier fault.
func TriggeredAt(in Incident, entries []LogEntry) time.Time {
	at := in.CreatedAt
	if in.ReopenedAt.After(at) {
		at = in.ReopenedAt
	}
	for _, e := range entries {
		if e.Type == reopenEntry && e.CreatedAt.After(at) {
			at = e.CreatedAt
		}
	}
	return at
}

// HumanOwner returns the person who owns an open incident now, whenever that began: who acknowledged it, or to whom it
// was assigned by hand. Such an incident is not ours to resolve.
func HumanOwner(in Incident, botUserID string) (Ref, bool) {
	p := People{BotUserID: botUserID}
	for _, a := range in.Acknowledgements {
		if p.isPerson(a.Acknowledger) {
			return a.Acknowledger, true
		}
	}
	if in.AssignedVia == assignedDirectly {
		for _, a := range in.Assignments {
			if p.isPerson(a.Assignee) {
				return a.Assignee, true
			}
		}
	}
	return Ref{}, false
}

func (p People) isPerson(r Ref) bool {
	return r.IsUser() && (p.BotUserID == "" || r.ID != p.BotUserID)
}

var (
	// handsOff may stand anywhere in a note, in any letter case: a person in a hurry must not have to get it exactly right.
	handsOff = regexp.MustCompile(`(?i)\bdrydock[\s,:]+hands[\s-]+off\b`)

	onPurpose = regexp.MustCompile(`(?i)\b(?:deleted|removed|uninstalled)\s+(?:it\s+)?on\s+purpose\b`)

	// approve must be a line of its own, because it lets us act.
	approve = regexp.MustCompile(`(?im)^[\t ]*drydock[\t ]+approve[\t ]+([0-9a-z:_-]{6,128})[\t ]*\r?$`)
)

// orderIn reads a note for an order to us. A hands-off counts from anybody but ourselves, an approval from the approvers only.
func (p People) orderIn(n Note) (Act, bool) {
	if isOwnNote(n.Content) || (p.BotUserID != "" && n.User.ID == p.BotUserID) {
		return Act{}, false
	}
	act := Act{Who: n.User, At: n.CreatedAt, NoteID: n.ID}
	if handsOff.MatchString(n.Content) {
		act.Kind = ActHandsOff
		return act, true
	}
	if m := approve.FindStringSubmatch(n.Content); m != nil && n.User.ID != "" && slices.Contains(p.Approvers, n.User.ID) {
		act.Kind, act.PlanHash = ActApproved, strings.ToLower(m[1])
		return act, true
	}
	if onPurpose.MatchString(n.Content) {
		act.Kind = ActOnPurpose
		return act, true
	}
	return Act{}, false
}
