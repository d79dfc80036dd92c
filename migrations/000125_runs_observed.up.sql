-- Runs that only observed. Built beside those who write.
CREATE INDEX CONCURRENTLY runs_observed ON runs (started_at DESC) WHERE mode = 'observe';
