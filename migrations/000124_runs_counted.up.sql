-- Counting a month of runs reads this index alone. Built beside those who write.
CREATE INDEX CONCURRENTLY runs_counted ON runs (started_at, carrier, cause, finding, state, changed, finished_at);
