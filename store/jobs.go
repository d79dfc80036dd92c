package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivertype"

	"github.com/drydock/drydock/playbook"
)

// Tick is the job of one tick of one run. A tick whose number is not the run's is stale, and a no-op.
type Tick struct {
	RunID string `json:"run"`
	Seq   int64  `json:"seq"`
}

// Kind implements river.JobArgs.
func (Tick) Kind() string { return "tick" }

// InsertOpts implements river.JobArgsWithInsertOpts.
func (Tick) InsertOpts() river.InsertOpts {
	// The sweeper makes up for a discarded job, after sweepAfter. More attempts would pile up beside those that it adds.
	return river.InsertOpts{MaxAttempts: 3}
}

// params asks for a job in the queue of a table version.
func (t Tick) params(version int) river.InsertManyParams {
	return river.InsertManyParams{Args: t, InsertOpts: &river.InsertOpts{Queue: ticksQueue(version)}}
}

// queues are those that this binary works.
func queues(ticks int) map[string]river.QueueConfig {
	all := map[string]river.QueueConfig{lookUpsQueue: {MaxWorkers: 10}}
	for _, version := range tableVersions {
		all[ticksQueue(version)] = river.QueueConfig{MaxWorkers: ticks}
	}
	return all
}

// tableVersions are the state tables that this binary knows.
var tableVersions = []int{playbook.TableVersion}

// ticksQueue is the queue of the ticks of runs with that state table. A replica works only the queues of the tables that it
// knows, so that during a rolling upgrade no tick is fetched by a replica that must leave its run alone.
func ticksQueue(version int) string {
	if version == 1 {
		return "ticks" // as the first release calls it
	}
	return "ticks_" + strconv.Itoa(version)
}

// LookUp is the job that reads the alerts of an event's incident, where the title alone does not name the target.
type LookUp struct {
	EventID string `json:"event"` // ours
}

// Kind implements river.JobArgs.
func (LookUp) Kind() string { return "look_up" }

// InsertOpts implements river.JobArgsWithInsertOpts. At a retry each minute the last attempt is a day away; open incidents are
// reconciled besides.
func (LookUp) InsertOpts() river.InsertOpts {
	return river.InsertOpts{Queue: lookUpsQueue, MaxAttempts: 24 * 60}
}

const (
	lookUpsQueue = "look_ups"

	retryAfter = 5 * time.Second
	// drainTime is what running ticks are given to end by themselves when the process is told to stop.
	drainTime = 5 * time.Second
)

// Worker is what jobs lead to.
type Worker struct {
	// Advance moves a run by one tick: playbook.Engine.Advance.
	Advance func(ctx context.Context, runID string) error
	// LookUp reads the incident of an event and says which run it asks for; nil and a reason when it asks for none.
	LookUp func(ctx context.Context, w Waiting) (*playbook.Start, string, error)
	// Placed is told which run an event became part of after it was looked up, which took since then; nil: nobody.
	Placed func(ctx context.Context, w Waiting, run string, since time.Time)
	// Ticks is how many runs may tick at once in this process; default 50.
	Ticks int
}

// riverConfig holds what inserting and working clients share.
func (s *Store) riverConfig() *river.Config {
	return &river.Config{Logger: slog.New(atLeast{s.log.Handler(), slog.LevelWarn}), RetryPolicy: flatRetry{},
		FetchCooldown: ringEvery} // 100 ms, the default, would cap the rate and delay each pick-up
}

func (s *Store) insertOnlyClient() (*river.Client[pgx.Tx], error) {
	return river.NewClient(riverpgxv5.New(s.pool), s.riverConfig())
}

// Work works jobs and sweeps until ctx ends, then lets running ticks end, for a few seconds. Every replica that acts runs it.
func (s *Store) Work(ctx context.Context, w Worker) error {
	if w.Ticks == 0 {
		w.Ticks = 50
	}
	workers := river.NewWorkers()
	if err := river.AddWorkerSafely(workers, &tickWorker{s: s, advance: w.Advance}); err != nil {
		return fmt.Errorf("add the worker of ticks: %w", err)
	}
	if err := river.AddWorkerSafely(workers, &lookUpWorker{s: s, lookUp: w.LookUp, placed: w.Placed}); err != nil {
		return fmt.Errorf("add the worker of look-ups: %w", err)
	}
	config := s.riverConfig()
	config.Workers = workers
	config.Queues = queues(w.Ticks)
	config.FetchPollInterval = 250 * time.Millisecond
	config.JobTimeout = 2 * time.Minute
	config.RescueStuckJobsAfter = 4 * time.Minute
	config.SoftStopTimeout = drainTime
	config.CompletedJobRetentionPeriod = time.Hour // a run makes hundreds; its history is in ticks
	client, err := river.NewClient(riverpgxv5.New(s.pool), config)
	if err != nil {
		return fmt.Errorf("make the River client: %w", err)
	}
	// River takes the end of its start context for a stop of its own kind; it is stopped explicitly below.
	if err := client.Start(context.WithoutCancel(ctx)); err != nil {
		return fmt.Errorf("start working jobs: %w", err)
	}
	s.sweep(ctx)
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime+10*time.Second)
	defer cancel()
	if err := client.Stop(stopping); err != nil {
		return fmt.Errorf("stop working jobs: %w", err)
	}
	return nil
}

// flatRetry tries a failed job again after a fixed pause: a carrier that is down for an hour must be found up in seconds. A look-up
// asks PagerDuty, which a storm of them must not keep from hearing what is more urgent: it soon waits for a minute.
type flatRetry struct{}

