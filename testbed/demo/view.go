package demo

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"golang.org/x/term"
)

// view writes the demo for people: on a terminal in colours and with one line
// that shows what is under way, anywhere else as plain lines that only grow.
type view struct {
	out      io.Writer
	terminal bool
	width    int // Columns; 0 when lines need not fit.
	stop     chan struct{}
	stopped  chan struct{}

	mu     sync.Mutex
	active []*activity
	drawn  bool // The line of what is under way is on the screen.
	frame  int
}

// activity is something that is under way.
type activity struct {
	name  string
	began time.Time
}

var spinner = []string{"⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"}

const spinnerPause = 120 * time.Millisecond

func newView(out io.Writer) *view {
	v := &view{out: out, stop: make(chan struct{}), stopped: make(chan struct{})}
	if file, ok := out.(*os.File); ok && term.IsTerminal(int(file.Fd())) && os.Getenv("TERM") != "dumb" {
		v.terminal = true
		v.width, _, _ = term.GetSize(int(file.Fd())) // 0 when it is not known.
	}
	go v.spin()
	return v
}

// close takes the moving line away. What is printed afterwards still appears.
func (v *view) close() {
	close(v.stop)
	<-v.stopped
}

func (v *view) spin() {
	defer close(v.stopped)
	if !v.terminal {
		return
	}
	ticker := time.NewTicker(spinnerPause)
	defer ticker.Stop()
	for {
		select {
		case <-v.stop:
			v.mu.Lock()
			v.erase()
			v.mu.Unlock()
			return
		case now := <-ticker.C:
			v.mu.Lock()
			v.draw(now)
			v.mu.Unlock()
		}
	}
}

// draw rewrites the line of what is under way.
func (v *view) draw(now time.Time) {
	v.erase()
	if len(v.active) == 0 {
		return
	}
	v.frame++
	oldest := v.active[0]
	line := fmt.Sprintf("%s %s  %s", spinner[v.frame%len(spinner)], oldest.name, seconds(now.Sub(oldest.began)))
	if n := len(v.active) - 1; n > 0 {
		line += fmt.Sprintf("  (and %d more)", n)
	}
	fmt.Fprint(v.out, clip(line, v.width-1))
	v.drawn = true
}

func (v *view) erase() {
	if v.drawn {
		fmt.Fprint(v.out, "\r\033[K")
		v.drawn = false
	}
}

// line prints one line above the moving one.
func (v *view) line(format string, args ...any) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.erase()
	fmt.Fprintln(v.out, strings.TrimRight(fmt.Sprintf(format, args...), " "))
}

// heading begins a part of the demo.
func (v *view) heading(text string) {
	v.line("")
	v.line("%s", v.paint(bold, text))
}

// during shows that something is under way until the function returned is called.
func (v *view) during(name string) (over func() time.Duration) {
	a := &activity{name: name, began: time.Now()}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.active = append(v.active, a)
	return func() time.Duration {
		v.mu.Lock()
		defer v.mu.Unlock()
		v.active = slices.DeleteFunc(v.active, func(o *activity) bool { return o == a })
		return time.Since(a.began)
	}
}

// step does something and says how long it took, or that it failed.
func (v *view) step(name string, do func() error) error {
	over := v.during(name)
	if !v.terminal {
		v.line("  · %s ...", name)
	}
	err := do()
	took := over()
	if err != nil {
		v.line("  %s %s: failed after %s", v.paint(red, "✗"), name, seconds(took))
		return err
	}
	v.line("  %s %s  %s", v.paint(green, "✓"), name, v.paint(faint, seconds(took)))
	return nil
}

// event prints what happened to an alert's carrier.
func (v *view) event(at time.Time, carrier, daemonSet, state, text string) {
	// Names of nodes begin with that of the carrier, which stands there already.
	text = strings.ReplaceAll(text, carrier+"-", "")
	head := fmt.Sprintf("%s  %-19s  %-23s  %s", v.paint(faint, at.Local().Format("15:04:05")), carrier, daemonSet,
		v.paint(colourOf(state), fmt.Sprintf("%-16s", state)))
	const columns = 8 + 2 + 19 + 2 + 23 + 2 + 16 + 2
	switch {
	case v.width == 0:
		v.line("%s  %s", head, text)
	case v.width < columns+40: // A narrow terminal: the text has a line of its own.
		v.line("%s", head)
		v.line("          %s", clip(text, v.width-11))
	default:
		v.line("%s  %s", head, clip(text, v.width-columns-1))
	}
}

// table prints rows in columns; the first one is the head.
func (v *view) table(rows [][]string) {
	var widths []int
	for _, row := range rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	for n, row := range rows {
		var b strings.Builder
		for i, cell := range row {
			b.WriteString("  " + cell)
			if i < len(row)-1 {
				b.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)))
			}
		}
		if n == 0 {
			v.line("%s", v.paint(faint, b.String()))
			continue
		}
		v.line("%s", b.String())
	}
}

type colour string

const (
	bold   colour = "1"
	faint  colour = "2"
	red    colour = "31"
	green  colour = "32"
	yellow colour = "33"
	cyan   colour = "36"
)

// paint colours a text, on a terminal that wants colours (no-color.org).
func (v *view) paint(c colour, text string) string {
	if !v.terminal || os.Getenv("NO_COLOR") != "" {
		return text
	}
	return "\033[" + string(c) + "m" + text + "\033[0m"
}

func colourOf(state string) colour {
	switch state {
	case "resolved", "verifying":
		return green
	case "escalated", "stood_down", "unwinding":
		return red
	case "waiting_for_disk", "queued", "awaiting_approval":
		return yellow
	default:
		return cyan
	}
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }

// clip shortens a text to so many characters; less than 1: it stays.
func clip(text string, width int) string {
	if width < 1 || utf8.RuneCountInString(text) <= width {
		return text
	}
	return string([]rune(text)[:max(0, width-1)]) + "…"
}
