package main

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/term"
)

const (
	// quietFor is how long a command may take before it says how far it is.
	quietFor = 2 * time.Second
	// eachFor is how often it says so where nobody can see a line change: in a log.
	eachFor = 10 * time.Second
)

// progress returns what tells on stderr how far a long command is; an empty text ends it. On a terminal the line changes in
// place; elsewhere there is a new one now and then.
func (a *app) progress() func(text string) {
	f, ok := a.stderr.(*os.File)
	onTerminal := ok && term.IsTerminal(int(f.Fd())) && a.getenv("TERM") != "dumb"
	began := time.Now()
	said := began
	shown := false
	return func(text string) {
		now := time.Now()
		switch {
		case text == "":
			if shown && onTerminal {
				fmt.Fprint(a.stderr, "\r\x1b[K")
			}
		case now.Sub(began) < quietFor:
		case onTerminal && now.Sub(said) >= quietFor/10:
			fmt.Fprint(a.stderr, "\r\x1b[K"+a.stderrWidth(f, text))
			said, shown = now, true
		case !onTerminal && (!shown || now.Sub(said) >= eachFor):
			fmt.Fprintln(a.stderr, text)
			said, shown = now, true
		}
	}
}

// stderrWidth clips a line that must not wrap.
func (a *app) stderrWidth(f *os.File, text string) string {
	width, _, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return text
	}
	return terminal{width: width - 1}.clip(text)
}
