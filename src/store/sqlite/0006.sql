-- The rate of deliveries that the owner chose (domain/delivery_rate.rs), as JSON; NULL for that of the preset.
ALTER TABLE webhooks ADD COLUMN rate TEXT;
-- The time at which the bucket of the rate will be full, in microseconds since the Unix epoch; NULL if it was never used.
ALTER TABLE webhooks ADD COLUMN bucket_full_at INTEGER;

-- Every claim of deliveries reads the webhooks that are disabled or paused, or that may have a rate.
CREATE INDEX webhooks_limited ON webhooks (tenant)
    WHERE disabled_at IS NOT NULL OR paused_until IS NOT NULL OR rate IS NOT NULL OR substr(transform, 1, 9) = '{"preset"';
DROP INDEX webhooks_shut;
