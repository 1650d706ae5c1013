//! Work on analyses: claims by lease, and writes of outcomes.

use std::time::Duration;

use async_trait::async_trait;

use super::StoreError;
use super::rules::Engine;
use super::transitions::{Apply, FailOverdue};
use crate::domain::analysis::Analysis;
use crate::domain::clock::Timestamp;
use crate::domain::events::EventKind;
use crate::domain::ids::TenantId;
use crate::domain::lifecycle::Step;

/// The two queues of work on analyses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Queue {
    /// Calls to submit to the vendor.
    Submits,
    /// Results to request from the vendor.
    Polls,
}

/// Right to write the outcome of a piece of work, until the lease ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Lease {
    pub(crate) row: i64,
    /// The fencing token.
    pub(crate) fence: i64,
}

/// The tables whose rows are leased.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leased {
    Analysis,
    Delivery,
}

/// A claimed analysis.
#[derive(Debug, Clone)]
pub struct ClaimedWork {
    /// Lease of the work. Every later write checks it.
    pub lease: Lease,
    /// The analysis after the claim. A claimed submit is already marked as unconfirmed.
    pub analysis: Analysis,
}

/// The outcome of a claim.
#[derive(Debug, Clone)]
pub struct ClaimBatch<T> {
    /// The claimed work.
    pub claimed: Vec<T>,
    /// Time when the next unclaimed work is due, as far as the claim has read.
    pub next_due: Option<Timestamp>,
}

/// Limits of one claim for a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkSlots {
    /// The tenant whose work may be claimed.
    pub tenant: TenantId,
    /// Maximum number of analyses in this claim.
    pub free: usize,
    /// Maximum number of analyses in progress, over all replicas. Simultaneous claims may exceed it once.
    pub most: usize,
}

/// The outcome of a step.
#[derive(Debug, Clone)]
pub struct Applied {
    /// The analysis after the step.
    pub analysis: Analysis,
    /// The event that the step wrote.
    pub event: Option<EventKind>,
    /// Number of polls in the round of this step.
    pub polls: u32,
}

/// Analyses that failed because their deadline passed.
#[derive(Debug, Clone)]
pub struct OverdueFailures {
    /// The failed analyses.
    pub applied: Vec<Applied>,
    /// Time when the next deadline of these tenants passes.
    pub next_due: Option<Timestamp>,
}

/// The work on analyses.
#[async_trait]
pub trait WorkStore: Send + Sync {
    /// Claims due work, the oldest first, up to the limits of each tenant.
    async fn claim_work_across_tenants(
        &self,
        queue: Queue,
        slots: Vec<WorkSlots>,
        lease: Duration,
    ) -> Result<ClaimBatch<ClaimedWork>, StoreError>;

    /// Writes the outcome of claimed work, with the event and the deliveries that follow from it, and ends the lease.
    async fn apply(&self, lease: Lease, step: Step) -> Result<Applied, StoreError>;

    /// Fails up to `limit` analyses that are past their deadline and not leased, without another poll. Used for
    /// tenants whose circuit is open.
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
        self.claim_work(queue, slots, lease).await
    }

    async fn apply(&self, lease: Lease, step: Step) -> Result<Applied, StoreError> {
        self.transact(Apply { lease, step }).await
    }

    async fn fail_overdue_across_tenants(
        &self,
        tenants: Vec<TenantId>,
        limit: usize,
    ) -> Result<OverdueFailures, StoreError> {
        self.transact(FailOverdue { tenants, limit }).await
    }
}
