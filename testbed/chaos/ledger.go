package chaos

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/drydock/drydock/playbook"
	"github.com/drydock/drydock/testbed/await"
)

// What the database says. It is away now and then: whoever asks asks again.

// runRow is a run of an incident.
type runRow struct {
	ID         string
	State      playbook.State
	Outcome    playbook.Outcome
	Why        string
	StartedAt  time.Time
	FinishedAt *time.Time
	Deadline   time.Time
}

// runsOf are the runs of an incident, the oldest first.
func (p *postgres) runsOf(ctx context.Context, incident string) ([]runRow, error) {
	rows, err := p.pool.Query(ctx, `SELECT r.id, r.state, r.outcome, r.why, r.started_at, r.finished_at, r.deadline
		FROM runs r JOIN run_incidents i ON i.run = r.id WHERE i.incident = $1 ORDER BY r.started_at`, incident)
	if err != nil {
		return nil, fmt.Errorf("read the runs of incident %s: %w", incident, err)
	}
	runs, err := pgx.CollectRows(rows, pgx.RowToStructByPos[runRow])
	if err != nil {
		return nil, fmt.Errorf("read the runs of incident %s: %w", incident, err)
	}
	return runs, nil
}

// underWay waits for the first run: what is done to replicas that have nothing to do proves nothing.
func (p *postgres) underWay(ctx context.Context) error {
	return await.Until(ctx, "a run to be under way", func(ctx context.Context) error {
		var some bool
		if err := p.pool.QueryRow(ctx, `SELECT EXISTS (SELECT FROM runs)`).Scan(&some); err != nil {
			return err
		}
		if !some {
			return errors.New("there is none")
		}
		return nil
	})
}

// dayPasses makes the ended runs of a target older. What was repaired three times in a day is left to people, and here a target
// breaks a hundred times in an hour.
func (p *postgres) dayPasses(ctx context.Context, t *target) error {
	_, err := p.pool.Exec(ctx, `UPDATE runs SET started_at = started_at - interval '2 days', finished_at = finished_at - interval '2 days'
		WHERE carrier = $1 AND namespace = $2 AND daemonset = $3 AND outcome <> ''`, t.Carrier, t.Namespace, t.DaemonSet)
	if err != nil {
		return fmt.Errorf("make the runs of %s older: %w", t.key(), err)
	}
	return nil
}

// owed counts what was promised or is owed by ended runs, and must not be.
func (p *postgres) owed(ctx context.Context) (n int, err error) {
	err = p.pool.QueryRow(ctx, `SELECT
		(SELECT count(*) FROM obligations o JOIN runs r ON r.id = o.run WHERE o.discharged_at IS NULL AND r.outcome <> '') +
		(SELECT count(*) FROM intents i JOIN runs r ON r.id = i.run WHERE i.settled_at IS NULL AND r.outcome <> '')`).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count what is owed: %w", err)
	}
	return n, nil
}

// leaseRow is a lease that somebody holds.
type leaseRow struct {
	Target     string
	Run        string
	Generation int64
}

// heldBy are the leases that a process holds at this moment.
func (p *postgres) heldBy(ctx context.Context, node string) ([]leaseRow, error) {
	rows, err := p.pool.Query(ctx, `SELECT target, run, generation FROM leases WHERE node = $1 AND run <> '' AND expires_at > clock_timestamp()`, node)
	if err != nil {
		return nil, fmt.Errorf("read the leases of %s: %w", node, err)
	}
	held, err := pgx.CollectRows(rows, pgx.RowToStructByPos[leaseRow])
	if err != nil {
		return nil, fmt.Errorf("read the leases of %s: %w", node, err)
	}
	return held, nil
}

// errStillHeld: nobody has taken the lease over yet.
var errStillHeld = errors.New("nobody has taken the lease over")

// takenOver is when somebody acquired the lease again after it was lost.
func (p *postgres) takenOver(ctx context.Context, lost leaseRow, since time.Time) (time.Time, error) {
	var at time.Time
	err := p.pool.QueryRow(ctx, `SELECT acquired_at FROM leases WHERE target = $1 AND generation > $2 AND acquired_at > $3`,
		lost.Target, lost.Generation, since).Scan(&at)
	if errors.Is(err, pgx.ErrNoRows) {
		return at, errStillHeld
	}
	if err != nil {
		return at, fmt.Errorf("read the lease of %s: %w", lost.Target, err)
	}
	return at, nil
}
