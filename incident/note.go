package incident

import (
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

const (
	// MarkerPrefix begins the marker that every note of ours bears, "[drydock run=<id>...]". It makes a note recognisable after an
	// answer was lost, and keeps our own words from being read as a person's order.
	MarkerPrefix = "[drydock run="

	// MaxNoteBytes is what a note may take (65,535 single-byte characters by PagerDuty's knowledge base).
	MaxNoteBytes = 65_535

	// resolutionNote begins the note that PagerDuty writes by itself when an incident is resolved with a text.
	resolutionNote = "Resolution Note:"
)

// Note is a note on an incident.
type Note struct {
	ID        string
	Content   string
	User      Ref // who wrote it; PagerDuty calls a bot's type bot_user_reference
	CreatedAt time.Time
}

// FindNoteByMarker returns the oldest note that contains marker. Ask it before a note is sent again whose answer was lost.
func FindNoteByMarker(notes []Note, marker string) (Note, bool) {
	if marker == "" {
		return Note{}, false
	}
	var found []Note
	for _, n := range notes {
		if strings.Contains(n.Content, marker) {
			found = append(found, n)
		}
	}
	if len(found) == 0 {
		return Note{}, false
	}
	return slices.MinFunc(found, func(a, b Note) int { return a.CreatedAt.Compare(b.CreatedAt) }), true
}

// SanitizeNote makes text safe to show and to store: control characters (but for line feed and tab), bidirectional and
// other invisible format characters are taken out, broken UTF-8 becomes U+FFFD, and at most MaxNoteBytes bytes remain, cut between
// characters.
func SanitizeNote(text string) string {
	text = strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\r\n", "\n")
	text = strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return r
		case r == '\r' || r == '\u2028' || r == '\u2029':
			return '\n'
		case unicode.IsControl(r) || unicode.Is(unicode.Cf, r):
			return -1
		}
		return r
	}, text)
	return cutBytes(text, MaxNoteBytes)
}

// cutBytes keeps at most most bytes of valid UTF-8 and never half a character.
func cutBytes(s string, most int) string {
	if len(s) <= most {
		return s
	}
	for most > 0 && !utf8.RuneStart(s[most]) {
		most--
	}
	return s[:most]
}

// isOwnNote reports whether we, or PagerDuty on our behalf, wrote the text. The marker decides whoever the author is: with
// some tokens our notes bear a person's name, and they explain the very words ("drydock hands off") that stop us.
func isOwnNote(content string) bool {
	return strings.Contains(content, MarkerPrefix) || strings.HasPrefix(strings.TrimSpace(content), resolutionNote)
}

// IsEcho reports whether a webhook event only tells what Drydock itself did. botUserID may be empty when it is not known.
func IsEcho(ev Event, botUserID string) bool {
	if ev.Agent != nil && botUserID != "" && ev.Agent.ID == botUserID {
		return true
	}
	return ev.Note != nil && isOwnNote(ev.Note.Content)
}
