-- An intent's numbers among the changes of its run: its promise and its
-- settlement.

ALTER TABLE intents ADD COLUMN promised_change bigint NOT NULL DEFAULT 0;
ALTER TABLE intents ADD COLUMN settled_change bigint NOT NULL DEFAULT 0;
CREATE TRIGGER number_promise BEFORE INSERT ON intents FOR EACH ROW EXECUTE FUNCTION number_promise();
CREATE TRIGGER number_settlement BEFORE UPDATE ON intents FOR EACH ROW
    WHEN (OLD.settled_at IS NULL AND NEW.settled_at IS NOT NULL) EXECUTE FUNCTION number_settlement();
