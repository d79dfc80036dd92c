-- Deleting a run deletes its reservations; without this each would read the whole table. Built beside those who write.
CREATE INDEX CONCURRENTLY reservations_of_run ON reservations (run);
