//! The interface of a database engine.

use std::time::{Duration, Instant};

use super::StoreError;
use super::claims::{ClaimBatch, ClaimedDelivery, ClaimedWork, DeliverySlots, Queue, WorkSlots};
use super::delivery_rows::{RecordedDelivery, UnreadableDelivery};
use super::rules::{Grouped, Rule};
use super::scan_limits::{ScanLimits, ScanPermit};
use crate::domain::deliveries::DeliveryQuery;
use crate::domain::ids::TenantId;
use crate::domain::listing::{AnalysisPage, AnalysisQuery};
use crate::env::Env;
use crate::telemetry::metrics::Metrics;

/// A database engine. An engine runs the transaction rules of the store ([`Rule`]), and implements the operations that differ
/// between the engines.
pub(super) trait Engine: Send + Sync {
    /// Runs a [`Rule`] in a transaction. The result is on disk when this method returns.
    fn transact<R: Rule>(&self, rule: R) -> impl Future<Output = Result<R::Output, StoreError>> + Send;

    /// Runs a [`Rule`] that only reads. For a scan, the caller passes the permit of the scan; other reads need no permit.
    fn read<R: Rule>(
        &self,
        rule: R,
        permit: Option<ScanPermit>,
    ) -> impl Future<Output = Result<R::Output, StoreError>> + Send;

    /// Runs a cheap [`Rule`] that only reads.
    fn query<R: Rule>(&self, rule: R) -> impl Future<Output = Result<R::Output, StoreError>> + Send {
        self.read(rule, None)
    }

    /// Runs a [`Rule`] that only reads, within the limits of scans.
    fn scan<R: Rule>(
        &self,
        tenant: &TenantId,
        rule: R,
    ) -> impl Future<Output = Result<R::Output, StoreError>> + Send {
        self.scans().run(tenant, |permit| self.read(rule, Some(permit)))
    }

    /// Returns the limits of lists, searches and statistics.
    fn scans(&self) -> &ScanLimits;

    /// Returns the limits of reads of the feed. Lists have other limits, so lists do not delay events.
    fn feed_scans(&self) -> &ScanLimits;

    /// Returns the environment of the process.
    fn env(&self) -> &Env;

    /// Runs a [`Rule`] in a transaction, which may be shared with other rules of the kind.
    fn transact_in_group<R: Grouped>(
        &self,
        rule: R,
    ) -> impl Future<Output = Result<R::Output, StoreError>> + Send {
        self.transact(rule)
    }

    /// Engine-specific part of [`AnalysisStore::list_analyses`](super::AnalysisStore::list_analyses).
    fn list(
        &self,
        tenant: &TenantId,
        query: AnalysisQuery,
        permit: ScanPermit,
    ) -> impl Future<Output = Result<AnalysisPage, StoreError>> + Send;

    /// Engine-specific part of [`WorkStore::claim_work_across_tenants`](super::WorkStore::claim_work_across_tenants).
    fn claim_work(
        &self,
        queue: Queue,
        slots: Vec<WorkSlots>,
        lease: Duration,
    ) -> impl Future<Output = Result<ClaimBatch<ClaimedWork>, StoreError>> + Send;

    /// Engine-specific part of [`DeliveryStore::claim_deliveries_across_tenants`](super::DeliveryStore::claim_deliveries_across_tenants).
    fn claim_deliveries(
        &self,
        slots: DeliverySlots,
        lease: Duration,
    ) -> impl Future<Output = Result<ClaimBatch<ClaimedDelivery>, StoreError>> + Send;

    /// Engine-specific part of [`DeliveryStore::list_deliveries`](super::DeliveryStore::list_deliveries).
    fn deliveries(
        &self,
        tenant: &TenantId,
        query: DeliveryQuery,
        permit: ScanPermit,
    ) -> impl Future<Output = Result<Vec<Result<RecordedDelivery, UnreadableDelivery>>, StoreError>> + Send;

    /// Assigns feed positions to a batch of new events. Returns whether there may be more events without a position. An engine
    /// that assigns the positions when it writes events does nothing here.
    fn number_events(&self, tenant: &TenantId) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Writes the usage that this process has counted in memory.
    fn flush_usage(&self) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// Records the duration and the outcome of a transaction in the metrics. If the store failed, also counts the failure.
pub(super) fn measure<T>(
    metrics: &Metrics,
    name: &'static str,
    began: Instant,
    outcome: &Result<T, StoreError>,
) {
    let label = outcome.as_ref().map_or_else(StoreError::label, |_| "ok");
    metrics.store_transactions.with_label_values(&[name, label]).observe(began.elapsed().as_secs_f64());
    // A lost lease is not a failure of the store.
    if matches!(outcome, Err(StoreError::Unavailable(_) | StoreError::FileLost(_) | StoreError::Corrupt(_))) {
        metrics.store_errors.inc();
    }
}
