//! Usage per tenant and day.

use async_trait::async_trait;

use super::StoreError;
use super::engine::Engine;
use super::rules::{Rule, Transaction};
use super::sql::sql;
use super::unreadable::skip;
use super::values::{Row, values};
use crate::domain::ids::TenantId;
use crate::domain::usage::{Day, Usage};

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
