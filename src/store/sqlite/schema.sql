-- The schema of the embedded engine. PostgreSQL has the same tables and columns (../postgres/schema.sql), so that
-- statements can be shared.
--
-- Released schemas never change: a change is a new step in file.rs, in a separate file.
--
-- Times are milliseconds since the Unix epoch.

CREATE TABLE analyses (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant        TEXT    NOT NULL,
    call_id       TEXT    NOT NULL,
    status        TEXT    NOT NULL,
    revision      INTEGER NOT NULL,
    submitted_at  INTEGER NOT NULL,
    finished_at   INTEGER,
    metadata      TEXT    NOT NULL,
    failure       TEXT,
    last_error    TEXT,
    -- The latest new analysis that has ended.
    last_reanalysis TEXT,
    -- The due time of the latest refresh.
    refreshed_at  INTEGER,
    trace         TEXT    NOT NULL,
    -- The pending work; stage is NULL when there is none.
    stage         TEXT,
    due_at        INTEGER,
    started_at    INTEGER,
    sent_at       INTEGER,
    submits       INTEGER NOT NULL DEFAULT 0,
    accepted_at   INTEGER,
    polls         INTEGER NOT NULL DEFAULT 0,
    errors        INTEGER NOT NULL DEFAULT 0,
    etag          TEXT,
    empty_since   INTEGER,
    missing_since INTEGER,
    denied_since  INTEGER,
    -- Shapes of answers without a result, separated by spaces.
    shapes        TEXT,
    -- The fencing token, which every claim increments. During a lease, due_at is the end of the lease.
    fence         INTEGER NOT NULL DEFAULT 0,
    leased        INTEGER NOT NULL DEFAULT 0,
    UNIQUE (tenant, call_id)
) STRICT;

-- One index per queue: the cost of a claim does not grow with the number of finished analyses.
CREATE INDEX analyses_to_submit ON analyses (tenant, due_at) WHERE stage = 'submit';
CREATE INDEX analyses_to_poll ON analyses (tenant, due_at) WHERE stage <> 'submit';
-- Counts a tenant's refreshes in progress.
CREATE INDEX analyses_to_refresh ON analyses (tenant) WHERE stage = 'refresh';
-- Counts a tenant's work in progress before a claim.
CREATE INDEX analyses_under_way ON analyses (tenant) WHERE leased;
-- Finds analyses past their deadline.
CREATE INDEX analyses_by_start ON analyses (tenant, started_at) WHERE stage <> 'settle';
CREATE INDEX analyses_at_rest ON analyses (finished_at) WHERE stage IS NULL;
CREATE INDEX analyses_newest ON analyses (tenant, submitted_at, call_id);
CREATE INDEX analyses_not_completed ON analyses (tenant, status, submitted_at, call_id) WHERE status <> 'completed';

-- Results have their own table, because every step rewrites the row of the analysis.
CREATE TABLE results (
    analysis      INTEGER PRIMARY KEY REFERENCES analyses (id) ON DELETE CASCADE,
    result        TEXT NOT NULL,
    vendor_answer BLOB NOT NULL
) STRICT;

-- The parts of results that lists show and filter by.
CREATE TABLE listings (
    analysis INTEGER PRIMARY KEY REFERENCES analyses (id) ON DELETE CASCADE,
    summary  TEXT NOT NULL
) STRICT;

CREATE TABLE tags (
    tenant   TEXT    NOT NULL,
    name     TEXT    NOT NULL,
    analysis INTEGER NOT NULL REFERENCES analyses (id) ON DELETE CASCADE,
    PRIMARY KEY (tenant, name, analysis)
) STRICT, WITHOUT ROWID;

CREATE INDEX tags_of_analysis ON tags (analysis);

-- The full-text index. The words are folded (domain::search), each of them once; their positions are not stored.
CREATE VIRTUAL TABLE search USING fts5 (
    words, content = '', contentless_delete = 1, detail = none, tokenize = "ascii tokenchars '_~.-'"
);

CREATE TRIGGER analyses_deleted AFTER DELETE ON analyses BEGIN
    DELETE FROM search WHERE rowid = old.id;
END;

-- The callbacks of submissions.
CREATE TABLE callbacks (
    analysis INTEGER NOT NULL REFERENCES analyses (id) ON DELETE CASCADE,
    url      TEXT    NOT NULL,
    payload  TEXT    NOT NULL DEFAULT 'full',
    PRIMARY KEY (analysis, url)
) STRICT, WITHOUT ROWID;

CREATE TABLE events (
    seq      INTEGER PRIMARY KEY AUTOINCREMENT,
    id       TEXT    NOT NULL UNIQUE,
    tenant   TEXT    NOT NULL,
    -- Empty for a test event.
    call_id  TEXT    NOT NULL,
    kind     TEXT    NOT NULL,
    at       INTEGER NOT NULL,
    body     BLOB    NOT NULL,
    -- The body for receivers with the payload 'thin'; NULL if it equals body.
    thin_body BLOB,
    -- The position in the tenant's feed, counted from 1; negative for a test event, which is not in the feed.
    position INTEGER
) STRICT;

