//! What each tenant used, counted in the transaction that did it.

use async_trait::async_trait;
use rusqlite::{Connection, Row, params};

use super::super::{StoreError, UsageStore};
use super::SqliteStore;
use crate::domain::clock::Timestamp;
use crate::domain::ids::TenantId;
use crate::domain::usage::{Day, Usage};

#[async_trait]
impl UsageStore for SqliteStore {
    async fn usage(&self, tenant: &TenantId, from: Day, to: Day) -> Result<Vec<(Day, Usage)>, StoreError> {
        let tenant = tenant.clone();
        self.read(move |connection| between(connection, &tenant, from, to)).await
    }
}

/// Adds to the day of a moment.
pub(super) fn count(
    connection: &Connection,
    tenant: &TenantId,
    now: Timestamp,
    usage: Usage,
) -> Result<(), StoreError> {
    if usage == Usage::default() {
        return Ok(());
    }
    let [submissions, polls, completions, failures, attempts, delivered, undelivered] = usage.numbers();
    connection
        .prepare_cached(
            "INSERT INTO usage (tenant, day, submissions, polls, completions, failures, attempts, delivered, \
             undelivered) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (tenant, day) DO UPDATE SET \
             submissions = submissions + excluded.submissions, polls = polls + excluded.polls, \
             completions = completions + excluded.completions, failures = failures + excluded.failures, \
             attempts = attempts + excluded.attempts, delivered = delivered + excluded.delivered, \
             undelivered = undelivered + excluded.undelivered",
        )?
        .execute(params![
            tenant.as_str(),
            Day::of(now).number(),
            submissions,
            polls,
            completions,
            failures,
            attempts,
            delivered,
            undelivered,
        ])?;
    Ok(())
}

/// The days on which there was anything.
pub(super) fn between(
    connection: &Connection,
    tenant: &TenantId,
    from: Day,
    to: Day,
) -> Result<Vec<(Day, Usage)>, StoreError> {
    let mut select = connection.prepare_cached(
        "SELECT day, submissions, polls, completions, failures, attempts, delivered, undelivered FROM usage \
         WHERE tenant = ? AND day BETWEEN ? AND ? ORDER BY day",
    )?;
    let rows = select.query_map(params![tenant.as_str(), from.number(), to.number()], read)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn read(row: &Row<'_>) -> Result<(Day, Usage), rusqlite::Error> {
    let mut numbers = [0; 7];
    for (index, number) in numbers.iter_mut().enumerate() {
        *number = row.get(index + 1)?;
    }
    Ok((Day::from_number(row.get(0)?), Usage::from_numbers(numbers)))
}
