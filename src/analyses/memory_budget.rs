//! A budget of memory for the data of callers, in total and per tenant.
//!
//! A request takes a permit before it reads data, and holds the permit until the body is processed or the answer is sent. A
//! tenant can use at most its share of the budget, so the other tenants always have the rest.
//!
//! While the budget is used up, a request waits for a permit. After a wait has timed out, further requests of the tenant are
//! refused at once until a permit of the tenant is returned. So clients that make no progress do not cause long waits for other
//! clients of the tenant.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::domain::ids::TenantId;
use crate::telemetry::metrics::Metrics;

/// Unit of the budget in bytes.
const UNIT: usize = 1024;
/// Maximum time that a request waits for a permit.
const PATIENCE: Duration = Duration::from_secs(5);

/// A budget of memory. Waiting requests get their permits in the order of their arrival.
pub struct MemoryBudget {
    /// Label `resource` of refusals in the metrics.
    resource: &'static str,
    metrics: Arc<Metrics>,
    total: Arc<Semaphore>,
    shares: HashMap<TenantId, Arc<Share>>,
    /// Share of requests without a tenant.
    anonymous: Arc<Share>,
    /// Size of a share in units.
    share: usize,
}

/// The part of the budget that a tenant can use.
#[derive(Debug)]
struct Share {
    free: Arc<Semaphore>,
    /// Whether a wait has timed out since a permit was last returned.
    is_stuck: AtomicBool,
}

/// A part of the budget. Dropping the permit returns the part.
#[derive(Debug)]
#[must_use = "dropping the permit returns its part of the budget"]
pub struct MemoryPermit {
    share: Arc<Share>,
    of_share: OwnedSemaphorePermit,
    of_total: OwnedSemaphorePermit,
}

/// The budget, or the tenant's share of it, is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the memory for requests and answers of this kind is used up")]
pub struct MemoryUsedUp;

impl MemoryBudget {
    /// Creates a budget of `bytes`. The share of a single tenant is the whole budget. With several tenants, the share of each
    /// tenant is half of the budget.
    pub fn new<'a>(
        (resource, bytes): (&'static str, usize),
        metrics: Arc<Metrics>,
        tenants: impl IntoIterator<Item = &'a TenantId>,
    ) -> Self {
        let tenants: Vec<_> = tenants.into_iter().collect();
        let units = (bytes / UNIT).clamp(1, Semaphore::MAX_PERMITS);
        let share = if tenants.len() > 1 { units.div_ceil(2) } else { units };
        let new_share = || Share { free: Arc::new(Semaphore::new(share)), is_stuck: AtomicBool::new(false) };
        Self {
            resource,
            metrics,
            total: Arc::new(Semaphore::new(units)),
            shares: tenants.into_iter().map(|tenant| (tenant.clone(), Arc::new(new_share()))).collect(),
            anonymous: Arc::new(new_share()),
            share,
        }
    }

    /// Takes a permit for `bytes` without a wait. If `bytes` exceeds the share of a tenant, the permit covers only the share.
    ///
    /// # Errors
    /// [`MemoryUsedUp`] if the budget or the share is used up.
    pub fn try_take(&self, tenant: Option<&TenantId>, bytes: usize) -> Result<MemoryPermit, MemoryUsedUp> {
        let units = self.units(bytes);
        let take = |semaphore: &Arc<Semaphore>| {
            Arc::clone(semaphore).try_acquire_many_owned(units).map_err(|_| MemoryUsedUp)
        };
        let share = self.share_of(tenant);
        let of_share = take(&share.free)?;
        Ok(MemoryPermit { share: Arc::clone(share), of_share, of_total: take(&self.total)? })
    }

    /// Takes a permit for `bytes`, and waits for it without a time limit.
    ///
    /// # Errors
    /// Never returns an error, because the budget is never closed.
    pub async fn take(&self, tenant: &TenantId, bytes: usize) -> Result<MemoryPermit, MemoryUsedUp> {
        let units = self.units(bytes);
        let take = async |semaphore: &Arc<Semaphore>| {
            Arc::clone(semaphore).acquire_many_owned(units).await.map_err(|_| MemoryUsedUp)
        };
        // A request that waits for the share of its tenant holds no part of the total.
        let share = self.share_of(Some(tenant));
        let of_share = take(&share.free).await?;
        Ok(MemoryPermit { share: Arc::clone(share), of_share, of_total: take(&self.total).await? })
    }

