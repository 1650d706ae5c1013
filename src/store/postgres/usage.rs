//! Usage of tenants. Each process counts the usage in a buffer, and adds the counts to the database every few seconds. If every
//! commit updated a row per tenant and day, the commits would wait for each other.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use deadpool_postgres::{Pool, Transaction};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_postgres::types::ToSql;
use tokio_util::sync::CancellationToken;

use super::connect::Session;
use super::fault::Fault;
use crate::domain::clock::Timestamp;
use crate::domain::ids::TenantId;
use crate::domain::usage::{Day, Usage, UsageFact};

/// The interval of the flushes. A killed process loses the usage since its last flush.
const INTERVAL: Duration = Duration::from_secs(5);

/// The usage that this process has counted since the last flush.
#[derive(Debug, Default)]
pub(super) struct UsageBuffer {
    counted: Mutex<CountedUsage>,
    /// This lock is held during a flush. So when a flush ends, the database has all usage that was counted before the flush
    /// began, even if another flush was in progress at that time.
    flushing: tokio::sync::Mutex<()>,
}

/// Usage by tenant and day, and the same usage by tenant, day and value of a fact. The rows have a fixed order, so two replicas
/// cannot deadlock when they write the rows.
#[derive(Debug, Default)]
struct CountedUsage {
    total: BTreeMap<(TenantId, Day), Usage>,
    by_fact: BTreeMap<(TenantId, Day, UsageFact, String), Usage>,
}

impl UsageBuffer {
    pub(super) fn count(&self, tenant: &TenantId, now: Timestamp, usage: Usage) {
        if usage != Usage::default() {
            *self.lock().total.entry((tenant.clone(), Day::of(now))).or_default() += usage;
        }
    }

    pub(super) fn count_fact(
        &self,
        tenant: TenantId,
        (fact, value): (UsageFact, String),
        now: Timestamp,
        usage: Usage,
    ) {
        *self.lock().by_fact.entry((tenant, Day::of(now), fact, value)).or_default() += usage;
    }

    fn lock(&self) -> MutexGuard<'_, CountedUsage> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the counted usage to the database at intervals, until `stop` is cancelled.
    pub(super) fn start(self: &Arc<Self>, pool: Pool, timeout: Duration, stop: CancellationToken) {
        let buffer = Arc::clone(self);
        tokio::spawn(async move {
            // The stop does not cancel a flush, because the usage of a cancelled flush is lost.
            while stop.run_until_cancelled(sleep(INTERVAL)).await.is_some() {
                if let Err(fault) = buffer.flush(&pool, timeout).await {
                    tracing::warn!(?fault, "failed to write usage");
                }
            }
        });
    }

    /// Adds the counted usage to the database within the time limit. After a failure, the next flush includes this usage. A
    /// caller that may be cancelled must start the flush in a separate task, because the usage of a cancelled flush is lost.
    pub(super) async fn flush(&self, pool: &Pool, timeout: Duration) -> Result<(), Fault> {
        let deadline = Instant::now() + timeout;
        let _flushing = timeout_at(deadline, self.flushing.lock()).await.map_err(|_| Fault::TimedOut)?;
        let counted = std::mem::take(&mut *self.lock());
        if counted.total.is_empty() {
            return Ok(());
        }
        let write = async { add(Session::take(pool, deadline).await?, &counted).await };
        let written = timeout_at(deadline, write).await.unwrap_or(Err(Fault::TimedOut));
        if written.is_err() {
            let mut buffer = self.lock();
            let CountedUsage { total, by_fact } = counted;
            total.into_iter().for_each(|(key, usage)| *buffer.total.entry(key).or_default() += usage);
            by_fact.into_iter().for_each(|(key, usage)| *buffer.by_fact.entry(key).or_default() += usage);
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

/// Adds usage by the values of facts to the database. Parameters: one array for each column.
const ADD_BY_FACT: &str = "INSERT INTO usage_by_fact AS usage (tenant, day, fact, value, submissions, completions, failures) \
     SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[]) \
     ON CONFLICT (tenant, fact, day, value) DO UPDATE SET \
     submissions = usage.submissions + excluded.submissions, completions = usage.completions + excluded.completions, \
     failures = usage.failures + excluded.failures";

async fn add(mut session: Session, counted: &CountedUsage) -> Result<(), Fault> {
    let transaction = session.client()?.transaction().await?;
    let add = transaction.prepare_cached(ADD).await?;
    let (tenants, days): (Vec<&str>, Vec<i64>) =
        counted.total.keys().map(|(tenant, day)| (tenant.as_str(), day.number())).unzip();
    let mut columns: [Vec<i64>; 7] = Default::default();
    for usage in counted.total.values() {
        for (column, number) in columns.iter_mut().zip(usage.numbers()) {
            column.push(whole(number));
        }
    }
    let [a, b, c, d, e, f, g] = &columns;
    transaction.execute(&add, &[&tenants, &days, a, b, c, d, e, f, g]).await?;
    if !counted.by_fact.is_empty() {
        add_by_fact(&transaction, &counted.by_fact).await?;
    }
    Ok(transaction.commit().await?)
}

async fn add_by_fact(
    transaction: &Transaction<'_>,
    counted: &BTreeMap<(TenantId, Day, UsageFact, String), Usage>,
) -> Result<(), Fault> {
    let add = transaction.prepare_cached(ADD_BY_FACT).await?;
    let keys = || counted.keys();
    let tenants: Vec<&str> = keys().map(|(tenant, ..)| tenant.as_str()).collect();
    let days: Vec<i64> = keys().map(|(_, day, ..)| day.number()).collect();
    let facts: Vec<&str> = keys().map(|(_, _, fact, _)| fact.as_str()).collect();
    let values: Vec<&str> = keys().map(|(.., value)| value.as_str()).collect();
    let column =
        |number: fn(&Usage) -> u64| counted.values().map(|usage| whole(number(usage))).collect::<Vec<_>>();
    let (submissions, completions, failures) = (
        column(|usage| usage.submissions),
        column(|usage| usage.completions),
        column(|usage| usage.failures),
    );
    let parameters: [&(dyn ToSql + Sync); 7] =
        [&tenants, &days, &facts, &values, &submissions, &completions, &failures];
    transaction.execute(&add, &parameters).await?;
    Ok(())
}

fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
