-- How an incident ended, for what observing runs were worth. Built beside those who write.
CREATE INDEX CONCURRENTLY events_resolved ON events (incident, received_at) WHERE type = 'incident.resolved';
