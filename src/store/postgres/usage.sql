-- What each tenant used, by day (days since the Unix epoch, UTC).

CREATE TABLE usage (
    tenant      text COLLATE "C" NOT NULL,
    day         bigint NOT NULL,
    submissions bigint NOT NULL,
    polls       bigint NOT NULL,
    completions bigint NOT NULL,
    failures    bigint NOT NULL,
    attempts    bigint NOT NULL,
    delivered   bigint NOT NULL,
    undelivered bigint NOT NULL,
    PRIMARY KEY (tenant, day)
);
