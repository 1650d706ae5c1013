-- Lists that search, or filter by tags or by the status `completed`, examine only analyses that have a result. The other
-- columns are part of the index so that PostgreSQL reads no rows of the table.
CREATE INDEX analyses_with_result ON analyses (tenant, submitted_at, call_id) INCLUDE (id, revision) WHERE revision > 0;
