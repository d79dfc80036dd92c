ALTER TABLE runs DROP COLUMN panics;
DROP TABLE carrier_counts;
