-- The facts of a call (domain/call_facts.rs) as JSON; NULL in rows that an earlier version inserted.
ALTER TABLE analyses ADD COLUMN call_facts text;

-- Finds the analyses whose attributes are missing, because an earlier version inserted them.
CREATE INDEX analyses_without_attributes ON analyses (id) WHERE call_facts IS NULL AND metadata <> '{}';

-- Names and values by which lists find analyses (domain/attributes.rs). call_id and submitted_at are those of the analysis.
CREATE TABLE attributes (
    analysis     bigint NOT NULL REFERENCES analyses (id) ON DELETE CASCADE,
    name         text COLLATE "C" NOT NULL,
    value        text COLLATE "C" NOT NULL,
    tenant       text COLLATE "C" NOT NULL,
    submitted_at bigint NOT NULL,
    call_id      text COLLATE "C" NOT NULL,
    PRIMARY KEY (analysis, name, value)
);

-- A page of a list that filters by an attribute is read in the order of this index.
CREATE INDEX attributes_newest ON attributes (tenant, name, value, submitted_at, call_id) INCLUDE (analysis);

CREATE FUNCTION move_attributes() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE attributes SET submitted_at = new.submitted_at WHERE analysis = new.id;
    RETURN NULL;
END
$$;

CREATE TRIGGER analyses_moved AFTER UPDATE OF submitted_at ON analyses FOR EACH ROW
    WHEN (new.submitted_at <> old.submitted_at) EXECUTE FUNCTION move_attributes();

-- Usage by a fact of the calls: `agent` or `queue`.
CREATE TABLE usage_by_fact (
    tenant      text COLLATE "C" NOT NULL,
    day         bigint NOT NULL,
    fact        text COLLATE "C" NOT NULL,
    value       text COLLATE "C" NOT NULL,
    submissions bigint NOT NULL,
    completions bigint NOT NULL,
    failures    bigint NOT NULL,
    PRIMARY KEY (tenant, fact, day, value)
);

CREATE INDEX usage_by_fact_by_day ON usage_by_fact (day);
