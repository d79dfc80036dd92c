package incident

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestHumanActs(t *testing.T) {
	t.Parallel()
	var (
		since   = time.Date(2026, 3, 4, 5, 0, 0, 500e6, time.UTC)
		before  = since.Add(-time.Minute)
		sameSec = since.Truncate(time.Second)
		after   = since.Add(time.Minute)
		later   = since.Add(2 * time.Minute)

		ada     = Ref{ID: "PHUMAN1", Type: "user_reference", Summary: "Ada"}
		bob     = Ref{ID: "PHUMAN2", Type: "user"}
		bot     = Ref{ID: "PBOT001", Type: "user_reference"}
		service = Ref{ID: "PSVC001", Type: "service_reference"}
		probe   = Ref{ID: "PINT001", Type: "events_api_v2_inbound_integration_reference"}
		nobody  = Ref{}
	)
	entry := func(kind string, who Ref, at time.Time) []LogEntry {
		return []LogEntry{{ID: "R1", Type: kind + "_log_entry", Agent: who, CreatedAt: at}}
	}
	note := func(who Ref, at time.Time, text string) []Note {
		return []Note{{ID: "PNOTE01", Content: text, User: who, CreatedAt: at}}
	}
	open := Incident{ID: "QTEST0000001", Status: StatusTriggered}
	resolvedBy := func(who Ref, at time.Time, reason string) Incident {
		return Incident{Status: StatusResolved, LastStatusChangeBy: who, LastStatusChangeAt: at, ResolveReason: reason}
	}

	tests := []struct {
		name    string
		in      Incident
		entries []LogEntry
		notes   []Note
		want    []Act
	}{
		{name: "nothing happened", in: open},
		{name: "acknowledged", in: open, entries: entry("acknowledge", ada, after), want: []Act{{Kind: ActAcknowledged, Who: ada, At: after}}},
		{name: "in the same second", in: open, entries: entry("acknowledge", ada, sameSec), want: []Act{{Kind: ActAcknowledged, Who: ada, At: sameSec}}},
		{name: "at an unknown time", in: open, entries: entry("acknowledge", ada, time.Time{}), want: []Act{{Kind: ActAcknowledged, Who: ada}}},
		{name: "before the run", in: open, entries: entry("acknowledge", ada, before)},
		{name: "by the bot", in: open, entries: entry("acknowledge", bot, after)},
		{name: "by an expanded user", in: open, entries: entry("acknowledge", bob, after), want: []Act{{Kind: ActAcknowledged, Who: bob, At: after}}},
		{name: "resolved by a person", in: open, entries: entry("resolve", ada, after), want: []Act{{Kind: ActResolved, Who: ada, At: after}}},
		{name: "resolved by monitoring", in: open, entries: entry("resolve", probe, after)},
		{name: "assigned by hand", in: open, entries: entry("assign", ada, after), want: []Act{{Kind: ActReassigned, Who: ada, At: after}}},
		{name: "assigned by policy", in: open, entries: entry("assign", service, after)},
		{name: "delegated by hand", in: open, entries: entry("delegate", ada, after), want: []Act{{Kind: ActReassigned, Who: ada, At: after}}},
		{name: "snoozed", in: open, entries: entry("snooze", ada, after), want: []Act{{Kind: ActSnoozed, Who: ada, At: after}}},
		{name: "escalated by hand", in: open, entries: entry("escalate", ada, after), want: []Act{{Kind: ActEscalated, Who: ada, At: after}}},
		{name: "escalated by time", in: open, entries: entry("escalate", service, after)},
		{name: "escalated by nobody", in: open, entries: entry("escalate", nobody, after)},
		{name: "escalated by us", in: open, entries: entry("escalate", bot, after)},
		{name: "acknowledge timed out", in: open, entries: entry("unacknowledge", service, after)},
		{name: "notified", in: open, entries: entry("notify", service, after)},
		{name: "a type of the future", in: open, entries: entry("levitate", ada, after)},
		{
			name: "merged away, in the log", in: resolvedBy(ada, after, mergeResolveReason), entries: entry("resolve", ada, after),
			want: []Act{{Kind: ActMerged, Who: ada, At: after}},
		},
		{
			name: "merged away, as a merge and a resolve", in: resolvedBy(ada, after, mergeResolveReason),
			entries: append(entry("merge", ada, after), entry("resolve", ada, after)...), want: []Act{{Kind: ActMerged, Who: ada, At: after}},
		},
		{name: "merged away, log lags", in: resolvedBy(ada, after, mergeResolveReason), want: []Act{{Kind: ActMerged, Who: ada, At: after}}},
		{name: "resolved, log lags", in: resolvedBy(ada, after, ""), want: []Act{{Kind: ActResolved, Who: ada, At: after}}},
		{name: "resolved by us", in: resolvedBy(bot, after, "")},
		{name: "resolved by an integration", in: resolvedBy(probe, after, "")},
		{
			name: "acknowledged, log lags", want: []Act{{Kind: ActAcknowledged, Who: ada, At: after}},
			in: Incident{Status: StatusAcknowledged, Acknowledgements: []Acknowledgement{{bot, after}, {ada, after}}},
		},
		{
			name: "acknowledged, once", entries: entry("acknowledge", ada, after), want: []Act{{Kind: ActAcknowledged, Who: ada, At: after}},
			in: Incident{Status: StatusAcknowledged, Acknowledgements: []Acknowledgement{{ada, after}}},
		},
		{name: "acknowledged before the run", in: Incident{Status: StatusAcknowledged, Acknowledgements: []Acknowledgement{{ada, before}}}},
		{
			name: "assigned by hand, log lags", want: []Act{{Kind: ActReassigned, At: after}},
			in: Incident{Status: StatusTriggered, AssignedVia: assignedDirectly, Assignments: []Assignment{{ada, after}}},
		},
		{
			name: "escalation puts a person on it",
			in:   Incident{Status: StatusTriggered, AssignedVia: "escalation_policy", Assignments: []Assignment{{ada, after}}},
		},
		{name: "hands off", in: open, notes: note(ada, after, "Drydock HANDS OFF"), want: []Act{{Kind: ActHandsOff, Who: ada, At: after, NoteID: "PNOTE01"}}},
		{
			name: "hands off within a sentence", in: open, notes: note(bob, after, "I have it.\nPlease, drydock: hands-off!"),
			want: []Act{{Kind: ActHandsOff, Who: bob, At: after, NoteID: "PNOTE01"}},
		},
		{name: "hands off from nobody known", in: open, notes: note(nobody, after, "drydock hands off"), want: []Act{{Kind: ActHandsOff, At: after, NoteID: "PNOTE01"}}},
		{name: "deleted on purpose", in: open, notes: note(ada, after, "We deleted it on purpose, see the change"),
			want: []Act{{Kind: ActOnPurpose, Who: ada, At: after, NoteID: "PNOTE01"}}},
		{name: "hands off before the run", in: open, notes: note(ada, before, "drydock hands off")},
		{name: "our note explains the words", in: open, notes: note(bot, after, "Write \"drydock hands off\" to stop me.")},
		{name: "our note under a person's name", in: open, notes: note(ada, after, "Write \"drydock hands off\" to stop me.\n[drydock run=0198 seq=2]")},
		{name: "PagerDuty's resolution note", in: open, notes: note(ada, after, "Resolution Note: drydock hands off")},
		{name: "another note", in: open, notes: note(ada, after, "hands off my lunch; drydock is working")},
		{
			name: "approved", in: open, notes: note(ada, after, "looks right\r\n drydock approve 3FA9c0de11 \r\n"),
			want: []Act{{Kind: ActApproved, Who: ada, At: after, NoteID: "PNOTE01", PlanHash: "3fa9c0de11"}},
		},
		{name: "approved by another", in: open, notes: note(bob, after, "drydock approve 3fa9c0de11")},
		{name: "approved by nobody known", in: open, notes: note(nobody, after, "drydock approve 3fa9c0de11")},
		{name: "approved within a sentence", in: open, notes: note(ada, after, "do not write drydock approve 3fa9c0de11 yet")},
		{name: "approved by our own note", in: open, notes: note(ada, after, "To go on:\ndrydock approve 3fa9c0de11\n[drydock run=0198]")},
		{
			name: "hands off beats approved", in: open, notes: note(ada, after, "drydock approve 3fa9c0de11\nno: drydock hands off"),
			want: []Act{{Kind: ActHandsOff, Who: ada, At: after, NoteID: "PNOTE01"}},
		},
		{
			name: "in order of time", in: open, entries: entry("snooze", ada, later), notes: note(bob, after, "drydock hands off"),
			want: []Act{{Kind: ActHandsOff, Who: bob, At: after, NoteID: "PNOTE01"}, {Kind: ActSnoozed, Who: ada, At: later}},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := HumanActs(tt.in, tt.entries, tt.notes, People{BotUserID: bot.ID, Approvers: []string{ada.ID, bot.ID, ""}}, since)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("HumanActs() (-want +got):\n%s", diff)
			}
		})
	}
}

