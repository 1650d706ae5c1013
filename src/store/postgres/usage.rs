//! What each tenant used. Counted in memory and added up every few seconds: one row for each tenant and day, written by
//! every commit, would have them all wait for each other.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use deadpool_postgres::Pool;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;

use super::connect::{PATIENCE, Session};
use super::fault::Fault;
use crate::domain::clock::Timestamp;
use crate::domain::ids::TenantId;
use crate::domain::usage::{Day, Usage};

/// What a process that is killed has not added up yet.
const INTERVAL: Duration = Duration::from_secs(5);

/// What this process has counted since it last added up.
#[derive(Debug, Default)]
pub(super) struct Tally(Mutex<BTreeMap<(TenantId, Day), Usage>>);

impl Tally {
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

    /// Adds up until `stop`.
    pub(super) fn start(self: &Arc<Self>, pool: Pool, stop: CancellationToken) {
        let tally = Arc::clone(self);
        let adding_up = async move {
            loop {
                sleep(INTERVAL).await;
                if let Err(fault) = tally.add_up(&pool).await {
                    tracing::warn!(?fault, "failed to aggregate usage");
                }
            }
        };
        tokio::spawn(async move { stop.run_until_cancelled(adding_up).await });
    }

    /// Adds what was counted to what is stored. What could not be added is kept for the next time.
    pub(super) async fn add_up(&self, pool: &Pool) -> Result<(), Fault> {
        let counted = self.take();
        if counted.is_empty() {
            return Ok(());
        }
        let deadline = Instant::now() + PATIENCE;
        let work = async { write(Session::take(pool, deadline).await?, &counted).await };
        let written = timeout_at(deadline, work).await.unwrap_or(Err(Fault::TimedOut));
        if written.is_err() {
            counted.into_iter().for_each(|(key, usage)| self.add(key, usage));
        }
        written
    }
}

/// Takes columns. In an order, lest two replicas wait for each other.
const ADD: &str = "INSERT INTO usage (tenant, day, submissions, polls, completions, failures, attempts, delivered, \
     undelivered) SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], \
     $7::bigint[], $8::bigint[], $9::bigint[]) ON CONFLICT (tenant, day) DO UPDATE SET \
     submissions = usage.submissions + excluded.submissions, polls = usage.polls + excluded.polls, \
     completions = usage.completions + excluded.completions, failures = usage.failures + excluded.failures, \
     attempts = usage.attempts + excluded.attempts, delivered = usage.delivered + excluded.delivered, \
     undelivered = usage.undelivered + excluded.undelivered";

async fn write(mut session: Session, counted: &BTreeMap<(TenantId, Day), Usage>) -> Result<(), Fault> {
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
