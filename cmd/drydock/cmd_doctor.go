package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/spf13/cobra"
)

func newDoctor(a *app) *cobra.Command {
	var timeout time.Duration
	var grants string
	cmd := &cobra.Command{
		Use: "doctor", Short: "Check the database, PagerDuty, each carrier, its rights and clock, Jenkins and the flag service", Args: exactArgs(0),
		Long: `Check everything that Drydock needs, before the night: one line each, with what to do where something is wrong. It changes
nothing. Checks run beside each other, each with a timeout.

With --grants it checks nothing, and prints what the named carrier must grant in its mode, for kubectl apply: ServiceAccounts
with exactly the rights that are checked and, where Drydock may act, the admission policy that bounds what it sends.

Exit 0 when all is well, 1 when something is not as it must be, 3 when a remote system did not answer (which wins), 2 when
the configuration or a secret is missing.`,
		Example: "  drydock doctor --config drydock.yaml\n  drydock doctor -o json | jq '.checks[] | select(.status != \"ok\")'\n" +
			"  drydock doctor --grants prod-dal10-carrier3 | kubectl apply -f -",
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := a.config()
			if err != nil {
				return err
			}
			d := &doctor{app: a, cfg: cfg, now: time.Now}
			if grants != "" {
				return d.grants(grants)
			}
			if err := d.secrets(); err != nil {
				return err
			}
			report := d.run(cmd.Context(), timeout)
			if err := a.printText(report, func(w io.Writer) error { a.terminal().doctorRows(w, report); return nil }); err != nil {
				return err
			}
			return report.exit()
		},
	}
	cmd.Flags().DurationVar(&timeout, "timeout", 20*time.Second, "for each check")
	cmd.Flags().StringVar(&grants, "grants", "", "print what this carrier must grant, as Kubernetes manifests")
	return cmd
}

// Statuses of a check.
const (
	checkOK      = "ok"
	checkNo      = "no"      // it answered, and is not as it must be
	checkFailed  = "failed"  // it did not answer
	checkSkipped = "skipped" // it is not configured
)

// checkResult is what a check found. Mend says what to do.
type checkResult struct {
	Name   string `json:"name"`
	Status string `json:"status"`
	Saw    string `json:"saw"`
	Mend   string `json:"mend,omitempty"`
}

type doctorReport struct {
	Healthy bool          `json:"healthy"`
	Checks  []checkResult `json:"checks"`
}

func (r doctorReport) exit() error {
	code := exitDone
	for _, c := range r.Checks {
		switch {
		case c.Status == checkFailed:
			code = exitRemote
		case c.Status == checkNo && code == exitDone:
			code = exitNo
		}
	}
	if code == exitDone {
		return nil
	}
	return &exitError{code: code}
}

func ok(format string, args ...any) checkResult {
	return checkResult{Status: checkOK, Saw: fmt.Sprintf(format, args...)}
}

func no(mend, format string, args ...any) checkResult {
	return checkResult{Status: checkNo, Saw: fmt.Sprintf(format, args...), Mend: mend}
}

func failed(mend string, err error) checkResult {
	return checkResult{Status: checkFailed, Saw: err.Error(), Mend: mend}
}

func skipped(format string, args ...any) checkResult {
	return checkResult{Status: checkSkipped, Saw: fmt.Sprintf(format, args...)}
}

// examinations is how many checks run at one time.
const examinations = 8

// run makes every check, and reports in their order.
func (d *doctor) run(ctx context.Context, timeout time.Duration) doctorReport {
	checks := d.checks()
	report := doctorReport{Healthy: true, Checks: make([]checkResult, len(checks))}
	say := d.app.progress()
	var mu sync.Mutex
	done := 0
	slots := make(chan struct{}, examinations)
	var all sync.WaitGroup
	for i, c := range checks {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("no answer within %s", timeout))
			defer cancel()
			result := c.check(ctx)
			if cause := context.Cause(ctx); cause != nil && result.Status == checkFailed && errors.Is(ctx.Err(), context.DeadlineExceeded) {
				result.Saw = cause.Error() + ": " + result.Saw
			}
			result.Name = c.name
			mu.Lock()
			defer mu.Unlock()
			report.Checks[i] = result
			done++
			say(fmt.Sprintf("%d of %d checks done", done, len(checks)))
		})
	}
	all.Wait()
	say("")
	for _, c := range report.Checks {
		report.Healthy = report.Healthy && c.Status != checkNo && c.Status != checkFailed
	}
	return report
}

// doctorRows breaks long lines instead of clipping them: their end says what to do.
func (t terminal) doctorRows(w io.Writer, r doctorReport) {
	names := len("CHECK")
	for _, c := range r.Checks {
		names = max(names, len([]rune(one(c.Name))))
	}
	const statuses = 7
	indent := statuses + 3 + names + 3
	const least = 30 // columns for what was seen; with less, it goes on lines of its own
	below := t.width > 0 && t.width-indent < least
	if !below {
		fmt.Fprintf(w, "%-*s   %-*s   %s\n", statuses, "STATUS", names, "CHECK", "SAW")
	}
	for _, c := range r.Checks {
		saw := one(c.Saw)
		if c.Mend != "" {
			saw += "; " + one(c.Mend)
		}
		status := t.paint(styleOfCheck(c.Status), fmt.Sprintf("%-*s", statuses, c.Status))
		if below {
			fmt.Fprintf(w, "%s   %s\n  %s\n", status, one(c.Name), t.wrap(saw, 2))
		} else {
			fmt.Fprintf(w, "%s   %-*s   %s\n", status, names, one(c.Name), t.wrap(saw, indent))
		}
	}
}

func styleOfCheck(status string) style {
	switch status {
	case checkOK:
		return green
	case checkNo, checkFailed:
		return red
	}
	return faint
}
