-- People's requests by their Idempotency-Key: another request under a client's key is refused, and what is repeated is
-- not done again. Rows are forgotten after a week, by the next request that brings a key.

CREATE TABLE idempotency_keys (
    client  text        NOT NULL, -- the API token's name
    key     text        NOT NULL,
    request bytea       NOT NULL, -- SHA-256 of its method, path and body
    done    boolean     NOT NULL DEFAULT false,
    at      timestamptz NOT NULL,
    PRIMARY KEY (client, key)
);
CREATE INDEX idempotency_keys_oldest ON idempotency_keys (at);
