DROP INDEX ticks_by_observation;
