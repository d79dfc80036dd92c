DROP FUNCTION number_settlement();
DROP FUNCTION number_promise();
DROP FUNCTION number_tick();
ALTER TABLE runs DROP COLUMN cause, DROP COLUMN changed, DROP COLUMN changes;
