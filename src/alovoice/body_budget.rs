//! The memory that answers of the vendor may use in total, for all tenants and requests.
//!
//! Small answers need no permit, because the number of concurrent requests bounds their memory. A larger answer needs a permit
//! for 1 MiB or, above 1 MiB, for the maximum size of an answer. The budget suffices for two answers of the maximum size. A
//! request that needs a larger permit first releases its current permit and then waits, so waiting requests cannot deadlock.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

const MIB: usize = 1 << 20;
/// Maximum size in bytes of an answer that needs no permit.
const SMALL: usize = 64 << 10;
/// Number of answers of the maximum size that fit into the budget.
const LARGEST_AT_ONCE: usize = 2;
/// Minimum size of the memory budget for answers, in MiB.
const MIN_BUDGET_MIB: usize = 16;

/// A permit for the memory that one answer uses. The permit is held until the result is stored.
#[derive(Debug, Default)]
#[must_use = "dropping the permit releases the memory of the answer"]
pub struct BodyPermit(Option<OwnedSemaphorePermit>);

/// The memory budget for the vendor's answers. Each permit of the semaphore stands for one MiB.
pub(super) struct BodyBudget {
    free: Arc<Semaphore>,
    largest: usize,
}

impl BodyBudget {
    pub(super) fn new(max_response_bytes: usize) -> Self {
        let largest = max_response_bytes.div_ceil(MIB);
        let total = (largest * LARGEST_AT_ONCE).max(MIN_BUDGET_MIB);
        Self { free: Arc::new(Semaphore::new(total)), largest }
    }

    /// Exchanges `permit` for a permit that covers an answer of `bytes` bytes. Returns `None` if the budget has no room before
    /// the deadline.
    pub(super) async fn grow(
        &self,
        permit: BodyPermit,
        bytes: usize,
        deadline: Instant,
    ) -> Option<BodyPermit> {
        let needed = if bytes <= SMALL {
            0
        } else if bytes <= MIB {
            1
        } else {
            self.largest
        };
        if permit.mebibytes() >= needed {
            return Some(permit);
        }
        drop(permit);
        let needed = u32::try_from(needed).ok()?;
        let permit = timeout_at(deadline, Arc::clone(&self.free).acquire_many_owned(needed)).await;
        Some(BodyPermit(Some(permit.ok()?.ok()?)))
    }
}

impl BodyPermit {
    /// Returns the size of the largest answer that the permit covers, in bytes. Returns 0 for the empty permit of a small answer.
    pub(super) fn bytes(&self) -> usize {
        self.mebibytes() * MIB
    }

    fn mebibytes(&self) -> usize {
        self.0.as_ref().map_or(0, OwnedSemaphorePermit::num_permits)
    }
}

/// Returns the deadline of a request that began at `began`.
pub(super) fn deadline(began: std::time::Instant, timeout: Duration) -> Instant {
    Instant::from_std(began) + timeout
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn two_answers_of_the_largest_size_fit_into_the_budget() {
        let budget = BodyBudget::new(16 * MIB);
        let now = Instant::now();
        let mut taken = Vec::new();
        for _ in 0..LARGEST_AT_ONCE {
            let medium = budget.grow(BodyPermit::default(), MIB, now).await.unwrap();
            let large = budget.grow(medium, MIB + 1, now).await.unwrap();
            assert_eq!(large.mebibytes(), 16);
            taken.push(budget.grow(large, 16 * MIB, now).await.unwrap());
        }
        assert!(budget.grow(BodyPermit::default(), SMALL, now).await.is_some());
        assert!(budget.grow(BodyPermit::default(), SMALL + 1, now).await.is_none());
        taken.pop();
        assert!(budget.grow(BodyPermit::default(), SMALL + 1, now).await.is_some());
        assert!(budget.grow(BodyPermit::default(), 2 * MIB, now).await.is_some());
    }
}
