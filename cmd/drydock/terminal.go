package main

import (
	"io"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"unicode"

	"golang.org/x/term"
)

// terminal is what is known of where the answer goes.
type terminal struct {
	// width in columns; 0 when nothing limits a line: the answer goes to a file or into a pipe.
	width int
	// colour: a person looks at it, and has not said that they want none (no-color.org).
	colour bool
}

func (a *app) terminal() terminal {
	var t terminal
	if f, ok := a.stdout.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		t.colour = a.getenv("NO_COLOR") == "" && a.getenv("TERM") != "dumb"
		if width, _, err := term.GetSize(int(f.Fd())); err == nil {
			t.width = width
		}
	}
	if width, err := strconv.Atoi(a.getenv("COLUMNS")); err == nil && width > 0 {
		t.width = width
	}
	return t
}

// style is an SGR sequence's number, and the zero style is none.
type style string

const (
	green  style = "32"
	yellow style = "33"
	red    style = "31"
	cyan   style = "36"
	faint  style = "2"
	bold   style = "1"
)

func (t terminal) paint(s style, text string) string {
	if !t.colour || s == "" || text == "" {
		return text
	}
	return "\x1b[" + string(s) + "m" + text + "\x1b[0m"
}

// clip shortens a line to the terminal's width, so that a long sentence does not break a table; -o json has it whole.
func (t terminal) clip(line string) string {
	if t.width <= 0 || len(line) <= t.width {
		return line
	}
	runes := []rune(line)
	if len(runes) <= t.width {
		return line
	}
	return string(runes[:t.width-1]) + "…"
}

// wrap breaks a text at spaces so that it fits the width, with later lines indented; without a width it stays one line.
func (t terminal) wrap(text string, indent int) string {
	room := t.width - indent
	if t.width <= 0 || room < 20 {
		return text
	}
	var b strings.Builder
	used := 0
	for i, word := range strings.Fields(text) {
		n := len([]rune(word))
		switch {
		case i == 0:
		case used+1+n > room:
			b.WriteString("\n" + strings.Repeat(" ", indent))
			used = 0
		default:
			b.WriteByte(' ')
			used++
		}
		b.WriteString(word)
		used += n
	}
	return b.String()
}

// tabulate writes a table whose lines end where the terminal does. What is in it may come from a carrier or an incident:
// nothing in it can move the cursor, colour the screen or change the direction of the text.
func (t terminal) tabulate(w io.Writer, table func(w io.Writer)) error {
	out := &lines{to: w, clip: t.clip}
	tw := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	table(harmless{tw})
	if err := tw.Flush(); err != nil {
		return err
	}
	return out.flush()
}

// lines clips each line that is written through it. Spaces at the end, which the last column's padding leaves, are taken off.
type lines struct {
	to   io.Writer
	clip func(string) string
	rest string
}

func (l *lines) Write(p []byte) (int, error) {
	text := l.rest + string(p)
	for {
		line, after, found := strings.Cut(text, "\n")
		if !found {
			l.rest = text
			return len(p), nil
		}
		if _, err := io.WriteString(l.to, l.clip(strings.TrimRight(line, " "))+"\n"); err != nil {
			return 0, err
		}
		text = after
	}
}

func (l *lines) flush() error {
	if l.rest == "" {
		return nil
	}
	_, err := io.WriteString(l.to, l.clip(l.rest))
	return err
}

// harmless takes control and format characters out of what is written; only the table's own tabs and line ends stay.
type harmless struct{ to io.Writer }

func (h harmless) Write(p []byte) (int, error) {
	if _, err := io.WriteString(h.to, shown(string(p), true)); err != nil {
		return 0, err
	}
	return len(p), nil
}

// shown replaces what a terminal would obey instead of show.
func shown(s string, layout bool) string {
	return strings.Map(func(r rune) rune {
		switch {
		case layout && (r == '\n' || r == '\t'):
			return r
		case unicode.IsControl(r), unicode.Is(unicode.Cf, r), r == '\u2028', r == '\u2029', r == unicode.ReplacementChar:
			return '·'
		}
		return r
	}, s)
}

// one makes a text from outside fit for one cell of a table.
func one(s string) string { return shown(strings.Join(strings.Fields(s), " "), false) }
