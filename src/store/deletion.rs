//! Deletes one call on request, and expired records.

use std::time::Instant;

use super::analysis_rows::CallKey;
use super::deletion_batches::DeletedBatch;
use super::rules::{Rule, Transaction};
use super::sql::{Sql, sql};
use super::values::values;
use super::{Change, StoreError, idempotency};
use crate::domain::audit::{Actor, AuditedAction};
use crate::domain::clock::Timestamp;
use crate::domain::ids::{CallId, TenantId};
use crate::domain::usage::Day;

/// Deletes a call with all its data, and writes an audit record.
pub(super) struct DeleteAnalysis {
    pub(super) call: CallKey,
    pub(super) actor: Actor,
}

impl Rule for DeleteAnalysis {
    const NAME: &'static str = "delete_analysis";
    type Output = bool;

    async fn run<T: Transaction>(&self, transaction: &T) -> Result<bool, StoreError> {
        let Self { call: CallKey(tenant, call_id), actor } = self;
        // The analysis is deleted first, because its lock prevents a step from writing another event. The deletion of events also
        // deletes deliveries and attempts. The deletion of the analysis also deletes results, tags and search entries.
        let analyses = sql!("DELETE FROM analyses WHERE tenant = ?1 AND call_id = ?2");
        let events = sql!("DELETE FROM events WHERE tenant = ?1 AND call_id = ?2");
        let mut deleted = transaction.execute(analyses, values![tenant, call_id]).await?;
        deleted += transaction.execute(events, values![tenant, call_id]).await?;
        let action = AuditedAction::AnalysisDeleted.as_str();
        if deleted == 0 {
            if !transaction.is_repeated() {
                return Ok(false);
            }
            // An earlier attempt of this transaction may have been committed although its answer was lost.
            let own = sql!(
                "SELECT id FROM audit WHERE tenant = ?1 AND call_id = ?2 AND action = ?3 AND request_id = ?4 LIMIT 1"
            );
            let values = values![tenant, call_id, action, &actor.request_id];
            return Ok(transaction.find(own, values, |_| Ok(())).await?.is_some());
        }
        idempotency::forget_call(transaction, tenant, call_id).await?;
        let record = sql!(
            "INSERT INTO audit (at, tenant, subject, request_id, action, call_id) VALUES (?1, ?2, ?3, ?4, ?5, ?6)"
        );
        let now = transaction.env().clock.now();
        let values = values![now, tenant, actor.subject.as_deref(), &actor.request_id, action, call_id];
        transaction.execute(record, values).await?;
        transaction.invalidate(Change::Analysis(tenant.clone(), call_id.clone()));
        Ok(true)
    }
}

/// Reads whether a call was deleted.
pub(super) struct WasDeleted(pub(super) CallKey);

impl Rule for WasDeleted {
    const NAME: &'static str = "was_deleted";
    type Output = bool;

    async fn run<T: Transaction>(&self, transaction: &T) -> Result<bool, StoreError> {
        let Self(CallKey(tenant, call_id)) = self;
        was_deleted(transaction, tenant, call_id).await
    }
}

/// Whether an audit record says that a call was deleted.
pub(super) async fn was_deleted(
    transaction: &impl Transaction,
    tenant: &TenantId,
    call_id: &CallId,
) -> Result<bool, StoreError> {
    let select = sql!("SELECT id FROM audit WHERE tenant = ?1 AND call_id = ?2 AND action = ?3 LIMIT 1");
    let values = values![tenant, call_id, AuditedAction::AnalysisDeleted.as_str()];
    Ok(transaction.find(select, values, |_| Ok(())).await?.is_some())
}

/// Deletes old audit records and days of usage.
pub(super) struct DeleteRecords {
    pub(super) before: Timestamp,
    pub(super) limit: usize,
}

impl Rule for DeleteRecords {
    const NAME: &'static str = "delete_records";
    const NOTIFIES: bool = false;
    type Output = usize;

    async fn run<T: Transaction>(&self, transaction: &T) -> Result<usize, StoreError> {
        let records = sql!(
            "DELETE FROM audit WHERE id IN (SELECT id FROM audit WHERE at < ?1 ORDER BY at LIMIT ?2 \
             FOR UPDATE SKIP LOCKED)"
        );
        let days = sql!(
            "DELETE FROM usage WHERE (tenant, day) IN (SELECT tenant, day FROM usage WHERE day < ?1 LIMIT ?2 \
             FOR UPDATE SKIP LOCKED)"
        );
        let days_by_fact = sql!(
            "DELETE FROM usage_by_fact WHERE (tenant, fact, day, value) IN (SELECT tenant, fact, day, value \
             FROM usage_by_fact WHERE day < ?1 ORDER BY day LIMIT ?2 FOR UPDATE SKIP LOCKED)"
        );
        let records = transaction.execute(records, values![self.before, self.limit]).await?;
        let day = Day::of(self.before).number();
        let days = transaction.execute(days, values![day, self.limit]).await?;
        Ok(records + days + transaction.execute(days_by_fact, values![day, self.limit]).await?)
    }
}

