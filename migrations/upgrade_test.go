package migrations_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/drydock/drydock/migrations"
	"github.com/drydock/drydock/store/privatepg/pgtest"
)

// firstRelease is the schema of the first release. Files after it are applied while that release's replicas work.
const firstRelease = 104

// oldStatements are what a replica of the first release writes for one run, in its own words: they must go on working. $1
// is a number that makes it another run each time.
//
// They stand for that release's binary, which a test can not build: a clone in continuous integration may have no history, and
// nothing is released that could be fetched. What they can not show is what an old binary reads; TestFilesOnlyAdd sees to it that
// nothing which it reads is taken away.
var oldStatements = []string{
	`INSERT INTO runs (id, carrier, namespace, daemonset, trigger, retriggered_from, requested_by, reason, mode, deadline, table_version,
		started_at, wake_at, state, memory) VALUES ('r' || $1::int, 'c' || $1, 'monitoring', 'node-exporter', 'webhook', '', '', '', 'act',
		now() + interval '45 min', 1, now(), now(), 'queued', '{}')`,
	`INSERT INTO run_incidents (run, incident, number, title, url, joined_at) VALUES ('r' || $1::int, 'P' || $1, 1, 't', 'u', now())
		ON CONFLICT (run, incident) DO UPDATE SET joined_at = excluded.joined_at, outcome = '', ended_at = NULL`,
	`INSERT INTO events (id, webhook_id, event_id, type, incident, occurred_at, payload, outcome, reason, run, look_up, received_at)
		VALUES ('e' || $1::int, 'w' || $1, NULL, 'incident.triggered', 'P' || $1, now(), '{}', 'started', '', 'r' || $1, false, now())`,
	`INSERT INTO leases (target, generation, run, node, acquired_at, expires_at)
		VALUES ('c' || $1::int || '/monitoring/node-exporter', 1, 'r' || $1, 'old/1', now(), now() + interval '3 s')`,
	`INSERT INTO intents (run, seq, lane, kind, action, change, target_kind, target_namespace, target_name, target_uid, generation,
		promised_at, undoes) VALUES ('r' || $1::int, 1, 'carrier/c', 'cordon', '{}', true, 'Node', '', 'w1', 'u1', 1, now(), 0)`,
	`INSERT INTO obligations (run, seq, action, since) VALUES ('r' || $1::int, 1, '{}', now())`,
	`INSERT INTO reservations (scope, key, run, intent, amount, held, at, expires_at)
		VALUES ('cordons', 'c' || $1::int, 'r' || $1, 1, 1, true, now(), 'infinity')`,
	`INSERT INTO backups (run, sha256, uid, nonce, ciphertext, at) VALUES ('r' || $1::int, 's', 'u', '', '', now())`,
	`INSERT INTO observations (hash, body) VALUES (('o' || $1::int)::bytea, '{}') ON CONFLICT DO NOTHING`,
	`INSERT INTO ticks (run, seq, at, from_state, to_state, finding, confirmed, why, policy, policy_hash, before, observation, observed_at,
		diagnosis, plan) VALUES ('r' || $1::int, 1, now(), 'queued', 'triage', '', false, '', '{}', '', '{}', ('o' || $1)::bytea, now(), '{}', '[]')`,
	`INSERT INTO last_seen (target, daemonset, at) VALUES ('c' || $1::int || '/monitoring/node-exporter', '{}', now())`,
	`UPDATE runs SET state = 'resolved', finished_at = now(), version = version + 1 WHERE id = 'r' || $1::int`,
	`UPDATE run_incidents SET outcome = 'resolved', ended_at = now() WHERE run = 'r' || $1::int`,
	`INSERT INTO idempotency_keys (client, key, request, at) VALUES ('ops', 'k' || $1::int, '', now())`,
	`INSERT INTO river_job (kind, queue, args, max_attempts, state) VALUES ('tick', 'ticks', json_build_object('run', 'r' || $1::int), 3, 'available')`,
}

// oldReplica writes runs as the first release does, until stop. It returns how many, and the longest that one statement took.
func oldReplica(ctx context.Context, dsn string, from int, stop <-chan struct{}, count *atomic.Int32) (longest time.Duration, err error) {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	for n := from; ; n++ {
		select {
		case <-stop:
			return longest, nil
		default:
		}
		for _, sql := range oldStatements {
			began := time.Now()
			if _, err := conn.Exec(ctx, sql, n); err != nil {
				return longest, fmt.Errorf("run %d: %s: %w", n, sql, err)
			}
			longest = max(longest, time.Since(began))
		}
		count.Add(1)
	}
}

