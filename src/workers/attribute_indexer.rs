//! Writes the attributes of analyses that an earlier version of the program inserted, so that lists find these analyses.

use std::sync::Arc;

use async_trait::async_trait;
use tokio_util::task::TaskTracker;

use super::{Report, Worker};
use crate::store::{Store, StoreError};

/// Maximum number of analyses per transaction. Other writers wait for at most one transaction.
const BATCH: usize = 100;

/// The worker that indexes analyses which an earlier version of the program inserted. During a rolling update, replicas of the
/// earlier version still insert such analyses.
pub struct AttributeIndexer {
    /// Store that holds the analyses.
    pub store: Arc<dyn Store>,
}

#[async_trait]
impl Worker for AttributeIndexer {
    fn name(&self) -> &'static str {
        "attribute_indexer"
    }

    async fn run_once(self: Arc<Self>, _tasks: &TaskTracker) -> Result<Report, StoreError> {
        let rows = self.store.index_attributes_across_tenants(BATCH).await?;
        if rows > 0 {
            tracing::info!(
                rows,
                "analyses indexed: an earlier version of the gateway stored them without an index"
            );
        }
        Ok(Report { has_more: rows > 0, next_due: None })
    }
}
