//! What is past its deadline, while the vendor cannot be asked.

use super::super::changes::Changes;
use super::super::{Applied, OverdueFailures, Surroundings};
use super::analyses::transition;
use super::connect::Session;
use super::fault::Fault;
use super::notices::Address;
use super::rows::{COLUMNS, read};
use crate::domain::analysis::Analysis;
use crate::domain::clock::Timestamp;
use crate::domain::ids::TenantId;

/// Takes tenants, the latest start that is too long ago, the present (what is leased is due later), and the most to end.
/// Rows are locked by one statement and read by the next: the first may have seen what was changed before it had the lock.
const LOCK_OVERDUE: &str = "SELECT oldest.id FROM unnest($1::text[]) AS shut (name) CROSS JOIN LATERAL \
     (SELECT id FROM analyses WHERE stage <> 'settle' AND tenant = shut.name AND started_at <= $2 \
     AND due_at <= $3 ORDER BY started_at LIMIT $4 FOR UPDATE SKIP LOCKED) AS oldest LIMIT $4";

fn locked_sql() -> String {
    format!("SELECT {COLUMNS} FROM analyses WHERE id = ANY ($1)")
}

/// Takes tenants and the latest start that is too long ago.
const NEXT_START: &str = "SELECT min(next.started_at) FROM unnest($1::text[]) AS shut (name) CROSS JOIN LATERAL \
     (SELECT started_at FROM analyses WHERE stage <> 'settle' AND tenant = shut.name AND started_at > $2 \
     ORDER BY started_at LIMIT 1) AS next";

pub(super) async fn fail_overdue(
    mut session: Session,
    around: &Surroundings,
    address: &Address,
    tenants: &[TenantId],
    limit: usize,
) -> Result<(OverdueFailures, Changes), Fault> {
    let (now, deadline) = (around.clock.now(), around.policy.deadline);
    let deadline_ms = i64::try_from(deadline.as_millis()).unwrap_or(i64::MAX);
    let too_long_ago = now.as_millis().saturating_sub(deadline_ms);
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let tenants: Vec<&str> = tenants.iter().map(TenantId::as_str).collect();

    let transaction = session.client()?.transaction().await?;
    let lock = transaction.prepare_cached(LOCK_OVERDUE).await?;
    let overdue = transaction.query(&lock, &[&tenants, &too_long_ago, &now.as_millis(), &limit]).await?;
    let overdue = overdue.iter().map(|row| row.try_get(0)).collect::<Result<Vec<i64>, _>>()?;
    let read_locked = transaction.prepare_cached(&locked_sql()).await?;
    let (mut applied, mut changes) = (Vec::new(), Changes::default());
    for row in transaction.query(&read_locked, &[&overdue]).await? {
        let analysis = read(&row)?;
        let polls = analysis.work.as_ref().map_or(0, |work| work.polls);
        let (analysis, event) =
            transition(&transaction, around, row.try_get("id")?, analysis, Analysis::expire, &mut changes)
                .await?;
        applied.push(Applied { analysis, event, polls });
    }
    let next = transaction.prepare_cached(NEXT_START).await?;
    let next: Option<i64> = transaction.query_one(&next, &[&tenants, &too_long_ago]).await?.try_get(0)?;
    changes.tell_within(&transaction, address).await?;
    transaction.commit().await?;
    let next_due = next.map(|started_at| Timestamp::from_millis(started_at) + deadline);
    Ok((OverdueFailures { applied, next_due }, changes))
}
