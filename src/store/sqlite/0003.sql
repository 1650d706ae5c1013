-- The facts of a call (domain/call_facts.rs) as JSON; NULL in rows that an earlier version inserted.
ALTER TABLE analyses ADD COLUMN call_facts TEXT;

-- Finds the analyses whose attributes are missing, because an earlier version inserted them.
CREATE INDEX analyses_without_attributes ON analyses (id) WHERE call_facts IS NULL AND metadata <> '{}';

-- Names and values by which lists find analyses (domain/attributes.rs). call_id and submitted_at are those of the analysis.
CREATE TABLE attributes (
    analysis     INTEGER NOT NULL REFERENCES analyses (id) ON DELETE CASCADE,
    name         TEXT    NOT NULL,
    value        TEXT    NOT NULL,
    tenant       TEXT    NOT NULL,
    submitted_at INTEGER NOT NULL,
    call_id      TEXT    NOT NULL,
    PRIMARY KEY (analysis, name, value)
) STRICT, WITHOUT ROWID;

-- A page of a list that filters by an attribute is read in the order of this index.
CREATE INDEX attributes_newest ON attributes (tenant, name, value, submitted_at, call_id);

CREATE TRIGGER analyses_moved AFTER UPDATE OF submitted_at ON analyses WHEN new.submitted_at <> old.submitted_at BEGIN
    UPDATE attributes SET submitted_at = new.submitted_at WHERE analysis = new.id;
END;

-- Usage by a fact of the calls: `agent` or `queue`.
CREATE TABLE usage_by_fact (
    tenant      TEXT    NOT NULL,
    day         INTEGER NOT NULL,
    fact        TEXT    NOT NULL,
    value       TEXT    NOT NULL,
    submissions INTEGER NOT NULL,
    completions INTEGER NOT NULL,
    failures    INTEGER NOT NULL,
    PRIMARY KEY (tenant, fact, day, value)
) STRICT, WITHOUT ROWID;

CREATE INDEX usage_by_fact_by_day ON usage_by_fact (day);
