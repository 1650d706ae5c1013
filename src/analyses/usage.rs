//! Reads the usage of a tenant.

use super::{Analyses, AnalysesError};
use crate::domain::usage::{Day, FactUsage, Usage, UsageFact};
use crate::tenants::Tenant;

impl Analyses {
    /// Returns the usage of each day from `from` to `to`, inclusive. Days without usage are included. A day whose usage cannot be
    /// read has `None`.
    ///
    /// # Errors
    /// Returns an error if the store fails.
    pub async fn usage(
        &self,
        tenant: &Tenant,
        from: Day,
        to: Day,
    ) -> Result<Vec<(Day, Option<Usage>)>, AnalysesError> {
        let mut counted = self.store.usage(tenant.id(), from, to).await?.into_iter().peekable();
        let of_day = |day| {
            let found = counted.next_if(|(counted, _)| *counted == day);
            (day, found.map_or(Some(Usage::default()), |(_, usage)| usage))
        };
        Ok(from.until(to).map(of_day).collect())
    }

    /// Returns the usage from `from` to `to`, inclusive, by agent or by queue. Returns at most `limit` agents or queues: those
    /// with the most submissions.
    ///
    /// # Errors
    /// Returns an error if the store fails.
    pub async fn usage_by_fact(
        &self,
        tenant: &Tenant,
        fact: UsageFact,
        (from, to): (Day, Day),
        limit: usize,
    ) -> Result<Vec<FactUsage>, AnalysesError> {
        Ok(self.store.usage_by_fact(tenant.id(), fact, (from, to), limit).await?)
    }
}
