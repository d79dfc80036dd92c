DROP TABLE oldest_schema, pauses, alarms, looks, turns, replicas;
ALTER TABLE run_incidents DROP COLUMN opened_at;
