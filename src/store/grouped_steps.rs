//! Applies the outcomes of several pieces of claimed work in one transaction.

use std::sync::Arc;

use futures_util::future::try_join_all;

use super::StoreError;
use super::claims::Lease;
use super::rules::{Grouped, Rule, Transaction, limit_lock_waits};
use super::transitions::{Applied, Apply};

/// Maximum number of outcomes that are applied at once. An outcome may read the stored result, which can be large.
const AT_ONCE: usize = 8;

impl Grouped for Apply {
    type Group = ApplyAll;
    type Key = Lease;

    fn key(&self) -> Lease {
        self.lease
    }

    fn size(&self) -> usize {
        self.step.size()
    }

    /// All groups lock rows in the same order.
    fn group(mut rules: Vec<Arc<Self>>) -> ApplyAll {
        rules.sort_unstable_by_key(|rule| rule.lease.row);
        ApplyAll(rules)
    }
}

/// Applies the outcomes of different claimed work. If a lease was lost, the result is `None`, and [`Apply`] must run.
pub(super) struct ApplyAll(pub(super) Vec<Arc<Apply>>);

impl Rule for ApplyAll {
    const NAME: &'static str = "apply_all";
    const IS_GROUP: bool = true;
    type Output = Vec<Option<Applied>>;

    async fn run<T: Transaction>(&self, transaction: &T) -> Result<Vec<Option<Applied>>, StoreError> {
        // A rule without its lease writes nothing.
        let apply = |apply: Arc<Apply>| async move {
            let applied = apply.run(transaction).await;
            if matches!(applied, Err(StoreError::LeaseLost)) { Ok(None) } else { applied.map(Some) }
        };
        limit_lock_waits(transaction, self.0.len()).await?;
        let mut all = Vec::with_capacity(self.0.len());
        for some in self.0.chunks(AT_ONCE) {
            all.extend(try_join_all(some.iter().cloned().map(apply)).await?);
        }
        Ok(all)
    }
}
