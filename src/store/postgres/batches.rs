//! Inserts many new analyses in one statement.

use std::collections::HashMap;

use deadpool_postgres::GenericClient;
use tokio_postgres::types::ToSql;

use super::super::StoreError;
use super::super::analysis_rows::{state, stored_facts, work};
use super::super::values::json;
use super::fault::Fault;
use crate::domain::analysis::Analysis;

/// Inserts new analyses of one tenant, and returns their rows. The first parameters are equal for all rows: the tenant, the time
/// of submission, the state and the work. The other parameters are arrays: the call ids, the metadata, the traces and the call
/// facts. The rows are inserted in the order of the call ids, so two batches cannot deadlock.
const INSERT: &str = "INSERT INTO analyses (tenant, call_id, submitted_at, status, revision, finished_at, metadata, \
     failure, last_error, trace, call_facts, stage, due_at, started_at, sent_at, submits, accepted_at, polls, errors, etag, empty_since, \
     missing_since, denied_since, shapes) SELECT $1::text, item.call_id, $2::bigint, $3::text, $4::bigint, $5::bigint, \
     item.metadata, $6::text, $7::text, item.trace, item.call_facts, $8::text, $9::bigint, $10::bigint, $11::bigint, $12::bigint, \
     $13::bigint, $14::bigint, $15::bigint, $16::text, $17::bigint, $18::bigint, $19::bigint, $20::text \
     FROM unnest($21::text[], $22::text[], $23::text[], $24::text[]) \
     AS item (call_id, metadata, trace, call_facts) ORDER BY item.call_id COLLATE \"C\" \
     ON CONFLICT (tenant, call_id) DO NOTHING RETURNING id, call_id";

/// Inserts all analyses by one statement, as described at [`insert_analyses`](super::super::rules::Transaction::insert_analyses).
pub(super) async fn insert(
    client: &impl GenericClient,
    analyses: &[Analysis],
) -> Result<Vec<Option<i64>>, Fault> {
    let Some(template) = analyses.first() else { return Ok(Vec::new()) };
    let calls: Vec<&str> = analyses.iter().map(|analysis| analysis.call_id.as_str()).collect();
    let metadata: Vec<String> = analyses.iter().map(|analysis| analysis.metadata.to_json()).collect();
    let traces: Vec<String> =
        analyses.iter().map(|analysis| json(&analysis.trace)).collect::<Result<_, StoreError>>()?;
    let facts: Vec<String> =
        analyses.iter().map(|analysis| stored_facts(&analysis.call)).collect::<Result<_, StoreError>>()?;
    let (tenant, submitted_at) = (template.tenant.as_str(), template.submitted_at.as_millis());
    // The analyses differ only in the metadata, the trace and the call facts, and a new analysis has no history.
    let ([status, revision, finished_at, _, failure, last_error, ..], work) =
        (state(template)?, work(template));
    let shared: [&(dyn ToSql + Sync); 7] =
        [&tenant, &submitted_at, &status, &revision, &finished_at, &failure, &last_error];
    let own: [&(dyn ToSql + Sync); 4] = [&calls, &metadata, &traces, &facts];
    let work = work.iter().map(|value| value as &(dyn ToSql + Sync));
    let parameters: Vec<_> = shared.into_iter().chain(work).chain(own).collect();
    let insert = client.prepare_cached(INSERT).await?;
    let mut rows: HashMap<String, i64> = HashMap::with_capacity(analyses.len());
    for row in client.query(&insert, &parameters).await? {
        rows.insert(row.try_get("call_id")?, row.try_get("id")?);
    }
    Ok(calls.into_iter().map(|call| rows.remove(call)).collect())
}
