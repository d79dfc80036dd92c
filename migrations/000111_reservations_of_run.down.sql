DROP INDEX reservations_of_run;
