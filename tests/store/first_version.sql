-- A call that version 1 of the schema was left with: submitted, and not yet handed over.

INSERT INTO analyses (tenant, call_id, status, revision, submitted_at, metadata, trace, stage, due_at, started_at)
VALUES (
    'acme', '1', 'queued', 0, 1716207617000, '{}', '{"trace_id":334930066369178521649512795570598463286,"flags":1}',
    'submit', 1716207617000, 1716207617000
);
