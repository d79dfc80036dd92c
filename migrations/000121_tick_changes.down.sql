DROP TRIGGER number_tick ON ticks;
ALTER TABLE ticks DROP COLUMN change;
