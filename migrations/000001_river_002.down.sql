-- Version 002 of the schema of River (https://riverqueue.com), which is licensed
-- under the Mozilla Public License 2.0 (https://mozilla.org/MPL/2.0/).

DROP TABLE river_job;
DROP FUNCTION river_job_notify;
DROP TYPE river_job_state;

DROP TABLE river_leader;
