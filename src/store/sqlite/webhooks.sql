-- Registered endpoints. What is sealed can be read with the operator's keys alone.

CREATE TABLE webhooks (
    id              TEXT    PRIMARY KEY,
    tenant          TEXT    NOT NULL,
    url             TEXT    NOT NULL,
    -- The types of events, parted by spaces.
    events          TEXT    NOT NULL,
    description     TEXT,
    header_names    TEXT    NOT NULL,
    headers         BLOB,
    secret          BLOB    NOT NULL,
    previous_secret BLOB,
    previous_until  INTEGER,
    -- NULL while it is enabled.
    disabled_at     INTEGER,
    disabled_reason TEXT,
    created_at      INTEGER NOT NULL,
    updated_at      INTEGER NOT NULL,
    -- Counts changes by whomever, so that none overwrites another.
    version         INTEGER NOT NULL DEFAULT 1,
    -- Set by its deletion; the row goes when the last of its deliveries has gone. It is disabled, too.
    deleted_at      INTEGER,
    -- Attempts that failed in a row, since when there are only such, and the pause they brought.
    failures        INTEGER NOT NULL DEFAULT 0,
    failing_since   INTEGER,
    paused_until    INTEGER,
    last_success_at INTEGER,
    last_failure_at INTEGER,
    last_status     INTEGER,
    last_error      TEXT
) STRICT;

CREATE INDEX webhooks_of_tenant ON webhooks (tenant, id) WHERE deleted_at IS NULL;
-- Those that may not have their whole share: every claim looks at them.
CREATE INDEX webhooks_shut ON webhooks (tenant) WHERE disabled_at IS NOT NULL OR paused_until IS NOT NULL;
CREATE INDEX webhooks_deleted ON webhooks (id) WHERE deleted_at IS NOT NULL;

-- What is sent again. A batch of deliveries and the step of the cursor (at, seq) are one transaction.
CREATE TABLE replays (
    id          TEXT    PRIMARY KEY,
    webhook     TEXT    NOT NULL,
    tenant      TEXT    NOT NULL,
    since       INTEGER NOT NULL,
    until       INTEGER NOT NULL,
    events      TEXT    NOT NULL,
    at          INTEGER NOT NULL,
    seq         INTEGER NOT NULL,
    sent        INTEGER NOT NULL DEFAULT 0,
    due_at      INTEGER NOT NULL,
    created_at  INTEGER NOT NULL,
    finished_at INTEGER,
    trace       TEXT    NOT NULL
) STRICT;

CREATE INDEX replays_due ON replays (due_at) WHERE finished_at IS NULL;
CREATE INDEX replays_of_webhook ON replays (webhook);
-- One at a time.
CREATE UNIQUE INDEX replays_under_way ON replays (webhook) WHERE finished_at IS NULL;
CREATE INDEX replays_finished ON replays (finished_at) WHERE finished_at IS NOT NULL;

CREATE INDEX events_of_tenant_by_time ON events (tenant, at, seq, kind);

-- An endpoint's deliveries have an empty url: it is the endpoint's, as it is when they are sent. Their receiver is the
-- endpoint. What was attempted before a delivery was last sent anew does not count in its schedule.
ALTER TABLE deliveries ADD COLUMN earlier_attempts INTEGER NOT NULL DEFAULT 0;

-- Lists of deliveries.
CREATE INDEX deliveries_newest ON deliveries (tenant, row);
CREATE INDEX deliveries_not_delivered ON deliveries (tenant, status, row) WHERE status <> 'delivered';
CREATE INDEX deliveries_of_endpoint ON deliveries (endpoint, row) WHERE endpoint <> '';
CREATE INDEX deliveries_of_endpoint_not_delivered ON deliveries (endpoint, status, row)
    WHERE endpoint <> '' AND status <> 'delivered';
