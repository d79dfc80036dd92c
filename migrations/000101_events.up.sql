-- An event is one webhook delivery, stored before it is answered.

CREATE TABLE events (
    id          text COLLATE "C" PRIMARY KEY,
    webhook_id  text,        -- X-Webhook-Id; NULL where there is none
    event_id    text,        -- PagerDuty's; NULL where there is none
    type        text        NOT NULL,
    incident    text        NOT NULL DEFAULT '',
    occurred_at timestamptz,
    received_at timestamptz NOT NULL,
    payload     bytea       NOT NULL, -- the body as it came: jsonb would refuse some valid JSON (a NUL), and reorder the rest
    outcome     text        NOT NULL,
    reason      text        NOT NULL DEFAULT '',
    run         text COLLATE "C" NOT NULL DEFAULT '',
    look_up     boolean     NOT NULL DEFAULT false -- its incident's alerts are still to be read
);

CREATE UNIQUE INDEX events_by_webhook_id ON events (webhook_id) WHERE webhook_id IS NOT NULL;
CREATE UNIQUE INDEX events_by_event_id ON events (event_id) WHERE event_id IS NOT NULL;
CREATE INDEX events_newest ON events (received_at DESC, id DESC);
