//! Usage per tenant and day.

use async_trait::async_trait;

use super::StoreError;
use super::engine::Engine;
use super::rules::{Rule, Transaction};
use super::sql::sql;
use super::unreadable::skip;
use super::values::{Row, values};
use crate::domain::analysis::Analysis;
use crate::domain::ids::TenantId;
use crate::domain::usage::{Day, FactUsage, Usage, UsageFact};

/// Usage per tenant and day.
#[async_trait]
pub trait UsageStore: Send + Sync {
    /// Reads the usage of a tenant from one day to another, including both. Days without usage are omitted. A day that cannot be
    /// read has no usage in the list.
    ///
    /// `SQLite` counts in the transaction of the work. On PostgreSQL each replica adds its counts every few seconds.
    /// A killed replica loses the counts of these seconds. Work that a lost connection interrupted may be counted
    /// twice or not at all.
    async fn usage(
        &self,
        tenant: &TenantId,
        from: Day,
        to: Day,
    ) -> Result<Vec<(Day, Option<Usage>)>, StoreError>;

    /// Reads the usage of a period by the values of a fact: the `limit` values with the most submissions, those first.
    async fn usage_by_fact(
        &self,
        tenant: &TenantId,
        fact: UsageFact,
        period: (Day, Day),
        limit: usize,
    ) -> Result<Vec<FactUsage>, StoreError>;
}

#[async_trait]
impl<E: Engine> UsageStore for E {
    async fn usage(
        &self,
        tenant: &TenantId,
        from: Day,
        to: Day,
    ) -> Result<Vec<(Day, Option<Usage>)>, StoreError> {
        // The counts of this process must be visible at once. If they cannot be written, they cannot be read either.
        self.flush_usage().await?;
        self.scan(tenant, ReadUsage { tenant: tenant.clone(), from, to }).await
    }

    async fn usage_by_fact(
        &self,
        tenant: &TenantId,
        fact: UsageFact,
        period: (Day, Day),
        limit: usize,
    ) -> Result<Vec<FactUsage>, StoreError> {
        self.flush_usage().await?;
        self.scan(tenant, ReadFactUsage { tenant: tenant.clone(), fact, period, limit }).await
    }
}

/// Counts the usage of an analysis: in total, and by its facts.
pub(super) async fn count(
    transaction: &impl Transaction,
    analysis: &Analysis,
    usage: Usage,
) -> Result<(), StoreError> {
    transaction.count_usage(&analysis.tenant, usage).await?;
    count_by_fact(transaction, analysis, usage).await
}

/// Counts the usage of an analysis by its facts. Usage without submissions and outcomes is not counted by facts.
pub(super) async fn count_by_fact(
    transaction: &impl Transaction,
    analysis: &Analysis,
    usage: Usage,
) -> Result<(), StoreError> {
    if usage.submissions + usage.completions + usage.failures > 0 {
        for fact in UsageFact::of(&analysis.call) {
            transaction.count_fact_usage(&analysis.tenant, fact, usage).await?;
        }
    }
    Ok(())
}

struct ReadFactUsage {
    tenant: TenantId,
    fact: UsageFact,
    period: (Day, Day),
    limit: usize,
}

impl Rule for ReadFactUsage {
    const NAME: &'static str = "usage_by_fact";
    type Output = Vec<FactUsage>;

    async fn run<T: Transaction>(&self, transaction: &T) -> Result<Self::Output, StoreError> {
        let select = sql!(
            "SELECT value, CAST(sum(submissions) AS bigint) AS submissions, \
             CAST(sum(completions) AS bigint) AS completions, CAST(sum(failures) AS bigint) AS failures \
             FROM usage_by_fact WHERE tenant = ?1 AND fact = ?2 AND day BETWEEN ?3 AND ?4 \
             GROUP BY value ORDER BY 2 DESC, value LIMIT ?5"
        );
        let (from, to) = self.period;
        let values = values![&self.tenant, self.fact.as_str(), from.number(), to.number(), self.limit];
        let read = |row: &dyn Row| {
            Ok(FactUsage {
                value: row.get("value")?,
                submissions: row.get("submissions")?,
                completions: row.get("completions")?,
                failures: row.get("failures")?,
            })
        };
        transaction.query(select, values, read).await
    }
}

struct ReadUsage {
    tenant: TenantId,
    from: Day,
    to: Day,
}

impl Rule for ReadUsage {
    const NAME: &'static str = "usage";
    type Output = Vec<(Day, Option<Usage>)>;

    async fn run<T: Transaction>(&self, transaction: &T) -> Result<Self::Output, StoreError> {
        let select = sql!(
            "SELECT day, submissions, polls, completions, failures, attempts, delivered, undelivered FROM usage \
             WHERE tenant = ?1 AND day BETWEEN ?2 AND ?3 ORDER BY day"
        );
        let values = values![&self.tenant, self.from.number(), self.to.number()];
        transaction
            .query(select, values, |row| {
                let day = row.get("day")?;
                let id = format_args!("{}/{day}", self.tenant);
                Ok((Day::from_number(day), skip(transaction, "usage", id, read(row))?))
            })
            .await
    }
}

fn read(row: &dyn Row) -> Result<Usage, StoreError> {
    const COLUMNS: [&str; 7] =
        ["submissions", "polls", "completions", "failures", "attempts", "delivered", "undelivered"];
    let mut numbers = [0; 7];
    for (number, column) in numbers.iter_mut().zip(COLUMNS) {
        *number = row.get(column)?;
    }
    Ok(Usage::from_numbers(numbers))
}
