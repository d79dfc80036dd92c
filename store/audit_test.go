package store

import (
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgerrcode"

	"github.com/drydock/drydock/playbook"
)

func (f *fixture) verify() AuditReport {
	f.Helper()
	report, err := VerifyAudit(f.Context(), f.dsn)
	f.must(err)
	return report
}

func (f *fixture) deeds(filter AuditFilter) []string {
	f.Helper()
	page, err := f.Audit(f.Context(), filter)
	f.must(err)
	var deeds []string
	for _, e := range page.Entries {
		deeds = append(deeds, e.Who+" "+e.What)
	}
	return deeds
}

// TestAuditRecords follows a run from a person's order to its end: each deed is there, with who, why and what it changed, in the
// transaction that did it.
func TestAuditRecords(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	st := startOf("P1", target("c1", "agent"))
	st.RequestedBy, st.Reason = "ada", "the disk was cleaned"
	run, err := f.StartRun(t.Context(), st)
	f.must(err)
	h := f.acquire(run.ID)
	f.commit(h, func(c *playbook.Commit) {
		c.Run.State, c.Tick.To, c.Run.PlanHash, c.Tick.Why = playbook.AwaitingApproval, playbook.AwaitingApproval, "h1", "a person must approve"
	})
	f.wantError(f.Approve(t.Context(), run.ID, "h1", "ada"), ErrOwnRun)
	f.must(f.Approve(t.Context(), run.ID, "h1", "bob"))
	f.commit(h, func(c *playbook.Commit) {
		c.Run.State, c.Tick.To, c.Tick.Why = playbook.Draining, playbook.Draining, "w1 is full"
		c.Promises = []playbook.Promise{{Action: cordonOf(run.ID)}}
	})
	_, err = f.Settle(t.Context(), h, 1, playbook.Settlement{Result: playbook.Happened, Detail: "with a \x00 in it", Receipt: "8"})
	f.must(err)
	f.must(f.EngageKillSwitch(t.Context(), KillSwitch{Carrier: "c1", Reason: "maintenance", By: "bob"}))
	f.must(f.ReleaseKillSwitch(t.Context(), KillSwitch{Carrier: "c1", Reason: "over", By: "bob"}))
	f.must(f.Cancel(t.Context(), run.ID, "bob", "enough"))
	f.commit(h, func(c *playbook.Commit) {
		c.Run.State, c.Run.Outcome, c.Run.Why, c.NextTick = playbook.StateStoodDown, playbook.OutcomeStoodDown, "cancelled by bob", c.Tick.At
	})
	f.must(f.Record(t.Context(), Deed{Who: Drydock, What: "serve.start"}))

	f.same("the run's deeds", f.deeds(AuditFilter{Run: run.ID}), []string{"drydock run.end", "bob run.cancel", "drydock intent.settle",
		"drydock intent.promise", "bob run.approve", "drydock run.start", "ada run.retrigger"})
	f.same("the carrier's deeds", len(f.deeds(AuditFilter{Carrier: "c1"})), 9)
	f.same("another carrier's", f.deeds(AuditFilter{Carriers: []string{"c2", "c3"}}), []string(nil))
	f.same("all deeds", len(f.deeds(AuditFilter{})), 10)

	page, err := f.Audit(t.Context(), AuditFilter{Carriers: []string{"c1", "c2"}, Limit: 4})
	f.must(err)
	rest, err := f.Audit(t.Context(), AuditFilter{Carriers: []string{"c1", "c2"}, Limit: 200, Cursor: page.Next})
	f.must(err)
	f.same("pages", []int{len(page.Entries), len(rest.Entries)}, []int{4, 5})
	release := page.Entries[2]
	f.same("release", []string{release.Who, release.What, release.Why, release.Carrier, string(release.Before), string(release.After)},
		[]string{"bob", "kill_switch.set", "over", "c1", `{"engaged":true,"reason":"maintenance","by":"bob"}`, `{"engaged":false}`})
	settle := rest.Entries[0]
	f.same("settle", []string{settle.What, settle.Why, settle.PlanHash, string(settle.After)},
		[]string{"intent.settle", "with a \uFFFD in it", "h1", `{"result":"happened","receipt":"8"}`})
	if !strings.Contains(string(settle.Before), `"kind":"cordon"`) || !strings.Contains(string(settle.Before), `"resource_version":"7"`) {
		t.Errorf("the settled intent is shown as %s", settle.Before)
	}

	report := f.verify()
	f.same("report", report, AuditReport{Entries: 10, Head: f.deedsHead()})
}

