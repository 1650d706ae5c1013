-- What arrived is found without a walk past all that did not.
CREATE INDEX deliveries_delivered ON deliveries (tenant, row) WHERE status = 'delivered';
CREATE INDEX deliveries_of_endpoint_delivered ON deliveries (endpoint, row)
    WHERE endpoint <> '' AND status = 'delivered';
