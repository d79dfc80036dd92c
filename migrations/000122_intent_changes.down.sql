DROP TRIGGER number_settlement ON intents;
DROP TRIGGER number_promise ON intents;
ALTER TABLE intents DROP COLUMN settled_change, DROP COLUMN promised_change;
