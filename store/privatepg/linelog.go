package privatepg

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
)

// lineLog passes a process' output on to a logger, line by line, and keeps
// the last lines for an error message.
type lineLog struct {
	log *slog.Logger

	mu   sync.Mutex
	rest []byte // of a line that has not ended
	last []string
}

const keptLines = 10

func (l *lineLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rest = append(l.rest, p...)
	for {
		line, rest, found := bytes.Cut(l.rest, []byte("\n"))
		if !found {
			return len(p), nil
		}
		l.rest = bytes.Clone(rest)
		text := strings.TrimSpace(string(line))
		if text == "" {
			continue
		}
		l.log.Debug("private Postgres says", "line", text)
		l.last = append(l.last, text)
		if len(l.last) > keptLines {
			l.last = l.last[1:]
		}
	}
}

// tail is the last output, on one line.
func (l *lineLog) tail() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.last, "; ")
}
