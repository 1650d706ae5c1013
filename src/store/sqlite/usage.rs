//! Counts usage in the transaction of the work.

use rusqlite::{Connection, params};

use crate::domain::ids::TenantId;
use crate::domain::usage::{Day, Usage};

/// Adds to the usage of a tenant on a day.
pub(super) fn count(
    connection: &Connection,
    tenant: &TenantId,
    day: Day,
    usage: Usage,
) -> Result<(), rusqlite::Error> {
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
            day.number(),
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
