//! Deletes analyses, events and replays that are older than `store.retention`, old audit records and usage, and expired idempotency
//! keys. While the clock is in doubt, and for a while after it was corrected, nothing is deleted.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio_util::task::TaskTracker;

use super::{Report, Worker};
use crate::domain::clock::{Clock, Timestamp};
use crate::domain::clock_status::ClockStatus;
use crate::store::{Store, StoreError};

/// Maximum number of analyses and of events per transaction. Other writers wait for at most one transaction.
const BATCH: usize = 200;

/// Minimum retention of usage and of audit records, which include the ids of deleted calls: two years.
const RECORDS_PERIOD: Duration = Duration::from_hours(731 * 24);

/// The worker that deletes expired data.
pub struct Retention {
    /// Store that holds the data.
    pub store: Arc<dyn Store>,
    /// Value of `store.retention`: the time for which finished analyses are kept.
    pub period: Duration,
    /// Clock that determines the age of data.
    pub clock: Arc<dyn Clock>,
    /// State of the clock. Retention is paused while the clock is in doubt.
    pub clock_status: Arc<ClockStatus>,
}

impl Retention {
    fn ago(&self, period: Duration) -> Timestamp {
        let period = i64::try_from(period.as_millis()).unwrap_or(i64::MAX);
        Timestamp::from_millis(self.clock.now().as_millis().saturating_sub(period))
    }
}

#[async_trait]
impl Worker for Retention {
    fn name(&self) -> &'static str {
        "retention"
    }

    async fn run_once(self: Arc<Self>, _tasks: &TaskTracker) -> Result<Report, StoreError> {
        if !self.clock_status.allows_retention(self.clock.now()) {
            return Ok(Report::default());
        }
        let before = self.ago(self.period);
        let records_before = self.ago(self.period.max(RECORDS_PERIOD));
        self.store.delete_records_across_tenants(records_before, BATCH).await?;
        let deleted = self.store.delete_expired_across_tenants(before, BATCH).await?;
        if deleted > 0 {
            tracing::info!(rows = deleted, "rows deleted: they are older than store.retention");
        }
        let forgotten = self.store.delete_keys_across_tenants(BATCH).await?;
        Ok(Report { has_more: deleted + forgotten > 0, next_due: None })
    }
}
