package store

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/drydock/drydock/playbook"
)

// TestBudgetsOverReplicas: twelve runs on two replicas reserve from one budget, each with a second budget in another order,
// until all are refused. Neither budget is exceeded, and nobody waits for ever.
func TestBudgetsOverReplicas(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	replicas := []*fixture{f, openFixture(t, f.dsn, "two/1")}
	hour := playbook.Reservation{Scope: playbook.ScopeEvictionsHour, Key: "c1", Amount: 2, Limit: 21, Window: time.Hour}
	all := playbook.Reservation{Scope: playbook.ScopeEvictionsHourAll, Key: "*", Amount: 1, Limit: 11, Window: time.Hour}
	var wg sync.WaitGroup
	for n := range 12 {
		f := replicas[n%2]
		id := f.start(fmt.Sprintf("P%d", n), target("c1", fmt.Sprint(n))).ID
		asked := []playbook.Reservation{hour, all}
		if n%4 < 2 {
			asked = []playbook.Reservation{all, hour}
		}
		h := f.acquire(id)
		wg.Go(func() {
			for {
				run, now, err := f.Load(t.Context(), h)
				if err == nil {
					_, err = f.Commit(t.Context(), h, playbook.Commit{Run: run, NextTick: now.Add(time.Hour), Promises: []playbook.Promise{
						{Action: playbook.Evict{Node: "w", Namespace: "n", Pod: "p", UID: "u"}, Reservations: asked}}})
				}
				var refused *playbook.RefusedError
				if errors.As(err, &refused) {
					return
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	used := func(r playbook.Reservation) int {
		return scan[int](f, `SELECT sum(amount) FROM reservations WHERE scope = $1 AND key = $2`, r.Scope, r.Key)
	}
	f.same("evictions in an hour on the carrier", used(hour), 20)
	f.same("evictions in an hour in all", used(all), 10)
	f.same("intents", scan[int](f, `SELECT count(*) FROM intents`), 10)
}

// TestClaimOverReplicas: many runs of a carrier ask for its claim at the same moment; one gets it.
func TestClaimOverReplicas(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	replicas := []*fixture{f, openFixture(t, f.dsn, "two/1")}
	claim := playbook.Reservation{Scope: playbook.ScopeClaim, Key: "c1", Amount: 1, Limit: 1}
	holders := make([]string, 8)
	var wg sync.WaitGroup
	for n := range holders {
		f := replicas[n%2]
		id := f.start(fmt.Sprintf("P%d", n), target("c1", fmt.Sprint(n))).ID
		h := f.acquire(id)
		c := f.commitOf(h, func(c *playbook.Commit) {
			c.Promises = []playbook.Promise{{Action: cordonOf(id), Reservations: []playbook.Reservation{claim}}}
		})
		wg.Go(func() {
			holders[n] = id
			_, err := f.Commit(t.Context(), h, c)
			var refused *playbook.RefusedError
			if errors.As(err, &refused) {
				holders[n] = refused.Holder
			} else if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, holder := range holders {
		f.same("holder", holder, scan[string](f, `SELECT run FROM reservations`))
	}
}

func TestLeaseIsRenewed(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(o *Options) { o.LeaseTTL = 600 * time.Millisecond })
	id := f.start("P1", target("c1", "a")).ID
	h := f.acquire(id)
	first := scan[time.Time](f, `SELECT expires_at FROM leases`)
	f.until("three renewals' time", func() bool {
		return scan[time.Time](f, `SELECT expires_at FROM leases`).Sub(first) > 600*time.Millisecond
	})
	if err := h.Context().Err(); err != nil {
		t.Errorf("the hold's context ended: %v", err)
	}
	h.Release()
	f.same("given back", scan[bool](f, `SELECT expires_at <= clock_timestamp() AND run = '' FROM leases`), true)
}

// TestLeaseLapses: the database does not answer the renewals, and the holder stops by its own clock, before the lease runs
// out for the others.
func TestLeaseLapses(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(o *Options) { o.LeaseTTL = 2 * time.Second })
	id := f.start("P1", target("c1", "a")).ID
	h := f.acquire(id)
	tx, err := f.pool.Begin(t.Context())
	f.must(err)
	defer tx.Rollback(t.Context())
	// The store's own connections end a transaction that is idle for half a lease; this one stands for a database that is slow.
	_, err = tx.Exec(t.Context(), `SET LOCAL idle_in_transaction_session_timeout = 0`)
	f.must(err)
	_, err = tx.Exec(t.Context(), `SELECT FROM leases FOR UPDATE`)
	f.must(err)
	<-h.Context().Done()
	var alive bool
	f.must(tx.QueryRow(t.Context(), `SELECT expires_at > clock_timestamp() FROM leases`).Scan(&alive))
	f.same("alive for the others when its holder gives up", alive, true)
	f.must(tx.Rollback(t.Context()))
	f.until("it has run out for the others too", func() bool { return scan[bool](f, `SELECT expires_at <= clock_timestamp() FROM leases`) })
	_, err = f.Commit(t.Context(), h, playbook.Commit{Run: playbook.Run{ID: id}, NextTick: time.Now()})
	f.wantError(err, playbook.ErrLeaseLost)
}

func TestForeignTable(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for column, value := range map[string]any{"table_version": playbook.TableVersion + 1, "state": "'levitating'"} {
		id := f.start("P-"+column, target("c1", column)).ID
		f.exec(fmt.Sprintf(`UPDATE runs SET %s = %v WHERE id = '%s'`, column, value, id))
		_, _, err := f.Load(t.Context(), f.acquire(id))
		f.wantError(err, playbook.ErrForeignTable)
	}
}

func TestBreaker(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	end := func(n int, changed bool, result playbook.Result, to playbook.State) {
		t.Helper()
		id := f.start(fmt.Sprintf("P%d", n), target("c1", "a")).ID
		h := f.acquire(id)
		defer h.Release()
		if changed {
			f.commit(h, func(c *playbook.Commit) {
				c.Promises = []playbook.Promise{{Action: playbook.Evict{Namespace: "n", Pod: "p", UID: "u"}}}
			})
			_, err := f.Settle(t.Context(), h, 1, playbook.Settlement{Result: result})
			f.must(err)
		}
		f.commit(h, func(c *playbook.Commit) {
			c.Run.State, c.Run.Outcome, c.Run.Finding, c.NextTick = to, playbook.Outcome(to), playbook.FindingNodeFull, time.Time{}
		})
	}
	open := func() bool {
		t.Helper()
		until, tries, err := f.Breaker(t.Context(), target("c1", "a"))
		f.must(err)
		if until.IsZero() != (len(tries) == 0) {
			t.Errorf("until %s, tries %q", until, tries)
		}
		for _, try := range tries {
			if !strings.Contains(try, "escalated (node_full)") {
				t.Errorf("a try is described as %q", try)
			}
		}
		return !until.IsZero()
	}
	end(1, true, playbook.Happened, playbook.StateEscalated)
	end(2, true, playbook.Happened, playbook.StateResolved)
	end(3, true, playbook.Happened, playbook.StateEscalated)
	end(4, true, playbook.NotHappened, playbook.StateEscalated) // changed nothing
	end(5, false, "", playbook.StateStoodDown)
	end(6, true, playbook.Happened, playbook.StateEscalated)
	f.same("after two in a row since one that resolved it", open(), false)
	end(7, true, playbook.Happened, playbook.StateEscalated)
	f.same("after three in a row", open(), true)
	f.exec(`UPDATE runs SET finished_at = finished_at - interval '61 min'`)
	f.same("an hour later", open(), false)
}

func TestKillSwitches(t *testing.T) {
	t.Parallel()
	file := ""
	f := newFixture(t, func(o *Options) { o.FileSwitch = func(string) string { return file } })
	f.must(f.EngageKillSwitch(t.Context(), KillSwitch{Carrier: "c1", Reason: "first", By: "ops"}))
	f.must(f.EngageKillSwitch(t.Context(), KillSwitch{Reason: "storm", By: "ops"}))
	f.must(f.EngageKillSwitch(t.Context(), KillSwitch{Carrier: "c1", Reason: "second", By: "ops2"}))
	list, err := f.KillSwitches(t.Context())
	f.must(err)
	var got []string
	for _, k := range list {
		if k.Since.IsZero() {
			t.Error("a switch does not say since when")
		}
		got = append(got, k.Carrier+" "+k.Reason+" "+k.By)
	}
	f.same("switches", got, []string{" storm ops", "c1 second ops2"})
	f.must(f.ReleaseKillSwitch(t.Context(), KillSwitch{Carrier: "", Reason: "over", By: "test"}))
	f.must(f.ReleaseKillSwitch(t.Context(), KillSwitch{Carrier: "c1", Reason: "over", By: "test"}))
	f.must(f.ReleaseKillSwitch(t.Context(), KillSwitch{Carrier: "c1", Reason: "over", By: "test"}))

	id := f.start("P1", target("c1", "a")).ID
	h := f.acquire(id)
	file = "data_dir/kill-switch exists"
	var refused *playbook.RefusedError
	_, err = f.Commit(t.Context(), h, f.commitOf(h, func(c *playbook.Commit) { c.Promises = []playbook.Promise{{Action: cordonOf(id)}} }))
	if f.wantErrorAs(err, &refused); !strings.Contains(refused.Why, file) {
		t.Errorf("refused because %q, want the file named", refused.Why)
	}
}

// TestBackupsAreEncrypted looks for a secret of a manifest in every column of the database.
func TestBackupsAreEncrypted(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	id := f.start("P1", target("c1", "a")).ID
	h := f.acquire(id)
	secret := "correct-horse-battery-staple"
	manifest := playbook.Manifest(`{"kind":"DaemonSet","spec":{"env":[{"name":"TOKEN","value":"` + secret + `"}]}}`)
	f.commit(h, func(c *playbook.Commit) {
		c.Tick.Observation.Reapply = playbook.Known(playbook.ReapplyCheck{SHA256: "5a", Manifest: manifest})
		c.Promises = []playbook.Promise{{Action: playbook.OrphanDelete{Namespace: "monitoring", Name: "a", UID: "u", BackupSHA256: "5a"},
			Backup: &playbook.Backup{SHA256: "5a", UID: "u", Manifest: manifest}}}
	})
	for _, table := range []string{"runs", "ticks", "observations", "intents", "obligations", "backups", "river_job"} {
		rows, err := f.pool.Query(t.Context(), `SELECT t::text, convert_to(t::text, 'UTF8')::text FROM `+table+` t`)
		f.must(err)
		n := 0
		for rows.Next() {
			n++
			for _, v := range rows.RawValues() {
				if bytes.Contains(v, []byte(secret)) || bytes.Contains(v, fmt.Appendf(nil, "%x", secret)) {
					t.Errorf("table %s holds the secret in the clear", table)
				}
			}
		}
		f.must(rows.Err())
		if n == 0 {
			t.Errorf("table %s is empty: the test looked at nothing", table)
		}
	}
	got, err := f.Backup(t.Context(), id, "5a")
	f.must(err)
	f.same("backup", string(got), string(manifest))

	other := openFixture(t, f.dsn, "two/1", func(o *Options) { o.BackupKey = []byte("another key, also of 32 bytes, x") })
	if got, err := other.Backup(t.Context(), id, "5a"); err == nil {
		t.Errorf("another key decrypted %q", got)
	}
	f.exec(`UPDATE backups SET sha256 = '5b'`)
	if _, err := f.Backup(t.Context(), id, "5b"); err == nil || errors.Is(err, ErrNoBackup) {
		t.Errorf("a row that was moved under another checksum: %v", err)
	}
}

func TestCommitRefusesNonsense(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	id := f.start("P1", target("c1", "a")).ID
	h := f.acquire(id)
	for name, change := range map[string]func(*playbook.Commit){
		"no next tick":      func(c *playbook.Commit) { c.NextTick = time.Time{} },
		"another's run":     func(c *playbook.Commit) { c.Run.ID = "other" },
		"a version to come": func(c *playbook.Commit) { c.Run.Version++ },
	} {
		if _, err := f.Commit(t.Context(), h, f.commitOf(h, change)); err == nil {
			t.Errorf("%s: committed", name)
		}
	}
	if _, err := f.Settle(t.Context(), h, 1, playbook.Settlement{Result: "perhaps"}); err == nil {
		t.Error("settled an intent that does not exist")
	}
	f.commit(h, func(c *playbook.Commit) { c.Promises = []playbook.Promise{{Action: cordonOf(id)}} })
	if _, err := f.Settle(t.Context(), h, 1, playbook.Settlement{Result: "perhaps"}); err == nil {
		t.Error("settled with a result that is none of the four")
	}
	f.same("open", f.run(id).Intents[0].Open(), true)
}
