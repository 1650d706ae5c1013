-- What each tenant used, by day (days since the Unix epoch, UTC).

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
