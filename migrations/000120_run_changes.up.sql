-- Everything that happens in a run has a number, in the order in which it was
-- committed: those who follow a run ask for what came after the last one that
-- they saw, on whichever replica. The numbers are given by triggers, so that no
-- writer can forget them, a replica of an older version included. Whoever
-- writes a tick or an intent has locked its run's row, so there are no gaps
-- and no number becomes visible after a higher one. What was there before has
-- the number 0. The tables get their columns and triggers in files of their
-- own: two of them locked at once meet writers who need the other.

ALTER TABLE runs ADD COLUMN changes bigint NOT NULL DEFAULT 0; -- the newest number

-- Whether a run changed anything, which is what makes a resolved run a repair.
ALTER TABLE runs ADD COLUMN changed boolean NOT NULL DEFAULT false;

-- The first finding that a run confirmed, or the finding as it stands. Empty before its first tick, and in runs of before.
ALTER TABLE runs ADD COLUMN cause text NOT NULL DEFAULT '';

CREATE FUNCTION number_tick() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE runs SET changes = changes + 1 WHERE id = NEW.run RETURNING changes INTO NEW.change;
    RETURN NEW;
END
$$;

CREATE FUNCTION number_promise() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE runs SET changes = changes + 1 WHERE id = NEW.run RETURNING changes INTO NEW.promised_change;
    RETURN NEW;
END
$$;

CREATE FUNCTION number_settlement() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE runs SET changes = changes + 1, changed = changed OR (NEW.change AND NEW.result = 'happened')
        WHERE id = NEW.run RETURNING changes INTO NEW.settled_change;
    RETURN NEW;
END
$$;
