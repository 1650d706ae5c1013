//! Work on analyses: claims by lease, and writes of outcomes.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::StoreError;
use super::claims::{ClaimBatch, ClaimedWork, Lease, Leased, Queue, WorkSlots};
use super::engine::Engine;
use super::refused_work::ResumeRefused;
use super::transitions::{Applied, Apply, FailOverdue, OverdueFailures};
use super::unreadable::{Postpone, postpone_claimed};
use crate::domain::ids::TenantId;
use crate::domain::lifecycle::Step;

/// Maximum number of analyses of a queue that one transaction makes due.
const RESUMED_AT_ONCE: usize = 500;

/// The work on analyses.
#[async_trait]
pub trait WorkStore: Send + Sync {
    /// Claims due work up to the limits of each tenant, in the order of [`WorkSlots::order`]. Work that cannot be read is
    /// postponed.
    async fn claim_work_across_tenants(
        &self,
        queue: Queue,
        slots: Vec<WorkSlots>,
        lease: Duration,
    ) -> Result<ClaimBatch<ClaimedWork>, StoreError>;

    /// Writes the outcome of claimed work, with the resulting event and deliveries, and ends the lease. If the stored result
    /// cannot be read, the outcome is discarded and the work is postponed.
    async fn apply(&self, lease: Lease, step: Arc<Step>) -> Result<Applied, StoreError>;

    /// Makes the waiting work of a tenant due now if the work waits because the vendor refused the tenant's token.
    async fn resume_refused(&self, tenant: &TenantId) -> Result<(), StoreError>;

    /// Fails up to `limit` analyses that are past their deadline and not leased, without another poll. The gateway calls this
    /// method for tenants whose circuit breaker is open.
    async fn fail_overdue_across_tenants(
        &self,
        tenants: Vec<TenantId>,
        limit: usize,
    ) -> Result<OverdueFailures, StoreError>;
}

#[async_trait]
impl<E: Engine> WorkStore for E {
    async fn claim_work_across_tenants(
        &self,
        queue: Queue,
        slots: Vec<WorkSlots>,
        lease: Duration,
    ) -> Result<ClaimBatch<ClaimedWork>, StoreError> {
        let mut batch = self.claim_work(queue, slots, lease).await?;
        postpone_claimed(self, Leased::Analysis, &mut batch).await;
        Ok(batch)
    }

    async fn apply(&self, lease: Lease, step: Arc<Step>) -> Result<Applied, StoreError> {
        let applied = self.transact_in_group(Apply { lease, step }).await;
        if matches!(applied, Err(StoreError::Corrupt(_))) {
            // The stored result cannot be read. Without this pause, the work would be claimed again when the lease ends.
            self.transact(Postpone { leased: Leased::Analysis, leases: vec![lease] }).await?;
        }
        applied
    }

    async fn resume_refused(&self, tenant: &TenantId) -> Result<(), StoreError> {
        // The transactions are small, so that other writes do not wait for all rows.
        let resume = || ResumeRefused { tenant: tenant.clone(), limit: RESUMED_AT_ONCE };
        while self.transact(resume()).await? == RESUMED_AT_ONCE {}
        Ok(())
    }

    async fn fail_overdue_across_tenants(
        &self,
        tenants: Vec<TenantId>,
        limit: usize,
    ) -> Result<OverdueFailures, StoreError> {
        self.transact(FailOverdue { tenants, limit }).await
    }
}
