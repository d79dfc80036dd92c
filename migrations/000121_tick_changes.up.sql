-- A tick's number among the changes of its run.

ALTER TABLE ticks ADD COLUMN change bigint NOT NULL DEFAULT 0;
CREATE TRIGGER number_tick BEFORE INSERT ON ticks FOR EACH ROW EXECUTE FUNCTION number_tick();
