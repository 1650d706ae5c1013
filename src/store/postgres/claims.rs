//! Who works on which analysis: claims by lease and fence.

use std::collections::HashMap;
use std::time::Duration;

use tokio_postgres::Row;

use super::super::{ClaimedWork, Claims, Lease, Queue, Stats};
use super::connect::Session;
use super::fault::Fault;
use super::rows::{self, number};
use crate::domain::analysis::Status;
use crate::domain::clock::Timestamp;
use crate::domain::ids::TenantId;

/// The condition of each queue's partial index, word for word.
const fn condition(queue: Queue) -> &'static str {
    match queue {
        Queue::Submits => "stage = 'submit'",
        Queue::Polls => "stage <> 'submit'",
    }
}

/// Takes tenants, the most to claim of each, the present, and the lease's end. Every tenant's oldest are found by
/// themselves, so that one with much due hides nobody's. What another replica is claiming is passed over. A claimed
/// submit stands as unconfirmed from this commit on: after a crash its outcome is unknown. The array keeps the planner,
/// which cannot know how few there will be, from joining with the whole table.
pub(super) fn claim_sql(queue: Queue) -> String {
    format!(
        "WITH due AS MATERIALIZED (SELECT oldest.id FROM unnest($1::text[], $2::bigint[]) AS slot (tenant, free) \
         CROSS JOIN LATERAL (SELECT id FROM analyses WHERE {} AND analyses.tenant = slot.tenant AND due_at <= $3 \
         ORDER BY due_at LIMIT slot.free FOR UPDATE SKIP LOCKED) AS oldest) \
         UPDATE analyses SET stage = CASE stage WHEN 'submit' THEN 'confirm' ELSE stage END, \
         denied_since = CASE stage WHEN 'submit' THEN NULL ELSE denied_since END, \
         fence = fence + 1, leased = true, due_at = $4 WHERE id = ANY (ARRAY(SELECT id FROM due)) RETURNING {}",
        condition(queue),
        rows::COLUMNS
    )
}

/// Takes tenants and the present.
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
    slots: &[(TenantId, usize)],
    now: Timestamp,
    lease: Duration,
) -> Result<Claims<ClaimedWork>, Fault> {
    let client = session.client()?;
    let tenants: Vec<&str> = slots.iter().map(|(tenant, _)| tenant.as_str()).collect();
    let free: Vec<i64> = slots.iter().map(|(_, free)| i64::try_from(*free).unwrap_or(i64::MAX)).collect();
    let claim = client.prepare_cached(&claim_sql(queue)).await?;
    let next = client.prepare_cached(&next_work_sql(queue)).await?;
    let (now, end) = (now.as_millis(), (now + lease).as_millis());
    let rows = client.query(&claim, &[&tenants, &free, &now, &end]).await?;
    let next_due: Option<i64> = client.query_one(&next, &[&tenants, &now]).await?.try_get(0)?;
    let claimed = rows.iter().filter_map(claimed_work).collect();
    Ok(Claims { claimed, next_due: next_due.map(Timestamp::from_millis) })
}

/// One that cannot be read keeps nobody from the others; its lease runs out, and it is tried again.
fn claimed_work(row: &Row) -> Option<ClaimedWork> {
    let read = || {
        let lease = Lease { row: row.try_get("id")?, fence: row.try_get("fence")? };
        Ok::<_, Fault>(ClaimedWork { lease, analysis: rows::read(row)? })
    };
    read().inspect_err(|fault| tracing::error!(?fault, "an analysis cannot be read")).ok()
}

pub(super) async fn stats(mut session: Session, now: Timestamp) -> Result<Stats, Fault> {
    let client = session.client()?;
    let transaction = client.build_transaction().read_only(true).start().await?;
    let by_status =
        transaction.prepare_cached("SELECT status, count(*) AS number FROM analyses GROUP BY status").await?;
    let mut counted: HashMap<String, u64> = HashMap::new();
    for row in transaction.query(&by_status, &[]).await? {
        counted.insert(row.try_get("status")?, number(&row, "number")?);
    }
    let mut stats = Stats::default();
    for status in Status::ALL {
        stats.analyses.insert(status, counted.get(status.as_str()).copied().unwrap_or(0));
    }
    let lag = |due: Option<i64>| due.map_or(Duration::ZERO, |due| now.since(Timestamp::from_millis(due)));
    for queue in [Queue::Submits, Queue::Polls] {
        let sql = format!("SELECT min(due_at) FROM analyses WHERE {}", condition(queue));
        let oldest = transaction.prepare_cached(&sql).await?;
        stats.work_lag.insert(queue, lag(transaction.query_one(&oldest, &[]).await?.try_get(0)?));
    }
    let pending = transaction
        .prepare_cached(
            "SELECT count(*) AS number, min(due_at) AS oldest FROM deliveries WHERE status = 'pending'",
        )
        .await?;
    let row = transaction.query_one(&pending, &[]).await?;
    stats.pending_deliveries = number(&row, "number")?;
    stats.delivery_lag = lag(row.try_get("oldest")?);
    Ok(stats)
}
