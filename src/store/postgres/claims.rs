//! Who works on which analysis: claims by lease and fence.

use std::time::Duration;

use tokio_postgres::Row;

use super::super::{ClaimedWork, Claims, Lease, Queue, Stats, WorkSlots};
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

/// Takes tenants, the most to claim of each now, the present, the lease's end, and the most of each in all. Every tenant's oldest are found by
/// themselves, so that one with much due hides nobody's. What another replica is claiming is passed over. A claimed
/// submit stands as unconfirmed from this commit on: after a crash its outcome is unknown. The array keeps the planner,
/// which cannot know how few there will be, from joining with the whole table.
pub(super) fn claim_sql(queue: Queue) -> String {
    format!(
        "WITH due AS MATERIALIZED (SELECT oldest.id FROM unnest($1::text[], $2::bigint[], $5::bigint[]) \
         AS slot (tenant, free, most) CROSS JOIN LATERAL (SELECT count(*) AS busy FROM analyses WHERE leased \
         AND tenant = slot.tenant AND due_at + 0 > $3) AS under_way \
         CROSS JOIN LATERAL (SELECT id FROM analyses WHERE {} AND analyses.tenant = slot.tenant AND due_at <= $3 \
         ORDER BY due_at LIMIT greatest(0, least(slot.free, slot.most - under_way.busy)) FOR UPDATE SKIP LOCKED) AS oldest) \
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
    slots: &[WorkSlots],
    now: Timestamp,
    lease: Duration,
) -> Result<Claims<ClaimedWork>, Fault> {
    let client = session.client()?;
    let tenants: Vec<&str> = slots.iter().map(|slot| slot.tenant.as_str()).collect();
    let (free, most): (Vec<i64>, Vec<i64>) =
        slots.iter().map(|slot| (whole(slot.free), whole(slot.most))).unzip();
    let claim = client.prepare_cached(&claim_sql(queue)).await?;
    let next = client.prepare_cached(&next_work_sql(queue)).await?;
    let (now, end) = (now.as_millis(), (now + lease).as_millis());
    let rows = client.query(&claim, &[&tenants, &free, &now, &end, &most]).await?;
    let next_due: Option<i64> = client.query_one(&next, &[&tenants, &now]).await?.try_get(0)?;
    let claimed = rows.iter().filter_map(claimed_work).collect();
    Ok(Claims { claimed, next_due: next_due.map(Timestamp::from_millis) })
}

fn whole(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// One that cannot be read keeps nobody from the others; its lease runs out, and it is tried again.
fn claimed_work(row: &Row) -> Option<ClaimedWork> {
    let read = || {
        let lease = Lease { row: row.try_get("id")?, fence: row.try_get("fence")? };
        Ok::<_, Fault>(ClaimedWork { lease, analysis: rows::read(row)? })
    };
    read().inspect_err(|fault| tracing::error!(?fault, "an analysis cannot be read")).ok()
}

/// Takes tenants and statuses of what is unfinished. Each by itself, so that the planner walks the index of those alone.
const UNFINISHED: &str = "SELECT counted.status, sum(found.number)::bigint AS number FROM unnest($1::text[]) AS slot (tenant) \
     CROSS JOIN unnest($2::text[]) AS counted (status) CROSS JOIN LATERAL (SELECT count(*) AS number FROM analyses \
     WHERE status <> 'completed' AND tenant = slot.tenant AND status = counted.status) AS found GROUP BY counted.status";

/// Takes tenants.
const PENDING: &str = "SELECT coalesce(sum(found.number), 0)::bigint AS number FROM unnest($1::text[]) AS slot (tenant) \
     CROSS JOIN LATERAL (SELECT count(*) AS number FROM deliveries WHERE status = 'pending' AND tenant = slot.tenant) AS found";

/// Takes tenants: the due time of the oldest row of a table that a condition holds for.
fn oldest_sql(table: &str, condition: &str) -> String {
    format!(
        "SELECT min(oldest.due_at) FROM unnest($1::text[]) AS slot (tenant) CROSS JOIN LATERAL \
         (SELECT due_at FROM {table} WHERE {condition} AND tenant = slot.tenant ORDER BY due_at LIMIT 1) AS oldest"
    )
}

pub(super) async fn stats(
    mut session: Session,
    tenants: &[TenantId],
    now: Timestamp,
) -> Result<Stats, Fault> {
    let tenants: Vec<&str> = tenants.iter().map(TenantId::as_str).collect();
    let client = session.client()?;
    let transaction = client.build_transaction().read_only(true).start().await?;
    let mut stats = Stats::default();
    let unfinished = transaction.prepare_cached(UNFINISHED).await?;
    let statuses = Status::UNFINISHED.map(Status::as_str);
    let rows = transaction.query(&unfinished, &[&tenants, &statuses.as_slice()]).await?;
    for status in Status::UNFINISHED {
        let row =
            rows.iter().find(|row| row.try_get("status").is_ok_and(|found: &str| found == status.as_str()));
        stats.unfinished.insert(status, row.map_or(Ok(0), |row| number(row, "number"))?);
    }
    let lag = async |sql: &str| -> Result<Duration, Fault> {
        let select = transaction.prepare_cached(sql).await?;
        let due: Option<i64> = transaction.query_one(&select, &[&tenants]).await?.try_get(0)?;
        Ok(due.map_or(Duration::ZERO, |due| now.since(Timestamp::from_millis(due))))
    };
    for queue in [Queue::Submits, Queue::Polls] {
        stats.work_lag.insert(queue, lag(&oldest_sql("analyses", condition(queue))).await?);
    }
    stats.delivery_lag = lag(&oldest_sql("deliveries", "status = 'pending'")).await?;
    let pending = transaction.prepare_cached(PENDING).await?;
    stats.pending_deliveries = number(&transaction.query_one(&pending, &[&tenants]).await?, "number")?;
    Ok(stats)
}
