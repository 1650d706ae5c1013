-- The gateway's clock (domain/clock_guard.rs), in one row.
CREATE TABLE clock (
    id              INTEGER PRIMARY KEY CHECK (id = 1),
    -- The latest time that a gateway's clock showed.
    at              INTEGER NOT NULL,
    -- The number of steps.
    steps           INTEGER NOT NULL,
    -- Whether the time was confirmed once.
    is_anchored     INTEGER NOT NULL,
    -- Retention deletes nothing before this time.
    retention_after INTEGER NOT NULL,
    -- The time that an operator confirmed.
    confirmed       INTEGER
) STRICT;

-- Lists that search, or filter by tags or by the status `completed`, examine only analyses that have a result. The column
-- revision is part of the index so that SQLite reads no rows of the table.
CREATE INDEX analyses_with_result ON analyses (tenant, submitted_at, call_id, revision) WHERE revision > 0;
