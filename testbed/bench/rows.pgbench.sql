-- What a webhook leaves behind, as one statement: the event, the run and its job, with Drydock's columns, sizes and indexes.
-- n counts on in each client. Keys grow with it, as the UUIDv7 of the real rows grow with time.
\set n :n + 1
WITH k AS MATERIALIZED (
    SELECT lpad((:n::bigint)::text, 10, '0') || lpad((:client_id::int)::text, 3, '0') AS key,
        'prod-dal10-carrier' || lpad((:n::bigint % 500)::text, 3, '0') AS carrier
), run AS (
    INSERT INTO runs (id, carrier, namespace, daemonset, trigger, mode, deadline, table_version, started_at, wake_at, state, memory)
    SELECT rpad(key, 36, '-'), carrier, 'benchmarks', 'agent-' || key, 'webhook', 'act', now() + interval '45 minutes', 1,
        now(), now(), 'queued', '{}'
    FROM k
), job AS (
    INSERT INTO river_job (args, kind, max_attempts, queue)
    SELECT jsonb_build_object('run', rpad(key, 36, '-'), 'seq', 1), 'tick', 3, 'ticks'
    FROM k
)
INSERT INTO events (id, webhook_id, event_id, type, incident, occurred_at, received_at, payload, outcome, run)
SELECT rpad(key, 36, '-'), rpad(key, 36, '-'), rpad(key, 26, '-'), 'incident.triggered', 'Q' || key, now(), now(),
    :payload::bytea, 'started', rpad(key, 36, '-')
FROM k;
