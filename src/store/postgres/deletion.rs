//! Deleting a call, and the record that this was done.

use deadpool_postgres::GenericClient;
use tokio_postgres::types::ToSql;

use super::super::Change;
use super::super::changes::Changes;
use super::connect::Session;
use super::fault::Fault;
use super::idempotency;
use super::notices::Address;
use crate::domain::audit::{Actor, AuditedAction};
use crate::domain::clock::Timestamp;
use crate::domain::ids::{CallId, TenantId};

/// Deletes a call with all that hangs on it, whatever is under way. Whether there was anything. It is a repeat if the same was
/// tried before in vain.
///
/// The analysis first: its lock keeps out a step that would write another event, and comes before the locks on what a
/// step touches.
pub(super) async fn delete(
    mut session: Session,
    address: &Address,
    tenant: &TenantId,
    call_id: &CallId,
    (actor, is_repeat): (&Actor, bool),
    now: Timestamp,
) -> Result<(bool, Changes), Fault> {
    let transaction = session.client()?.transaction().await?;
    let mut deleted = 0;
    for sql in [
        "DELETE FROM analyses WHERE tenant = $1 AND call_id = $2",
        "DELETE FROM events WHERE tenant = $1 AND call_id = $2",
    ] {
        let delete = transaction.prepare_cached(sql).await?;
        deleted += transaction.execute(&delete, &[&tenant.as_str(), &call_id.as_str()]).await?;
    }
    if deleted == 0 && !is_repeat {
        return Ok((false, Changes::default()));
    }
    if deleted == 0 {
        // It may have been this very request, whose commit was not heard of.
        let done = transaction
            .prepare_cached(
                "SELECT 1 FROM audit WHERE tenant = $1 AND call_id = $2 AND action = $3 AND request_id = $4",
            )
            .await?;
        let action = AuditedAction::AnalysisDeleted.as_str();
        let request: &[&(dyn ToSql + Sync)] =
            &[&tenant.as_str(), &call_id.as_str(), &action, &actor.request_id];
        return Ok((transaction.query_opt(&done, request).await?.is_some(), Changes::default()));
    }
    idempotency::forget_call(&transaction, tenant, call_id).await?;
    let record = transaction
        .prepare_cached(
            "INSERT INTO audit (at, tenant, subject, request_id, action, call_id) VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .await?;
    // The server's texts cannot hold NUL.
    let subject = actor.subject.as_ref().map(|subject| subject.replace('\0', "\u{fffd}"));
    let action = AuditedAction::AnalysisDeleted.as_str();
    transaction
        .execute(
            &record,
            &[&now.as_millis(), &tenant.as_str(), &subject, &actor.request_id, &action, &call_id.as_str()],
        )
        .await?;
    let mut changes = Changes::default();
    changes.invalidate(Change::Analysis(tenant.clone(), call_id.clone()));
    changes.tell_within(&transaction, address).await?;
    transaction.commit().await?;
    Ok((true, changes))
}

/// Whether a call was deleted.
pub(super) async fn was_deleted(
    client: &impl GenericClient,
    tenant: &TenantId,
    call_id: &CallId,
) -> Result<bool, Fault> {
    let select = client
        .prepare_cached("SELECT 1 FROM audit WHERE tenant = $1 AND call_id = $2 AND action = $3 LIMIT 1")
        .await?;
    let action = AuditedAction::AnalysisDeleted.as_str();
    Ok(client.query_opt(&select, &[&tenant.as_str(), &call_id.as_str(), &action]).await?.is_some())
}

/// Deletes old records, up to `limit`. How many.
pub(super) async fn delete_records(
    mut session: Session,
    before: Timestamp,
    limit: usize,
) -> Result<usize, Fault> {
    let client = session.client()?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let delete = client
        .prepare_cached(
            "DELETE FROM audit WHERE id = ANY (ARRAY(SELECT id FROM audit WHERE at < $1 ORDER BY at LIMIT $2 \
             FOR UPDATE SKIP LOCKED))",
        )
        .await?;
    let deleted = client.execute(&delete, &[&before.as_millis(), &limit]).await?;
    Ok(usize::try_from(deleted).unwrap_or(usize::MAX))
}
