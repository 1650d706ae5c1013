//! What is past its deadline while the vendor cannot be asked.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::super::{Applied, Ended, StoreError, Surroundings};
use super::analyses::transition;
use super::rows::{COLUMNS, read};
use super::writer::Done;
use crate::domain::analysis::Analysis;
use crate::domain::clock::Timestamp;
use crate::domain::ids::TenantId;

/// Takes the tenant, the latest start that is too long ago, the present (what is leased is due later), and the most to end.
pub(super) fn overdue_sql() -> String {
    format!(
        "SELECT {COLUMNS} FROM analyses WHERE stage <> 'settle' AND tenant = ? AND started_at <= ? \
         AND due_at <= ? ORDER BY started_at LIMIT ?"
    )
}

/// Takes the tenant and the latest start that is too long ago.
pub(super) const NEXT_START: &str = "SELECT started_at FROM analyses \
     WHERE stage <> 'settle' AND tenant = ? AND started_at > ? ORDER BY started_at LIMIT 1";

pub(super) fn end_overdue(
    connection: &Connection,
    around: &Surroundings,
    tenant: &TenantId,
    limit: usize,
) -> Result<Done<Ended>, StoreError> {
    let (now, deadline) = (around.clock.now(), around.policy.deadline);
    let too_long_ago =
        i64::try_from(deadline.as_millis()).map(|millis| now.as_millis().saturating_sub(millis));
    let too_long_ago = too_long_ago.unwrap_or(i64::MIN);
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut overdue = connection.prepare_cached(&overdue_sql())?;
    let asked = params![tenant.as_str(), too_long_ago, now.as_millis(), limit];
    let overdue: Vec<(i64, Analysis)> = overdue.query_map(asked, row_of)?.collect::<Result<_, _>>()?;
    let (mut applied, mut changes) = (Vec::new(), Vec::new());
    for (row, analysis) in overdue {
        let polls = analysis.work.as_ref().map_or(0, |work| work.polls);
        let done = transition(connection, around, row, analysis, Analysis::expire)?;
        changes.extend(done.changes);
        let (analysis, event) = done.value;
        applied.push(Applied { analysis, event, polls });
    }
    let next: Option<i64> = connection
        .prepare_cached(NEXT_START)?
        .query_row(params![tenant.as_str(), too_long_ago], |row| row.get(0))
        .optional()?;
    let next_due = next.map(|started_at| Timestamp::from_millis(started_at) + deadline);
    Ok(Done { value: Ended { applied, next_due }, changes })
}

fn row_of(row: &Row<'_>) -> Result<(i64, Analysis), rusqlite::Error> {
    Ok((row.get("id")?, read(row)?))
}
