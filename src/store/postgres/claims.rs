//! Claims of work on analyses, by lease and fencing token.

use std::time::Duration;

use deadpool_postgres::Object;
use futures_util::future::{try_join, try_join_all};
use tokio_postgres::types::ToSql;

use super::super::analysis_rows::{COLUMNS, read};
use super::super::claims::UNFAILED_WINDOW;
use super::super::{ClaimBatch, ClaimedWork, Lease, Queue, StoreError, WorkSlots};
use super::connect::Session;
use super::fault::Fault;
use crate::domain::claim_order::ClaimOrder;
use crate::domain::clock::Timestamp;

/// Returns the statement of a claim. Parameters: the tenants; the maximum number of rows of each tenant in this claim; the
/// present time; the end of the lease; the maximum number of rows of each tenant in progress; and, except for
/// [`ClaimOrder::OldestFirst`], the maximum number of claimed rows of each tenant whose last request failed.
///
/// Each tenant's work is searched separately, so a tenant with much due work does not hide the work of others. Rows that another
/// replica is claiming are skipped. The planner does not know that only a few rows are selected, and would join the whole table.
/// The statement prevents this join: it converts the ids of the selected rows to an array, and limits the array. These limits have
/// no effect, but because of them the planner expects few rows and prefers index scans. The limit of the leases in progress prevents
/// a bitmap scan, which reads the rows of ended leases again in every claim.
///
/// With [`ClaimOrder::OldestFirst`], the parameters of the slots are subqueries, so that a plan does not depend on their number.
/// Otherwise PostgreSQL would plan the statement again for each claim.
pub(super) fn claim_sql(queue: Queue, order: ClaimOrder) -> String {
    const FREE: &str = "LIMIT greatest(0, least(slot.free, slot.most - under_way.busy))";
    let condition = queue.condition();
    let due = |columns| {
        format!(
            "SELECT {columns} FROM analyses WHERE {condition} AND analyses.tenant = slot.tenant AND due_at <= $3"
        )
    };
    let (slots, selected) = match order {
        ClaimOrder::OldestFirst => (
            "unnest((SELECT $1::text[]), (SELECT $2::bigint[]), (SELECT $5::bigint[])) AS slot (tenant, free, most)",
            format!("{} ORDER BY due_at {FREE} FOR UPDATE SKIP LOCKED", due("id")),
        ),
        // The rows of the window are not locked, so that another replica can claim the rows that are not selected.
        ClaimOrder::UnfailedFirst { newest, .. } => {
            let direction = if newest { "DESC" } else { "ASC" };
            let window = due("id, due_at, errors");
            (
                "unnest($1::text[], $2::bigint[], $5::bigint[], $6::bigint[]) AS slot (tenant, free, most, max_failed)",
                format!(
                    "SELECT id FROM analyses WHERE id = ANY (ARRAY(SELECT id FROM (SELECT id, due_at, errors > 0 AS failed, \
                     row_number() OVER (PARTITION BY errors > 0 ORDER BY due_at {direction}) AS place \
                     FROM ({window} ORDER BY due_at {direction} LIMIT {UNFAILED_WINDOW}) AS waiting) AS placed \
                     WHERE NOT failed OR place <= slot.max_failed ORDER BY failed, due_at {direction} {FREE})) \
                     AND {condition} AND due_at <= $3 FOR UPDATE SKIP LOCKED"
                ),
            )
        }
    };
    format!(
        "WITH due AS MATERIALIZED (SELECT selected.id FROM {slots} \
         CROSS JOIN LATERAL (SELECT count(*) AS busy FROM (SELECT due_at FROM analyses WHERE leased \
         AND tenant = slot.tenant LIMIT (SELECT NULL::bigint)) AS held WHERE due_at > $3) AS under_way \
         CROSS JOIN LATERAL ({selected}) AS selected) \
         UPDATE analyses SET {}fence = fence + 1, leased = true, due_at = $4 \
         FROM (SELECT number FROM unnest(ARRAY(SELECT id FROM due)) AS number LIMIT (SELECT NULL::bigint)) AS taken \
         WHERE id = taken.number RETURNING {COLUMNS}",
        queue.claim_changes("$3")
    )
}

