-- Since when nothing could be signed for an endpoint, as the key that opens its secret is not there: what is on its way waits.
ALTER TABLE webhooks ADD COLUMN unsigned_since bigint;
