-- What lists show, and what analyses are found by. Written with each result.

CREATE INDEX analyses_newest ON analyses (tenant, submitted_at, call_id);
CREATE INDEX analyses_not_completed ON analyses (tenant, status, submitted_at, call_id) WHERE status <> 'completed';

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

-- The words come folded (domain::search), each once: where in the talk they stand is not kept.
CREATE VIRTUAL TABLE search USING fts5 (
    words, content = '', contentless_delete = 1, detail = none, tokenize = "ascii tokenchars '_~.-'"
);

-- Results from before this table, to be listed bit by bit.
CREATE TABLE unlisted (
    analysis INTEGER PRIMARY KEY REFERENCES analyses (id) ON DELETE CASCADE
) STRICT;

INSERT INTO unlisted SELECT analysis FROM results;

-- The highest rows that were deleted. A new one is numbered above: a worker that was at the old one must not take it
-- for its own.
CREATE TABLE row_floors (
    name  TEXT    PRIMARY KEY,
    floor INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

INSERT INTO row_floors VALUES ('analyses', 0), ('deliveries', 0);

CREATE TRIGGER analyses_deleted AFTER DELETE ON analyses BEGIN
    DELETE FROM search WHERE rowid = old.id;
    UPDATE row_floors SET floor = old.id WHERE name = 'analyses' AND floor < old.id;
END;

CREATE TRIGGER deliveries_deleted AFTER DELETE ON deliveries BEGIN
    UPDATE row_floors SET floor = old.row WHERE name = 'deliveries' AND floor < old.row;
END;

-- Who did what; nothing of what was in it. A call that was deleted is not asked for at the vendor again.
CREATE TABLE audit (
    id         INTEGER PRIMARY KEY,
    at         INTEGER NOT NULL,
    tenant     TEXT    NOT NULL,
    subject    TEXT,
    request_id TEXT    NOT NULL,
    action     TEXT    NOT NULL,
    call_id    TEXT    NOT NULL
) STRICT;

CREATE INDEX audit_of_call ON audit (tenant, call_id);
CREATE INDEX audit_by_time ON audit (at);
