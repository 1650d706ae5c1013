-- What is past its deadline is found by its age, however much waits.

CREATE INDEX analyses_by_start ON analyses (tenant, started_at) WHERE stage <> 'settle';
