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
    /// Number of unfinished analyses by status. Finished analyses are not counted, because there may be millions.
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
    /// Number of webhooks that are neither paused nor disabled.
    pub enabled: u64,
    /// Number of webhooks that are paused after consecutive failures, or are probed by a single delivery.
    pub paused: u64,
    /// Number of disabled webhooks, which get no events.
    pub disabled: u64,
}

/// The resources that the engine uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resources {
    /// The sizes of the files of `SQLite`, in bytes.
    File {
        /// Size of the database file.
        database: u64,
        /// Size of the write-ahead log.
        log: u64,
    },
    /// The connections of this process to PostgreSQL.
    Server {
        /// Number of connections in use.
        in_use: usize,
        /// Number of open connections that are not in use.
        idle: usize,
        /// Maximum number of connections in the pool.
        most: usize,
        /// Number of operations that wait for a connection.
        waiting: usize,
    },
}

/// Deletes rows whose retention period has ended.
#[async_trait]
pub trait RetentionStore: Send + Sync {
    /// Deletes three kinds of rows that are older than `before`, with all their dependent rows: finished analyses without work,
    /// events, and finished replays. Also deletes deliveries of deleted webhooks, and these webhooks. Deletes up to `limit` rows
    /// of each kind, in short transactions. Analyses and events with pending deliveries stay, unless a delivery may wait forever.
    /// Returns the number of deleted rows. If this number is less than `limit`, no expired analyses, events or replays are left.
    async fn delete_expired_across_tenants(
        &self,
        before: Timestamp,
        limit: usize,
    ) -> Result<usize, StoreError>;

    /// Deletes audit records and usage that are older than `before`: up to `limit` rows of each table. Returns the number
    /// of deleted rows.
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
