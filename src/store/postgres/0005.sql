-- How the body is made from the event, as JSON; NULL if the event itself is sent.
ALTER TABLE webhooks ADD COLUMN transform text;
ALTER TABLE callbacks ADD COLUMN transform text;
-- Not used for a webhook: a delivery has the transform that the webhook has when it is sent.
ALTER TABLE deliveries ADD COLUMN transform text;
-- The HTTP method; NULL for that of the transform.
ALTER TABLE webhooks ADD COLUMN method text;
