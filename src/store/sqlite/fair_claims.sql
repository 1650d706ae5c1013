-- A claim of deliveries looks at each tenant's oldest first, and from receiver to receiver only where those are busy.

DROP INDEX deliveries_due;
CREATE INDEX deliveries_due ON deliveries (tenant, due_at) WHERE status = 'pending';
CREATE INDEX deliveries_due_by_receiver ON deliveries (tenant, receiver, due_at) WHERE status = 'pending';
CREATE INDEX deliveries_under_way ON deliveries (tenant, receiver) WHERE leased = 1;

-- What is under way of a tenant's work, counted before more is claimed.
CREATE INDEX analyses_under_way ON analyses (tenant) WHERE leased = 1;
