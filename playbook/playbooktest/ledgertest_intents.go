package playbooktest

import (
	"time"

	"github.com/drydock/drydock/playbook"
)

func (f *ledgerFixture) numbered() {
	id := f.start("c1", "a")
	h := f.acquire(id)
	actions := []playbook.Action{
		cordon(id),
		playbook.OrphanDelete{Namespace: "monitoring", Name: "a", UID: "u", ResourceVersion: "9", BackupSHA256: "00", PodUIDs: []string{"p1", "p2"}},
		playbook.Promote{Component: "armada-ops", Carrier: "c1", Version: "v1", Build: 12, Before: 3},
		playbook.Annotate{Incident: "PINC0001", Marker: "m1", Text: "Grüße & <b>", Final: true},
	}
	for _, a := range actions[:3] {
		f.mustCommit(h, playbook.Promise{Action: a})
	}
	r := f.mustCommit(h, playbook.Promise{Action: actions[3]}, playbook.Promise{Action: uncordon(id), Undoes: 1})
	lanes := []playbook.Lane{"carrier/c1", "carrier/c1", "jenkins/c1", "pagerduty/PINC0001", "carrier/c1"}
	actions = append(actions, uncordon(id))
	if len(r.Intents) != len(actions) {
		f.Fatalf("got %d intents, want %d", len(r.Intents), len(actions))
	}
	for n, i := range r.Intents {
		f.same(i.Action, actions[n], "action")
		f.same([]any{i.Seq, i.Lane, i.Generation, i.Open(), i.SentAt.IsZero(), i.PromisedAt.IsZero()},
			[]any{n + 1, lanes[n], h.Generation(), true, true, false}, "intent")
	}
	f.same(r.Intents[4].Undoes, 1, "undoes")
	f.same(f.load(h), r, "loaded as it was committed")
}

func (f *ledgerFixture) roundTrip() {
	h := f.acquire(f.start("c1", "a"))
	at := time.Date(2026, time.March, 1, 2, 3, 4, 5000, time.UTC)
	r, err := f.commitAs(h, func(c *playbook.Commit) {
		r := &c.Run
		r.State, r.Finding, r.Confirmed, r.Why, r.PlanHash = playbook.Draining, playbook.FindingNodeFull, true, "worker-1 is full", "h1"
		r.Deadline = r.Deadline.Add(time.Minute)
		r.Incidents[0].End = playbook.OutcomeEscalated
		r.Memory = playbook.Memory{
			Sightings: playbook.Sightings{"node_full/w1": {First: at, Last: at.Add(time.Minute), Count: 4}},
			EnteredAt: at, LookedAt: at, Paused: 90 * time.Second, Waiting: "the claim",
			Drain:   &playbook.DrainMemory{Node: "w1", UID: "u1", Need: 2, Started: at, FreeSince: at},
			Reapply: &playbook.ReapplyMemory{OldUID: "u", BackupSHA256: "00", PodUIDs: []string{"p1"}, DeleteSeq: 3},
			Skipped: map[string]string{"w2": "needs 7"}, Ending: &playbook.Ending{Outcome: playbook.OutcomeEscalated, Why: "w"},
			Said: "s", Adopted: "all kept", Approved: []string{"evict x"}, Found: []playbook.Found{{Finding: playbook.FindingNodeFull, Node: "w1", Why: "full"}},
		}
	})
	f.must(err, "commit")
	got := f.load(h)
	f.same(got, r, "loaded as it was committed")
	f.same(got.Memory.Paused, 90*time.Second, "paused")
	f.same(got.Memory.Sightings["node_full/w1"].Count, 4, "sighting")
	f.same(got.Memory.Drain.Node, "w1", "drain")
	f.same([]any{got.State, got.Finding, got.Confirmed, got.Why, got.PlanHash, got.Incidents[0].End, got.Ticks},
		[]any{playbook.Draining, playbook.FindingNodeFull, true, "worker-1 is full", "h1", playbook.OutcomeEscalated, 1}, "run")
}

func (f *ledgerFixture) killSwitch() {
	id := f.start("c1", "a")
	h := f.acquire(id)
	f.mustCommit(h, playbook.Promise{Action: cordon(id)})
	for _, carrier := range []string{"c1", ""} {
		f.must(f.l.SetKillSwitch(f.Context(), carrier, "storm"), "engage")
		before := f.load(h)
		_, err := f.commit(h, playbook.Promise{Action: playbook.Evict{Namespace: "n", Pod: "p", UID: "u"}})
		if f.wantRefused(err, "promise a change").Why == "" {
			f.Error("the refusal does not say why")
		}
		f.same(f.load(h), before, "the run after the refusal")
		facts, err := f.l.Facts(f.Context(), h, before)
		f.must(err, "facts")
		f.same(facts.KillSwitch, "storm", "kill switch in the facts")
		f.mustCommit(h, playbook.Promise{Action: uncordon(id), Undoes: 1},
			playbook.Promise{Action: playbook.Annotate{Incident: "PINC0001", Marker: "m", Text: "t"}})
		f.must(f.l.SetKillSwitch(f.Context(), carrier, ""), "let go")
	}
	f.must(f.l.SetKillSwitch(f.Context(), "c2", "elsewhere"), "engage elsewhere")
	f.mustCommit(h, playbook.Promise{Action: playbook.Evict{Namespace: "n", Pod: "p", UID: "u"}})
}