/// Deletes expired analyses, events and replays.
pub(super) struct DeleteExpired {
    pub(super) before: Timestamp,
    pub(super) limit: usize,
}

/// The condition under which a delivery prevents the deletion of its event and its analysis. A pending delivery
/// prevents the deletion, unless the delivery may wait forever: its webhook is disabled, or the gateway has been unable
/// to sign for the webhook for longer than the retention period.
const PENDING: &str = "deliveries.status = 'pending' AND (webhook = '' OR EXISTS \
     (SELECT 1 FROM webhooks WHERE webhooks.id = deliveries.webhook AND disabled_at IS NULL \
     AND (unsigned_since IS NULL OR unsigned_since >= ?1)))";

/// Deletes expired analyses. Parameters: the time before which they finished, and the maximum number of rows. The lock
/// prevents a concurrent submission from restarting one of the analyses.
pub(super) static DELETE_ANALYSES: Sql = Sql::per_engine(
    &["DELETE FROM analyses WHERE id IN (", ANALYSES, PENDING, ANALYSES_END, ") RETURNING tenant, call_id"],
    // The planner does not know how few rows there are. The array keeps the planner from joining the whole table.
    &[
        "DELETE FROM analyses WHERE id = ANY (ARRAY(",
        ANALYSES,
        PENDING,
        ANALYSES_END,
        ")) RETURNING tenant, call_id",
    ],
);
const ANALYSES: &str = "SELECT id FROM analyses WHERE stage IS NULL AND finished_at < ?1 AND NOT EXISTS \
     (SELECT 1 FROM deliveries WHERE deliveries.tenant = analyses.tenant AND deliveries.call_id = analyses.call_id AND ";
const ANALYSES_END: &str = ") ORDER BY finished_at LIMIT ?2 FOR UPDATE SKIP LOCKED";

/// Deletes expired events. Parameters: the time before which they were written, and the maximum number of rows.
pub(super) static DELETE_EVENTS: Sql = Sql::per_engine(
    &["DELETE FROM events WHERE seq IN (", EVENTS, PENDING, EVENTS_END, ")"],
    &["DELETE FROM events WHERE seq = ANY (ARRAY(", EVENTS, PENDING, EVENTS_END, "))"],
);
const EVENTS: &str = "SELECT seq FROM events WHERE at < ?1 AND NOT EXISTS \
     (SELECT 1 FROM deliveries WHERE deliveries.event = events.seq AND ";
const EVENTS_END: &str = ") ORDER BY at LIMIT ?2 FOR UPDATE SKIP LOCKED";

/// Deletes expired replays. Parameters: the time before which they finished, and the maximum number of rows.
pub(super) static DELETE_REPLAYS: Sql =
    Sql::new(&["DELETE FROM replays WHERE id IN (SELECT id FROM replays \
     WHERE finished_at IS NOT NULL AND finished_at < ?1 LIMIT ?2 FOR UPDATE SKIP LOCKED)"]);

impl Rule for DeleteExpired {
    const NAME: &'static str = "delete_expired";
    type Output = DeletedBatch;

    async fn run<T: Transaction>(&self, transaction: &T) -> Result<DeletedBatch, StoreError> {
        let (before, limit, began) = (self.before, self.limit, Instant::now());
        let deleted = transaction
            .query(&DELETE_ANALYSES, values![before, limit], |row| {
                let change =
                    || Ok::<_, StoreError>(Change::Analysis(row.get("tenant")?, row.get("call_id")?));
                // A row that cannot be read must still be deletable.
                Ok(change().unwrap_or(Change::Everything))
            })
            .await?;
        let analyses = deleted.len();
        deleted.into_iter().for_each(|change| transaction.invalidate(change));
        let events = transaction.execute(&DELETE_EVENTS, values![before, limit]).await?;
        let replays = transaction.execute(&DELETE_REPLAYS, values![before, limit]).await?;
        Ok(DeletedBatch { rows: analyses + events + replays, took: began.elapsed() })
    }
}
