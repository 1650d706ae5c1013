//! The leases that this process holds, so that it can give them back when it stops.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use deadpool_postgres::Transaction;

use super::super::Lease;
use super::connect::Session;
use super::fault::Fault;
use crate::domain::clock::Timestamp;

/// Leases of one table, with their ends.
#[derive(Debug, Default)]
pub(super) struct Held(Mutex<HashMap<Lease, Timestamp>>);

impl Held {
    /// Adds what was just claimed, and forgets what has run out: work that was given up leaves no trace else.
    pub(super) fn add(&self, leases: impl Iterator<Item = Lease>, now: Timestamp, end: Timestamp) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.retain(|_, end| *end > now);
        held.extend(leases.map(|lease| (lease, end)));
    }

    pub(super) fn remove(&self, lease: Lease) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&lease);
    }

    fn rows_and_fences(&self) -> (Vec<i64>, Vec<i64>) {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.keys().map(|lease| (lease.row, lease.fence)).unzip()
    }
}

const RELEASE_WORK: &str = "UPDATE analyses SET leased = false, due_at = $3 \
     FROM unnest($1::bigint[], $2::bigint[]) AS held (id, fence) \
     WHERE analyses.id = held.id AND analyses.fence = held.fence AND leased AND stage IS NOT NULL";
const RELEASE_DELIVERIES: &str = "UPDATE deliveries SET leased = false, due_at = $3 \
     FROM unnest($1::bigint[], $2::bigint[]) AS held (id, fence) \
     WHERE deliveries.\"row\" = held.id AND deliveries.fence = held.fence AND leased AND status = 'pending'";

/// Makes everything that this process holds due at once.
pub(super) async fn release(
    mut session: Session,
    work: &Held,
    deliveries: &Held,
    now: Timestamp,
) -> Result<(), Fault> {
    let transaction = session.client()?.transaction().await?;
    for (sql, held) in [(RELEASE_WORK, work), (RELEASE_DELIVERIES, deliveries)] {
        give_back(&transaction, sql, held, now).await?;
    }
    transaction.commit().await?;
    Ok(())
}

async fn give_back(
    transaction: &Transaction<'_>,
    sql: &str,
    held: &Held,
    now: Timestamp,
) -> Result<(), Fault> {
    let (rows, fences) = held.rows_and_fences();
    transaction.execute(sql, &[&rows, &fences, &now.as_millis()]).await?;
    Ok(())
}
