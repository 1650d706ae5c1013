//! Statistics for the metrics. Each query reads only the rows that it needs, along a partial index.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, params};

use super::super::selection::is_limited;
use super::super::{Queue, Stats, StatsStore, StoreError, WebhookCounts};
use super::SqliteStore;
use super::writer::lock;
use crate::domain::analysis::Status;
use crate::domain::clock::Timestamp;
use crate::domain::ids::TenantId;

/// Counts the analyses of a tenant that have the given unfinished status. Parameters: the tenant and the name of the status.
pub(super) const UNFINISHED: &str =
    "SELECT count(*) FROM analyses WHERE status <> 'completed' AND tenant = ? AND status = ?";
/// Counts the pending deliveries of a tenant. Parameter: the tenant.
pub(super) const PENDING: &str = "SELECT count(*) FROM deliveries WHERE status = 'pending' AND tenant = ?";
/// Reads the due time of the oldest pending delivery. Omits deliveries to disabled and paused webhooks, and deliveries to
/// webhooks whose bucket is not full, because the rate may delay these. Parameters: the tenant, and the current time in
/// microseconds.
pub(super) const OLDEST_DELIVERY: &str = concat!(
    "SELECT due_at FROM deliveries WHERE status = 'pending' AND tenant = ?1 \
     AND webhook NOT IN (SELECT id FROM webhooks WHERE tenant = ?1 AND ",
    is_limited!(),
    " AND (disabled_at IS NOT NULL OR paused_until IS NOT NULL OR bucket_full_at > ?2)) ORDER BY due_at LIMIT 1"
);
/// Counts the webhooks of a tenant: all webhooks, the disabled webhooks, and the webhooks that are paused or that one delivery
/// probes. Parameter: the tenant.
pub(super) const WEBHOOKS: &str = "SELECT count(*) AS registered, count(disabled_at) AS disabled, \
     count(*) FILTER (WHERE disabled_at IS NULL AND paused_until IS NOT NULL) AS paused \
     FROM webhooks WHERE tenant = ? AND deleted_at IS NULL";

#[async_trait]
impl StatsStore for SqliteStore {
    async fn stats_across_tenants(
        &self,
        tenants: &[TenantId],
    ) -> Result<HashMap<TenantId, Stats>, StoreError> {
        let (tenants, now) = (tenants.to_vec(), self.now());
        self.read_only("stats", None, move |connection, _| read(&lock(connection), tenants, now)).await
    }
}

/// Returns the statement that reads the due time of the oldest work. Parameter: the tenant.
pub(super) fn oldest_work_sql(queue: Queue) -> String {
    format!("SELECT due_at FROM analyses WHERE {} AND tenant = ? ORDER BY due_at LIMIT 1", queue.condition())
}

fn read(
    connection: &Connection,
    tenants: Vec<TenantId>,
    now: Timestamp,
) -> Result<HashMap<TenantId, Stats>, StoreError> {
    let of_one = |tenant: TenantId| {
        let stats = of_tenant(connection, &tenant, now)?;
        Ok((tenant, stats))
    };
    tenants.into_iter().map(of_one).collect()
}

fn of_tenant(connection: &Connection, tenant: &TenantId, now: Timestamp) -> Result<Stats, rusqlite::Error> {
    let tenant = tenant.as_str();
    let age = |due: Option<i64>| due.map_or(Duration::ZERO, |due| now.since(Timestamp::from_millis(due)));
    let lag = |sql: &str| -> Result<Duration, rusqlite::Error> {
        let mut select = connection.prepare_cached(sql)?;
        Ok(age(select.query_row([tenant], |row| row.get(0)).optional()?))
    };
    let mut stats = Stats::default();
    let mut unfinished = connection.prepare_cached(UNFINISHED)?;
    for status in Status::UNFINISHED {
        let count = unfinished.query_row(params![tenant, status.as_str()], |row| row.get(0))?;
        stats.unfinished.insert(status, count);
    }
    for queue in [Queue::Submits, Queue::Polls] {
        stats.work_lag.insert(queue, lag(&oldest_work_sql(queue))?);
    }
    stats.pending_deliveries = connection.prepare_cached(PENDING)?.query_row([tenant], |row| row.get(0))?;
    let micros = now.as_millis().saturating_mul(1000);
    let mut oldest = connection.prepare_cached(OLDEST_DELIVERY)?;
    stats.delivery_lag = age(oldest.query_row(params![tenant, micros], |row| row.get(0)).optional()?);
    stats.webhooks = connection.prepare_cached(WEBHOOKS)?.query_row([tenant], |row| {
        let [registered, disabled, paused]: [u64; 3] = [row.get(0)?, row.get(1)?, row.get(2)?];
        Ok(WebhookCounts { enabled: registered.saturating_sub(disabled + paused), paused, disabled })
    })?;
    Ok(stats)
}
