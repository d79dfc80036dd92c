package kube

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestRedact(t *testing.T) {
	t.Parallel()
	jwt := "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl"
	pem := "-----BEGIN RSA PRIVATE KEY-----\nMIIhunter2\n-----END RSA PRIVATE KEY-----"
	for name, tt := range map[string]struct{ text, want string }{
		"plain":              {"cannot bind :9100: address already in use", "cannot bind :9100: address already in use"},
		"environment":        {"DB_PASSWORD=hunter2 PORT=9100", "DB_PASSWORD=[redacted] PORT=9100"},
		"JSON":               {`{"apiToken": "hunter2", "port": 1}`, `{"apiToken": [redacted], "port": 1}`},
		"YAML":               {"client_secret: hunter2\nname: x", "client_secret: [redacted]\nname: x"},
		"quoted with spaces": {`password="hunter2 and more" x`, `password=[redacted] x`},
		"header":             {"Authorization: Bearer hunter2hunter2", "Authorization: [redacted]"},
		"basic":              {"sent Basic aHVudGVyMjpodW50ZXIy to it", "sent Basic [redacted] to it"},
		"bearer":             {"curl -H bearer abcdefgh12345", "curl -H bearer [redacted]"},
		"JWT":                {"got " + jwt + " from it", "got [redacted JWT] from it"},
		"PEM":                {"key " + pem + " end", "key [redacted PEM] end"},
		"PEM cut off":        {"key -----BEGIN PRIVATE KEY-----\nMIIhunter2", "key [redacted PEM]"},
		"URL":                {"dial postgres://drydock:hunter2@db/x", "dial postgres://drydock:[redacted]@db/x"},
		"query":              {"GET /x?access_key=hunter2&y=1", "GET /x?access_key=[redacted]&y=1"},
		"controls":           {"a\x1b[31mb\x00c\u202ed\te\n", "a[31mbcd\te\n"},
		"tokens are counted": {"3 tokens left", "3 tokens left"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := redact(tt.text); got != tt.want {
				t.Errorf("redact(%q) = %q, want %q", tt.text, got, tt.want)
			}
		})
	}
}

func FuzzBounds(f *testing.F) {
	f.Add("a\nb\nc", 3)
	f.Add("é世界", 4)
	f.Add("x", 0)
	f.Fuzz(func(t *testing.T, text string, n int) {
		if n < 0 || n > 1<<20 {
			return
		}
		clean := redact(text)
		if !utf8.ValidString(clean) {
			t.Errorf("redact(%q) is not valid UTF-8", text)
		}
		if got := clip(clean, n); len(got) > max(n, len("…")) || !utf8.ValidString(got) {
			t.Errorf("clip(%q, %d) = %q", clean, n, got)
		}
		if got := keepEnd(clean, n); len(got) > n || !utf8.ValidString(got) {
			t.Errorf("keepEnd(%q, %d) = %q", clean, n, got)
		}
	})
}

func TestEvidenceIsBounded(t *testing.T) {
	t.Parallel()
	e := &evidence{left: evidenceBytes}
	e.add("empty", "")
	for range 20 {
		e.add("log", strings.Repeat("a line of a log that says something\n", 2000)+"the end")
	}
	total := 0
	for _, piece := range e.pieces {
		total += len(piece.Text)
		if len(piece.Text) > pieceBytes || !strings.HasSuffix(piece.Text, "the end") {
			t.Fatalf("a piece of %d bytes ends with %q", len(piece.Text), piece.Text[max(0, len(piece.Text)-20):])
		}
	}
	if total > evidenceBytes || total < evidenceBytes/2 {
		t.Errorf("%d bytes of evidence", total)
	}
}
