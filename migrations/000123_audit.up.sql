-- Who did what, when and why. The table only grows, and its rows are chained:
-- each bears the hash of the one before it and its own, so that a row that was
-- changed, taken out or put in later is found ("drydock audit verify").
--
-- A writer brings the entry alone. Its number, time and hashes are made here,
-- under a lock that is held until the writer's transaction ends: entries are in
-- the order of their commits, over all replicas, and an entry exists exactly
-- when what it records does.

CREATE TABLE audit (
    seq       bigint PRIMARY KEY,
    at        timestamptz NOT NULL,
    entry     json        NOT NULL, -- json keeps the text as it was written, which is what was hashed
    prev_hash bytea       NOT NULL, -- 32 zeros before the first
    hash      bytea       NOT NULL, -- SHA-256 of prev_hash, seq, at in UTC and entry; see audit_append
    run       text COLLATE "C" GENERATED ALWAYS AS (entry ->> 'run') STORED,
    carrier   text             GENERATED ALWAYS AS (entry ->> 'carrier') STORED
);
CREATE INDEX audit_by_run ON audit (run, seq DESC) WHERE run IS NOT NULL;
CREATE INDEX audit_by_carrier ON audit (carrier, seq DESC) WHERE carrier IS NOT NULL;

CREATE FUNCTION audit_append() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('drydock audit', 0));
    SELECT seq + 1, hash INTO NEW.seq, NEW.prev_hash FROM audit ORDER BY seq DESC LIMIT 1;
    IF NOT FOUND THEN
        NEW.seq := 1;
        NEW.prev_hash := decode(repeat('00', 32), 'hex');
    END IF;
    NEW.at := clock_timestamp();
    NEW.hash := sha256(NEW.prev_hash || convert_to(NEW.seq || E'\n'
        || to_char(NEW.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') || E'\n' || NEW.entry, 'UTF8'));
    RETURN NEW;
END
$$;
CREATE TRIGGER audit_append BEFORE INSERT ON audit FOR EACH ROW EXECUTE FUNCTION audit_append();

CREATE FUNCTION audit_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit log only grows: % is refused', TG_OP USING ERRCODE = 'insufficient_privilege';
END
$$;
CREATE TRIGGER audit_only_grows BEFORE UPDATE OR DELETE OR TRUNCATE ON audit FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse();
