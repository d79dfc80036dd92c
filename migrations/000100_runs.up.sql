-- A run is one attempt to repair one target; its incidents each have an end of
-- their own.
--
-- States, findings and the like have no CHECK: during a rolling upgrade a newer
-- replica may write a state that this version does not know, and then leaves
-- that run alone. Documents that are only ever read whole are json, not jsonb:
-- a container's log may hold a NUL, which jsonb refuses. Ids are UUIDv7 made
-- by the writer, so that a write with an unknown end can be looked up.
--
-- runs and its child tables are not partitioned. At 5 million runs every page
-- of the history was under 10 ms (p99) with the indexes below, and a unique
-- index over all runs, which runs_one_active is, can not live on partitions.

CREATE TABLE runs (
    id               text COLLATE "C" PRIMARY KEY,
    carrier          text        NOT NULL,
    namespace        text        NOT NULL,
    daemonset        text        NOT NULL,
    target           text        NOT NULL GENERATED ALWAYS AS (carrier || '/' || namespace || '/' || daemonset) STORED,
    trigger          text        NOT NULL,
    retriggered_from text        NOT NULL DEFAULT '',
    requested_by     text        NOT NULL DEFAULT '',
    reason           text        NOT NULL DEFAULT '',
    mode             text        NOT NULL,
    table_version    int         NOT NULL,

    state            text        NOT NULL,
    finding          text        NOT NULL DEFAULT '',
    confirmed        boolean     NOT NULL DEFAULT false,
    why              text        NOT NULL DEFAULT '',
    outcome          text        NOT NULL DEFAULT '',
    started_at       timestamptz NOT NULL,
    finished_at      timestamptz,
    deadline         timestamptz NOT NULL,
    plan_hash        text        NOT NULL DEFAULT '',
    memory           json        NOT NULL,

    version          bigint      NOT NULL DEFAULT 1, -- raised by every write that a tick must not miss
    ticks            int         NOT NULL DEFAULT 0, -- stored ones
    write_id         text        NOT NULL DEFAULT '', -- of the newest commit or settle: an ambiguous COMMIT looks for its own

    tick_seq         bigint      NOT NULL DEFAULT 1, -- the only tick that is not stale
    wake_at          timestamptz NOT NULL,           -- when it is due
    woken_at         timestamptz,                    -- when something last asked for a tick at once
    swept_at         timestamptz,                    -- when the sweeper last made up for a tick that did not come

    cancelled_by     text        NOT NULL DEFAULT '',
    cancelled_at     timestamptz,
    approved_hash    text        NOT NULL DEFAULT '',
    approved_by      text        NOT NULL DEFAULT '',
    approved_at      timestamptz
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02);

-- One run per target at a time, and at most one that waits behind it.
CREATE UNIQUE INDEX runs_one_active ON runs (target) WHERE state NOT IN ('queued', 'resolved', 'escalated', 'stood_down');
CREATE UNIQUE INDEX runs_one_queued ON runs (target) WHERE state = 'queued';
-- Everything that is still going on: a few hundred rows at most, so the sweeps need no index on wake_at, whose change with
-- every tick would forbid HOT updates.
CREATE INDEX runs_open ON runs (target) WHERE state NOT IN ('resolved', 'escalated', 'stood_down');
-- The newest ends of a target: the breaker.
CREATE INDEX runs_ended ON runs (target, finished_at DESC) WHERE state IN ('resolved', 'escalated', 'stood_down');

-- The history's pages. Nine runs in ten end resolved, so the indexes by state leave those out; queries by state name the
-- predicate literally, else a prepared statement can not use them.
CREATE INDEX runs_newest ON runs (started_at DESC, id DESC);
CREATE INDEX runs_by_carrier ON runs (carrier, started_at DESC, id DESC);
CREATE INDEX runs_by_daemonset ON runs (daemonset, started_at DESC, id DESC);
CREATE INDEX runs_by_both ON runs (carrier, daemonset, started_at DESC, id DESC);
CREATE INDEX runs_by_namespace ON runs (namespace, started_at DESC, id DESC);
CREATE INDEX runs_by_finding ON runs (finding, started_at DESC, id DESC);
CREATE INDEX runs_by_trigger ON runs (trigger, started_at DESC, id DESC) WHERE trigger <> 'webhook';
CREATE INDEX runs_unresolved ON runs (state, started_at DESC, id DESC) WHERE state <> 'resolved';
CREATE INDEX runs_unresolved_by_carrier ON runs (carrier, state, started_at DESC, id DESC) WHERE state <> 'resolved';
CREATE INDEX runs_unresolved_by_daemonset ON runs (daemonset, state, started_at DESC, id DESC) WHERE state <> 'resolved';
CREATE INDEX runs_unresolved_by_both ON runs (carrier, daemonset, state, started_at DESC, id DESC) WHERE state <> 'resolved';

CREATE TABLE run_incidents (
    run       text COLLATE "C" NOT NULL REFERENCES runs ON DELETE CASCADE,
    incident  text             NOT NULL,
    number    int              NOT NULL,
    title     text             NOT NULL,
    url       text             NOT NULL,
    joined_at timestamptz      NOT NULL,
    outcome   text             NOT NULL DEFAULT '', -- the incident's own end
    ended_at  timestamptz,
    PRIMARY KEY (run, incident)
);
CREATE INDEX run_incidents_by_incident ON run_incidents (incident, joined_at DESC);
