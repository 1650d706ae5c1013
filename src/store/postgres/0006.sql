-- The rate of deliveries that the owner chose (domain/delivery_rate.rs), as JSON; NULL for that of the preset.
ALTER TABLE webhooks ADD COLUMN rate text;
-- The time at which the bucket of the rate will be full, in microseconds since the Unix epoch; NULL if it was never used.
ALTER TABLE webhooks ADD COLUMN bucket_full_at bigint;
