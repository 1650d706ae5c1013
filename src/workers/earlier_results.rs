//! Lists results that were stored by a version without lists, so that they are found, too.

use std::sync::Arc;

use async_trait::async_trait;
use tokio_util::task::TaskTracker;

use super::{Report, Worker};
use crate::store::{Store, StoreError};

/// In one transaction: other writers wait no longer than for these.
const BATCH: usize = 50;

/// Works on what is not listed yet.
pub struct EarlierResults {
    /// Where it is.
    pub store: Arc<dyn Store>,
}

#[async_trait]
impl Worker for EarlierResults {
    fn name(&self) -> &'static str {
        "earlier_results"
    }

    async fn step(self: Arc<Self>, _tasks: &TaskTracker) -> Result<Report, StoreError> {
        let started = self.store.list_earlier_results_across_tenants(BATCH).await?;
        Ok(Report { started, next_due: None })
    }
}
