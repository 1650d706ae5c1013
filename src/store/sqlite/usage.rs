//! Counts usage in the transaction of the work.

use rusqlite::{Connection, params};

use crate::domain::ids::TenantId;
use crate::domain::usage::{Day, Usage, UsageFact};

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

/// Adds to one day's usage of those calls of a tenant that have this value of a fact.
pub(super) fn count_fact(
    connection: &Connection,
    tenant: &TenantId,
    day: Day,
    (fact, value): (UsageFact, &str),
    usage: Usage,
) -> Result<(), rusqlite::Error> {
    let Usage { submissions, completions, failures, .. } = usage;
    connection
        .prepare_cached(
            "INSERT INTO usage_by_fact (tenant, day, fact, value, submissions, completions, failures) \
             VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (tenant, fact, day, value) DO UPDATE SET \
             submissions = submissions + excluded.submissions, completions = completions + excluded.completions, \
             failures = failures + excluded.failures",
        )?
        .execute(params![
            tenant.as_str(),
            day.number(),
            fact.as_str(),
            value,
            submissions,
            completions,
            failures,
        ])?;
    Ok(())
}
