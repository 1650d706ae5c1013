//! Claims of work on analyses, by lease and fencing token.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};

use super::super::analysis_rows::{COLUMNS, read};
use super::super::claims::UNFAILED_WINDOW;
use super::super::{ClaimBatch, ClaimedWork, Lease, Queue, StoreError, WorkSlots};
use super::transaction::SqliteRow;
use crate::domain::claim_order::ClaimOrder;
use crate::domain::clock::Timestamp;

/// Returns the statement of a claim. Parameters: the tenant, the present time, the maximum number of rows, the end of
/// the lease, and, except for [`ClaimOrder::OldestFirst`], the maximum number of claimed rows whose last request
/// failed.
pub(super) fn claim_sql(queue: Queue, order: ClaimOrder) -> String {
    let selected = match order {
        ClaimOrder::OldestFirst => {
            format!("{} ORDER BY due_at LIMIT ?3", due_sql("id", queue))
        }
        ClaimOrder::UnfailedFirst { newest, .. } => {
            let direction = if newest { "DESC" } else { "ASC" };
            format!(
                "SELECT id FROM (SELECT id, due_at, errors > 0 AS failed, row_number() OVER \
                 (PARTITION BY errors > 0 ORDER BY due_at {direction}) AS place FROM ({} ORDER BY due_at {direction} \
                 LIMIT {UNFAILED_WINDOW})) WHERE NOT failed OR place <= ?5 ORDER BY failed, due_at {direction} LIMIT ?3",
                due_sql("id, due_at, errors", queue)
            )
        }
    };
    format!(
        "UPDATE analyses SET {}fence = fence + 1, leased = true, due_at = ?4 WHERE id IN ({selected}) RETURNING {COLUMNS}",
        queue.claim_changes("?2")
    )
}

fn due_sql(columns: &str, queue: Queue) -> String {
    let condition = queue.condition();
    format!("SELECT {columns} FROM analyses WHERE {condition} AND tenant = ?1 AND due_at <= ?2")
}

/// Returns the statement that reads the earliest due time of work after the present time. Parameters: the tenant and
/// the present time.
pub(super) fn next_work_sql(queue: Queue) -> String {
    let condition = queue.condition();
    format!(
        "SELECT due_at FROM analyses WHERE {condition} AND tenant = ? AND due_at > ? ORDER BY due_at LIMIT 1"
    )
}

/// Counts the work in progress of both queues: the leases that end after the present time. Parameters: the tenant and
/// the present time. The unary plus prevents the planner from using the indexes on `due_at`.
pub(super) const UNDER_WAY: &str =
    "SELECT count(*) FROM analyses WHERE leased AND tenant = ? AND +due_at > ?";

pub(super) fn work(
    connection: &Connection,
    queue: Queue,
    slots: &[WorkSlots],
    now: Timestamp,
    lease: Duration,
) -> Result<ClaimBatch<ClaimedWork>, StoreError> {
    let mut next = connection.prepare_cached(&next_work_sql(queue))?;
    let mut under_way = connection.prepare_cached(UNDER_WAY)?;
    let mut claims = ClaimBatch { claimed: Vec::new(), unreadable: Vec::new(), next_due: None };
    for WorkSlots { tenant, free, most, order } in slots {
        let busy: usize = under_way.query_row(params![tenant.as_str(), now.as_millis()], |row| row.get(0))?;
        let limit = (*free).min(most.saturating_sub(busy));
        if limit == 0 {
            continue;
        }
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let mut claim = connection.prepare_cached(&claim_sql(queue, *order))?;
        let (due, end) = (now.as_millis(), (now + lease).as_millis());
        let mut rows = match order {
            ClaimOrder::OldestFirst => claim.query(params![tenant.as_str(), due, limit, end])?,
            ClaimOrder::UnfailedFirst { max_failed, .. } => {
                let max_failed = i64::try_from(*max_failed).unwrap_or(i64::MAX);
                claim.query(params![tenant.as_str(), due, limit, end, max_failed])?
            }
        };
        while let Some(row) = rows.next()? {
            let lease = Lease { row: row.get("id")?, fence: row.get("fence")? };
            match read(&SqliteRow::new(row)) {
                Ok(analysis) => claims.claimed.push(ClaimedWork { lease, analysis }),
                Err(StoreError::Corrupt(_)) => claims.unreadable.push(lease),
                Err(error) => return Err(error),
            }
        }
        let due: Option<i64> =
            next.query_row(params![tenant.as_str(), now.as_millis()], |row| row.get(0)).optional()?;
        claims.next_due = earlier(claims.next_due, due);
    }
    Ok(claims)
}

pub(super) fn earlier(known: Option<Timestamp>, due: Option<i64>) -> Option<Timestamp> {
    known.into_iter().chain(due.map(Timestamp::from_millis)).min()
}

/// Releases all leases, so that their work is due now. Call this only while no other process can hold a lease.
pub(super) fn release_all(connection: &Connection, now: Timestamp) -> Result<(), rusqlite::Error> {
    connection.execute(
        "UPDATE analyses SET leased = false, due_at = min(due_at, ?) WHERE leased AND stage IS NOT NULL",
        [now.as_millis()],
    )?;
    connection.execute(
        "UPDATE deliveries SET leased = false, due_at = min(due_at, ?) WHERE leased AND status = 'pending'",
        [now.as_millis()],
    )?;
    Ok(())
}

/// Ends the claims of all unfinished requests with an `Idempotency-Key`, so that they can be repeated now. Call this
/// only while no other process can hold a claim.
pub(super) fn release_keys(connection: &Connection, now: Timestamp) -> Result<(), rusqlite::Error> {
    let update = "UPDATE idempotency SET leased_until = ?1 WHERE leased_until > ?1";
    connection.execute(update, [now.as_millis()]).map(|_| ())
}
