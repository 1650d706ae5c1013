//! Indexes results that an earlier version stored without an index, so that lists and searches find them.

use std::sync::Arc;

use async_trait::async_trait;
use tokio_util::task::TaskTracker;

use super::{Report, Worker};
use crate::store::{Store, StoreError};

/// Results per transaction. Other writers wait for one transaction at most.
const BATCH: usize = 50;

/// The worker that indexes earlier results.
pub struct EarlierResults {
    /// Holds the results.
    pub store: Arc<dyn Store>,
}

#[async_trait]
impl Worker for EarlierResults {
    fn name(&self) -> &'static str {
        "earlier_results"
    }

    async fn run_once(self: Arc<Self>, _tasks: &TaskTracker) -> Result<Report, StoreError> {
        let started = self.store.list_earlier_results_across_tenants(BATCH).await?;
        Ok(Report { started, next_due: None })
    }
}
