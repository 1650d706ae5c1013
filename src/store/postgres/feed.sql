-- The place of each event in its tenant's feed, counted from 1 for each tenant; NULL until the feed is read.

ALTER TABLE events ADD COLUMN position bigint;

-- The last place that was given away: what retention deletes does not free it. Whoever gives places away holds the row.
CREATE TABLE feeds (
    tenant text COLLATE "C" PRIMARY KEY,
    last   bigint NOT NULL
);

CREATE UNIQUE INDEX events_in_feed ON events (tenant, position) WHERE position IS NOT NULL;
CREATE INDEX events_without_place ON events (tenant, seq) WHERE position IS NULL;

-- Events get their place by an update: dead rows are cleared before the indexes are full of them.
ALTER TABLE events SET (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000);
