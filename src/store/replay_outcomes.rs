//! Outcomes of the deliveries of replays.
//!
//! A replay awaits the outcome of each delivery that it created, restarted or found pending. Each outcome counts once, even if
//! another replay restarts the delivery later, or retention deletes it.

use super::StoreError;
use super::rules::Transaction;
use super::sql::sql;
use super::values::{Value, values};

/// Counts the outcome of a delivery for the replays that await it.
pub(super) async fn count(
    transaction: &impl Transaction,
    delivery: i64,
    arrived: bool,
) -> Result<(), StoreError> {
    let awaiting = sql!("DELETE FROM replay_deliveries WHERE delivery = ?1 RETURNING replay");
    let mut replays: Vec<String> =
        transaction.query(awaiting, values![delivery], |row| row.get("replay")).await?;
    // All outcomes update the replays in the same order, so two outcomes cannot deadlock.
    replays.sort_unstable();
    let count =
        sql!("UPDATE replay_outcomes SET delivered = delivered + ?2, failed = failed + ?3 WHERE replay = ?1");
    let (delivered, failed) = (i64::from(arrived), i64::from(!arrived));
    let rows: Vec<_> =
        replays.iter().map(|replay| [Value::from(replay), delivered.into(), failed.into()]).collect();
    transaction.execute_each(count, &rows).await
}