    /// Takes a permit for `bytes`, and waits for it up to `PATIENCE`. Does not wait if an earlier wait of the tenant has timed
    /// out and no permit of the tenant has been returned since then.
    ///
    /// # Errors
    /// [`MemoryUsedUp`] if there is no permit in time.
    pub async fn take_in_time(&self, tenant: &TenantId, bytes: usize) -> Result<MemoryPermit, MemoryUsedUp> {
        // The semaphores give free permits to waiting requests first, so this request overtakes none of them.
        if let Ok(permit) = self.try_take(Some(tenant), bytes) {
            return Ok(permit);
        }
        let share = self.share_of(Some(tenant));
        if share.is_stuck.load(Ordering::Relaxed) {
            return Err(self.refuse(Some(tenant)));
        }
        // The box keeps the future of a request small.
        Box::pin(timeout(PATIENCE, self.take(tenant, bytes))).await.unwrap_or_else(|_| {
            share.is_stuck.store(true, Ordering::Relaxed);
            Err(self.refuse(Some(tenant)))
        })
    }

    /// Counts a refused request in the metrics, and returns the error for the request.
    pub fn refuse(&self, tenant: Option<&TenantId>) -> MemoryUsedUp {
        let tenant = tenant.map_or("", TenantId::as_str);
        self.metrics.overload_refusals.with_label_values(&[tenant, self.resource]).inc();
        MemoryUsedUp
    }

    fn share_of(&self, tenant: Option<&TenantId>) -> &Arc<Share> {
        tenant.and_then(|tenant| self.shares.get(tenant)).unwrap_or(&self.anonymous)
    }

    fn units(&self, bytes: usize) -> u32 {
        u32::try_from(bytes.div_ceil(UNIT).min(self.share)).unwrap_or(u32::MAX)
    }
}

impl MemoryPermit {
    /// Reduces the permit to `bytes`, and returns the rest to the budget.
    pub fn shrink(&mut self, bytes: usize) {
        let excess = self.of_total.num_permits().saturating_sub(bytes.div_ceil(UNIT));
        if excess > 0 {
            drop(self.of_share.split(excess));
            drop(self.of_total.split(excess));
            self.share.is_stuck.store(false, Ordering::Relaxed);
        }
    }

    /// Returns whether the permit covers `bytes`.
    pub fn covers(&self, bytes: usize) -> bool {
        self.of_total.num_permits() >= bytes.div_ceil(UNIT)
    }
}

impl Drop for MemoryPermit {
    fn drop(&mut self) {
        self.share.is_stuck.store(false, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget<'a>(tenants: impl IntoIterator<Item = &'a TenantId>) -> MemoryBudget {
        MemoryBudget::new(("answers", 8 * UNIT), Arc::new(Metrics::new().unwrap()), tenants)
    }

    fn tenants() -> [TenantId; 3] {
        ["acme", "globex", "initech"].map(|tenant| TenantId::parse(tenant).unwrap())
    }

    #[test]
    fn a_tenant_gets_half_of_the_budget_and_a_permit_returns_what_it_does_not_need() {
        let [acme, globex, initech] = &tenants();
        let budget = budget([acme, globex, initech]);
        let mut first = budget.try_take(Some(acme), 100 * UNIT).unwrap();
        assert!(first.covers(4 * UNIT) && !first.covers(4 * UNIT + 1));
        assert_eq!(budget.try_take(Some(acme), 1).unwrap_err(), MemoryUsedUp);
        let second = budget.try_take(Some(globex), 4 * UNIT).unwrap();
        assert_eq!(budget.try_take(Some(initech), 1).unwrap_err(), MemoryUsedUp, "the total is used up");
        first.shrink(UNIT + 1);
        let third = budget.try_take(Some(acme), 2 * UNIT).unwrap();
        assert_eq!(budget.try_take(None, 1).unwrap_err(), MemoryUsedUp);
        drop((first, second, third));
        assert!(budget.try_take(None, 4 * UNIT).is_ok());
    }

    #[test]
    fn the_only_tenant_gets_the_whole_budget() {
        let [acme, ..] = &tenants();
        let budget = budget([acme]);
        assert!(budget.try_take(Some(acme), 8 * UNIT).unwrap().covers(8 * UNIT));
    }

    #[tokio::test]
    async fn a_request_waits_for_room() {
        let [acme, ..] = &tenants();
        let budget = budget([acme]);
        let held = budget.try_take(Some(acme), UNIT).unwrap();
        let mut waiting = Box::pin(budget.take(acme, 8 * UNIT));
        tokio::select! {
            biased;
            _ = &mut waiting => panic!("there is no room"),
            () = std::future::ready(()) => {}
        }
        drop(held);
        assert!(waiting.await.unwrap().covers(8 * UNIT));
    }
}
