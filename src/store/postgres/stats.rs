//! Statistics for the metrics. Each query reads only the rows that it needs, along a partial index.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use tokio_postgres::Row;

use super::super::{Queue, Stats, StatsStore, StoreError, WebhookCounts};
use super::PostgresStore;
use super::connect::Session;
use super::fault::Fault;
use super::rows::{number, unreadable};
use crate::domain::analysis::Status;
use crate::domain::clock::Timestamp;
use crate::domain::ids::TenantId;

/// Counts the analyses that have the given unfinished status, for each tenant. Parameters: the tenants and the name of the
/// status. Here and below, each tenant has its own subquery, so that the planner uses the partial index.
const UNFINISHED: &str = "SELECT slot.tenant, found.number FROM unnest($1::text[]) AS slot (tenant) CROSS JOIN LATERAL \
     (SELECT count(*) AS number FROM analyses WHERE status <> 'completed' AND tenant = slot.tenant AND status = $2) AS found";

/// Counts the pending deliveries of each tenant. Parameter: the tenants.
const PENDING: &str = "SELECT slot.tenant, found.number FROM unnest($1::text[]) AS slot (tenant) CROSS JOIN LATERAL \
     (SELECT count(*) AS number FROM deliveries WHERE status = 'pending' AND tenant = slot.tenant) AS found";

/// Counts the webhooks of each tenant: all webhooks, the disabled webhooks, and the webhooks that are paused or that one delivery
/// probes. Parameter: the tenants.
const WEBHOOKS: &str = "SELECT slot.tenant, found.* FROM unnest($1::text[]) AS slot (tenant) CROSS JOIN LATERAL \
     (SELECT count(*) AS registered, count(disabled_at) AS disabled, \
     count(*) FILTER (WHERE disabled_at IS NULL AND paused_until IS NOT NULL) AS paused \
     FROM webhooks WHERE tenant = slot.tenant AND deleted_at IS NULL) AS found";

/// Condition of a delivery that should be sent when it is due. Deliveries to a disabled or paused webhook wait. Deliveries to a
/// webhook whose bucket is not full also wait, because of the rate. Parameter 2: the present time in microseconds.
const DUE: &str = "status = 'pending' AND NOT EXISTS (SELECT FROM webhooks WHERE id = deliveries.webhook \
     AND (disabled_at IS NOT NULL OR paused_until IS NOT NULL OR bucket_full_at > $2))";

/// Returns a statement that reads one due time for each tenant: the earliest due time among the rows that fulfil the condition.
/// Parameter: the tenants.
fn oldest_sql(table: &str, condition: &str) -> String {
    format!(
        "SELECT slot.tenant, oldest.due_at FROM unnest($1::text[]) AS slot (tenant) CROSS JOIN LATERAL \
         (SELECT due_at FROM {table} WHERE {condition} AND tenant = slot.tenant ORDER BY due_at LIMIT 1) AS oldest"
    )
}

#[async_trait]
impl StatsStore for PostgresStore {
    async fn stats_across_tenants(
        &self,
        tenants: &[TenantId],
    ) -> Result<HashMap<TenantId, Stats>, StoreError> {
        self.run("stats", |session| read(session, tenants, self.now())).await
    }
}

async fn read(
    mut session: Session,
    tenants: &[TenantId],
    now: Timestamp,
) -> Result<HashMap<TenantId, Stats>, Fault> {
    let names: Vec<&str> = tenants.iter().map(TenantId::as_str).collect();
    let client = session.client()?;
    let transaction = client.build_transaction().read_only(true).start().await?;
    let rows = async |sql: &str| -> Result<Vec<Row>, Fault> {
        let select = transaction.prepare_cached(sql).await?;
        Ok(transaction.query(&select, &[&names]).await?)
    };
    let mut stats: HashMap<&str, Stats> = names.iter().map(|name| (*name, Stats::default())).collect();
    let unfinished = transaction.prepare_cached(UNFINISHED).await?;
    for status in Status::UNFINISHED {
        for row in transaction.query(&unfinished, &[&names, &status.as_str()]).await? {
            of_tenant(&mut stats, &row)?.unfinished.insert(status, number(&row, "number")?);
        }
    }
    for queue in [Queue::Submits, Queue::Polls] {
        for stats in stats.values_mut() {
            stats.work_lag.insert(queue, Duration::ZERO);
        }
        for row in rows(&oldest_sql("analyses", queue.condition())).await? {
            of_tenant(&mut stats, &row)?.work_lag.insert(queue, lag(&row, now)?);
        }
    }
    let oldest = transaction.prepare_cached(&oldest_sql("deliveries", DUE)).await?;
    for row in transaction.query(&oldest, &[&names, &now.as_millis().saturating_mul(1000)]).await? {
        of_tenant(&mut stats, &row)?.delivery_lag = lag(&row, now)?;
    }
    for row in rows(PENDING).await? {
        of_tenant(&mut stats, &row)?.pending_deliveries = number(&row, "number")?;
    }
    for row in rows(WEBHOOKS).await? {
        let [registered, disabled, paused]: [u64; 3] =
            [number(&row, "registered")?, number(&row, "disabled")?, number(&row, "paused")?];
        of_tenant(&mut stats, &row)?.webhooks =
            WebhookCounts { enabled: registered.saturating_sub(disabled + paused), paused, disabled };
    }
    let taken = |tenant: &TenantId| (tenant.clone(), stats.remove(tenant.as_str()).unwrap_or_default());
    Ok(tenants.iter().map(taken).collect())
}

/// Returns the statistics of the tenant in the row.
fn of_tenant<'a>(stats: &'a mut HashMap<&str, Stats>, row: &Row) -> Result<&'a mut Stats, Fault> {
    let tenant: &str = row.try_get("tenant")?;
    stats.get_mut(tenant).ok_or_else(|| unreadable("tenant"))
}

fn lag(row: &Row, now: Timestamp) -> Result<Duration, Fault> {
    Ok(now.since(Timestamp::from_millis(row.try_get("due_at")?)))
}
