DROP TABLE run_incidents;
DROP TABLE runs;
