-- How many changes of a carrier were promised. The number and its token are also on the carrier's own Lease: a database that
-- is behind it is a restored copy, and may neither act nor tidy there.

CREATE TABLE carrier_counts (
    carrier text PRIMARY KEY,
    number  bigint NOT NULL,
    token   text   NOT NULL  -- drawn each time the number rises: two copies that go on from one number differ in it
) WITH (fillfactor = 80);

-- Ticks of the run that panicked: three of them quarantine it.
ALTER TABLE runs ADD COLUMN panics int NOT NULL DEFAULT 0;