/// Returns the statement that reads the earliest due time of work after the present time. Parameters: the tenants and
/// the present time.
pub(super) fn next_work_sql(queue: Queue) -> String {
    format!(
        "SELECT min(next.due_at) FROM unnest((SELECT $1::text[])) AS slot (tenant) CROSS JOIN LATERAL \
         (SELECT due_at FROM analyses WHERE {} AND analyses.tenant = slot.tenant AND due_at > $2 \
         ORDER BY due_at LIMIT 1) AS next",
        queue.condition()
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
    let groups = [
        (|order| order == ClaimOrder::OldestFirst) as fn(ClaimOrder) -> bool,
        |order| matches!(order, ClaimOrder::UnfailedFirst { newest: false, .. }),
        |order| matches!(order, ClaimOrder::UnfailedFirst { newest: true, .. }),
    ]
    .map(|is_of_group| slots.iter().filter(|slot| is_of_group(slot.order)).collect::<Vec<_>>());
    // Each group has different tenants. All statements are sent together, which takes one round trip.
    let claims = try_join_all(groups.iter().filter_map(|group| {
        let order = group.first()?.order;
        Some(claim(client, claim_sql(queue, order), group, (now, lease)))
    }));
    let (claims, next_due) = try_join(claims, next_due(client, queue, slots, now)).await?;
    let (claimed, unreadable): (Vec<_>, Vec<_>) = claims.into_iter().unzip();
    let (claimed, unreadable) =
        (claimed.into_iter().flatten().collect(), unreadable.into_iter().flatten().collect());
    Ok(ClaimBatch { claimed, unreadable, next_due })
}

async fn next_due(
    client: &Object,
    queue: Queue,
    slots: &[WorkSlots],
    now: Timestamp,
) -> Result<Option<Timestamp>, Fault> {
    let tenants: Vec<&str> = slots.iter().map(|slot| slot.tenant.as_str()).collect();
    let next = client.prepare_cached(&next_work_sql(queue)).await?;
    let due: Option<i64> = client.query_one(&next, &[&tenants, &now.as_millis()]).await?.try_get(0)?;
    Ok(due.map(Timestamp::from_millis))
}

/// Claims work of tenants that have the same order. Also returns the leases of analyses that this version cannot read.
async fn claim(
    client: &Object,
    sql: String,
    slots: &[&WorkSlots],
    (now, lease): (Timestamp, Duration),
) -> Result<(Vec<ClaimedWork>, Vec<Lease>), Fault> {
    let statement = client.prepare_cached(&sql).await?;
    let tenants: Vec<&str> = slots.iter().map(|slot| slot.tenant.as_str()).collect();
    let (free, most): (Vec<i64>, Vec<i64>) =
        slots.iter().map(|slot| (whole(slot.free), whole(slot.most))).unzip();
    let failed = slots.iter().filter_map(|slot| match slot.order {
        ClaimOrder::OldestFirst => None,
        ClaimOrder::UnfailedFirst { max_failed, .. } => Some(whole(max_failed)),
    });
    let failed: Vec<i64> = failed.collect();
    let (now, end) = (now.as_millis(), (now + lease).as_millis());
    let mut parameters: Vec<&(dyn ToSql + Sync)> = vec![&tenants, &free, &now, &end, &most];
    if !failed.is_empty() {
        parameters.push(&failed);
    }
    let (mut claimed, mut unreadable) = (Vec::new(), Vec::new());
    for row in &client.query(&statement, &parameters).await? {
        let lease = Lease { row: row.try_get("id")?, fence: row.try_get("fence")? };
        match read(row) {
            Ok(analysis) => claimed.push(ClaimedWork { lease, analysis }),
            Err(StoreError::Corrupt(_)) => unreadable.push(lease),
            Err(error) => return Err(error.into()),
        }
    }
    Ok((claimed, unreadable))
}

fn whole(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