func (flatRetry) NextRetry(job *rivertype.JobRow) time.Time {
	wait := retryAfter
	if job.Kind == (LookUp{}).Kind() {
		wait = min(time.Duration(len(job.Errors)+1)*retryAfter, time.Minute)
	}
	return time.Now().Add(wait)
}

// atLeast drops records below a level: River tells its every start at info.
type atLeast struct {
	slog.Handler
	level slog.Level
}

func (h atLeast) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= h.level && h.Handler.Enabled(ctx, l)
}
func (h atLeast) WithAttrs(a []slog.Attr) slog.Handler {
	return atLeast{h.Handler.WithAttrs(a), h.level}
}
func (h atLeast) WithGroup(g string) slog.Handler { return atLeast{h.Handler.WithGroup(g), h.level} }

type tickWorker struct {
	river.WorkerDefaults[Tick]
	s       *Store
	advance func(ctx context.Context, runID string) error
}

func (w *tickWorker) Work(ctx context.Context, job *river.Job[Tick]) error {
	var seq int64
	err := w.s.pool.QueryRow(ctx, `SELECT tick_seq FROM runs WHERE id = $1`, job.Args.RunID).Scan(&seq)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil // deleted with the history
	}
	if err != nil {
		return fmt.Errorf("read the tick of run %s: %w", job.Args.RunID, err)
	}
	if seq != job.Args.Seq {
		return nil
	}
	err = w.advance(ctx, job.Args.RunID)
	switch {
	case err == nil, errors.Is(err, playbook.ErrNoRun):
		return nil
	case errors.Is(err, playbook.ErrForeignTable):
		return nil // a state of a known table that we do not know; the sweeper ticks it again, perhaps for a newer replica
	case errors.Is(err, playbook.ErrBusy), errors.Is(err, playbook.ErrLeaseLost):
		return river.JobSnooze(time.Second)
	case errors.Is(err, playbook.ErrConflict): // an incident joined, say: look again at once
		return river.JobSnooze(100 * time.Millisecond)
	}
	return err
}

type lookUpWorker struct {
	river.WorkerDefaults[LookUp]
	s      *Store
	lookUp func(ctx context.Context, w Waiting) (*playbook.Start, string, error)
	placed func(ctx context.Context, w Waiting, run string, since time.Time)
}

func (w *lookUpWorker) Work(ctx context.Context, job *river.Job[LookUp]) error {
	began := time.Now()
	waiting, err := w.s.waitingEvent(ctx, job.Args.EventID)
	if err != nil || waiting == nil {
		return err
	}
	start, reason, err := w.lookUp(ctx, *waiting)
	if err != nil {
		return fmt.Errorf("look up the target of event %s: %w", job.Args.EventID, err)
	}
	run, err := w.s.lookedUp(ctx, job.Args.EventID, waiting, start, reason)
	if err == nil && run != "" && w.placed != nil {
		w.placed(ctx, *waiting, run, began)
	}
	return err
}

// insertTick makes a job that is due at that time. River's own way for the future, the state "scheduled", needs its leader
// to come by (each 5 s) and the leader to be alive (up to 15 s after a crash); a job in the state "available" is fetched at
// its time by anyone, which is what River itself does with jobs that snooze.
func (s *Store) insertTick(ctx context.Context, tx pgx.Tx, t Tick, version int, due time.Time) error {
	inserted, err := s.jobs.InsertTx(ctx, tx, t, &river.InsertOpts{Queue: ticksQueue(version), ScheduledAt: due})
	if err != nil {
		return fmt.Errorf("insert the tick's job: %w", err)
	}
	if inserted.Job.State == rivertype.JobStateScheduled {
		if _, err := tx.Exec(ctx, `UPDATE river_job SET state = 'available' WHERE id = $1`, inserted.Job.ID); err != nil {
			return fmt.Errorf("make the tick's job available: %w", err)
		}
	}
	return nil
}

// wakeQueued ticks the run that waited for the target to become free.
func (s *Store) wakeQueued(ctx context.Context, tx pgx.Tx, target string) error {
	return s.wake(ctx, tx, `target = $1 AND state = 'queued'`, target)
}

// wake makes the next tick of the picked runs due at once. When a tick is under way, its commit finds woken_at.
func (s *Store) wake(ctx context.Context, tx pgx.Tx, where string, args ...any) error {
	rows, err := tx.Query(ctx, `UPDATE runs SET woken_at = clock_timestamp(), wake_at = clock_timestamp() WHERE `+where+
		` AND state NOT IN ('resolved', 'escalated', 'stood_down') RETURNING id, tick_seq, table_version`, args...)
	if err != nil {
		return fmt.Errorf("wake the run: %w", err)
	}
	ticks, err := pgx.CollectRows(rows, scanTickJob)
	if err != nil {
		return fmt.Errorf("wake the run: %w", err)
	}
	return s.insertTicks(ctx, tx, ticks)
}

// scanTickJob reads a run's id, tick_seq and table_version.
func scanTickJob(row pgx.CollectableRow) (river.InsertManyParams, error) {
	var t Tick
	var version int
	err := row.Scan(&t.RunID, &t.Seq, &version)
	return t.params(version), err
}

// insertTicks makes jobs that are due at once.
func (s *Store) insertTicks(ctx context.Context, tx pgx.Tx, params []river.InsertManyParams) error {
	if len(params) == 0 {
		return nil
	}
	if _, err := s.jobs.InsertManyFastTx(ctx, tx, params); err != nil {
		return fmt.Errorf("insert the ticks' jobs: %w", err)
	}
	return nil
}
