//! Inserts many new analyses in one statement.

use std::collections::HashSet;

use deadpool_postgres::GenericClient;
use tokio_postgres::types::ToSql;

use super::super::analysis_rows::{NewAnalysis, state, stored_facts, work};
use super::super::attributes::to_json;
use super::super::values::json;
use super::super::{StoreError, callbacks};
use super::fault::Fault;
use crate::domain::attributes::Attribute;

/// Inserts new analyses with their callbacks and attributes, and returns the calls of the inserted rows. The first parameters are
/// equal for all rows: the time of submission, the state and the work. The other parameters are arrays with one element for each
/// analysis. The rows are inserted in the order of tenants and call ids, so two statements cannot deadlock.
const INSERT: &str = "WITH item AS (SELECT * FROM unnest($20::text[], $21::text[], $22::text[], $23::text[], $24::text[], \
     $25::text[], $26::text[], $27::text[], $28::text[]) \
     AS item (tenant, call_id, metadata, trace, call_facts, url, payload, transform, attributes)), \
     inserted AS (INSERT INTO analyses (tenant, call_id, submitted_at, status, revision, finished_at, metadata, failure, last_error, \
     trace, call_facts, stage, due_at, started_at, sent_at, submits, accepted_at, polls, errors, etag, empty_since, missing_since, \
     denied_since, shapes) SELECT item.tenant, item.call_id, $1::bigint, $2::text, $3::bigint, $4::bigint, item.metadata, $5::text, \
     $6::text, item.trace, item.call_facts, $7::text, $8::bigint, $9::bigint, $10::bigint, $11::bigint, $12::bigint, $13::bigint, \
     $14::bigint, $15::text, $16::bigint, $17::bigint, $18::bigint, $19::text \
     FROM item ORDER BY item.tenant COLLATE \"C\", item.call_id COLLATE \"C\" \
     ON CONFLICT (tenant, call_id) DO NOTHING RETURNING id, tenant, call_id), \
     callback AS (INSERT INTO callbacks (analysis, url, payload, transform) \
     SELECT inserted.id, item.url, item.payload, item.transform FROM inserted JOIN item USING (tenant, call_id) \
     WHERE item.url IS NOT NULL), \
     attribute AS (INSERT INTO attributes (analysis, tenant, call_id, submitted_at, name, value) \
     SELECT inserted.id, inserted.tenant, inserted.call_id, $1, pair ->> 0, pair ->> 1 \
     FROM inserted JOIN item USING (tenant, call_id), json_array_elements(item.attributes::json) AS pair \
     WHERE item.attributes IS NOT NULL) \
     SELECT tenant, call_id FROM inserted";

/// Inserts all analyses by one statement, as described at [`insert_new`](super::super::rules::Transaction::insert_new).
pub(super) async fn insert(client: &impl GenericClient, new: &[NewAnalysis]) -> Result<Vec<bool>, Fault> {
    let Some(template) = new.first().map(|new| &new.analysis) else { return Ok(Vec::new()) };
    let analyses = || new.iter().map(|new| &new.analysis);
    let callbacks = || new.iter().map(|new| new.callback.as_ref());
    let tenants: Vec<&str> = analyses().map(|analysis| analysis.tenant.as_str()).collect();
    let calls: Vec<&str> = analyses().map(|analysis| analysis.call_id.as_str()).collect();
    let metadata: Vec<String> = analyses().map(|analysis| analysis.metadata.to_json()).collect();
    let traces = analyses().map(|analysis| json(&analysis.trace)).collect::<Result<Vec<_>, StoreError>>()?;
    let facts =
        analyses().map(|analysis| stored_facts(&analysis.call)).collect::<Result<Vec<_>, StoreError>>()?;
    let urls: Vec<_> = callbacks().map(|callback| callback.map(|callback| callback.url.to_text())).collect();
    let payloads: Vec<_> =
        callbacks().map(|callback| callback.map(|callback| callback.payload.as_str())).collect();
    let transforms: Vec<_> = callbacks().map(|callback| callback.and_then(callbacks::transform)).collect();
    let attributes = |analysis| {
        let attributes = Attribute::of(analysis);
        (!attributes.is_empty()).then(|| to_json(&attributes)).transpose()
    };
    let attributes = analyses().map(attributes).collect::<Result<Vec<_>, StoreError>>()?;
    let ([status, revision, finished_at, _, failure, last_error, ..], work) =
        (state(template)?, work(template));
    let submitted_at = template.submitted_at.as_millis();
    let shared: [&(dyn ToSql + Sync); 6] =
        [&submitted_at, &status, &revision, &finished_at, &failure, &last_error];
    let own: [&(dyn ToSql + Sync); 9] =
        [&tenants, &calls, &metadata, &traces, &facts, &urls, &payloads, &transforms, &attributes];
    let work = work.iter().map(|value| value as &(dyn ToSql + Sync));
    let parameters: Vec<_> = shared.into_iter().chain(work).chain(own).collect();
    let insert = client.prepare_cached(INSERT).await?;
    let rows = client.query(&insert, &parameters).await?;
    let mut inserted: HashSet<(&str, &str)> = HashSet::with_capacity(rows.len());
    for row in &rows {
        inserted.insert((row.try_get("tenant")?, row.try_get("call_id")?));
    }
    Ok(tenants.into_iter().zip(calls).map(|call| inserted.contains(&call)).collect())
}
