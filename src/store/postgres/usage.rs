//! Usage of tenants. It is counted in memory and added to the database every few seconds. If every commit updated a
//! row per tenant and day, the commits would wait for each other.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use deadpool_postgres::Pool;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;

use super::connect::Session;
use super::fault::Fault;
use crate::domain::clock::Timestamp;
use crate::domain::ids::TenantId;
use crate::domain::usage::{Day, Usage};

/// The interval of the flushes. A killed process loses the usage since its last flush.
const INTERVAL: Duration = Duration::from_secs(5);

/// The usage that this process has counted since the last flush.
#[derive(Debug, Default)]
pub(super) struct UsageBuffer(Mutex<BTreeMap<(TenantId, Day), Usage>>);

impl UsageBuffer {
    pub(super) fn count(&self, tenant: &TenantId, now: Timestamp, usage: Usage) {
        if usage != Usage::default() {
            self.add((tenant.clone(), Day::of(now)), usage);
        }
    }

    fn add(&self, key: (TenantId, Day), usage: Usage) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default() += usage;
    }

    fn take(&self) -> BTreeMap<(TenantId, Day), Usage> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Writes the counted usage to the database at intervals, until `stop` is cancelled.
    pub(super) fn start(self: &Arc<Self>, pool: Pool, timeout: Duration, stop: CancellationToken) {
        let buffer = Arc::clone(self);
        let flushing = async move {
            loop {
                sleep(INTERVAL).await;
                if let Err(fault) = buffer.flush(&pool, timeout).await {
                    tracing::warn!(?fault, "failed to write usage");
                }
            }
        };
        tokio::spawn(async move { stop.run_until_cancelled(flushing).await });
    }

    /// Adds the counted usage to the database within the time limit. After a failure, the next flush includes it.
    pub(super) async fn flush(&self, pool: &Pool, timeout: Duration) -> Result<(), Fault> {
        let counted = self.take();
        if counted.is_empty() {
            return Ok(());
        }
        let deadline = Instant::now() + timeout;
        let write = async { add(Session::take(pool, deadline).await?, &counted).await };
        let written = timeout_at(deadline, write).await.unwrap_or(Err(Fault::TimedOut));
        if written.is_err() {
            counted.into_iter().for_each(|(key, usage)| self.add(key, usage));
        }
        written
    }
}

/// Adds usage to the database. Parameters: one array for each column. The rows are sorted by tenant and day, so two
/// replicas cannot deadlock.
const ADD: &str = "INSERT INTO usage (tenant, day, submissions, polls, completions, failures, attempts, delivered, \
     undelivered) SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], \
     $7::bigint[], $8::bigint[], $9::bigint[]) ON CONFLICT (tenant, day) DO UPDATE SET \
     submissions = usage.submissions + excluded.submissions, polls = usage.polls + excluded.polls, \
     completions = usage.completions + excluded.completions, failures = usage.failures + excluded.failures, \
     attempts = usage.attempts + excluded.attempts, delivered = usage.delivered + excluded.delivered, \
     undelivered = usage.undelivered + excluded.undelivered";

async fn add(mut session: Session, counted: &BTreeMap<(TenantId, Day), Usage>) -> Result<(), Fault> {
    let client = session.client()?;
    let add = client.prepare_cached(ADD).await?;
    let (tenants, days): (Vec<&str>, Vec<i64>) =
        counted.keys().map(|(tenant, day)| (tenant.as_str(), day.number())).unzip();
    let mut columns: [Vec<i64>; 7] = Default::default();
    for usage in counted.values() {
        for (column, number) in columns.iter_mut().zip(usage.numbers()) {
            column.push(i64::try_from(number).unwrap_or(i64::MAX));
        }
    }
    let [a, b, c, d, e, f, g] = &columns;
    client.execute(&add, &[&tenants, &days, a, b, c, d, e, f, g]).await?;
    Ok(())
}
