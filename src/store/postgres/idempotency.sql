-- Requests that came with an `Idempotency-Key`: what is under way, and the answers of what was done. Neither key nor
-- body is here, but hashes of them; `claim` is a random number that whoever does the request writes with. `leased_until`
-- is NULL when it is done; `answer` is NULL until then, and afterwards if it could not be kept.

CREATE TABLE idempotency (
    tenant       text COLLATE "C" NOT NULL,
    name         bytea   NOT NULL,
    fingerprint  bytea   NOT NULL,
    concerns     text COLLATE "C",
    claim        bigint  NOT NULL,
    leased_until bigint,
    expires_at   bigint  NOT NULL,
    is_sealed    boolean NOT NULL DEFAULT false,
    answer       bytea,
    PRIMARY KEY (tenant, name)
);

CREATE INDEX idempotency_by_expiry ON idempotency (expires_at);
CREATE INDEX idempotency_by_call ON idempotency (tenant, concerns) WHERE concerns IS NOT NULL;
