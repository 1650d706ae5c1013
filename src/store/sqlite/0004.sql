-- The filter on the content of events as JSON; NULL if the webhook gets all events of its types.
ALTER TABLE webhooks ADD COLUMN filter TEXT;