func (f *fixture) deedsHead() string {
	page, err := f.Audit(f.Context(), AuditFilter{Limit: 1})
	f.must(err)
	return page.Entries[0].Hash
}

// TestAuditIsChained writes from two replicas at once, then tampers as an administrator of the database could.
func TestAuditIsChained(t *testing.T) {
	t.Parallel()
	one := newFixture(t)
	two := openFixture(t, one.dsn, "two/1")
	one.same("an empty log", one.verify(), AuditReport{})
	var writers sync.WaitGroup
	for _, s := range []*Store{one.Store, two.Store} {
		for range 4 {
			writers.Go(func() {
				for range 25 {
					if err := s.Record(t.Context(), Deed{Who: "ada", What: "test", After: map[string]int{"n": 1}}); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
	writers.Wait()
	whole := one.verify()
	one.same("entries", []any{whole.Entries, whole.Broken}, []any{int64(200), int64(0)})

	for _, sql := range []string{`UPDATE audit SET entry = '{}' WHERE seq = 7`, `DELETE FROM audit WHERE seq = 7`, `TRUNCATE audit`} {
		if _, err := one.pool.Exec(t.Context(), sql); sqlstate(err) != pgerrcode.InsufficientPrivilege {
			t.Errorf("%s: %v", sql, err)
		}
	}
	one.exec(`INSERT INTO audit (seq, at, entry, prev_hash, hash) VALUES (5, '2020-01-01', '{"who":"mallory","what":"test"}', '', '')`)
	one.same("an entry comes last, whatever number and time it claims", one.verify().Entries, int64(201))

	one.exec(`ALTER TABLE audit DISABLE TRIGGER audit_only_grows`)
	for name, tt := range map[string]struct {
		tamper, repair string
		broken         int64
		why            string
	}{
		"changed": {`UPDATE audit SET entry = '{"who":"bob"}' WHERE seq = 7`,
			`UPDATE audit SET entry = '{"who":"ada","what":"test","after":{"n":1}}' WHERE seq = 7`, 7, "entry 7 is not what was hashed"},
		"later":     {`UPDATE audit SET at = at + '1 s' WHERE seq = 8`, `UPDATE audit SET at = at - '1 s'::interval WHERE seq = 8`, 8, "entry 8 is not what was hashed"},
		"rehashed":  {`UPDATE audit SET prev_hash = sha256('x') WHERE seq = 9`, `UPDATE audit a SET prev_hash = (SELECT hash FROM audit WHERE seq = 8) WHERE seq = 9`, 9, "entry 9 does not follow the one before it"},
		"taken out": {`CREATE TABLE kept AS SELECT seq, at, entry, prev_hash, hash FROM audit WHERE seq = 10; DELETE FROM audit WHERE seq = 10`, ``, 10, "entry 10 is missing: the next one is 11"},
	} {
		if name == "taken out" {
			continue // last: it is not put back
		}
		one.exec(tt.tamper)
		report := one.verify()
		one.same(name, []any{report.Broken, report.Why}, []any{tt.broken, tt.why})
		one.exec(tt.repair)
		one.same(name+", repaired", one.verify().Broken, int64(0))
	}
	one.exec(`DELETE FROM audit WHERE seq = 10`)
	one.same("taken out", one.verify().Why, "entry 10 is missing: the next one is 11")
}

// TestAuditGoesWithItsDeed: what is not committed is not recorded.
func TestAuditGoesWithItsDeed(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	run := f.start("P1", target("c1", "agent"))
	before := f.verify().Entries
	h := f.acquire(run.ID)
	c := f.commitOf(h, func(c *playbook.Commit) {
		c.Promises = []playbook.Promise{{Action: cordonOf(run.ID), Reservations: []playbook.Reservation{{Scope: "cordons", Key: "c1", Amount: 2, Limit: 1}}}}
	})
	_, err := f.Commit(t.Context(), h, c)
	var refused *playbook.RefusedError
	if !errors.As(err, &refused) {
		t.Fatalf("got %v, want a refusal", err)
	}
	f.same("entries", f.verify().Entries, before)
}
