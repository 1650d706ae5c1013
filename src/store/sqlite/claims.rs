//! Who works on which analysis: claims by lease and fence.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::super::{
    Applied, ClaimBatch, ClaimedWork, Lease, OverdueFailures, Queue, StoreError, WorkSlots, WorkStore,
};
use super::writer::Done;
use super::{SqliteStore, analyses, deadlines, rows};
use crate::domain::clock::Timestamp;
use crate::domain::ids::TenantId;
use crate::domain::lifecycle::Step;

/// The condition of each queue's partial index, word for word.
pub(super) const fn condition(queue: Queue) -> &'static str {
    match queue {
        Queue::Submits => "stage = 'submit'",
        Queue::Polls => "stage <> 'submit'",
    }
}

#[async_trait]
impl WorkStore for SqliteStore {
    async fn claim_work_across_tenants(
        &self,
        queue: Queue,
        slots: Vec<WorkSlots>,
        lease: Duration,
    ) -> Result<ClaimBatch<ClaimedWork>, StoreError> {
        let now = self.surroundings.clock.now();
        self.write(move |connection| work(connection, queue, &slots, now, lease).map(Done::quiet)).await
    }

    async fn apply(&self, lease: Lease, step: Step) -> Result<Applied, StoreError> {
        let around = Arc::clone(&self.surroundings);
        self.write(move |connection| analyses::apply(connection, &around, lease, step)).await
    }

    async fn fail_overdue_across_tenants(
        &self,
        tenants: Vec<TenantId>,
        limit: usize,
    ) -> Result<OverdueFailures, StoreError> {
        let around = Arc::clone(&self.surroundings);
        self.write(move |connection| deadlines::fail_overdue(connection, &around, &tenants, limit)).await
    }
}

/// Takes the tenant, the present, the most to claim, and the lease's end. A claimed submit stands as unconfirmed
/// from this commit on: after a crash its outcome is unknown.
pub(super) fn claim_sql(queue: Queue) -> String {
    format!(
        "UPDATE analyses SET stage = CASE stage WHEN 'submit' THEN 'confirm' ELSE stage END, \
         denied_since = CASE stage WHEN 'submit' THEN NULL ELSE denied_since END, \
         fence = fence + 1, leased = true, due_at = ?4 WHERE id IN (SELECT id FROM analyses \
         WHERE {} AND tenant = ?1 AND due_at <= ?2 ORDER BY due_at LIMIT ?3) RETURNING {}",
        condition(queue),
        rows::COLUMNS
    )
}

/// Takes the tenant and the present.
pub(super) fn next_work_sql(queue: Queue) -> String {
    let condition = condition(queue);
    format!(
        "SELECT due_at FROM analyses WHERE {condition} AND tenant = ? AND due_at > ? ORDER BY due_at LIMIT 1"
    )
}

/// Takes a tenant and the present: what is under way, of either queue. The plus keeps the query off the indexes of what is
/// to come.
pub(super) const UNDER_WAY: &str =
    "SELECT count(*) FROM analyses WHERE leased AND tenant = ? AND +due_at > ?";

pub(super) fn work(
    connection: &Connection,
    queue: Queue,
    slots: &[WorkSlots],
    now: Timestamp,
    lease: Duration,
) -> Result<ClaimBatch<ClaimedWork>, StoreError> {
    let mut claim = connection.prepare_cached(&claim_sql(queue))?;
    let mut next = connection.prepare_cached(&next_work_sql(queue))?;
    let mut under_way = connection.prepare_cached(UNDER_WAY)?;
    let mut claims = ClaimBatch { claimed: Vec::new(), next_due: None };
    for WorkSlots { tenant, free, most } in slots {
        let busy: usize = under_way.query_row(params![tenant.as_str(), now.as_millis()], |row| row.get(0))?;
        let limit = (*free).min(most.saturating_sub(busy));
        if limit == 0 {
            continue;
        }
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let due = params![tenant.as_str(), now.as_millis(), limit, (now + lease).as_millis()];
        let mut rows = claim.query(due)?;
        while let Some(row) = rows.next()? {
            // One that cannot be read keeps nobody from the others; its lease runs out, and it is tried again.
            match claimed_work(row) {
                Ok(claimed) => claims.claimed.push(claimed),
                Err(error) => tracing::error!(%error, "an analysis cannot be read"),
            }
        }
        let due: Option<i64> =
            next.query_row(params![tenant.as_str(), now.as_millis()], |row| row.get(0)).optional()?;
        claims.next_due = earlier(claims.next_due, due);
    }
    Ok(claims)
}

fn claimed_work(row: &Row<'_>) -> Result<ClaimedWork, rusqlite::Error> {
    let lease = Lease { row: row.get("id")?, fence: row.get("fence")? };
    Ok(ClaimedWork { lease, analysis: rows::read(row)? })
}

pub(super) fn earlier(known: Option<Timestamp>, due: Option<i64>) -> Option<Timestamp> {
    known.into_iter().chain(due.map(Timestamp::from_millis)).min()
}

/// Makes everything that is leased due at once. Only for when no other process can hold a lease.
pub(super) fn release_all(connection: &Connection, now: Timestamp) -> Result<(), rusqlite::Error> {
    connection.execute(
        "UPDATE analyses SET leased = false, due_at = ? WHERE leased AND stage IS NOT NULL",
        [now.as_millis()],
    )?;
    connection.execute(
        "UPDATE deliveries SET leased = false, due_at = ? WHERE leased AND status = 'pending'",
        [now.as_millis()],
    )?;
    Ok(())
}
