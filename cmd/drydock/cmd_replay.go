package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/drydock/drydock/playbook"
	"github.com/drydock/drydock/store"
)

// Values of --policy.
const (
	policyStored  = "stored"
	policyPresent = "present"
)

func newReplay(a *app) *cobra.Command {
	var r replay
	var all bool
	var since string
	cmd := &cobra.Command{
		Use:   "replay RUN | --all",
		Short: "Decide stored ticks again with this program and compare",
		Long: `Decide every stored tick of a run, or of all runs, again: from the run as it was before the tick and from what the tick
had read. With --policy stored each tick has the policy that it had then, so a difference is the program's: try an upgrade
before it goes live. With --policy present it has the policy of this configuration: try a change of the configuration.

Compared are the state that the run goes to, the finding and whether it is confirmed, every node's verdict, the plan and
what is promised; not the sentences. Each tick is taken by itself, so one difference does not lead to the next.

It reads the database (database_url, or the private Postgres in data_dir) and changes nothing. The same history gives the
same answer. Exit 0 when nothing differs, 1 when something does or there is no such run.`,
		Example: `  drydock replay 0198c5d2-7f4e-7a61-9d0e-0d5c2a3b4c5d
  drydock replay --all --since 2026-10-01T00:00:00Z
  drydock replay --all --policy present --config new.yaml -o json`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if all == (len(args) == 1) {
				return usagef("name either a run or --all")
			}
			if r.policy != policyStored && r.policy != policyPresent {
				return usagef("--policy %q is not one of stored, present", r.policy)
			}
			if since != "" {
				var err error
				if r.filter.Since, err = time.Parse(time.RFC3339, since); err != nil {
					return usagef("--since %q is not a time like 2026-11-22T08:00:00Z", since)
				}
			}
			return a.readDatabase(cmd.Context(), func(ctx context.Context, cfg *Config, st *store.Store) error {
				r.store, r.present, r.say = st, cfg.policies(""), a.progress()
				var err error
				if all {
					err = r.everyRun(ctx)
				} else {
					err = r.run(ctx, args[0])
				}
				r.say("")
				if err != nil {
					return historyError(err)
				}
				return a.printReplay(r.answer())
			})
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "every run of the history")
	cmd.Flags().StringVar(&r.policy, "policy", policyStored, "stored: the policy of each tick; present: this configuration's")
	cmd.Flags().StringVar(&since, "since", "", "with --all: only runs that began at or after this time (RFC 3339)")
	cmd.Flags().StringVar(&r.filter.Carrier, "carrier", "", "with --all: only runs of this carrier")
	_ = cmd.RegisterFlagCompletionFunc("policy", cobra.FixedCompletions([]string{policyStored, policyPresent}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// replay decides a history again.
type replay struct {
	store   *store.Store
	present func(playbook.Target) playbook.Policy
	policy  string
	filter  playbook.RunFilter
	say     func(string)

	runs, ticks int
	differing   []differingTick
	skipped     []skippedRun
}

// replayed is what "drydock replay" prints.
type replayed struct {
	Policy    string          `json:"policy"`
	Runs      int             `json:"runs"`
	Ticks     int             `json:"ticks"`
	Identical bool            `json:"identical"`
	Differing []differingTick `json:"differing"`
	Skipped   []skippedRun    `json:"skipped"`
}

type differingTick struct {
	Run         string                `json:"run"`
	Target      string                `json:"target"`
	Seq         int                   `json:"seq"`
	At          time.Time             `json:"at"`
	Differences []playbook.Difference `json:"differences"`
}

// skippedRun could not be decided again.
type skippedRun struct {
	Run string `json:"run"`
	Why string `json:"why"`
}

func (r *replay) everyRun(ctx context.Context) error {
	const page = 200
	r.filter.Limit = page
	for {
		list, err := r.store.Runs(ctx, r.filter)
		if err != nil {
			return err
		}
		for _, run := range list.Runs {
			if err := r.run(ctx, run.ID); err != nil {
				return err
			}
			r.say(fmt.Sprintf("replayed %d ticks of %d runs, back to %s; %d differ", r.ticks, r.runs,
				run.StartedAt.UTC().Format(time.RFC3339), len(r.differing)))
		}
		if list.Next == "" {
			return nil
		}
		r.filter.Cursor = list.Next
	}
}

func (r *replay) run(ctx context.Context, id string) error {
	run, err := r.store.Run(ctx, id)
	if err != nil {
		return err
	}
	if run.TableVersion != playbook.TableVersion {
		r.skipped = append(r.skipped, skippedRun{run.ID, fmt.Sprintf("its table version is %d, this program's is %d", run.TableVersion, playbook.TableVersion)})
		return nil
	}
	r.runs++
	present := r.present(run.Target)
	for n, t := range run.Ticks {
		if len(t.Before.Incidents) == 0 && len(run.Incidents) > 0 {
			r.skipped = append(r.skipped, skippedRun{run.ID, fmt.Sprintf("tick %d does not say what the run was before it: an earlier version stored it", t.Seq)})
			return nil
		}
		p, was := t.Policy, run
		if r.policy == policyPresent {
			present.Installation = p.Installation // it names marks, and is no rule
			p, was.Mode = present, present.Mode
		}
		r.ticks++
		if _, diff := playbook.Replay(p, was, n); len(diff) > 0 {
			r.differing = append(r.differing, differingTick{run.ID, run.Target.String(), t.Seq, t.At, diff})
		}
	}
	return nil
}

func (r *replay) answer() replayed {
	a := replayed{Policy: r.policy, Runs: r.runs, Ticks: r.ticks, Identical: len(r.differing) == 0, Differing: r.differing, Skipped: r.skipped}
	if a.Differing == nil {
		a.Differing = []differingTick{}
	}
	if a.Skipped == nil {
		a.Skipped = []skippedRun{}
	}
	return a
}

func (a *app) printReplay(answer replayed) error {
	t := a.terminal()
	err := a.printText(answer, func(w io.Writer) error {
		last := ""
		for _, d := range answer.Differing {
			if d.Run != last {
				fmt.Fprintf(w, "run %s: %s\n", t.paint(bold, one(d.Run)), one(d.Target))
				last = d.Run
			}
			fmt.Fprintf(w, "  tick %d at %s\n", d.Seq, d.At.UTC().Format(time.RFC3339))
			for _, diff := range d.Differences {
				fmt.Fprintln(w, t.clip(fmt.Sprintf("    %s: was %s, is %s", one(diff.What), t.paint(red, dash(one(diff.Stored))), t.paint(green, dash(one(diff.Now))))))
			}
		}
		for _, s := range answer.Skipped {
			fmt.Fprintf(w, "run %s was left out: %s\n", one(s.Run), one(s.Why))
		}
		result := "identical"
		if !answer.Identical {
			result = fmt.Sprintf("%d differ", len(answer.Differing))
		}
		_, err := fmt.Fprintf(w, "%d ticks of %d runs decided again (policy: %s): %s\n", answer.Ticks, answer.Runs, answer.Policy, result)
		return err
	})
	if err == nil && !answer.Identical {
		return answerNo()
	}
	return err
}
