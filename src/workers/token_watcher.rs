//! Resumes the work of a tenant whose vendor token changed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio_util::task::TaskTracker;

use super::{Report, Wake, Worker};
use crate::alovoice::VendorPermits;
use crate::domain::ids::TenantId;
use crate::domain::vendor_token::VendorToken;
use crate::store::{Store, StoreError};
use crate::tenants::Tenants;

/// Resumes work that waits because the vendor refused a token. A step resumes the work of each tenant whose token has
/// changed since the last step. The first step resumes the work of all tenants, because tokens may have changed while
/// the process was stopped.
///
/// Each replica resumes the work when it reads the new token. Another replica that still has the old token may claim the resumed
/// work. Its request then fails, and the work waits until that replica also reads the new token.
pub struct TokenWatcher {
    tenants: Arc<Tenants>,
    store: Arc<dyn Store>,
    permits: Arc<VendorPermits>,
    wake: Wake,
    /// The token of each tenant at the time when the tenant's work was last resumed.
    known: Mutex<BTreeMap<TenantId, Arc<VendorToken>>>,
}

impl TokenWatcher {
    /// Creates a worker that knows no token yet. `wake` is the signal that wakes the worker.
    pub fn new(
        tenants: Arc<Tenants>,
        store: Arc<dyn Store>,
        permits: Arc<VendorPermits>,
        wake: Wake,
    ) -> Self {
        Self { tenants, store, permits, wake, known: Mutex::default() }
    }

    /// Resumes the work of a tenant once more at the next step. This is needed if a request with the previous token was refused
    /// after the work had been resumed.
    pub(super) fn repeat(&self, tenant: &TenantId) {
        self.known().remove(tenant);
        self.wake.wake();
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<TenantId, Arc<VendorToken>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Worker for TokenWatcher {
    fn name(&self) -> &'static str {
        "token_watcher"
    }

    async fn run_once(self: Arc<Self>, _tasks: &TaskTracker) -> Result<Report, StoreError> {
        for tenant in self.tenants.all() {
            let (id, token) = (tenant.id(), tenant.vendor_token());
            if self.known().get(id).is_some_and(|known| Arc::ptr_eq(known, &token)) {
                continue;
            }
            self.permits.token_changed(id);
            self.known().insert(id.clone(), token);
            self.store.resume_refused(id).await.inspect_err(|_| drop(self.known().remove(id)))?;
        }
        Ok(Report::default())
    }
}
