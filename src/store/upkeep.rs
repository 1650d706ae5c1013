//! Retention, and the statistics for the metrics.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;

use super::StoreError;
use super::claims::Queue;
use super::deletion::{DeleteExpired, DeleteRecords};
use super::deletion_batches::delete_in_batches;
use super::engine::Engine;
use super::webhook_deletion::PurgeWebhook;
use crate::domain::analysis::Status;
use crate::domain::clock::Timestamp;
use crate::domain::ids::TenantId;

/// Statistics of one tenant.
#[derive(Debug, Clone, Default)]
pub struct Stats {
    /// Number of unfinished analyses by status. Finished ones are not counted, because there may be millions.
    pub unfinished: HashMap<Status, u64>,
    /// Age of the oldest due work, by queue.
    pub work_lag: HashMap<Queue, Duration>,
    /// The number of pending deliveries.
    pub pending_deliveries: u64,
    /// Age of the oldest due delivery.
    pub delivery_lag: Duration,
    /// The number of registered webhooks.
    pub webhooks: WebhookCounts,
}

/// The number of a tenant's webhooks by state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WebhookCounts {
    /// Webhooks that get all events.
    pub enabled: u64,
    /// Webhooks that are paused after consecutive failures or are probed by a single delivery.
    pub paused: u64,
    /// Webhooks that get no events.
    pub disabled: u64,
}

/// The resources that the engine uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resources {
    /// Files of `SQLite`, in bytes.
    File {
        /// The database file.
        database: u64,
        /// The write-ahead log.
        log: u64,
    },
    /// Connections of this process to PostgreSQL.
    Server {
        /// Connections in use.
        in_use: usize,
        /// Open connections that are not in use.
        idle: usize,
        /// Maximum number of connections in the pool.
        most: usize,
        /// Operations that wait for a connection.
        waiting: usize,
    },
}

/// Deletes rows whose retention period has ended.
#[async_trait]
pub trait RetentionStore: Send + Sync {
    /// Deletes up to `limit` finished analyses without work and up to `limit` events that are older than `before`, with
    /// all their dependent rows, in short transactions. Analyses and events with pending work or deliveries stay.
    /// Returns the number of deleted rows; fewer than `limit` means that no expired rows are left.
    async fn delete_expired_across_tenants(
        &self,
        before: Timestamp,
        limit: usize,
    ) -> Result<usize, StoreError>;

    /// Deletes up to `limit` audit records and up to `limit` days of usage that are older than `before`. Returns the
    /// number of deleted rows.
    async fn delete_records_across_tenants(
        &self,
        before: Timestamp,
        limit: usize,
    ) -> Result<usize, StoreError>;
}

#[async_trait]
impl<E: Engine> RetentionStore for E {
    async fn delete_expired_across_tenants(
        &self,
        before: Timestamp,
        limit: usize,
    ) -> Result<usize, StoreError> {
        let expired = delete_in_batches(self, limit, |limit| DeleteExpired { before, limit }).await?;
        Ok(expired + delete_in_batches(self, limit, |limit| PurgeWebhook { id: None, limit }).await?)
    }

    async fn delete_records_across_tenants(
        &self,
        before: Timestamp,
        limit: usize,
    ) -> Result<usize, StoreError> {
        self.transact(DeleteRecords { before, limit }).await
    }
}

/// Statistics for the metrics.
#[async_trait]
pub trait StatsStore: Send + Sync {
    /// Reads the statistics of these tenants. The cost grows with unfinished work, not with the size of the store.
    async fn stats_across_tenants(
        &self,
        tenants: &[TenantId],
    ) -> Result<HashMap<TenantId, Stats>, StoreError>;
}
