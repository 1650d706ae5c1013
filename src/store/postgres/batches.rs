//! Many submissions in one transaction.

use std::collections::{BTreeMap, HashMap};

use deadpool_postgres::Transaction;

use super::super::changes::Changes;
use super::super::{Queue, StoreError, StoredAnalysis, Surroundings};
use super::analyses::resubmit;
use super::connect::Session;
use super::fault::Fault;
use super::notices::Address;
use super::rows::{Parameter, Written, json};
use crate::domain::analysis::{Analysis, Submission};
use crate::domain::callback_url::CallbackUrl;
use crate::domain::ids::{CallId, TenantId};

/// Tenant, submission, state and work, alike for all but for the last: calls, metadata and traces. In an order, lest two
/// batches wait for each other. Gives those that are new.
const INSERT: &str = "INSERT INTO analyses (tenant, call_id, submitted_at, status, revision, finished_at, metadata, \
     failure, last_error, trace, stage, due_at, started_at, accepted_at, polls, errors, etag, empty_since, missing_since, \
     denied_since) SELECT $1::text, item.call_id, $2::bigint, $3::text, $4::bigint, $5::bigint, item.metadata, $6::text, \
     $7::text, item.trace, $8::text, $9::bigint, $10::bigint, $11::bigint, $12::bigint, $13::bigint, $14::text, \
     $15::bigint, $16::bigint, $17::bigint FROM unnest($18::text[], $19::text[], $20::text[]) \
     AS item (call_id, metadata, trace) ORDER BY item.call_id COLLATE \"C\" \
     ON CONFLICT (tenant, call_id) DO NOTHING RETURNING id, call_id";

/// Those that stand already, in the same order.
const LOCK: &str =
    "SELECT id FROM analyses WHERE tenant = $1 AND call_id = ANY ($2::text[]) ORDER BY call_id FOR UPDATE";

const ADD_CALLBACKS: &str =
    "INSERT INTO callbacks (analysis, url) SELECT * FROM unnest($1::bigint[], $2::text[])";

pub(super) async fn submit(
    mut session: Session,
    around: &Surroundings,
    address: &Address,
    tenant: &TenantId,
    submissions: &[Submission],
) -> Result<(Vec<StoredAnalysis>, Changes), Fault> {
    let now = around.clock.now();
    let mut first: BTreeMap<&CallId, (&Submission, Analysis)> = BTreeMap::new();
    for submission in submissions {
        let begin = || (submission, Analysis::begin(tenant.clone(), submission.clone(), now));
        first.entry(&submission.call_id).or_insert_with(begin);
    }
    let transaction = session.client()?.transaction().await?;
    let rows = insert(&transaction, tenant, &first).await?;
    let (ids, urls): (Vec<i64>, Vec<&str>) = first
        .iter()
        .filter_map(|(call, (submission, _))| {
            Some((*rows.get(call.as_str())?, submission.callback.as_ref().map(CallbackUrl::as_str)?))
        })
        .unzip();
    let add = transaction.prepare_cached(ADD_CALLBACKS).await?;
    transaction.execute(&add, &[&ids, &urls]).await?;
    let standing: Vec<&str> =
        first.keys().map(|call| call.as_str()).filter(|call| !rows.contains_key(*call)).collect();
    let lock = transaction.prepare_cached(LOCK).await?;
    transaction.query(&lock, &[&tenant.as_str(), &standing]).await?;

    let mut changes = if rows.is_empty() { Changes::default() } else { Changes::work(Queue::Submits) };
    let mut found = Vec::with_capacity(submissions.len());
    for submission in submissions {
        let fresh = first.get(&submission.call_id).filter(|(of, _)| {
            std::ptr::eq(*of, submission) && rows.contains_key(submission.call_id.as_str())
        });
        found.push(match fresh {
            Some((_, analysis)) => StoredAnalysis { analysis: analysis.clone(), result: None },
            None => resubmit(&transaction, around, tenant, submission, &mut changes).await?,
        });
    }
    changes.tell_within(&transaction, address).await?;
    transaction.commit().await?;
    Ok((found, changes))
}

/// The rows of those that are new, by call.
async fn insert(
    transaction: &Transaction<'_>,
    tenant: &TenantId,
    first: &BTreeMap<&CallId, (&Submission, Analysis)>,
) -> Result<HashMap<String, i64>, Fault> {
    // In all that is not of its own, every new analysis is like the next.
    let Some((_, template)) = first.values().next() else { return Ok(HashMap::new()) };
    let written = Written::new(template)?;
    let (tenant, submitted_at) = (tenant.as_str(), template.submitted_at.as_millis());
    let calls: Vec<&str> = first.keys().map(|call| call.as_str()).collect();
    let metadata: Vec<String> = first.values().map(|(_, analysis)| analysis.metadata.to_json()).collect();
    let traces: Vec<String> =
        first.values().map(|(_, analysis)| json(&analysis.trace)).collect::<Result<_, StoreError>>()?;
    let [status, revision, finished_at, _, failure, last_error, _] = written.state();
    let alike = [&tenant as Parameter<'_>, &submitted_at, status, revision, finished_at, failure, last_error];
    let own = [&calls as Parameter<'_>, &metadata, &traces];
    let parameters: Vec<_> = alike.into_iter().chain(written.work()).chain(own).collect();
    let insert = transaction.prepare_cached(INSERT).await?;
    let rows = transaction.query(&insert, &parameters).await?;
    rows.iter().map(|row| Ok((row.try_get("call_id")?, row.try_get("id")?))).collect()
}
