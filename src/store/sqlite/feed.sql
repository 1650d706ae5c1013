-- The place of each event in its tenant's feed, counted from 1 for each tenant.

ALTER TABLE events ADD COLUMN position INTEGER;

-- The last place that was given away: what retention deletes does not free it.
CREATE TABLE feeds (
    tenant TEXT    PRIMARY KEY,
    last   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

UPDATE events SET position = counted.position
FROM (SELECT seq, row_number() OVER (PARTITION BY tenant ORDER BY seq) AS position FROM events) AS counted
WHERE events.seq = counted.seq;
INSERT INTO feeds (tenant, last) SELECT tenant, max(position) FROM events GROUP BY tenant;

CREATE UNIQUE INDEX events_in_feed ON events (tenant, position);
