package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// What the replicas of an installation agree on beside the runs. All times are the database's.

// ReplicaLife is how long a replica counts as alive after it was last seen.
const ReplicaLife = 30 * time.Second

// Alive notes that this replica lives, and in which role, and returns how many do. Those long dead are forgotten.
func (s *Store) Alive(ctx context.Context, role string) (replicas int, err error) {
	batch := &pgx.Batch{}
	batch.Queue(`INSERT INTO replicas (node, role, seen_at) VALUES ($1, $2, clock_timestamp())
		ON CONFLICT (node) DO UPDATE SET seen_at = excluded.seen_at`, s.opts.Node, role)
	batch.Queue(`DELETE FROM replicas WHERE node <> $1 AND seen_at < clock_timestamp() - $2::interval`, s.opts.Node, 10*ReplicaLife)
	batch.Queue(`SELECT count(*) FROM replicas WHERE seen_at > clock_timestamp() - $1::interval`, ReplicaLife).
		QueryRow(func(row pgx.Row) error { return row.Scan(&replicas) })
	if err := s.pool.SendBatch(ctx, batch).Close(); err != nil {
		return 0, fmt.Errorf("note that this replica lives: %w", err)
	}
	return replicas, nil
}

// Leave takes this replica out of the living ones, so that the others get its share at once.
func (s *Store) Leave(ctx context.Context) error {
	if _, err := s.pool.Exec(ctx, `DELETE FROM replicas WHERE node = $1`, s.opts.Node); err != nil {
		return fmt.Errorf("take this replica out of the living ones: %w", err)
	}
	return nil
}

// Pause makes all replicas leave a remote alone for a while. A longer pause that holds already stays.
func (s *Store) Pause(ctx context.Context, remote string, d time.Duration) error {
	_, err := s.pool.Exec(ctx, `INSERT INTO pauses (remote, until) VALUES ($1, clock_timestamp() + $2::interval)
		ON CONFLICT (remote) DO UPDATE SET until = excluded.until WHERE pauses.until < excluded.until`, remote, d)
	if err != nil {
		return fmt.Errorf("pause %s: %w", remote, err)
	}
	return nil
}

// Paused is for how much longer a remote is to be left alone; 0: it may be asked.
func (s *Store) Paused(ctx context.Context, remote string) (time.Duration, error) {
	var d time.Duration
	err := s.pool.QueryRow(ctx, `SELECT greatest(coalesce((SELECT until - clock_timestamp() FROM pauses WHERE remote = $1), '0'::interval),
		'0'::interval)`, remote).Scan(&d)
	if err != nil {
		return 0, fmt.Errorf("read the pause of %s: %w", remote, err)
	}
	return d, nil
}

// Turn takes the turn to do something that one replica does for all, and reports whether it was due: nobody has taken it for
// that long.
func (s *Store) Turn(ctx context.Context, name string, every time.Duration) (bool, error) {
	tag, err := s.pool.Exec(ctx, `INSERT INTO turns (name, taken_at) VALUES ($1, clock_timestamp())
		ON CONFLICT (name) DO UPDATE SET taken_at = excluded.taken_at WHERE turns.taken_at <= excluded.taken_at - $2::interval`, name, every)
	if err != nil {
		return false, fmt.Errorf("take the turn for %s: %w", name, err)
	}
	return tag.RowsAffected() == 1, nil
}

// Looks reads in which state each incident was when reconciliation last read it.
func (s *Store) Looks(ctx context.Context, incidents []string) (map[string]string, error) {
	rows, err := s.pool.Query(ctx, `SELECT l.incident, l.state FROM unnest($1::text[]) AS k CROSS JOIN LATERAL (
		SELECT incident, state FROM looks WHERE incident = k LIMIT 1) AS l`, incidents)
	looks := map[string]string{}
	if err == nil {
		err = scanTexts(rows, looks)
	}
	if err != nil {
		return nil, fmt.Errorf("read which incidents were looked at: %w", err)
	}
	return looks, nil
}

func scanTexts(rows pgx.Rows, into map[string]string) error {
	var key, value string
	_, err := pgx.ForEachRow(rows, []any{&key, &value}, func() error { into[key] = value; return nil })
	return err
}

// NoteLook notes that an incident was read, and in which state it was.
func (s *Store) NoteLook(ctx context.Context, incident, state string) error {
	_, err := s.pool.Exec(ctx, `INSERT INTO looks (incident, state, at) VALUES ($1, $2, clock_timestamp())
		ON CONFLICT (incident) DO UPDATE SET state = excluded.state, at = excluded.at`, storable(incident), storable(state))
	if err != nil {
		return fmt.Errorf("note the look at incident %s: %w", incident, err)
	}
	return nil
}

// Alarms lists the self-alerts that are raised, by key.
func (s *Store) Alarms(ctx context.Context) ([]string, error) {
	return s.ids(ctx, "list raised alarms", `SELECT key FROM alarms ORDER BY key`)
}

// RaiseAlarm notes that a self-alert was sent.
func (s *Store) RaiseAlarm(ctx context.Context, key string) error {
	if _, err := s.pool.Exec(ctx, `INSERT INTO alarms (key, since) VALUES ($1, clock_timestamp()) ON CONFLICT DO NOTHING`, key); err != nil {
		return fmt.Errorf("note alarm %s: %w", key, err)
	}
	return nil
}

// EndAlarm notes that a self-alert was taken back.
func (s *Store) EndAlarm(ctx context.Context, key string) error {
	if _, err := s.pool.Exec(ctx, `DELETE FROM alarms WHERE key = $1`, key); err != nil {
		return fmt.Errorf("end alarm %s: %w", key, err)
	}
	return nil
}
