//! What is past its deadline while the vendor cannot be asked.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::super::{Applied, OverdueFailures, StoreError, Surroundings};
use super::analyses::transition;
use super::rows::{COLUMNS, read};
use super::usage;
use super::writer::Done;
use crate::domain::analysis::Analysis;
use crate::domain::clock::Timestamp;
use crate::domain::ids::TenantId;
use crate::domain::usage::Usage;

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

pub(super) fn fail_overdue(
    connection: &Connection,
    around: &Surroundings,
    tenants: &[TenantId],
    limit: usize,
) -> Result<Done<OverdueFailures>, StoreError> {
    let (now, deadline) = (around.clock.now(), around.policy.deadline);
    let deadline_ms = i64::try_from(deadline.as_millis()).unwrap_or(i64::MAX);
    let too_long_ago = now.as_millis().saturating_sub(deadline_ms);
    let mut ended = Done::quiet(OverdueFailures { applied: Vec::new(), next_due: None });
    let mut next = connection.prepare_cached(NEXT_START)?;
    for tenant in tenants {
        let left = limit.saturating_sub(ended.value.applied.len());
        let asked = params![tenant.as_str(), too_long_ago, now.as_millis(), left];
        let mut overdue = connection.prepare_cached(&overdue_sql())?;
        let overdue: Vec<(i64, Analysis)> = overdue.query_map(asked, row_of)?.collect::<Result<_, _>>()?;
        for (row, analysis) in overdue {
            let polls = analysis.work.as_ref().map_or(0, |work| work.polls);
            let done = transition(connection, around, row, analysis, Analysis::expire)?;
            ended.changes.extend(done.changes);
            let (analysis, event) = done.value;
            usage::count(connection, tenant, now, Usage::step(0, event))?;
            ended.value.applied.push(Applied { analysis, event, polls });
        }
        let started: Option<i64> =
            next.query_row(params![tenant.as_str(), too_long_ago], |row| row.get(0)).optional()?;
        let due = started.map(|started_at| Timestamp::from_millis(started_at) + deadline);
        ended.value.next_due = ended.value.next_due.into_iter().chain(due).min();
    }
    Ok(ended)
}

fn row_of(row: &Row<'_>) -> Result<(i64, Analysis), rusqlite::Error> {
    Ok((row.get("id")?, read(row)?))
}