func (f *ledgerFixture) killSwitchAtBegin() {
	id := f.start("c1", "a")
	h := f.acquire(id)
	r := f.mustCommit(h, playbook.Promise{Action: cordon(id)}, playbook.Promise{Action: uncordon(id), Undoes: 1},
		playbook.Promise{Action: playbook.Escalate{Incident: "PINC0001"}})
	f.must(f.l.SetKillSwitch(f.Context(), "", "storm"), "engage")
	deadline := r.StartedAt.Add(time.Hour)
	f.wantRefused(f.l.Begin(f.Context(), h, 1, deadline), "begin a change")
	f.must(f.l.Begin(f.Context(), h, 2, deadline), "begin an undo")
	f.must(f.l.Begin(f.Context(), h, 3, deadline), "begin an escalation")
	got := f.load(h)
	f.same([]bool{got.Intents[0].SentAt.IsZero(), got.Intents[1].SentAt.IsZero()}, []bool{true, false}, "sent: not begun")
}

func (f *ledgerFixture) begins() {
	id := f.start("c1", "a")
	h := f.acquire(id)
	r := f.mustCommit(h, playbook.Promise{Action: cordon(id)})
	deadline := r.StartedAt.Add(time.Hour)
	f.must(f.l.Begin(f.Context(), h, 1, deadline), "begin")
	i := f.load(h).Intents[0]
	if i.SentAt.IsZero() || !i.CallDeadline.Equal(deadline) || !i.Open() {
		f.Errorf("after begin: sent at %s, call deadline %s (want %s), open %t", i.SentAt, i.CallDeadline, deadline, i.Open())
	}
	f.must(f.l.Begin(f.Context(), h, 1, deadline.Add(time.Minute)), "begin again")
	f.same(f.load(h).Intents[0].CallDeadline.UTC(), deadline.Add(time.Minute).UTC(), "call deadline of the second try")
	if f.l.Begin(f.Context(), h, 2, deadline) == nil {
		f.Error("an intent that does not exist was begun")
	}
}

func (f *ledgerFixture) settlesTwice() {
	id := f.start("c1", "a")
	h := f.acquire(id)
	f.mustCommit(h, playbook.Promise{Action: cordon(id)})
	r := f.settle(h, 1, playbook.Happened)
	i := r.Intents[0]
	f.same([]any{i.Open(), i.Result, i.Detail, i.Receipt}, []any{false, playbook.Happened, "said so", "r1"}, "settled intent")
	f.same(f.load(h), r, "loaded as it was settled")
	f.same(f.settle(h, 1, playbook.Happened).Intents, r.Intents, "intents after settling again")
	if _, err := f.l.Settle(f.Context(), h, 1, playbook.Settlement{Result: playbook.NotHappened}); err == nil {
		f.Error("a settled intent was settled otherwise")
	}
	f.same(f.load(h).Intents, r.Intents, "intents after the contradiction")
	if _, err := f.l.Settle(f.Context(), h, 2, playbook.Settlement{Result: playbook.Happened}); err == nil {
		f.Error("an intent that does not exist was settled")
	}
}

func (f *ledgerFixture) owes() {
	id := f.start("c1", "a")
	h := f.acquire(id)
	owed := func(r playbook.Run) int { return len(r.Owed()) }
	r := f.mustCommit(h, playbook.Promise{Action: cordon(id)})
	f.same(owed(r), 1, "owed from the promise on")
	r = f.settle(h, 1, playbook.Happened)
	f.same(owed(r), 1, "owed when it happened")
	r = f.mustCommit(h, playbook.Promise{Action: uncordon(id), Undoes: 1})
	f.same(owed(r), 1, "owed while the undo is open")
	r = f.settle(h, 2, playbook.NotHappened)
	f.same(owed(r), 1, "owed when the undo did not happen")
	f.mustCommit(h, playbook.Promise{Action: uncordon(id), Undoes: 1})
	r = f.settle(h, 3, playbook.Happened)
	f.same(owed(r), 0, "owed when it was undone")
}

func (f *ledgerFixture) backups() {
	id, other := f.start("c1", "a"), f.start("c1", "b")
	h := f.acquire(id)
	manifest := playbook.Manifest(`{"kind":"DaemonSet","env":"s3cret ` + "\u00e9" + `"}`)
	sum := Checksum(manifest)
	f.mustCommit(h, playbook.Promise{
		Action: playbook.OrphanDelete{Namespace: "monitoring", Name: "a", UID: "u", ResourceVersion: "1", BackupSHA256: sum},
		Backup: &playbook.Backup{SHA256: sum, UID: "u", Manifest: manifest},
	})
	got, err := f.l.Backup(f.Context(), id, sum)
	f.must(err, "backup")
	f.same(string(got), string(manifest), "manifest")
	if _, err := f.l.Backup(f.Context(), id, Checksum(nil)); err == nil {
		f.Error("a backup that was never made was found")
	}
	if _, err := f.l.Backup(f.Context(), other, sum); err == nil {
		f.Error("another run's backup was found")
	}
}

func (f *ledgerFixture) ended() {
	id := f.start("c1", "a")
	h := f.acquire(id)
	r, err := f.commitAs(h, func(c *playbook.Commit) {
		c.Run.State, c.Run.Outcome, c.NextTick, c.Release = playbook.StateResolved, playbook.OutcomeResolved, time.Time{}, true
	})
	f.must(err, "commit")
	if r.FinishedAt.IsZero() || r.FinishedAt.Before(r.StartedAt) {
		f.Errorf("finished at %s, started at %s", r.FinishedAt, r.StartedAt)
	}
	f.same([]any{r.State, r.Outcome}, []any{playbook.StateResolved, playbook.OutcomeResolved}, "end")
	h.Release()
	f.same(f.load(f.acquire(id)), r, "an ended run is still there, for the janitor")
}
