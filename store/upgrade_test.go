package store

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/jackc/pgx/v5"

	"github.com/drydock/drydock/migrations"
	"github.com/drydock/drydock/playbook"
	"github.com/drydock/drydock/playbook/playbooktest"
)

// firstRelease is the schema of the first release; see package migrations.
const firstRelease = 104

// asRead is what a store reads of everything that a database holds and an older schema has a place for.
type asRead struct {
	Runs     []playbook.StoredRun
	Events   []playbook.EventRecord
	Payload  string
	Backup   string
	Facts    playbook.LedgerFacts
	Owed     []OwedUndo
	Owing    []string
	Links    map[string]Link
	Switches []KillSwitch
	Spent    Spent
}

// alike compares what two stores read at two times.
var alike = cmp.Options{cmp.Exporter(func(reflect.Type) bool { return true }), cmpopts.EquateEmpty(), cmpopts.IgnoreFields(OwedUndo{}, "Age")}

// notYet is what the first release did not store: when PagerDuty says that an incident was opened, the count on the carrier's
// Lease, and how many ticks panicked.
var notYet = cmp.Options{cmpopts.IgnoreFields(playbook.RunIncident{}, "OpenedAt"), cmpopts.IgnoreFields(Link{}, "OpenedAt"),
	cmpopts.IgnoreFields(playbook.LedgerFacts{}, "Count"), cmpopts.IgnoreFields(playbook.Run{}, "Panics")}

// TestUpgradeKeepsWhatIsStored fills every table through the store, takes the schema back to the one before and to the first
// release's, where the rows are as that release had them, and upgrades again. The store reads the same as before, and goes on
// with the run that was under way.
func TestUpgradeKeepsWhatIsStored(t *testing.T) {
	t.Parallel()
	const secret = `{"kind":"DaemonSet","spec":{"env":[{"name":"TOKEN","value":"correct-horse"}]}}`
	f := newFixture(t)
	underWay := f.fill(secret)
	f.wantEveryTableFilled()
	before := f.readAll(underWay)
	if len(before.Runs) < 10 || before.Backup != secret || len(before.Owed) != 1 || before.Facts.ClaimHolder != "" {
		t.Fatalf("%d runs, backup %q, owed %v, facts %+v: nothing to compare with", len(before.Runs), before.Backup, before.Owed, before.Facts)
	}
	for _, previous := range []struct {
		version uint
		same    cmp.Options
	}{{f.version() - 1, alike}, {firstRelease, cmp.Options{alike, notYet}}} {
		for f.version() > previous.version {
			f.must(migrations.Down(t.Context(), f.dsn))
		}
		f.must(migrations.Up(t.Context(), f.dsn))
		again := openFixture(t, f.dsn, "one/2")
		if diff := cmp.Diff(before, again.readAll(underWay), previous.same); diff != "" {
			t.Errorf("upgraded from %d, the store reads otherwise (-want +got):\n%s", previous.version, diff)
		}
	}

	f = openFixture(t, f.dsn, "one/3")
	f.exec(`UPDATE leases SET expires_at = clock_timestamp()`) // the older replica is gone
	h := f.acquire(underWay)
	r, _, err := f.Load(t.Context(), h)
	f.must(err)
	owed := r.Owed()[0]
	r = f.commit(h, func(c *playbook.Commit) {
		c.Promises = []playbook.Promise{{Action: owed.Action, Undoes: owed.Seq}}
	})
	f.must(f.Begin(t.Context(), h, len(r.Intents), time.Now().Add(time.Minute)))
	r, err = f.Settle(t.Context(), h, len(r.Intents), playbook.Settlement{Result: playbook.Happened})
	f.must(err)
	if len(r.Owed()) != 0 {
		t.Errorf("after its undo the run still owes %v", r.Owed())
	}
}

// version is the last migration that the database has.
func (f *fixture) version() uint {
	f.Helper()
	s, err := migrations.Status(f.Context(), f.dsn)
	f.must(err)
	return s.Version
}

