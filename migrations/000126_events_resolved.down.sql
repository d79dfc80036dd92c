DROP INDEX events_resolved;
