-- Requests that came with an `Idempotency-Key`: what is under way, and the answers of what was done. Neither key nor
-- body is here, but hashes of them; `claim` is a random number that whoever does the request writes with. `leased_until`
-- is NULL when it is done; `answer` is NULL until then, and afterwards if it could not be kept.

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