CREATE INDEX events_of_call ON events (tenant, call_id, seq);
CREATE INDEX events_by_time ON events (at);
CREATE INDEX events_of_tenant_by_time ON events (tenant, at, seq, kind);
CREATE UNIQUE INDEX events_in_feed ON events (tenant, position);

-- The last assigned position of each feed. Retention does not free positions.
CREATE TABLE feeds (
    tenant TEXT    PRIMARY KEY,
    last   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE deliveries (
    seq              INTEGER PRIMARY KEY AUTOINCREMENT,
    id               TEXT    NOT NULL UNIQUE,
    tenant           TEXT    NOT NULL,
    call_id          TEXT    NOT NULL,
    event            INTEGER NOT NULL REFERENCES events (seq) ON DELETE CASCADE,
    -- The webhook's id; empty for the callback of a submission.
    webhook          TEXT    NOT NULL DEFAULT '',
    -- Empty for a webhook: a delivery goes to the URL that the webhook has when it is sent.
    url              TEXT    NOT NULL,
    -- Not used for a webhook: a delivery has the payload that the webhook has when it is sent.
    payload          TEXT    NOT NULL DEFAULT 'full',
    -- The key of concurrency limits and circuit breakers: the webhook's id, or the URL's origin.
    receiver         TEXT    NOT NULL,
    status           TEXT    NOT NULL,
    attempts         INTEGER NOT NULL DEFAULT 0,
    -- Attempts that do not count in the retry schedule: those from before the last redelivery.
    earlier_attempts INTEGER NOT NULL DEFAULT 0,
    created_at       INTEGER NOT NULL,
    due_at           INTEGER NOT NULL,
    finished_at      INTEGER,
    trace            TEXT    NOT NULL,
    fence            INTEGER NOT NULL DEFAULT 0,
    leased           INTEGER NOT NULL DEFAULT 0,
    UNIQUE (event, webhook, url)
) STRICT;

-- A claim reads each tenant's oldest deliveries first. It reads receiver by receiver only if those receivers are busy.
CREATE INDEX deliveries_due ON deliveries (tenant, due_at) WHERE status = 'pending';
CREATE INDEX deliveries_due_by_receiver ON deliveries (tenant, receiver, due_at) WHERE status = 'pending';
CREATE INDEX deliveries_under_way ON deliveries (tenant, receiver) WHERE leased;
-- One index per filter of the list.
CREATE INDEX deliveries_newest ON deliveries (tenant, seq);
CREATE INDEX deliveries_of_call ON deliveries (tenant, call_id, seq);
CREATE INDEX deliveries_delivered ON deliveries (tenant, seq) WHERE status = 'delivered';
CREATE INDEX deliveries_not_delivered ON deliveries (tenant, status, seq) WHERE status <> 'delivered';
CREATE INDEX deliveries_of_webhook ON deliveries (webhook, seq) WHERE webhook <> '';
CREATE INDEX deliveries_of_webhook_delivered ON deliveries (webhook, seq)
    WHERE webhook <> '' AND status = 'delivered';
CREATE INDEX deliveries_of_webhook_not_delivered ON deliveries (webhook, status, seq)
    WHERE webhook <> '' AND status <> 'delivered';

CREATE TABLE attempts (
    delivery   INTEGER NOT NULL REFERENCES deliveries (seq) ON DELETE CASCADE,
    number     INTEGER NOT NULL,
    started_at INTEGER NOT NULL,
    -- NULL while the attempt is in progress, or if its process died.
    outcome    TEXT,
    status     INTEGER,
    latency_ms INTEGER,
    detail     TEXT,
    response   BLOB,
    PRIMARY KEY (delivery, number)
) STRICT, WITHOUT ROWID;

-- Registered webhooks. The sealed columns (headers, secret, previous_secret) are encrypted with the operator's key.
CREATE TABLE webhooks (
    id              TEXT    PRIMARY KEY,
    tenant          TEXT    NOT NULL,
    url             TEXT    NOT NULL,
    -- Event types, separated by spaces.
    events          TEXT    NOT NULL,
    payload         TEXT    NOT NULL DEFAULT 'full',
    description     TEXT,
    header_names    TEXT    NOT NULL,
    headers         BLOB,
    secret          BLOB    NOT NULL,
    previous_secret BLOB,
    previous_until  INTEGER,
    -- NULL while the webhook is enabled.
    disabled_at     INTEGER,
    disabled_reason TEXT,
    created_at      INTEGER NOT NULL,
    updated_at      INTEGER NOT NULL,
    -- Counts changes, so that no change overwrites another.
    version         INTEGER NOT NULL DEFAULT 1,
    -- Set by deletion, which also disables the webhook. The row is deleted after the last of its deliveries.
    deleted_at      INTEGER,
    -- Number of consecutive failures, time of the first of them, and the pause that they caused.
    failures        INTEGER NOT NULL DEFAULT 0,
    failing_since   INTEGER,
    paused_until    INTEGER,
    last_success_at INTEGER,
    last_failure_at INTEGER,
    last_status     INTEGER,
    last_error      TEXT,
    -- Time since which the key that decrypts the secret is missing. Deliveries wait for it.
    unsigned_since  INTEGER
) STRICT;

CREATE INDEX webhooks_of_tenant ON webhooks (tenant, id) WHERE deleted_at IS NULL;
-- Every claim of deliveries reads the webhooks that are disabled or paused.
CREATE INDEX webhooks_shut ON webhooks (tenant) WHERE disabled_at IS NOT NULL OR paused_until IS NOT NULL;
CREATE INDEX webhooks_deleted ON webhooks (id) WHERE deleted_at IS NOT NULL;

-- Replays of past events. A batch of deliveries and the step of the cursor (at, seq) are one transaction.
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
-- At most one unfinished replay per webhook.
CREATE UNIQUE INDEX replays_under_way ON replays (webhook) WHERE finished_at IS NULL;
CREATE INDEX replays_finished ON replays (finished_at) WHERE finished_at IS NOT NULL;

-- The deliveries whose outcome a replay awaits.
CREATE TABLE replay_deliveries (
    delivery INTEGER NOT NULL REFERENCES deliveries (seq) ON DELETE CASCADE,
    replay   TEXT    NOT NULL,
    PRIMARY KEY (delivery, replay)
) STRICT, WITHOUT ROWID;

-- The outcomes of the deliveries of each replay, each counted once. Not in the rows of replays, which a step locks while it
-- waits for deliveries.
CREATE TABLE replay_outcomes (
    replay    TEXT PRIMARY KEY REFERENCES replays (id) ON DELETE CASCADE,
    delivered INTEGER NOT NULL DEFAULT 0,
    failed    INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

-- The learned processing time of each tenant's results.
CREATE TABLE paces (
    tenant        TEXT    PRIMARY KEY,
    first_poll_after_ms INTEGER NOT NULL,
    slowest_ms    INTEGER NOT NULL,
    samples       INTEGER NOT NULL,
    learned_at    INTEGER NOT NULL
) STRICT;

-- What is learned of the vendor's answers for unknown calls and for calls in progress, as JSON. `claim` is the fencing token of
-- the latest probe; no other probe starts before `leased_until`.
CREATE TABLE learned_answers (
    tenant       TEXT    PRIMARY KEY,
    learned      TEXT    NOT NULL,
    claim        INTEGER NOT NULL DEFAULT 0,
    leased_until INTEGER NOT NULL DEFAULT 0
) STRICT;

-- Usage per tenant and day (days since the Unix epoch, UTC).
CREATE TABLE usage (
    tenant      TEXT    NOT NULL,
    day         INTEGER NOT NULL,
    submissions INTEGER NOT NULL,
    polls       INTEGER NOT NULL,
    completions INTEGER NOT NULL,
    failures    INTEGER NOT NULL,
    attempts    INTEGER NOT NULL,
    delivered   INTEGER NOT NULL,
    undelivered INTEGER NOT NULL,
    PRIMARY KEY (tenant, day)
) STRICT, WITHOUT ROWID;

-- Requests with an `Idempotency-Key`. Key and body are stored as hashes only. `claim` is the fencing token of the caller
-- that processes the request. `leased_until` is NULL when the request is done; `answer` is NULL until then, and also
-- afterwards if the answer could not be stored.
CREATE TABLE idempotency (
    tenant       TEXT    NOT NULL,
    name         BLOB    NOT NULL,
    fingerprint  BLOB    NOT NULL,
    concerns     TEXT,
    claim        INTEGER NOT NULL,
    leased_until INTEGER,
    expires_at   INTEGER NOT NULL,
    is_sealed    INTEGER NOT NULL DEFAULT 0,
    answer       BLOB,
    PRIMARY KEY (tenant, name)
) STRICT;

CREATE INDEX idempotency_by_expiry ON idempotency (expires_at);
CREATE INDEX idempotency_by_call ON idempotency (tenant, concerns) WHERE concerns IS NOT NULL;

-- The audit log, without the content of calls. A deleted call is not fetched from the vendor again.
CREATE TABLE audit (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    at         INTEGER NOT NULL,
    tenant     TEXT    NOT NULL,
    subject    TEXT,
    request_id TEXT    NOT NULL,
    action     TEXT    NOT NULL,
    call_id    TEXT    NOT NULL
) STRICT;

CREATE INDEX audit_of_call ON audit (tenant, call_id);
CREATE INDEX audit_by_time ON audit (at);