// TestUpgradeUnderWork applies what came after the first release to a database with data in it, while a replica of that
// release works and a long report keeps a lock that the upgrade needs. Nothing that the replica writes may fail, nor wait for
// as long as a lease lasts.
func TestUpgradeUnderWork(t *testing.T) {
	dsn := pgtest.New(t, nil)
	if err := migrations.UpTo(firstRelease)(t.Context(), dsn); err != nil {
		t.Fatal(err)
	}
	stop, finished := make(chan struct{}), make(chan struct{})
	var count atomic.Int32
	var longest time.Duration
	var failed error
	go func() {
		defer close(finished)
		longest, failed = oldReplica(t.Context(), dsn, 1, stop, &count)
	}()
	wait := func(what string, condition func() bool) {
		t.Helper()
		deadline := time.Now().Add(30 * time.Second)
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for !condition() {
			select {
			case <-finished:
				t.Fatalf("the old replica ended: %v", failed)
			default:
			}
			if time.Now().After(deadline) {
				t.Fatalf("waited too long for: %s", what)
			}
			<-tick.C
		}
	}
	wait("data of the old release", func() bool { return count.Load() >= 200 })

	report, err := connect(t, dsn).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := report.Exec(t.Context(), `SELECT count(*) FROM run_incidents`); err != nil {
		t.Fatal(err)
	}
	upgraded := make(chan error, 1)
	go func() { upgraded <- migrations.Up(t.Context(), dsn) }()
	watch := connect(t, dsn)
	waiting := func() bool {
		var n int
		if err := watch.QueryRow(t.Context(), `SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock'`).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n > 0
	}
	wait("the upgrade waits for the report", waiting)
	wait("it gives the lock up, so that others go on", func() bool { return !waiting() })
	before := count.Load()
	wait("the old replica goes on", func() bool { return count.Load() > before })
	if err := report.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-upgraded; err != nil {
		t.Fatal(err)
	}
	if s := status(t, dsn); s.Version != s.Latest || s.Dirty || s.Oldest > firstRelease {
		t.Errorf("after the upgrade the database is at %+v", s)
	}
	after := count.Load()
	wait("the old replica works on the new schema", func() bool { return count.Load() > after+100 })
	close(stop)
	<-finished
	if failed != nil {
		t.Errorf("the old replica: %v", failed)
	}
	const lease = 3 * time.Second
	if longest > lease*5/6 {
		t.Errorf("a statement of the old replica waited %s", longest)
	}
	t.Logf("%d runs were written meanwhile; the slowest statement took %s", count.Load(), longest)
	var runs, invalid int
	err = watch.QueryRow(t.Context(), `SELECT (SELECT count(*) FROM runs r JOIN run_incidents i ON i.run = r.id JOIN ticks t ON t.run = r.id
			JOIN backups b ON b.run = r.id JOIN obligations o ON o.run = r.id WHERE i.opened_at IS NULL),
		(SELECT count(*) FROM pg_index WHERE NOT indisvalid)`).Scan(&runs, &invalid)
	if err != nil || runs != int(count.Load()) || invalid != 0 {
		t.Errorf("%d of %d runs are whole, %d indexes are not valid (%v)", runs, count.Load(), invalid, err)
	}
}

// TestConcurrentUpgrade: several new replicas start at once while an old one works; those that wait must not be waited for.
func TestConcurrentUpgrade(t *testing.T) {
	dsn := pgtest.New(t, nil)
	if err := migrations.UpTo(firstRelease)(t.Context(), dsn); err != nil {
		t.Fatal(err)
	}
	const replicas = 3
	done := make(chan error, replicas)
	for range replicas {
		go func() {
			err := migrations.Up(t.Context(), dsn)
			if err == nil {
				_, err = migrations.Status(t.Context(), dsn)
			}
			done <- err
		}()
	}
	for range replicas {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// TestTooNew is an old replica that starts on a schema which it can not work with.
func TestTooNew(t *testing.T) {
	dsn := pgtest.New(t, migrations.Up)
	if _, err := connect(t, dsn).Exec(t.Context(), `UPDATE oldest_schema SET version = 999998`); err != nil {
		t.Fatal(err)
	}
	if _, err := connect(t, dsn).Exec(t.Context(), `UPDATE schema_migrations SET version = 999999`); err != nil {
		t.Fatal(err)
	}
	var tooNew migrations.TooNewError
	if err := migrations.Up(t.Context(), dsn); !errors.As(err, &tooNew) || !tooNew.State.TooNew() {
		t.Errorf("got %v, want a TooNewError", err)
	}
}

// TestFilesOnlyAdd reads every file after the first release: what an old replica uses stays, no table is rewritten, and an
// index on a table that is there already is built concurrently, alone in its file.
func TestFilesOnlyAdd(t *testing.T) {
	names, err := fs.Glob(os.DirFS("."), "*.up.sql")
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	forbidden := regexp.MustCompile(`(?i)\b(DROP (TABLE|COLUMN|INDEX|CONSTRAINT)|RENAME|ALTER COLUMN|SET NOT NULL|TRUNCATE|LOCK TABLE|VACUUM|CLUSTER)\b`)
	required := regexp.MustCompile(`(?i)ADD COLUMN [^,;]*NOT NULL(?:[^,;]*)`)
	made := regexp.MustCompile(`(?i)CREATE TABLE (?:IF NOT EXISTS )?(\w+)`)
	index := regexp.MustCompile(`(?i)CREATE (?:UNIQUE )?INDEX (CONCURRENTLY )?(?:IF NOT EXISTS )?\w+ ON (\w+)`)
	comment := regexp.MustCompile(`--[^\n]*`)
	for _, name := range names {
		if name < fmt.Sprintf("%06d_", firstRelease+1) || strings.Contains(name, "_river_") {
			continue
		}
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		sql := comment.ReplaceAllString(string(text), "")
		sql = strings.ReplaceAll(sql, "OR TRUNCATE ON", "ON") // a trigger against it is none
		if found := forbidden.FindString(sql); found != "" {
			t.Errorf("%s has %s: replicas of the release before still work", name, found)
		}
		for _, column := range required.FindAllString(sql, -1) {
			if !strings.Contains(strings.ToUpper(column), "DEFAULT") {
				t.Errorf("%s: %s: an old replica's INSERT leaves it out", name, column)
			}
		}
		var tables []string
		for _, m := range made.FindAllStringSubmatch(sql, -1) {
			tables = append(tables, m[1])
		}
		for _, m := range index.FindAllStringSubmatch(sql, -1) {
			switch {
			case m[1] == "" && !slices.Contains(tables, m[2]):
				t.Errorf("%s: the index on %s holds up those who write: CREATE INDEX CONCURRENTLY, in a file of its own", name, m[2])
			case m[1] != "" && strings.Count(sql, ";") != 1:
				t.Errorf("%s: an index that is built concurrently must be the only statement", name)
			}
		}
	}
}
