//! The leases that this process holds. The process releases these leases when it stops, so that another replica continues the
//! work at once.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::super::Lease;
use super::connect::Session;
use super::fault::Fault;
use crate::domain::clock::Timestamp;

/// Leases on the rows of one table, with their end times.
#[derive(Debug, Default)]
pub(super) struct HeldLeases(Mutex<HashMap<Lease, Timestamp>>);

impl HeldLeases {
    /// Adds new leases, and removes the leases that have expired.
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

/// Releases leases. Parameters: the rows, their fencing tokens, and the present time, which becomes the due time. The statement
/// skips locked rows, whose leases expire later.
const RELEASE_WORK: &str = "UPDATE analyses SET leased = false, due_at = $3 WHERE id = ANY (ARRAY(SELECT analyses.id \
     FROM unnest($1::bigint[], $2::bigint[]) AS held (id, fence) JOIN analyses ON analyses.id = held.id \
     AND analyses.fence = held.fence WHERE leased AND stage IS NOT NULL FOR UPDATE OF analyses SKIP LOCKED))";
const RELEASE_DELIVERIES: &str = "UPDATE deliveries SET leased = false, due_at = $3 WHERE seq = ANY (ARRAY(SELECT \
     deliveries.seq FROM unnest($1::bigint[], $2::bigint[]) AS held (id, fence) JOIN deliveries ON \
     deliveries.seq = held.id AND deliveries.fence = held.fence WHERE leased AND status = 'pending' \
     FOR UPDATE OF deliveries SKIP LOCKED))";

/// Releases the leases of this process on analyses, and makes these analyses due now.
pub(super) async fn release_work(session: Session, work: &HeldLeases, now: Timestamp) -> Result<(), Fault> {
    release(session, RELEASE_WORK, work, now).await
}

/// Releases the leases of this process on deliveries, and makes these deliveries due now. Analyses and deliveries are released in
/// separate transactions. Other transactions lock rows of both tables in either order, so a common transaction could deadlock.
pub(super) async fn release_deliveries(
    session: Session,
    deliveries: &HeldLeases,
    now: Timestamp,
) -> Result<(), Fault> {
    release(session, RELEASE_DELIVERIES, deliveries, now).await
}

async fn release(mut session: Session, sql: &str, leases: &HeldLeases, now: Timestamp) -> Result<(), Fault> {
    let (rows, fences) = leases.rows_and_fences();
    session.client()?.execute(sql, &[&rows, &fences, &now.as_millis()]).await?;
    Ok(())
}
