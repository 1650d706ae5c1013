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