func TestHumanOwner(t *testing.T) {
	t.Parallel()
	ada, bot := Ref{ID: "PHUMAN1", Type: "user_reference"}, Ref{ID: "PBOT001", Type: "user_reference"}
	tests := []struct {
		name string
		in   Incident
		want Ref
	}{
		{"nobody", Incident{}, Ref{}},
		{"acknowledged by a person", Incident{Acknowledgements: []Acknowledgement{{Acknowledger: bot}, {Acknowledger: ada}}}, ada},
		{"acknowledged by us", Incident{Acknowledgements: []Acknowledgement{{Acknowledger: bot}}}, Ref{}},
		{"assigned by hand", Incident{AssignedVia: assignedDirectly, Assignments: []Assignment{{Assignee: ada}}}, ada},
		{"assigned to us by hand", Incident{AssignedVia: assignedDirectly, Assignments: []Assignment{{Assignee: bot}}}, Ref{}},
		{"on call", Incident{AssignedVia: "escalation_policy", Assignments: []Assignment{{Assignee: ada}}}, Ref{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, ok := HumanOwner(tt.in, bot.ID)
			if got != tt.want || ok != (tt.want != Ref{}) {
				t.Errorf("HumanOwner() = %+v, %v, want %+v", got, ok, tt.want)
			}
		})
	}
}

