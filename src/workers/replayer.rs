//! Continues replays: writes deliveries in batches, as fast as the webhooks accept the deliveries.

use std::sync::Arc;

use async_trait::async_trait;
use tokio_util::task::TaskTracker;

use super::{Report, Worker};
use crate::store::{Store, StoreError};

/// The worker that continues replays.
pub struct Replayer {
    /// Holds the replays and writes their deliveries.
    pub store: Arc<dyn Store>,
}

#[async_trait]
impl Worker for Replayer {
    fn name(&self) -> &'static str {
        "replayer"
    }

    async fn run_once(self: Arc<Self>, _tasks: &TaskTracker) -> Result<Report, StoreError> {
        let advanced = self.store.advance_replays_across_tenants().await?;
        Ok(Report { has_more: advanced.replays > 0, next_due: advanced.next_due })
    }
}
