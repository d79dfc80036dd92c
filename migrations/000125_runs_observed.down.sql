DROP INDEX runs_observed;
