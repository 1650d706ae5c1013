//! Rows that this version of the program cannot read, because a later version wrote them or because they are damaged.
//!
//! One such row must not affect the other rows. Lists skip such a row and name its id. Claims postpone its work. A read of only
//! this row fails with [`StoreError::Corrupt`]. A deletion succeeds, because it does not read the rows. Logs contain the id and
//! the column, but never the content.

use std::fmt::Display;
use std::time::Duration;

use super::StoreError;
use super::claims::{ClaimBatch, Lease, Leased};
use super::engine::Engine;
use super::observations::Observation;
use super::rules::{Rule, Transaction};
use super::sql::sql;
use super::values::values;
use crate::domain::clock::Timestamp;

/// Time for which the work of an unreadable row is postponed. A replica of another version may be able to read the row.
const PAUSE: Duration = Duration::from_hours(1);

/// Records that a transaction rule skipped an unreadable row.
pub(super) fn observe(transaction: &impl Transaction, table: &'static str, id: impl Display) {
    transaction.observe(Observation::unreadable(table, id));
}

/// Records an unreadable row and returns `None` for the row. Returns other errors unchanged.
pub(super) fn skip<T>(
    transaction: &impl Transaction,
    table: &'static str,
    id: impl Display,
    read: Result<T, StoreError>,
) -> Result<Option<T>, StoreError> {
    match read {
        Ok(row) => Ok(Some(row)),
        Err(StoreError::Corrupt(_)) => {
            observe(transaction, table, id);
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Postpones the work of the unreadable rows of a claim, so that these rows do not block the other rows.
pub(super) async fn postpone_claimed<T>(engine: &impl Engine, leased: Leased, batch: &mut ClaimBatch<T>) {
    if batch.unreadable.is_empty() {
        return;
    }
    let leases = std::mem::take(&mut batch.unreadable);
    // The unreadable rows took the places of other rows, so another claim is due at once.
    batch.next_due = Some(engine.env().clock.now());
    // After a failure the leases expire, and the rows are claimed and postponed again.
    if let Err(error) = engine.transact(Postpone { leased, leases }).await {
        tracing::warn!(%error, "failed to postpone work whose rows cannot be read");
    }
}

/// Ends the leases on rows that cannot be read, and postpones their work. For a delivery, also deletes the recorded attempt,
/// because nothing was sent.
pub(super) struct Postpone {
    pub(super) leased: Leased,
    pub(super) leases: Vec<Lease>,
}

impl Rule for Postpone {
    const NAME: &'static str = "postpone_unreadable";
    const NOTIFIES: bool = false;
    type Output = ();

    async fn run<T: Transaction>(&self, transaction: &T) -> Result<(), StoreError> {
        let due = transaction.env().clock.now() + PAUSE;
        for lease in &self.leases {
            let changed = match self.leased {
                Leased::Analysis => {
                    let update = sql!(
                        "UPDATE analyses SET leased = FALSE, due_at = ?3 WHERE id = ?1 AND fence = ?2 AND leased"
                    );
                    transaction.execute(update, values![lease.row, lease.fence, due]).await?
                }
                Leased::Delivery => postpone_delivery(transaction, lease, due).await?,
            };
            transaction.end_lease(self.leased, *lease);
            if changed > 0 {
                observe(transaction, self.leased.table(), lease.row);
            }
        }
        Ok(())
    }
}

/// Ends the lease on a delivery, and makes the delivery due at `due`. Deletes the recorded attempt, because nothing was sent.
/// Returns 0 if the lease was lost.
pub(super) async fn postpone_delivery(
    transaction: &impl Transaction,
    lease: &Lease,
    due: Timestamp,
) -> Result<usize, StoreError> {
    let update = sql!(
        "UPDATE deliveries SET leased = FALSE, due_at = ?3, attempts = attempts - 1 \
         WHERE seq = ?1 AND fence = ?2 AND leased"
    );
    let changed = transaction.execute(update, values![lease.row, lease.fence, due]).await?;
    if changed > 0 {
        let delete = sql!(
            "DELETE FROM attempts WHERE delivery = ?1 \
             AND number > (SELECT attempts FROM deliveries WHERE seq = ?1)"
        );
        transaction.execute(delete, values![lease.row]).await?;
    }
    Ok(changed)
}

/// Postpones the work of an analysis that is not leased and cannot be read.
pub(super) async fn postpone_analysis(transaction: &impl Transaction, row: i64) -> Result<(), StoreError> {
    observe(transaction, Leased::Analysis.table(), row);
    let update = sql!("UPDATE analyses SET due_at = ?2 WHERE id = ?1");
    transaction.execute(update, values![row, transaction.env().clock.now() + PAUSE]).await?;
    Ok(())
}
