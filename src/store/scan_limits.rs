//! Limits of scans: reads whose cost grows with the data, such as lists, searches and statistics.
//!
//! - **Bulkhead.** Scans use only a part of the connections, so cheap reads and writes always find a free connection.
//! - **Fair shares.** Each tenant may use a share of these connections. Further scans of the tenant wait in a bounded queue.
//! - **Deadline.** The deadline of a scan covers the wait and the statements.
//! - **Cancellation.** A scan is a future. If its caller disconnects or its deadline passes, the future is dropped, and the
//!   engine cancels the statement in progress. The permit is returned only after the connection is idle again or closed.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::{StoreContext, StoreError};
use crate::domain::ids::TenantId;
use crate::telemetry::metrics::Metrics;

/// Reason why a scan was refused or ended early.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ScanRefusal {
    /// The queue of the tenant is full.
    #[error("the tenant has too many lists, searches and other expensive reads in progress")]
    TenantLimit,
    /// The deadline passed, either in the queue or during the statements.
    #[error("the read did not end within {} seconds", .0.as_secs())]
    Deadline(Duration),
}

impl ScanRefusal {
    /// Returns the value of the metric's label.
    const fn label(self) -> &'static str {
        match self {
            Self::TenantLimit => "tenant_limit",
            Self::Deadline(_) => "deadline",
        }
    }
}

/// Limits of the number of scans that run at the same time, and of the number of scans that wait.
#[derive(Debug, Clone, Copy)]
pub(super) struct ScanShares {
    /// Maximum number of running scans.
    pub(super) total: usize,
    /// Maximum number of running scans of one tenant.
    pub(super) per_tenant: usize,
    /// Maximum number of waiting scans of one tenant.
    pub(super) waiting: usize,
}

/// Limits the number of scans that run and wait at the same time, in total and per tenant.
pub(super) struct ScanLimits {
    shares: ScanShares,
    /// Maximum duration of a scan, including its wait. This duration is shorter than the time limits of a database session.
    deadline: Duration,
    running: Arc<Semaphore>,
    tenants: Mutex<HashMap<TenantId, Arc<TenantScans>>>,
    metrics: Arc<Metrics>,
}

struct TenantScans {
    running: Arc<Semaphore>,
    waiting: AtomicUsize,
}

/// Permit to run a scan. The permit is held until the connection is idle again or closed.
pub(super) struct ScanPermit {
    _of_tenant: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
    metrics: Arc<Metrics>,
}

impl Drop for ScanPermit {
    fn drop(&mut self) {
        self.metrics.store_scans_running.dec();
    }
}

impl ScanLimits {
    pub(super) fn new(shares: ScanShares, context: &StoreContext) -> Self {
        Self::with_deadline(shares, context.operation_timeout * 2 / 5, &context.env.metrics)
    }

    fn with_deadline(shares: ScanShares, deadline: Duration, metrics: &Arc<Metrics>) -> Self {
        Self {
            shares,
            deadline,
            running: Arc::new(Semaphore::new(shares.total)),
            tenants: Mutex::default(),
            metrics: Arc::clone(metrics),
        }
    }

    /// Runs a scan of a tenant. The scan waits until the limits of the tenant and of all tenants allow it.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if the tenant has too many scans or the deadline passes, and the errors of the scan.
    pub(super) async fn run<T, F>(
        &self,
        tenant: &TenantId,
        scan: impl FnOnce(ScanPermit) -> F + Send,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>> + Send,
    {
        let mut counted = CountedScan { metrics: &self.metrics, tenant, outcome: "cancelled" };
        let admitted = async { scan(self.admit(tenant).await?).await };
        let outcome = timeout(self.deadline, admitted)
            .await
            .unwrap_or_else(|_| Err(StoreError::Refused(ScanRefusal::Deadline(self.deadline))));
        counted.outcome = match &outcome {
            Ok(_) => "ok",
            Err(StoreError::Refused(refusal)) => refusal.label(),
            Err(_) => "failed",
        };
        outcome
    }

    async fn admit(&self, tenant: &TenantId) -> Result<ScanPermit, StoreError> {
        let closed = |_| StoreError::Unavailable("the store is closed".into());
        let scans = self.of_tenant(tenant);
        let _waiting = WaitingScan::join(&scans, self.shares.waiting)?;
        let of_tenant = Arc::clone(&scans.running).acquire_owned().await.map_err(closed)?;
        // Each tenant has at most its share in this queue, so no tenant waits long for the other tenants.
        let of_all = Arc::clone(&self.running).acquire_owned().await.map_err(closed)?;
        self.metrics.store_scans_running.inc();
        Ok(ScanPermit { _of_tenant: of_tenant, _of_all: of_all, metrics: Arc::clone(&self.metrics) })
    }

    fn of_tenant(&self, tenant: &TenantId) -> Arc<TenantScans> {
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || {
            let running = Arc::new(Semaphore::new(self.shares.per_tenant));
            Arc::new(TenantScans { running, waiting: AtomicUsize::new(0) })
        };
        Arc::clone(tenants.entry(tenant.clone()).or_insert_with(new))
    }
}

/// A scan that waits for its permit.
struct WaitingScan<'a>(&'a TenantScans);

