-- The gateway's clock (domain/clock_guard.rs), in one row.
CREATE TABLE clock (
    id              bigint PRIMARY KEY CHECK (id = 1),
    -- The latest time that a gateway's clock showed.
    at              bigint NOT NULL,
    -- The number of steps.
    steps           bigint NOT NULL,
    -- Whether the time was confirmed once.
    is_anchored     boolean NOT NULL,
    -- Retention deletes nothing before this time.
    retention_after bigint NOT NULL,
    -- The time that an operator confirmed.
    confirmed       bigint
);
