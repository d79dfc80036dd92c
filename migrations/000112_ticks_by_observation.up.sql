-- An observation goes when the last tick that saw it does. Built beside those who write.
CREATE INDEX CONCURRENTLY ticks_by_observation ON ticks (observation);