impl<'a> WaitingScan<'a> {
    fn join(scans: &'a TenantScans, most: usize) -> Result<Self, StoreError> {
        let waiting = Self(scans);
        if scans.waiting.fetch_add(1, Ordering::Relaxed) < most {
            return Ok(waiting);
        }
        Err(StoreError::Refused(ScanRefusal::TenantLimit))
    }
}

impl Drop for WaitingScan<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Counts a scan by its outcome when this value is dropped. If the scan has not ended by then, its caller has disconnected.
struct CountedScan<'a> {
    metrics: &'a Metrics,
    tenant: &'a TenantId,
    outcome: &'static str,
}

impl Drop for CountedScan<'_> {
    fn drop(&mut self) {
        self.metrics.store_scans.with_label_values(&[self.tenant.as_str(), self.outcome]).inc();
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    /// Creates limits with a deadline that no test reaches by accident.
    fn limits(shares: ScanShares) -> ScanLimits {
        ScanLimits::with_deadline(shares, Duration::from_hours(1), &Arc::new(Metrics::new().unwrap()))
    }

    fn tenant(name: &str) -> TenantId {
        TenantId::parse(name).unwrap()
    }

    async fn endless(_permit: ScanPermit) -> Result<(), StoreError> {
        pending().await
    }

    async fn short(_permit: ScanPermit) -> Result<(), StoreError> {
        Ok(())
    }

    fn count(limits: &ScanLimits, outcome: &str) -> u64 {
        limits.metrics.store_scans.with_label_values(&["acme", outcome]).get()
    }

    #[tokio::test]
    async fn endless_scans_of_one_tenant_leave_permits_to_others() {
        let limits = limits(ScanShares { total: 2, per_tenant: 1, waiting: 1 });
        let (acme, globex) = (tenant("acme"), tenant("globex"));
        let mut first = Box::pin(limits.run(&acme, endless));
        let mut second = Box::pin(limits.run(&acme, endless));
        let mut third = Box::pin(limits.run(&acme, short));
        let refused = tokio::select! {
            biased;
            _ = &mut first => panic!("the scan is endless"),
            _ = &mut second => panic!("the scan waits for the first one"),
            refused = &mut third => refused,
        };
        assert!(matches!(refused, Err(StoreError::Refused(ScanRefusal::TenantLimit))), "{refused:?}");
        limits.run(&globex, short).await.unwrap();
        assert_eq!(limits.metrics.store_scans_running.get(), 1);

        drop(first);
        drop(second);
        limits.run(&acme, short).await.unwrap();
        assert_eq!(limits.metrics.store_scans_running.get(), 0);
        assert_eq!((count(&limits, "cancelled"), count(&limits, "tenant_limit")), (2, 1));
    }

    #[tokio::test]
    async fn a_scan_ends_at_its_deadline() {
        let limits = limits(ScanShares { total: 1, per_tenant: 1, waiting: 1 });
        let limits = ScanLimits { deadline: Duration::ZERO, ..limits };
        let acme = tenant("acme");
        let (running, waiting) = tokio::join!(limits.run(&acme, endless), limits.run(&acme, endless));
        for outcome in [running, waiting] {
            assert!(matches!(outcome, Err(StoreError::Refused(ScanRefusal::Deadline(_)))), "{outcome:?}");
        }
        assert_eq!((count(&limits, "deadline"), limits.metrics.store_scans_running.get()), (2, 0));
    }
}
