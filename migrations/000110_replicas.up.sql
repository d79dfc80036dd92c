-- What the replicas agree on: who is alive, whose turn it is, what was looked at and what was paged, how long a remote wants
-- to be left alone.

-- When PagerDuty says that the incident was triggered or reopened, by its own clock: so that a later resolve in the incident's
-- log, by the same clock, tells that the incident had another life since. NULL: written by a version that did not note it.
ALTER TABLE run_incidents ADD COLUMN opened_at timestamptz;

-- A replica that lives writes here every few seconds; all of them share a remote's rate limit.
CREATE TABLE replicas (
    node    text PRIMARY KEY,
    role    text        NOT NULL,
    seen_at timestamptz NOT NULL
) WITH (fillfactor = 50);

-- What one replica does for all: whoever finds it due takes the turn.
CREATE TABLE turns (
    name     text PRIMARY KEY,
    taken_at timestamptz NOT NULL
) WITH (fillfactor = 50);

-- Incidents that reconciliation has read, as they were listed then: each is read once, and again when it has changed.
CREATE TABLE looks (
    incident text PRIMARY KEY,
    state    text        NOT NULL,
    at       timestamptz NOT NULL
);
CREATE INDEX looks_oldest ON looks (at);

-- Self-alerts that are raised, so that whichever replica sees the end takes them back.
CREATE TABLE alarms (
    key   text PRIMARY KEY,
    since timestamptz NOT NULL
);

-- A remote that said "too many requests" is left alone by all replicas.
CREATE TABLE pauses (
    remote text PRIMARY KEY,
    until  timestamptz NOT NULL
) WITH (fillfactor = 50);

-- The lowest schema that a binary must know to work on this database. Files only add, so that older replicas go on while newer
-- ones start; the one that has to break with that raises this number to its own.
CREATE TABLE oldest_schema (
    version int NOT NULL
);
CREATE UNIQUE INDEX oldest_schema_one ON oldest_schema ((true));
INSERT INTO oldest_schema VALUES (104);
