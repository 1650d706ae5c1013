-- What was learned of each tenant's processing times.

CREATE TABLE paces (
    tenant        TEXT    PRIMARY KEY,
    first_look_ms INTEGER NOT NULL,
    samples       INTEGER NOT NULL,
    learned_at    INTEGER NOT NULL
) STRICT;
