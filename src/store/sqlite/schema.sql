-- Times are milliseconds since the Unix epoch.

CREATE TABLE analyses (
    id           INTEGER PRIMARY KEY,
    tenant       TEXT    NOT NULL,
    call_id      TEXT    NOT NULL,
    status       TEXT    NOT NULL,
    revision     INTEGER NOT NULL,
    submitted_at INTEGER NOT NULL,
    finished_at  INTEGER,
    metadata     TEXT    NOT NULL,
    failure      TEXT,
    last_error   TEXT,
    trace        TEXT    NOT NULL,
    -- The work that waits; stage is NULL when none does.
    stage        TEXT,
    due_at       INTEGER,
    started_at   INTEGER,
    accepted_at  INTEGER,
    polls        INTEGER NOT NULL DEFAULT 0,
    errors       INTEGER NOT NULL DEFAULT 0,
    etag         TEXT,
    empty_since  INTEGER,
    missing_since INTEGER,
    denied_since INTEGER,
    -- Raised by every claim; due_at is then the lease's end.
    fence        INTEGER NOT NULL DEFAULT 0,
    leased       INTEGER NOT NULL DEFAULT 0,
    UNIQUE (tenant, call_id)
) STRICT;

-- One index for each queue: claiming costs the same however many analyses rest.
CREATE INDEX analyses_to_submit ON analyses (tenant, due_at) WHERE stage = 'submit';
CREATE INDEX analyses_to_poll ON analyses (tenant, due_at) WHERE stage <> 'submit';
CREATE INDEX analyses_by_status ON analyses (status);
CREATE INDEX analyses_at_rest ON analyses (finished_at) WHERE stage IS NULL;

-- Apart from the analyses, whose rows are rewritten with every step.
CREATE TABLE results (
    analysis      INTEGER PRIMARY KEY REFERENCES analyses (id) ON DELETE CASCADE,
    result        TEXT NOT NULL,
    vendor_answer BLOB NOT NULL
) STRICT;

-- The URLs that submissions asked to be told at.
CREATE TABLE callbacks (
    analysis INTEGER NOT NULL REFERENCES analyses (id) ON DELETE CASCADE,
    url      TEXT    NOT NULL,
    PRIMARY KEY (analysis, url)
) STRICT, WITHOUT ROWID;

CREATE TABLE events (
    seq     INTEGER PRIMARY KEY AUTOINCREMENT,
    id      TEXT    NOT NULL UNIQUE,
    tenant  TEXT    NOT NULL,
    call_id TEXT    NOT NULL,
    kind    TEXT    NOT NULL,
    at      INTEGER NOT NULL,
    body    BLOB    NOT NULL
) STRICT;

CREATE INDEX events_of_call ON events (tenant, call_id, seq);
CREATE INDEX events_by_time ON events (at);

CREATE TABLE deliveries (
    row         INTEGER PRIMARY KEY,
    id          TEXT    NOT NULL UNIQUE,
    tenant      TEXT    NOT NULL,
    call_id     TEXT    NOT NULL,
    event       INTEGER NOT NULL REFERENCES events (seq) ON DELETE CASCADE,
    -- The registered endpoint; empty for a submission's own callback.
    endpoint    TEXT    NOT NULL DEFAULT '',
    url         TEXT    NOT NULL,
    receiver    TEXT    NOT NULL,
    status      TEXT    NOT NULL,
    attempts    INTEGER NOT NULL DEFAULT 0,
    created_at  INTEGER NOT NULL,
    due_at      INTEGER NOT NULL,
    finished_at INTEGER,
    trace       TEXT    NOT NULL,
    fence       INTEGER NOT NULL DEFAULT 0,
    leased      INTEGER NOT NULL DEFAULT 0,
    UNIQUE (event, endpoint, url)
) STRICT;

CREATE INDEX deliveries_due ON deliveries (tenant, receiver, due_at) WHERE status = 'pending';
CREATE INDEX deliveries_of_call ON deliveries (tenant, call_id, row);

CREATE TABLE attempts (
    delivery   INTEGER NOT NULL REFERENCES deliveries (row) ON DELETE CASCADE,
    number     INTEGER NOT NULL,
    started_at INTEGER NOT NULL,
    -- NULL while the attempt is under way, or if its process died.
    outcome    TEXT,
    status     INTEGER,
    latency_ms INTEGER,
    detail     TEXT,
    response   BLOB,
    PRIMARY KEY (delivery, number)
) STRICT, WITHOUT ROWID;
