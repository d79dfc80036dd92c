DROP TABLE last_seen;
DROP TABLE backups;
DROP TABLE reservations;
DROP TABLE obligations;
DROP TABLE intents;
DROP TABLE ticks;
DROP TABLE observations;
DROP TABLE leases;
