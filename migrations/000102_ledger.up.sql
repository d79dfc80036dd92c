-- The ledger: who may tick a run, what each tick saw and decided, what was
-- promised, what is owed, and what of the budgets is gone.

-- The lease of a target. Its generation fences every write of a tick.
CREATE TABLE leases (
    target      text PRIMARY KEY,
    generation  bigint      NOT NULL,
    run         text COLLATE "C" NOT NULL DEFAULT '', -- empty: nobody holds it
    node        text        NOT NULL DEFAULT '',
    acquired_at timestamptz NOT NULL,
    expires_at  timestamptz NOT NULL
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02);

-- What ticks saw. Equal looks are one row: a run that waits sees the same again and again.
CREATE TABLE observations (
    hash  bytea PRIMARY KEY, -- SHA-256 of the body
    body  json NOT NULL      -- without its time, which the tick has
);

-- The history of a run. Rows are only ever added, and go with their run. Not partitioned: deleting one month's ticks of a
-- large installation was measured at 24 s, in the background, with batches by run.
CREATE TABLE ticks (
    run         text COLLATE "C" NOT NULL REFERENCES runs ON DELETE CASCADE,
    seq         int         NOT NULL,
    at          timestamptz NOT NULL,
    from_state  text        NOT NULL,
    to_state    text        NOT NULL,
    finding     text        NOT NULL,
    confirmed   boolean     NOT NULL,
    why         text        NOT NULL,
    policy      json        NOT NULL,
    policy_hash text        NOT NULL,
    before      json        NOT NULL, -- the run's memory before the tick
    observation bytea       NOT NULL REFERENCES observations,
    observed_at timestamptz NOT NULL,
    diagnosis   json        NOT NULL,
    plan        json        NOT NULL,
    PRIMARY KEY (run, seq)
);

CREATE TABLE intents (
    run              text COLLATE "C" NOT NULL REFERENCES runs ON DELETE CASCADE,
    seq              int         NOT NULL,
    lane             text        NOT NULL,
    kind             text        NOT NULL,
    action           json        NOT NULL,
    change           boolean     NOT NULL, -- stopped by a kill switch
    target_kind      text        NOT NULL,
    target_namespace text        NOT NULL,
    target_name      text        NOT NULL,
    target_uid       text        NOT NULL,
    generation       bigint      NOT NULL, -- of the lease under which it was promised
    promised_at      timestamptz NOT NULL,
    sent_at          timestamptz,
    call_deadline    timestamptz,
    settled_at       timestamptz,
    undoes           int         NOT NULL DEFAULT 0,
    result           text        NOT NULL DEFAULT '',
    detail           text        NOT NULL DEFAULT '',
    receipt          text        NOT NULL DEFAULT '',
    PRIMARY KEY (run, seq)
);
CREATE INDEX intents_open ON intents (lane, run, seq) WHERE settled_at IS NULL;

-- An undo that is owed, written with the promise of what it takes back.
CREATE TABLE obligations (
    run           text COLLATE "C" NOT NULL,
    seq           int         NOT NULL, -- of the intent that owes it
    action        json        NOT NULL, -- the undo
    since         timestamptz NOT NULL,
    discharged_at timestamptz,
    PRIMARY KEY (run, seq),
    FOREIGN KEY (run, seq) REFERENCES intents ON DELETE CASCADE
);
CREATE INDEX obligations_owed ON obligations (run) WHERE discharged_at IS NULL;

-- Budgets and claims. A held one is given back; the others are spent, for a while or for good.
CREATE TABLE reservations (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    scope       text        NOT NULL,
    key         text COLLATE "C" NOT NULL,
    run         text COLLATE "C" NOT NULL REFERENCES runs ON DELETE CASCADE,
    intent      int         NOT NULL,
    amount      int         NOT NULL,
    held        boolean     NOT NULL,
    at          timestamptz NOT NULL,
    expires_at  timestamptz NOT NULL,   -- when it stops to count by itself; 'infinity': never
    released_at timestamptz
);
CREATE INDEX reservations_live ON reservations (key, scope, expires_at) WHERE released_at IS NULL;
CREATE INDEX reservations_by_run ON reservations (run) WHERE released_at IS NULL;
-- The transaction that takes a claim looks first; this makes a second holder impossible whatever it overlooks.
CREATE UNIQUE INDEX reservations_one_claim ON reservations (key) WHERE scope = 'claim' AND released_at IS NULL;

-- Manifests of DaemonSets, written with the promise to delete them. They may hold secrets: AES-256-GCM.
CREATE TABLE backups (
    run        text COLLATE "C" NOT NULL REFERENCES runs ON DELETE CASCADE,
    sha256     text        NOT NULL,
    uid        text        NOT NULL,
    nonce      bytea       NOT NULL,
    ciphertext bytea       NOT NULL,
    at         timestamptz NOT NULL,
    PRIMARY KEY (run, sha256)
);

-- The DaemonSet of a target as a tick last saw it exist.
CREATE TABLE last_seen (
    target    text PRIMARY KEY,
    daemonset json        NOT NULL,
    at        timestamptz NOT NULL
) WITH (fillfactor = 80);
