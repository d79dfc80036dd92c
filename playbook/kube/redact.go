package kube

import (
	"regexp"
	"strings"
	"unicode/utf8"
)

// secrets are the shapes in which credentials get into logs, events and error texts. They are covered by a word before
// anything is stored or shown (security.md 4.1).
var secrets = []struct {
	shape *regexp.Regexp
	with  string
}{
	{regexp.MustCompile(`(?s)-----BEGIN [A-Z0-9 ]+-----.*?(-----END [A-Z0-9 ]+-----|\z)`), "[redacted PEM]"},
	{regexp.MustCompile(`\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}(\.[A-Za-z0-9_-]*)?`), "[redacted JWT]"},
	{regexp.MustCompile(`(?i)\b(authorization|proxy-authorization)("?\s*[:=]\s*"?)([a-z]+\s+)?[^\s",;]+`), "${1}${2}[redacted]"},
	{regexp.MustCompile(`(?i)\b(bearer|basic)\s+[a-z0-9._~+/=-]{8,}`), "$1 [redacted]"},
	// A name that ends like a secret's, then its value: TOKEN=x, "db_password": "x", api-key: x.
	{regexp.MustCompile(`(?i)(password|passwd|secret|token|api[_-]?key|access[_-]?key|private[_-]?key|credentials?)("?\s*[:=]\s*)("[^"]*"|'[^']*'|[^\s",;&]+)`), "${1}${2}[redacted]"},
	// user:password@host in a URL.
	{regexp.MustCompile(`([a-zA-Z][a-zA-Z0-9+.-]*://[^\s/:@]+):[^\s/@]+@`), "$1:[redacted]@"},
}

// redact covers what looks like a credential, and control characters that could disturb a terminal or a note.
func redact(text string) string {
	for _, s := range secrets {
		text = s.shape.ReplaceAllString(text, s.with)
	}
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return r
		case r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0, r >= 0x202a && r <= 0x202e, r >= 0x2066 && r <= 0x2069:
			return -1
		}
		return r
	}, strings.ToValidUTF8(text, "\uFFFD"))
}

// shortText is how many bytes of a message are kept in a fact.
const shortText = 512

// short is one message of a status, redacted and bounded.
func short(text string) string { return clip(redact(text), shortText) }

// clip keeps the first n bytes and says when something is missing. It never cuts a rune.
func clip(text string, n int) string {
	const more = "…"
	if len(text) <= n {
		return text
	}
	n = max(0, n-len(more))
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n] + more
}