func TestIsEcho(t *testing.T) {
	t.Parallel()
	ada, bot := &Ref{ID: "PHUMAN1", Type: "user_reference"}, &Ref{ID: "PBOT001", Type: "user_reference"}
	tests := []struct {
		name string
		ev   Event
		bot  string
		want bool
	}{
		{"our user", Event{Agent: bot}, "PBOT001", true},
		{"a person", Event{Agent: ada}, "PBOT001", false},
		{"nobody", Event{}, "PBOT001", false},
		{"our user is not known", Event{Agent: bot}, "", false},
		{"an agent without an id", Event{Agent: &Ref{}}, "", false},
		{"our marker", Event{Agent: ada, Note: &EventNote{Content: "done [drydock run=0198]"}}, "", true},
		{"PagerDuty's resolution note", Event{Agent: ada, Note: &EventNote{Content: "Resolution Note: fixed"}}, "PBOT001", true},
		{"a person's note", Event{Agent: ada, Note: &EventNote{Content: "drydock hands off"}}, "PBOT001", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := IsEcho(tt.ev, tt.bot); got != tt.want {
				t.Errorf("IsEcho() = %v, want %v", got, tt.want)
			}
		})
	}
}

func TestEscalationLevel(t *testing.T) {
	t.Parallel()
	user := func(id string) Ref { return Ref{ID: id, Type: "user_reference"} }
	policy := EscalationPolicy{Levels: [][]Ref{{user("PBOT001")}, {user("PHUMAN1"), user("PHUMAN2")}, {user("PHUMAN1")}, {{ID: "PSCHED1", Type: "schedule_reference"}}}}
	at := func(ids ...string) Incident {
		in := Incident{EscalationPolicy: policy}
		for _, id := range ids {
			in.Assignments = append(in.Assignments, Assignment{Assignee: user(id)})
		}
		return in
	}
	direct := at("PBOT001")
	direct.AssignedVia = assignedDirectly
	tests := []struct {
		name string
		in   Incident
		want int
	}{
		{"first", at("PBOT001"), 1},
		{"second", at("PHUMAN1", "PHUMAN2"), 2},
		{"one of a level", at("PHUMAN2"), 2},
		{"on two levels", at("PHUMAN1"), 0},
		{"by schedule", at("PHUMAN9"), 0},
		{"nobody", at(), 0},
		{"by hand", direct, 0},
		{"policy not read", Incident{Assignments: at("PBOT001").Assignments}, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got, ok := EscalationLevel(tt.in); got != tt.want || ok != (tt.want != 0) {
				t.Errorf("EscalationLevel() = %d, %v, want %d", got, ok, tt.want)
			}
		})
	}
}

func TestFindNoteByMarker(t *testing.T) {
	t.Parallel()
	at := func(minute int) time.Time { return time.Date(2026, 3, 4, 5, minute, 0, 0, time.UTC) }
	notes := []Note{
		{ID: "N3", Content: "copy [drydock run=7 seq=1]", CreatedAt: at(3)},
		{ID: "N1", Content: "other [drydock run=6 seq=1]", CreatedAt: at(1)},
		{ID: "N2", Content: "mine [drydock run=7 seq=1]", CreatedAt: at(2)},
	}
	if n, ok := FindNoteByMarker(notes, "[drydock run=7 seq=1]"); !ok || n.ID != "N2" {
		t.Errorf("FindNoteByMarker() = %+v, %v, want N2", n, ok)
	}
	for _, marker := range []string{"[drydock run=7 seq=2]", ""} {
		if n, ok := FindNoteByMarker(notes, marker); ok {
			t.Errorf("FindNoteByMarker(%q) = %+v, want none", marker, n)
		}
	}
}

func TestSanitizeNote(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, in, want string }{
		{"plain", "a b\n\tc — ü 船", "a b\n\tc — ü 船"},
		{"control", "a\x00b\x1b[31mc\x7fd\u0085e", "ab[31mcde"},
		{"line ends", "a\r\nb\rc\u2028d", "a\nb\nc\nd"},
		{"bidirectional", "a\u202eb\u2066c\u200fd", "abcd"},
		{"invisible", "a\u200bb\ufeffc\U000e0041d", "abcd"},
		{"broken UTF-8", "a\xffb", "a\ufffdb"},
		{"long", strings.Repeat("x", MaxNoteBytes+5), strings.Repeat("x", MaxNoteBytes)},
		{"cut between characters", strings.Repeat("x", MaxNoteBytes-1) + "ü", strings.Repeat("x", MaxNoteBytes-1)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := SanitizeNote(tt.in); got != tt.want {
				t.Errorf("SanitizeNote() = %.80q, want %.80q", got, tt.want)
			}
		})
	}
}
