//! Counts usage in the transaction of the work.

use rusqlite::{Connection, params};

use super::super::StoreError;
use crate::domain::clock::Timestamp;
use crate::domain::ids::TenantId;
use crate::domain::usage::{Day, Usage, UsageFact};

/// Adds to the usage of a tenant on the day of `now`.
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

/// Adds to the usage of a tenant's calls with one value of a fact, on the day of `now`.
pub(super) fn count_fact(
    connection: &Connection,
    tenant: &TenantId,
    (fact, value): (UsageFact, &str),
    now: Timestamp,
    usage: Usage,
) -> Result<(), StoreError> {
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
            Day::of(now).number(),
            fact.as_str(),
            value,
            submissions,
            completions,
            failures,
        ])?;
    Ok(())
}
