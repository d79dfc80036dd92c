-- Version 008 of the schema of River (https://riverqueue.com), which is licensed
-- under the Mozilla Public License 2.0 (https://mozilla.org/MPL/2.0/).

-- No-op. Postgres sequences already prevent automatically generated job IDs
-- from being reused.
SELECT 1;