// fill puts rows into every table: the histories of all scenarios, and a run under way that owes an undo, whose id it returns.
func (f *fixture) fill(manifest string) (underWay string) {
	f.Helper()
	for n, s := range playbooktest.Scenarios() {
		ledger := s.Play(f.Context(), nil).World.Ledger
		for _, id := range ledger.Runs() {
			h := ledger.History(id)
			h.ID = id + "/" + string(rune('a'+n/26)) + string(rune('a'+n%26)) // scenarios number their runs alike
			f.write(h)
		}
	}
	underWay = f.intake(triggered("1", "P1", target("c1", "a"))).Run
	f.intake(acknowledged("2", "P9"))
	h := f.acquire(underWay)
	claim := playbook.Reservation{Scope: playbook.ScopeClaim, Key: "c1", Amount: 1, Limit: 1}
	r := f.commit(h, func(c *playbook.Commit) {
		c.Run.State, c.Tick.To = playbook.Reapplying, playbook.Reapplying
		c.Tick.Observation.DaemonSet = playbook.Known(playbook.DaemonSet{Exists: true, UID: "u"})
		c.Promises = []playbook.Promise{{Action: playbook.OrphanDelete{Namespace: "monitoring", Name: "a", UID: "u", BackupSHA256: "5a"},
			Reservations: []playbook.Reservation{claim}, Backup: &playbook.Backup{SHA256: "5a", UID: "u", Manifest: playbook.Manifest(manifest)}}}
	})
	f.must(f.Begin(f.Context(), h, len(r.Intents), time.Now().Add(time.Minute)))
	_, err := f.Settle(f.Context(), h, len(r.Intents), playbook.Settlement{Result: playbook.Happened})
	f.must(err)
	h.Release()

	f.must(f.EngageKillSwitch(f.Context(), KillSwitch{Carrier: "c9", Reason: "network maintenance", By: "ada"}))
	_, err = f.ClaimKey(f.Context(), "ops", "k1", []byte("request"))
	f.must(err)
	_, err = f.Alive(f.Context(), "all")
	f.must(err)
	_, err = f.Turn(f.Context(), "reconcile", time.Minute)
	f.must(err)
	f.must(f.NoteLook(f.Context(), "P1", "triggered"))
	f.must(f.RaiseAlarm(f.Context(), "undo "+underWay))
	f.must(f.Pause(f.Context(), "pagerduty", time.Minute))
	return underWay
}

// wantEveryTableFilled fails for a table without a row, so that a new one is not forgotten here.
func (f *fixture) wantEveryTableFilled() {
	f.Helper()
	rows, err := f.pool.Query(f.Context(), `SELECT table_name FROM information_schema.tables
		WHERE table_schema = 'public' AND table_name NOT LIKE 'river_%' AND table_name <> 'schema_migrations'`)
	f.must(err)
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	f.must(err)
	for _, table := range append(tables, "river_job") {
		if scan[int](f, `SELECT count(*) FROM `+table) == 0 {
			f.Errorf("table %s has no row", table)
		}
	}
}

func (f *fixture) readAll(underWay string) (all asRead) {
	f.Helper()
	for _, r := range f.pages(playbook.RunFilter{Limit: 50}) {
		all.Runs = append(all.Runs, f.run(r.ID))
	}
	page, err := f.Events(f.Context(), nil, 50, "")
	f.must(err)
	all.Events = page.Events
	payload, err := f.Payload(f.Context(), slices.MinFunc(all.Events, func(a, b playbook.EventRecord) int { return strings.Compare(a.ID, b.ID) }).ID)
	f.must(err)
	all.Payload = string(payload)
	manifest, err := f.Backup(f.Context(), underWay, "5a")
	f.must(err)
	all.Backup = string(manifest)
	all.Facts, err = f.Facts(f.Context(), nil, f.run(underWay).Run)
	f.must(err)
	all.Owed, err = f.OwedUndos(f.Context())
	f.must(err)
	all.Owing, err = f.OwingRuns(f.Context())
	f.must(err)
	all.Links, err = f.Links(f.Context(), []string{"P1", "P9"})
	f.must(err)
	all.Switches, err = f.KillSwitches(f.Context())
	f.must(err)
	all.Spent, err = f.Spent(f.Context(), "c1")
	f.must(err)
	return all
}
