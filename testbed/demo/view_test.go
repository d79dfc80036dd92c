package demo

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/drydock/drydock/testbed/pagerduty"
)

// screen is a view of the given width on paper.
func screen(t *testing.T, width int) (*view, *strings.Builder) {
	t.Helper()
	out := &strings.Builder{}
	v := newView(out)
	v.width = width
	t.Cleanup(v.close)
	return v, out
}

func TestEvent(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 22, 3, 0, 12, 0, time.Local)
	const text = "node prod-dal10-carrier3-worker-07: full: 100% of 31 pods, and pod node-exporter-x waits for a place"
	for _, test := range []struct {
		name  string
		width int
		want  string
	}{
		{"no terminal", 0, "03:00:12  prod-dal10-carrier3  node-exporter            draining          node worker-07: full: 100% of 31 pods, and pod node-exporter-x waits for a place\n"},
		{"wide", 120, "03:00:12  prod-dal10-carrier3  node-exporter            draining          node worker-07: full: 100% of 31 pods, and p…\n"},
		{"narrow", 80, "03:00:12  prod-dal10-carrier3  node-exporter            draining\n          node worker-07: full: 100% of 31 pods, and pod node-exporter-x waits…\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			v, out := screen(t, test.width)
			v.event(at, carrier3, nodeExporter, "draining", text)
			if diff := cmp.Diff(test.want, out.String()); diff != "" {
				t.Error(diff)
			}
			for line := range strings.Lines(out.String()) {
				if n := len([]rune(line)); test.width > 0 && n > test.width {
					t.Errorf("a line has %d columns of %d", n, test.width)
				}
			}
		})
	}
}

func TestStepSaysHowItEnded(t *testing.T) {
	t.Parallel()
	v, out := screen(t, 0)
	if err := v.step("one", func() error { return nil }); err != nil {
		t.Error(err)
	}
	broken := errors.New("broken")
	if err := v.step("two", func() error { return broken }); !errors.Is(err, broken) {
		t.Errorf("got %v, want the step's own error", err)
	}
	want := "  · one ...\n  ✓ one  0.0 s\n  · two ...\n  ✗ two: failed after 0.0 s\n"
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
}

// TestMovingLine: on a terminal the line of what is under way goes before any
// other appears.
func TestMovingLine(t *testing.T) {
	t.Parallel()
	v, out := screen(t, 30)
	over := v.during("control plane prod-dal10-carrier3")
	v.during("another")
	v.mu.Lock()
	v.draw(time.Now())
	v.mu.Unlock()
	over()
	v.line("ready")
	want := "⠙ control plane prod-dal10-c…\r\033[Kready\n"
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
}

func TestClosing(t *testing.T) {
	t.Parallel()
	e := goodEvidence()
	e.selfPages = []pagerduty.Incident{{Number: 7, Title: "an undo is blocked"}}
	v, out := screen(t, 0)
	if failures := v.closing(e); len(failures) != 1 {
		t.Errorf("got the failures %v, want one", failures)
	}
	for _, want := range []string{
		"  prod-dal10-carrier3  docker-metrics-endpoint  triage → draining → reapplying → verifying → resolved  cordoned, 1 pod evicted, reapplied, uncordoned  1m0s\n",
		"  prod-dal10-carrier3  ibm-kube-fluentd         triage → waiting_for_disk → verifying → resolved       nothing                                         1m0s\n",
		"  ✓ each incident was noted first and then resolved, by Drydock's own user\n",
		"  ✗ Drydock did not page about itself\n      incident 7: an undo is blocked\n",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
	if strings.Contains(out.String(), "\033") {
		t.Error("there are escape sequences, and no terminal")
	}
}
