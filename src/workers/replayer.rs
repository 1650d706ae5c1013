//! Takes replays further: a batch of deliveries at a time, as far as their endpoints keep up.

use std::sync::Arc;

use async_trait::async_trait;
use tokio_util::task::TaskTracker;

use super::{Report, Worker};
use crate::store::{Store, StoreError};

/// Works on the replays.
pub struct Replayer {
    /// Where they are.
    pub store: Arc<dyn Store>,
}

#[async_trait]
impl Worker for Replayer {
    fn name(&self) -> &'static str {
        "replayer"
    }

    async fn step(self: Arc<Self>, _tasks: &TaskTracker) -> Result<Report, StoreError> {
        let advanced = self.store.advance_replays_across_tenants().await?;
        Ok(Report { started: advanced.replays, next_due: advanced.next_due })
    }
}
