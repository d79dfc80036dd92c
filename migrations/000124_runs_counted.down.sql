DROP INDEX runs_counted;
