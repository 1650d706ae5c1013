//! Claims of work on analyses, by lease and fencing token.

use std::time::Duration;

use super::super::analysis_rows::{COLUMNS, read};
use super::super::{ClaimBatch, ClaimedWork, Lease, Queue, StoreError, WorkSlots};
use super::connect::Session;
use super::fault::Fault;
use crate::domain::clock::Timestamp;

/// Returns the condition of the queue's partial index. PostgreSQL uses the index only if the condition is written in
/// the same way.
pub(super) const fn condition(queue: Queue) -> &'static str {
    match queue {
        Queue::Submits => "stage = 'submit'",
        Queue::Polls => "stage <> 'submit'",
    }
}

/// Parameters: the tenants, the maximum number of rows of each in this claim, the time, the end of the lease, and the
/// maximum number of rows of each in progress.
///
/// Each tenant's oldest work is searched separately, so a tenant with much due work does not hide the others. Rows
/// that another replica is claiming are skipped. A claimed submit is marked as unconfirmed, because its outcome is
/// unknown after a crash. The planner does not know how few rows there are; the array prevents it from a join with
/// the whole table.
pub(super) fn claim_sql(queue: Queue) -> String {
    format!(
        "WITH due AS MATERIALIZED (SELECT oldest.id FROM unnest($1::text[], $2::bigint[], $5::bigint[]) \
         AS slot (tenant, free, most) CROSS JOIN LATERAL (SELECT count(*) AS busy FROM analyses WHERE leased \
         AND tenant = slot.tenant AND due_at + 0 > $3) AS under_way \
         CROSS JOIN LATERAL (SELECT id FROM analyses WHERE {} AND analyses.tenant = slot.tenant AND due_at <= $3 \
         ORDER BY due_at LIMIT greatest(0, least(slot.free, slot.most - under_way.busy)) FOR UPDATE SKIP LOCKED) AS oldest) \
         UPDATE analyses SET stage = CASE stage WHEN 'submit' THEN 'confirm' ELSE stage END, \
         denied_since = CASE stage WHEN 'submit' THEN NULL ELSE denied_since END, \
         shapes = CASE stage WHEN 'submit' THEN NULL ELSE shapes END, \
         sent_at = CASE stage WHEN 'submit' THEN $3 ELSE sent_at END, \
         submits = CASE stage WHEN 'submit' THEN submits + 1 ELSE submits END, \
         fence = fence + 1, leased = true, due_at = $4 WHERE id = ANY (ARRAY(SELECT id FROM due)) RETURNING {}",
        condition(queue),
        COLUMNS
    )
}

/// Parameters: the tenants and the time.
pub(super) fn next_work_sql(queue: Queue) -> String {
    format!(
        "SELECT min(next.due_at) FROM unnest($1::text[]) AS slot (tenant) CROSS JOIN LATERAL \
         (SELECT due_at FROM analyses WHERE {} AND analyses.tenant = slot.tenant AND due_at > $2 \
         ORDER BY due_at LIMIT 1) AS next",
        condition(queue)
    )
}

pub(super) async fn work(
    mut session: Session,
    queue: Queue,
    slots: &[WorkSlots],
    now: Timestamp,
    lease: Duration,
) -> Result<ClaimBatch<ClaimedWork>, Fault> {
    let client = session.client()?;
    let tenants: Vec<&str> = slots.iter().map(|slot| slot.tenant.as_str()).collect();
    let (free, most): (Vec<i64>, Vec<i64>) =
        slots.iter().map(|slot| (whole(slot.free), whole(slot.most))).unzip();
    let claim = client.prepare_cached(&claim_sql(queue)).await?;
    let next = client.prepare_cached(&next_work_sql(queue)).await?;
    let (now, end) = (now.as_millis(), (now + lease).as_millis());
    let rows = client.query(&claim, &[&tenants, &free, &now, &end, &most]).await?;
    let next_due: Option<i64> = client.query_one(&next, &[&tenants, &now]).await?.try_get(0)?;
    let (mut claimed, mut unreadable) = (Vec::new(), Vec::new());
    for row in &rows {
        let lease = Lease { row: row.try_get("id")?, fence: row.try_get("fence")? };
        match read(row) {
            Ok(analysis) => claimed.push(ClaimedWork { lease, analysis }),
            Err(StoreError::Corrupt(_)) => unreadable.push(lease),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(ClaimBatch { claimed, unreadable, next_due: next_due.map(Timestamp::from_millis) })
}

fn whole(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
